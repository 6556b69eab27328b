"""Standard input, output and error, which a process may be started without. Layer 6."""

import os
import sys
from contextlib import suppress

STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


def open_standard_streams() -> None:
    """Open those of descriptors 0, 1 and 2 that are closed, on nothing.

    Otherwise the next descriptor that is opened, such as a client's socket, is standard output to
    whatever prints; and libuv aborts when it has to close one of the three.
    """
    for number, name, mode in STREAMS:
        try:
            os.fstat(number)
        except OSError:
            with suppress(OSError):  # without /dev, too, it is to start
                _open_null(number)
        if getattr(sys, name) is None:  # as Python leaves it
            with suppress(OSError):
                setattr(sys, name, os.fdopen(number, mode, closefd=False))


def _open_null(number: int) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    if null != number:
        os.dup2(null, number)
        os.close(null)
    os.set_inheritable(number, True)
