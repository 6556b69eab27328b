"""H: requests that become a WebSocket, and those that get an honest answer instead."""

import base64
import hashlib
import os

import pytest
from servers import Place
from wire import ACCEPT, FIELDS, KEY, PING, PONG, TEXT, Answer, frame, request

BAD = 400


def opens(place: Place, head: bytes, accept: str = ACCEPT) -> dict[str, str]:
    """The request gets a 101, and a WebSocket that echoes; the fields of the 101."""
    wire = place.dial()
    wire.send(head)
    answer = wire.answer()
    assert (answer.status, answer.headers["sec-websocket-accept"]) == (101, accept)
    wire.round_trip(TEXT, b"hello")
    wire.close()
    return answer.headers


def refused(place: Place, head: bytes, status: int) -> Answer:
    """The request gets exactly that status and a reason, and the connection is closed."""
    answer = place.ask(head)
    assert answer.status == status, answer
    assert answer.body
    assert "close" in answer.headers["connection"]
    return answer


@pytest.mark.hostile("H01")
def test_a_plain_upgrade_opens_with_the_right_accept(echo: Place) -> None:
    for _ in range(20):
        key = base64.b64encode(os.urandom(16)).decode()
        digest = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        head = request(f"Sec-WebSocket-Key: {key}", without=("Sec-WebSocket-Key",))
        opens(echo, head, base64.b64encode(digest).decode())


@pytest.mark.hostile("H02")
def test_the_sample_key_of_the_rfc_has_the_sample_accept(echo: Place) -> None:
    fields = opens(echo, request())
    assert set(fields) == {"upgrade", "connection", "sec-websocket-accept"}


@pytest.mark.hostile("H03")
@pytest.mark.parametrize(
    "fields",
    [
        ("upgrade: WebSocket", "connection: keep-alive, Upgrade"),
        ("UPGRADE: WEBSOCKET", "CONNECTION: UPGRADE"),
        ("uPgRaDe: wEbSoCkEt", "Connection: keep-alive", "Connection: x, uPGRADE ,y"),
        ("Upgrade: h2c, websocket", "Connection: Upgrade, HTTP2-Settings"),
    ],
)
def test_the_case_of_names_and_tokens_does_not_matter(echo: Place, fields: tuple[str, ...]) -> None:
    opens(echo, request(*fields, without=("Upgrade", "Connection")))


@pytest.mark.hostile("H04")
def test_a_request_byte_by_byte_opens(echo: Place) -> None:
    wire = echo.dial()
    echo.in_pieces(wire, request(), 1)
    wire.switched()
    wire.round_trip(TEXT, b"hello")


@pytest.mark.hostile("H05")
@pytest.mark.parametrize("left", [1, 2, 3, 4, 5])
def test_a_request_cut_within_its_last_line_ends_opens(echo: Place, left: int) -> None:
    wire = echo.dial()
    echo.in_pieces(wire, request(), len(request()) - left, left)
    wire.switched()


@pytest.mark.hostile("H06")
def test_blanks_around_values_are_no_part_of_them(echo: Place) -> None:
    blank = [field.replace(": ", ": \t  ") + " \t " for field in FIELDS]
    opens(echo, ("GET / HTTP/1.1\r\n" + "\r\n".join(blank) + "\r\n\r\n").encode())
    tight = [field.replace(": ", ":") for field in FIELDS]
    opens(echo, ("GET / HTTP/1.1\r\n" + "\r\n".join(tight) + "\r\n\r\n").encode())


@pytest.mark.hostile("H07")
def test_a_frame_in_one_segment_with_the_request_is_answered_behind_the_101(echo: Place) -> None:
    wire = echo.dial()
    wire.send(request() + frame(PING, b"early") + frame(TEXT, b"bird"))
    wire.switched()
    wire.echoes(PONG, b"early")
    wire.echoes(TEXT, b"bird")


@pytest.mark.hostile("H10")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"])
def test_an_upgrade_that_is_not_get_is_405(echo: Place, method: str) -> None:
    wire = echo.dial()
    wire.send(request(line=f"{method} / HTTP/1.1"))
    if method == "HEAD":  # RFC 9110 9.3.2: its answer has no body
        assert b" 405 " in wire.head()
    else:
        answer = wire.answer()
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
    wire.ends()


@pytest.mark.hostile("H11")
def test_an_upgrade_in_http_1_0_is_400(echo: Place) -> None:
    refused(echo, request(line="GET / HTTP/1.0"), 400)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(request(without=("Host",)), marks=pytest.mark.hostile("H12")),
        pytest.param(request("Host: localhost"), marks=pytest.mark.hostile("H13")),
        pytest.param(request("host: elsewhere"), marks=pytest.mark.hostile("H13")),
    ],
    ids=["none", "twice", "two"],
)
def test_other_than_one_host_is_400(echo: Place, head: bytes) -> None:
    refused(echo, head, 400)


