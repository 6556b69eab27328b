"""What can be read from: pipes, terminals, files, what epoll refuses; both loops."""

import asyncio
import os
import pty
import socket
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import PATIENCE

from fastws import ConfigError
from fastws.lines.reader import PIECE, Reader, close_source, open_source

Run = Callable[[Any], Any]


class Reading:
    """A reader, and what it has read."""

    def __init__(self, fd: int) -> None:
        self.data = b""
        self.error: OSError | None = None
        self.over = asyncio.Event()
        self._more = asyncio.Event()
        self.reader = Reader(fd, self._take, self._ended)

    def _take(self, data: bytes) -> None:
        self.data += data
        self._more.set()

    def _ended(self, error: OSError | None) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()

    async def until(self, data: bytes) -> None:
        async with asyncio.timeout(PATIENCE):
            while self.data != data:
                self._more.clear()
                await self._more.wait()

    async def end(self) -> bytes:
        async with asyncio.timeout(PATIENCE):
            await self.over.wait()
        return self.data


def test_a_pipe_is_read_as_it_comes_and_to_its_end(run: Run) -> None:
    async def case() -> None:
        source, sink = os.pipe()
        reading = Reading(source)
        reading.reader.resume()
        reading.reader.resume()
        os.write(sink, b"one\n")
        await reading.until(b"one\n")
        os.write(sink, b"two")
        await reading.until(b"one\ntwo")
        os.write(sink, b"last")
        os.close(sink)
        assert await reading.end() == b"one\ntwolast"
        assert reading.error is None
        os.close(source)

    run(case())


def test_a_pause_leaves_in_the_pipe_what_is_there(run: Run) -> None:
    async def case() -> None:
        source, sink = os.pipe()
        reading = Reading(source)
        reading.reader.resume()
        os.write(sink, b"one")
        await reading.until(b"one")
        reading.reader.pause()
        reading.reader.pause()
        os.write(sink, b"two")
        for _ in range(5):
            await asyncio.sleep(0)
        assert reading.data == b"one"
        assert os.get_blocking(source)  # the mode is shared with other processes
        reading.reader.resume()
        await reading.until(b"onetwo")
        reading.reader.pause()
        os.close(source)
        os.close(sink)

    run(case())


@pytest.mark.parametrize("size", [0, 1, PIECE, PIECE + 1, 3 * PIECE])
def test_a_file_is_read_to_its_end(run: Run, tmp_path: Path, size: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(size))

    async def case() -> None:
        fd = open_source(str(path))
        reading = Reading(fd)
        reading.reader.resume()
        assert await reading.end() == path.read_bytes()
        assert reading.reader.rewind()
        close_source(str(path), fd)

    run(case())


def test_others_of_the_loop_run_while_a_file_is_read(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * (4 * PIECE))

    async def case() -> None:
        fd = open_source(str(path))
        reading = Reading(fd)
        reading.reader.resume()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert 0 < len(reading.data) < 4 * PIECE
        reading.reader.pause()
        before = len(reading.data)
        await asyncio.sleep(0)
        assert len(reading.data) == before
        reading.reader.resume()
        assert len(await reading.end()) == 4 * PIECE
        os.close(fd)

    run(case())


def test_dev_null_ends_at_once(run: Run) -> None:
    async def case() -> None:
        fd = open_source("/dev/null")
        reading = Reading(fd)
        reading.reader.resume()
        assert await reading.end() == b""
        os.close(fd)

    run(case())


def test_a_terminal_is_read_as_it_comes(run: Run) -> None:
    async def case() -> None:
        keyboard, terminal = pty.openpty()
        reading = Reading(terminal)
        reading.reader.resume()
        os.write(keyboard, b"typed\n")
        await reading.until(b"typed\n")
        os.write(keyboard, b"\x04")  # Ctrl-D
        assert await reading.end() == b"typed\n"
        os.close(terminal)
        os.close(keyboard)

    run(case())


def test_a_terminal_that_hangs_up_is_an_error(run: Run) -> None:
    async def case() -> None:
        keyboard, terminal = pty.openpty()
        tty.setraw(terminal)
        reading = Reading(keyboard)  # this side gets EIO when the other has gone
        reading.reader.resume()
        os.close(terminal)
        await reading.end()
        assert reading.error is not None
        os.close(keyboard)

    run(case())


def test_a_socket_and_a_fifo(run: Run, tmp_path: Path) -> None:
    async def case() -> None:
        ours, theirs = socket.socketpair()
        reading = Reading(ours.fileno())
        reading.reader.resume()
        theirs.sendall(b"through a socket")
        theirs.close()
        assert await reading.end() == b"through a socket"
        ours.close()

        path = str(tmp_path / "fifo")
        os.mkfifo(path)
        fd = open_source(path)  # waits for no writer
        reading = Reading(fd)
        reading.reader.resume()
        await asyncio.sleep(0)
        assert not reading.over.is_set()  # no writer yet is no end
        sink = os.open(path, os.O_WRONLY)
        os.write(sink, b"through a fifo")
        os.close(sink)
        assert await reading.end() == b"through a fifo"
        close_source(path, fd)

    run(case())


def test_what_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"^source: .*/none: No such file or directory$"):
        open_source(str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"^source: .*: Is a directory$"):
        open_source(str(tmp_path))
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigError, match=r"^source: standard input is closed$"):
        open_source("-")
