"""X: whom `fastws serve` lets in, and what of a client's bytes reaches its log and figures."""

import json
from pathlib import Path

import pytest
from servers import Place, server
from wire import CLOSE, TEXT, close_payload, frame, request

ORIGINS = ("http://localhost:3000", "https://example.com")
TOKEN = "s3cr3t-t0k3n"
NASTY = ("\x1b[31mred", "\x9b2J", "%0d%0aINJECTED%20line", "x" * 2000)


def origin_of(place: Place, *origins: str) -> int:
    """The status that an upgrade with these Origin fields gets; not a byte behind a refusal."""
    wire = place.dial()
    wire.send(request(*[f"Origin: {origin}" for origin in origins]) + frame(TEXT, b"{}"))
    answer = wire.answer()
    if answer.status != 101:
        wire.ends()
    wire.close()
    return answer.status


@pytest.mark.hostile("X01")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_only_the_allowed_origins_are_upgraded(loop: str, tmp_path: Path) -> None:
    options = [part for origin in ORIGINS for part in ("--allowed-origin", origin)]
    with server("serve", loop, "tcp4", tmp_path, *options) as place:
        assert origin_of(place) == 101  # no browser
        # The last one is of a page that this server sent: the request's Host is localhost.
        for origin in (*ORIGINS, "HTTPS://Example.COM", "http://localhost"):
            assert origin_of(place, origin) == 101
        for origin in (
            "https://other.net",
            "http://localhost:3001",
            "http://localhost:80",
            "http://127.0.0.1",
            "http://example.com",
            "https://evil-example.com",
            "https://example.com.evil.net",
            "https://example.co",
            "null",
            "",
            "*",
        ):
            assert origin_of(place, origin) == 403, origin
        assert origin_of(place, ORIGINS[0], ORIGINS[0]) == 403
        assert origin_of(place, ORIGINS[0], "https://other.net") == 403


@pytest.mark.hostile("X01")
def test_without_a_list_every_origin_is_let_in(serve: Place) -> None:
    for origin in ("http://localhost:5173", "tauri://localhost", "https://other.net", "null"):
        assert origin_of(serve, origin) == 101


@pytest.mark.hostile("X54")
def test_the_address_of_a_client_is_shown_as_its_transport_writes_it(serve: Place) -> None:
    wire = serve.dial()
    wire.handshake()
    answer = serve.ask(request(line="GET /stats HTTP/1.1", without=("Upgrade",)))
    shown = [client["remote"] for client in json.loads(answer.body)["server"]["clients"]]
    if serve.transport == "unix":
        assert shown
    else:
        host, port = wire.sock.getsockname()[:2]
        assert (f"[{host}]:{port}" if serve.transport == "tcp6" else f"{host}:{port}") in shown


@pytest.mark.hostile("X58", "X59")
def test_nothing_of_a_clients_bytes_reaches_the_log_raw(serve: Place) -> None:
    before = len(serve.log())
    for nasty in NASTY:
        for line in (f"GET /{nasty}?token={TOKEN} HTTP/1.1", f"GET /?token={TOKEN} HTTP/1.1"):
            fields = (f"Origin: {nasty}", f"User-Agent: {nasty}", f"Cookie: {nasty}")
            wire = serve.dial()
            name = json.dumps({"type": "identify", "clientId": nasty}).encode()
            end = frame(CLOSE, close_payload(1000, nasty.encode()[:123])) + frame(3)
            said = frame(TEXT, nasty.encode()) + frame(TEXT, name) + end
            wire.send(request(*fields, line=line) + said)
            assert wire.answer().status in (101, 400)
            wire.close()
    answer = serve.ask(request(line=f"GET /stats?token={TOKEN} HTTP/1.1", without=("Upgrade",)))
    assert TOKEN.encode() not in answer.body
    logged = serve.log()[before:]
    assert logged.isprintable() or set(logged) - set("\n") <= set(map(chr, range(32, 127)))
    assert TOKEN not in logged
    assert "INJECTED" not in logged
    assert all(len(each) <= 256 for each in logged.splitlines())


@pytest.mark.hostile("X53")
@pytest.mark.parametrize("program", ["echo", "serve"])
def test_the_unix_socket_is_gone_behind_the_server(program: str, tmp_path: Path) -> None:
    with server(program, "uvloop", "unix", tmp_path) as place:
        path = Path(str(place.address))
        assert path.is_socket()
    assert not path.exists()