NO_UPGRADE = {
    "H14": request(without=("Upgrade",)),
    "H15": request("Upgrade: websocket2, foo/1", without=("Upgrade",)),
    "H16": request(
        "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA", without=("Upgrade",)
    ),
    "H17": request(without=("Connection",)),
    "H18": request("Connection: close", without=("Connection",)),
    "H19": request("Connection: notupgrade, keep-alive", without=("Connection",)),
}


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, marks=pytest.mark.hostile(row), id=row)
        for row, head in NO_UPGRADE.items()
    ],
)
def test_what_is_no_upgrade_is_told_to_upgrade_with_426(echo: Place, head: bytes) -> None:
    # A proxy may take the tunnel for granted: what follows is no request.
    answer = refused(echo, head + request(line="GET /smuggled HTTP/1.1"), 426)
    assert answer.headers["upgrade"] == "websocket"
    assert "upgrade" in answer.headers["connection"].lower()  # RFC 9110 7.8
    assert answer.body


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(head, marks=pytest.mark.hostile(row), id=row)
        for row, head in NO_UPGRADE.items()
    ],
)
def test_what_is_no_upgrade_gets_a_route_of_the_tick_feed_or_404(serve: Place, head: bytes) -> None:
    smuggled = request(line="DELETE /stats HTTP/1.1")
    unknown = head.replace(b"GET / ", b"GET /unknown ")
    assert refused(serve, unknown + smuggled, 404).body == b"Not found"
    assert refused(serve, head + smuggled, 200).body.startswith(b"<!DOCTYPE html>")
    answer = refused(serve, head.replace(b"GET / ", b"GET /config ") + smuggled, 200)
    assert answer.body.startswith(b'{"rate":')


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param((), marks=pytest.mark.hostile("H20"), id="absent"),
        pytest.param(("",), marks=pytest.mark.hostile("H21"), id="empty"),
        pytest.param(
            ("!!!!!!!!!!!!!!!!!!!!!!==",), marks=pytest.mark.hostile("H22"), id="no base64"
        ),
        pytest.param((base64.b64encode(bytes(15)).decode(),), marks=pytest.mark.hostile("H23")),
        pytest.param((base64.b64encode(bytes(17)).decode(),), marks=pytest.mark.hostile("H24")),
        pytest.param((KEY.rstrip("="),), marks=pytest.mark.hostile("H24"), id="no padding"),
        pytest.param((KEY, KEY), marks=pytest.mark.hostile("H25"), id="twice"),
    ],
)
def test_other_than_one_key_of_16_bytes_is_400(echo: Place, keys: tuple[str, ...]) -> None:
    fields = [f"Sec-WebSocket-Key: {key}" for key in keys]
    refused(echo, request(*fields, without=("Sec-WebSocket-Key",)), 400)


@pytest.mark.parametrize(
    "versions",
    [
        pytest.param((), marks=pytest.mark.hostile("H26")),
        pytest.param(("abc",), marks=pytest.mark.hostile("H27")),
        pytest.param(("0",), marks=pytest.mark.hostile("H28")),
        pytest.param(("14",), marks=pytest.mark.hostile("H29")),
        pytest.param(("013",), marks=pytest.mark.hostile("H29")),
        pytest.param(("13, 8",), marks=pytest.mark.hostile("H29")),
        pytest.param(("13", "13"), marks=pytest.mark.hostile("H29")),
    ],
)
def test_another_version_is_426_and_told_which_is_spoken(
    echo: Place, versions: tuple[str, ...]
) -> None:
    fields = [f"Sec-WebSocket-Version: {version}" for version in versions]
    answer = refused(echo, request(*fields, without=("Sec-WebSocket-Version",)), 426)
    assert answer.headers["sec-websocket-version"] == "13"
    assert answer.headers["upgrade"] == "websocket"


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(request("NoColonHere"), marks=pytest.mark.hostile("H30")),
        pytest.param(request("X-Blank : x"), marks=pytest.mark.hostile("H31")),
        pytest.param(request("X-Folded: a\r\n b"), marks=pytest.mark.hostile("H32")),
        pytest.param(request("X-Folded: a\r\n\tb"), marks=pytest.mark.hostile("H32")),
        pytest.param(request("X-Nul: a\0b"), marks=pytest.mark.hostile("H33")),
        pytest.param(request("X-Return: a\rb"), marks=pytest.mark.hostile("H34")),
        pytest.param(request("X-Feed: a\nX-More: b"), marks=pytest.mark.hostile("H35")),
        pytest.param(request().replace(b"\r\n", b"\n"), marks=pytest.mark.hostile("H35")),
        pytest.param(request("X(Y): z"), marks=pytest.mark.hostile("H36")),
        pytest.param(request(": z"), marks=pytest.mark.hostile("H36")),
        pytest.param(request(b"X-\xe9: z"), marks=pytest.mark.hostile("H36")),
    ],
)
def test_a_malformed_field_is_400(echo: Place, head: bytes) -> None:
    refused(echo, head, 400)


@pytest.mark.hostile("H37")
def test_bytes_beyond_ascii_are_let_through_in_a_value_only(echo: Place) -> None:
    opens(echo, request(b"X-Old: caf\xe9 \xff"))
    opens(echo, request("X-New: caf\N{LATIN SMALL LETTER E WITH ACUTE}"))
    refused(echo, request(line=b"GET /caf\xe9 HTTP/1.1"), 400)


@pytest.mark.hostile("H39")
def test_the_absolute_form_of_a_target_opens(echo: Place) -> None:
    opens(echo, request(line="GET http://localhost/chat?x=1 HTTP/1.1"))
    opens(echo, request(line="GET ws://localhost/ HTTP/1.1"))


@pytest.mark.hostile("H38")
def test_line_ends_in_a_target_are_injected_nowhere(echo: Place, serve: Place) -> None:
    target = "/%0d%0aX-Injected:%20yes%0d%0a%0d%0ainjected"
    line = f"GET {target} HTTP/1.1"
    assert "x-injected" not in opens(echo, request(line=line))
    for place, head in ((echo, request(line=line, without=("Upgrade",))),
                        (serve, request(line=line, without=("Upgrade",))),
                        (echo, request(line=line, without=("Host",)))):  # fmt: skip
        answer = place.ask(head)
        assert "x-injected" not in answer.headers
        assert b"njected" not in answer.body
        assert "njected" not in place.log()
