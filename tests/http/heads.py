"""Heads of requests, field by field."""

from support import KEY

UPGRADE = (
    "Host: 127.0.0.1:8080",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
)


def head(*fields: str, line: str = "GET / HTTP/1.1") -> bytes:
    return "".join(f"{text}\r\n" for text in (line, *fields, "")).encode("latin-1")
