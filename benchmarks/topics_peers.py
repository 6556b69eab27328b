"""What `topics.py` measures beside fastws: socketify, picows, and a bare loop of send(2).

All speak the commands of the control connection: subscribe, each, same, one, usage; picows has no
topics, so that its `each` and `same` are one loop of sends per message and client, and its `joined`
is one join and one write per client.
"""

import asyncio
import base64
import hashlib
import json
import os
import re
import select
import signal
import socket
from typing import Any

from topics_wire import (
    HEADER,
    Json,
    Messages,
    all_pairs,
    frames,
    parse_command,
    raise_file_limit,
    thread_ns,
)

ROOM = 1 << 30  # bytes that may wait for a client of a peer
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def used(sends: int | None = None) -> Json:
    """Return what `usage` answers."""
    return {"cpu_ns": thread_ns(), "sends": sends}


def serve_socketify() -> None:
    """Serve socketify, which is uWebSockets, until SIGINT.

    libuv's loop runs by itself: socketify's own loop asks it and asyncio in turns without
    waiting, which costs processor time while nothing happens.
    """
    from socketify import App, AppListenOptions, OpCode  # type: ignore[import-untyped]

    raise_file_limit()
    app = App()
    clients: list[Any] = []
    topics: list[bytes] = []
    messages = Messages()
    timers: list[Any] = []
    turn = 0

    def opened(websocket: Any) -> None:
        if websocket.get_user_data() == "/":
            clients.append(websocket)

    def upgrade(response: Any, request: Any, context: Any) -> None:
        key, protocol, extensions = (
            request.get_header(f"sec-websocket-{name}")
            for name in ("key", "protocol", "extensions")
        )
        response.upgrade(key, protocol, extensions, context, request.get_url())

    def publish(name: str) -> None:
        nonlocal turn
        if name == "one":
            turn = (turn + 1) % len(topics)
        chosen = {"each": topics, "same": topics[:1] * len(topics), "one": [topics[turn]]}[name]
        for topic in chosen:
            app.publish(topic, messages.next(), OpCode.BINARY)

    def message(websocket: Any, text: Any, _opcode: Any) -> None:
        name, arguments = parse_command(text)
        if name == "subscribe":
            topics[:] = [b"topic/%06d" % i for i in range(arguments["topics"])]
            for client, topic in all_pairs(len(clients), len(topics)):
                clients[client].subscribe(topics[topic])
            websocket.send(json.dumps({"clients": len(clients)}), OpCode.TEXT)
        elif name == "usage":
            websocket.send(json.dumps(used()), OpCode.TEXT)
        else:
            # Not in here: what is sent to others by a handler of one socket, which has the cork,
            # is a call each.
            timers[:] = [app.loop.set_timeout(0, publish, name)]

    app.ws(
        "/*",
        {
            "open": opened,
            "upgrade": upgrade,
            "message": message,
            "max_backpressure": ROOM,
            "idle_timeout": 0,
        },
    )

    def listening(options: Any) -> None:
        print(options.port, flush=True)

    app.listen(AppListenOptions(port=0, host="127.0.0.1"), listening)
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    app.loop.uv_loop.run()


async def serve_picows() -> None:
    """Serve picows until SIGINT."""
    from picows import WSFrame, WSListener, WSMsgType, WSTransport, WSUpgradeRequest
    from picows import ws_create_server as create_server

    raise_file_limit()
    clients: list[WSTransport] = []
    messages = Messages()
    binary, text = WSMsgType.BINARY, WSMsgType.TEXT
    topics = 1

    def send(count: int) -> None:
        for _ in range(count):
            message = messages.next()
            for client in clients:
                client.send(binary, message)

    def send_joined(count: int) -> None:
        made = [HEADER + messages.next() for _ in range(count)]
        for client in clients:
            client.underlying_transport.write(b"".join(made))

    class Client(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            clients.append(transport)

    class Control(WSListener):
        def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
            nonlocal topics
            name, arguments = parse_command(frame.get_payload_as_bytes())
            if name in ("each", "same"):
                send(topics)
            elif name == "joined":
                send_joined(topics)
            elif name == "one":
                send(1)
            elif name == "subscribe":
                topics = arguments["topics"]
                transport.send(text, json.dumps({"clients": len(clients)}).encode())
            else:
                transport.send(text, json.dumps(used()).encode())

    def listener(request: WSUpgradeRequest) -> WSListener:
        return Control() if request.path == b"/control" else Client()

    server = await create_server(listener, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, stopped.set)
    await stopped.wait()
    server.close()


def serve_bare() -> None:
    """Send to the sockets in a bare loop, so many bytes a call, until SIGINT.

    The loop is Python's: its 0.2 microseconds a call count as the send's.
    """
    raise_file_limit()
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    clients: list[socket.socket] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    control, data = _accept(listener, clients), bytearray()
    sent = 0
    calls: list[memoryview] = []
    while received := _next(control, listener, clients):
        data += received
        for command in frames(_unmasked(data)):
            name, arguments = parse_command(bytes(command))
            if name == "each":
                for client in clients:
                    for call in calls:
                        sent += _send(client, call)
                continue
            if name == "subscribe":
                calls = _calls(arguments["topics"], arguments["per_call"])
            answer = json.dumps(used(sent) | {"clients": len(clients)}).encode()
            control.sendall(b"\x81" + bytes((len(answer),)) + answer)


def _calls(count: int, size: int) -> list[memoryview]:
    """Return the bytes of so many messages, cut into the pieces of one call each."""
    messages = Messages()
    whole = memoryview(b"".join(HEADER + messages.next() for _ in range(count)))
    return [whole[at : at + size] for at in range(0, len(whole), size)]


def _send(client: socket.socket, data: memoryview) -> int:
    calls = 0
    while True:
        calls += 1
        try:
            n = client.send(data)
        except BlockingIOError:
            n = 0
        if n == len(data):
            return calls
        data = data[n:]
        select.select([], [client], [])


def _next(control: socket.socket, listener: socket.socket, clients: list[socket.socket]) -> bytes:
    """Accept clients until the control connection says something."""
    while True:
        readable, _, _ = select.select([control, listener], [], [])
        if control in readable:
            return control.recv(1 << 16)
        _accept(listener, clients)


def _accept(listener: socket.socket, clients: list[socket.socket]) -> socket.socket:
    accepted, _ = listener.accept()
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += accepted.recv(4096)
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + GUID).digest())
    accepted.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not head.startswith(b"GET /control "):
        accepted.setblocking(False)
        clients.append(accepted)
    return accepted


def _unmasked(data: bytearray) -> bytearray:
    """Take whole masked frames off the front, their masking keys, which are 0, left out."""
    unmasked = bytearray()
    while len(data) >= 6:
        head = 2 if data[1] < 0xFE else 4
        size = data[1] & 0x7F if head == 2 else int.from_bytes(data[2:4], "big")
        if len(data) < head + 4 + size:
            break
        unmasked += bytes((data[0], data[1] & 0x7F)) + data[2:head]
        unmasked += data[head + 4 : head + 4 + size]
        del data[: head + 4 + size]
    return unmasked
