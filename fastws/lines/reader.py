"""Reads a pipe, a terminal or a file in the event loop, a large piece at a time. Layer 6.

Knows the descriptor and the loop; not what the bytes are.
"""

import asyncio
import fcntl
import os
import stat
import sys
from collections.abc import Callable

from fastws.errors import ConfigError
from fastws.lines.config import STANDARD_INPUT

PIECE = 256 * 1024  # bytes of one read
PIPE_SIZE = 1 << 20  # what Linux grants to everybody (fs.pipe-max-size)


class Reader:
    """Gives what it reads to `take`, until the end, which `ended` hears of.

    A pipe, a terminal or a socket is read from when the loop reports something: its mode is left
    as it is, because other processes share it. epoll refuses files and /dev/null, which can always
    be read from: they are read a piece in each round of the loop.

    Args:
        fd: to read from; it stays the caller's.
        take: called with each piece.
        ended: called once, with None or the error that ended it.
    """

    def __init__(
        self, fd: int, take: Callable[[bytes], None], ended: Callable[[OSError | None], None]
    ) -> None:
        self._fd = fd
        self._take = take
        self._ended = ended
        self._reading = False
        self._loop: asyncio.AbstractEventLoop | None = None  # that watches it
        self._next: asyncio.Handle | None = None

    def resume(self) -> None:
        """Read from now on. Idempotent."""
        if self._reading:
            return
        self._reading = True
        loop = asyncio.get_running_loop()
        try:
            blocking = os.get_blocking(self._fd)
            loop.add_reader(self._fd, self._read)
            os.set_blocking(self._fd, blocking)  # uvloop has changed it
            self._loop = loop
        except PermissionError:  # of epoll: this is no descriptor to wait for
            self._next = loop.call_soon(self._read)

    def pause(self) -> None:
        """Read no more until `resume`. Idempotent."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.remove_reader(self._fd)
        self._loop = None
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._reading = False

    def rewind(self) -> bool:
        """Begin again; whether the descriptor can."""
        try:
            return os.lseek(self._fd, 0, os.SEEK_SET) == 0
        except OSError:
            return False

    def _read(self) -> None:
        try:
            data = os.read(self._fd, PIECE)
        except BlockingIOError:  # somebody else has set the mode, and read it
            return
        except OSError as error:
            self._end(error)
            return
        if not data:
            self._end(None)
            return
        if self._next is not None:
            self._next = asyncio.get_running_loop().call_soon(self._read)
        self._take(data)

    def _end(self, error: OSError | None) -> None:
        self.pause()
        self._ended(error)


def open_source(source: str) -> int:
    """Return a descriptor of a file, or of standard input.

    Raises:
        ConfigError: there is none, or it cannot be read; one clear line.
    """
    if source == STANDARD_INPUT:
        if sys.stdin is None:  # another descriptor may have its number by now
            raise ConfigError("source", "standard input is closed")
        fd = sys.stdin.fileno()
    else:
        try:
            # A FIFO without a writer would hold the program.
            fd = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise ConfigError("source", f"{source}: {error.strerror}") from None
    mode = os.fstat(fd).st_mode
    if stat.S_ISDIR(mode):
        close_source(source, fd)
        raise ConfigError("source", f"{source}: Is a directory")
    if stat.S_ISFIFO(mode):
        _enlarge(fd)
    return fd


def close_source(source: str, fd: int) -> None:
    """Close what `open_source` has opened."""
    if source != STANDARD_INPUT:
        os.close(fd)


def _enlarge(fd: int) -> None:
    """Let a pipe hold more, so that its writer and this process take turns less often."""
    try:
        if fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) < PIPE_SIZE:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        return  # a limit of the user's is reached: it works without
