"""A server that sends what a test says."""

import socket
import threading
from collections.abc import Callable

from fastws.http.head import parse_request
from fastws.http.upgrade import check_upgrade, switching_protocols


class Scripted:
    """A server of raw sockets: `talk` gets each connection behind its handshake.

    The HTTP routes are answered with 404, as an old server does.
    """

    def __init__(self, talk: Callable[[socket.socket], None], answer: bytes | None = None) -> None:
        self._talk, self._answer = talk, answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> "Scripted":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        try:
            while True:
                accepted, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=[accepted], daemon=True).start()
        except OSError:
            return

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                if not (byte := connection.recv(1)):
                    return  # it has gone without a request
                head += byte
            request = parse_request(head)
            if self._answer is not None:
                connection.sendall(self._answer)
                return
            if not request.is_upgrade:
                connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")
                return
            connection.sendall(switching_protocols(check_upgrade(request)))
            try:
                self._talk(connection)
            except OSError:
                return  # the client has gone
