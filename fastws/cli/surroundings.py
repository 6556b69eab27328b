"""What a process is started with and did not choose: variables, and standard streams. Layer 7."""

import os
import re
import sys
from contextlib import suppress

import click

# What Kubernetes, and links of Docker, put into the variables of a pod for each Service: one that
# is called fastws sets FASTWS_PORT, FASTWS_SERVICE_HOST, FASTWS_PORT_8080_TCP_ADDR and so on.
_SERVICE_LINK = re.compile(r"(tcp|udp|sctp)://\S+:\d+")
STREAMS = ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w"))


class PortOption(click.Option):
    """A port, whose variable may be a Service's: `tcp://10.0.0.7:8080` is nobody's setting."""

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return what the variable says, None for a link to a Service."""
        value = super().resolve_envvar_value(ctx)
        return None if value is None or _SERVICE_LINK.fullmatch(value) else value


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
