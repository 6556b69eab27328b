"""A crowd of clients in a process of its own: it obeys one JSON object a line, and answers each.

`python crowd.py HOST PORT` for IPv4 and IPv6. Commands: `open` n connections (with `per_second`,
at that pace), `send` bytes to all, `expect` exactly these bytes by all, `drain` for some seconds,
`reset` all, `ended` (wait until all have ended). Knows no fastws.
"""

import json
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

from wire import PATIENCE, request

ANSWER_END = b"\r\n\r\n"


class Crowd:
    """The parent's end: each method is a command and waits for its answer."""

    def __init__(self, host: str, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), host, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def begin(self, name: str, **arguments: Any) -> None:
        """Give a command without waiting."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": name, **arguments}) + "\n")
        self._process.stdin.flush()

    def ready(self) -> bool:
        """Whether the answer to the oldest command is there."""
        assert self._process.stdout is not None
        return bool(select.select([self._process.stdout], [], [], 0)[0])

    def result(self) -> Any:
        """The answer to the oldest command without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the crowd has gone"
        return json.loads(line)

    def do(self, name: str, **arguments: Any) -> Any:
        """Give a command and wait."""
        self.begin(name, **arguments)
        return self.result()


class Clients:
    """The child's end."""

    def __init__(self, host: str, port: int) -> None:
        self.address = (host, port)
        self.family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socks: dict[int, socket.socket] = {}
        self.poller = select.epoll()

    def open(
        self,
        n: int,
        per_second: float = 0,
        unanswered: int = 900,
        patience: float = 3 * PATIENCE,
    ) -> Any:
        """Connect n times at once, or so many a second; every handshake has to succeed.

        At most `unanswered` wait for their answer at a time. Where those are more than an accept
        queue takes, the kernel may forget one that believes itself connected, and reset it when
        it speaks: with `unanswered` at n such a client tries again, and `again` counts them.
        """
        began = time.monotonic()
        asked: dict[int, float] = {}  # who has no answer yet, since when
        connecting: set[int] = set()
        took: list[float] = []
        again = 0
        while len(took) < n:
            now = time.monotonic()
            assert now < began + patience, f"{len(asked)} without an answer, {len(took)} open"
            due = min(n, int((now - began) * per_second)) if per_second else n
            while len(took) + len(asked) < due and len(asked) < unanswered:
                fd = self._connect()
                asked[fd] = time.monotonic()
                connecting.add(fd)
            for fd, _ in self.poller.poll(0.01, 1000):
                try:
                    answered = self._ask(fd) if fd in connecting else self._answered(fd)
                except ConnectionResetError:
                    if unanswered < n:
                        raise
                    again += 1
                    self.socks.pop(fd).close()
                    del asked[fd]
                    answered = False
                connecting.discard(fd)
                if answered:
                    took.append(time.monotonic() - asked.pop(fd))
        took.sort()
        return {
            "open": len(took),
            "again": again,
            "seconds": time.monotonic() - began,
            "p99": took[len(took) * 99 // 100],
            "max": took[-1],
        }

    def _connect(self) -> int:
        sock = socket.socket(self.family)
        sock.setblocking(False)
        sock.connect_ex(self.address)  # an error shows when it is to say something
        self.socks[sock.fileno()] = sock
        self.poller.register(sock, select.EPOLLOUT)
        return sock.fileno()

    def _ask(self, fd: int) -> bool:
        self.socks[fd].send(request())
        self.poller.modify(fd, select.EPOLLIN)
        return False

    def _answered(self, fd: int) -> bool:
        # Not a byte more than the head: what is behind it stays in the kernel.
        part = self.socks[fd].recv(4096, socket.MSG_PEEK)
        assert part, "ended without an answer"
        end = part.find(ANSWER_END)
        if end < 0:
            return False
        head = self.socks[fd].recv(end + len(ANSWER_END))
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.poller.unregister(fd)
        return True

    def send(self, data: str) -> Any:
        """The same bytes by all."""
        what = bytes.fromhex(data)
        for sock in self.socks.values():
            assert sock.send(what) == len(what)
        return {}

    def expect(self, data: str, times: int = 1, patience: float = 3 * PATIENCE) -> Any:
        """All get exactly these bytes, so many times."""
        what = bytes.fromhex(data)
        got = dict.fromkeys(self.socks, 0)
        until = time.monotonic() + patience
        began = time.monotonic()
        for fd in self.socks:
            self.poller.register(fd, select.EPOLLIN)
        done = 0
        while done < len(got):
            assert time.monotonic() < until, f"{done} of {len(got)} have all of it"
            for fd, _ in self.poller.poll(1, 1000):
                part = self.socks[fd].recv(1 << 17)
                assert part, "it ended"
                while part:
                    at = got[fd] % len(what)
                    piece = part[: len(what) - at]
                    assert piece == what[at : at + len(piece)], "other bytes"
                    got[fd] += len(piece)
                    part = part[len(piece) :]
                assert got[fd] <= len(what) * times, "too many"
                if got[fd] == len(what) * times:
                    done += 1
                    self.poller.unregister(fd)
        return {"seconds": time.monotonic() - began}

    def drain(self, seconds: float) -> Any:
        """Read and throw away for so long; how much came, and how many were ended."""
        until, n, ended = time.monotonic() + seconds, 0, 0
        for fd in self.socks:
            self.poller.register(fd, select.EPOLLIN)
        while (left := until - time.monotonic()) > 0:
            for fd, _ in self.poller.poll(left, 1000):
                try:
                    part = self.socks[fd].recv(1 << 18)
                except ConnectionResetError:
                    part = b""
                n += len(part)
                if not part:
                    ended += 1
                    self.poller.unregister(fd)
                    self.socks.pop(fd).close()
        for fd in self.socks:
            self.poller.unregister(fd)
        return {"bytes": n, "ended": ended}

    def ended(self, patience: float = PATIENCE) -> Any:
        """All are ended by the server; the last bytes that one of them got."""
        until, began, last = time.monotonic() + patience, time.monotonic(), b""
        for fd in self.socks:
            self.poller.register(fd, select.EPOLLIN)
        while self.socks:
            assert time.monotonic() < until, f"{len(self.socks)} have not ended"
            for fd, _ in self.poller.poll(1, 1000):
                try:
                    part = self.socks[fd].recv(1 << 16)
                except ConnectionResetError:
                    part = b""
                last = part or last
                if not part:
                    self.poller.unregister(fd)
                    self.socks.pop(fd).close()
        return {"seconds": time.monotonic() - began, "last": last.hex()}

    def reset(self) -> Any:
        """All break off, with an RST."""
        for sock in self.socks.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self.socks.clear()
        return {}


def main(host: str, port: str) -> None:
    """Obey until the input ends."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = Clients(host, int(port))
    commands: dict[str, Callable[..., Any]] = {
        name: getattr(clients, name)
        for name in ("open", "send", "expect", "drain", "ended", "reset")
    }
    for line in sys.stdin:
        arguments = json.loads(line)
        print(json.dumps(commands[arguments.pop("do")](**arguments)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
