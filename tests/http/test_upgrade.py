"""The upgrade and its answer; H20 and such are ids of the hostile-input catalogue."""

import pytest
from heads import UPGRADE, head
from support import ACCEPT, KEY

from fastws.errors import HandshakeError
from fastws.http.head import parse_request
from fastws.http.request import Request
from fastws.http.response import encode_response, refusal
from fastws.http.upgrade import accept_key, check_upgrade, choose_subprotocol, switching_protocols


def upgrade_with(old: str = "", *new: str, line: str = "GET /ticks HTTP/1.1") -> Request:
    """The upgrade, its fields that start with `old` replaced by `new`."""
    kept = [field for field in UPGRADE if not old or not field.startswith(old)]
    return parse_request(head(*kept, *new, line=line))


def refused_upgrade(request: Request) -> HandshakeError:
    with pytest.raises(HandshakeError) as caught:
        check_upgrade(request)
    return caught.value


def test_sample_key_gets_the_sample_accept() -> None:
    assert accept_key(KEY) == ACCEPT
    request = upgrade_with()
    assert request.is_upgrade
    assert check_upgrade(request) == ACCEPT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Connection", ("Connection: keep-alive, Upgrade",)),  # H03
        ("Connection", ("Connection: keep-alive", "Connection: uPGRADE")),
        ("Upgrade", ("uPgRaDe: WebSocket",)),
        ("Upgrade", ("Upgrade: foo/1, websocket",)),
        ("Sec-WebSocket-Key", (f"SEC-WEBSOCKET-KEY:\t {KEY} \t",)),  # H06
        ("Sec-WebSocket-Extensions", ('Sec-WebSocket-Extensions: constructor; "\\',)),  # H43
        ("X", ("X-Obs: caf\xe9",)),  # H37
    ],
)
def test_odd_but_legal_upgrades_are_accepted(old: str, new: tuple[str, ...]) -> None:
    assert check_upgrade(upgrade_with(old, *new)) == ACCEPT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("Upgrade", (), id="H14 no Upgrade"),
        pytest.param("Upgrade", ("Upgrade: foo",), id="H15 other Upgrade"),
        pytest.param("Upgrade", ("Upgrade: h2c",), id="H16 h2c"),
        pytest.param("Connection", (), id="H17 no Connection"),
        pytest.param("Connection", ("Connection: close",), id="H18 close"),
        pytest.param("Connection", ("Connection: notupgrade",), id="H19 notupgrade"),
    ],
)
def test_what_does_not_ask_for_websocket_is_no_upgrade(old: str, new: tuple[str, ...]) -> None:
    request = upgrade_with(old, *new)
    assert not request.is_upgrade
    error = refused_upgrade(request)
    assert error.status == 426
    assert ("Upgrade", "websocket") in error.headers


@pytest.mark.parametrize(
    "new",
    [
        pytest.param((), id="H20 absent"),
        pytest.param(("Sec-WebSocket-Key:",), id="H21 empty"),
        pytest.param(("Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!==",), id="H22 not base64"),
        pytest.param(("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAA",), id="H23 15 bytes"),
        pytest.param(("Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAAA=",), id="H24 17 bytes"),
        pytest.param((f"Sec-WebSocket-Key: {KEY}",) * 2, id="H25 twice"),
        pytest.param((f"Sec-WebSocket-Key: {KEY}, {KEY}",), id="H25 a list"),
    ],
)
def test_bad_keys_are_refused(new: tuple[str, ...]) -> None:
    assert refused_upgrade(upgrade_with("Sec-WebSocket-Key", *new)).status == 400


@pytest.mark.parametrize(
    "new",
    [
        pytest.param((), id="H26 absent"),
        pytest.param(("Sec-WebSocket-Version: abc",), id="H27 abc"),
        pytest.param(("Sec-WebSocket-Version: 0",), id="H28 0"),
        pytest.param(("Sec-WebSocket-Version: 14",), id="H29 14"),
        pytest.param(("Sec-WebSocket-Version: 013",), id="013"),
        pytest.param(("Sec-WebSocket-Version: 13, 8",), id="a list"),
        pytest.param(("Sec-WebSocket-Version: 13",) * 2, id="twice"),
    ],
)
def test_other_versions_are_told_which_one_we_speak(new: tuple[str, ...]) -> None:
    error = refused_upgrade(upgrade_with("Sec-WebSocket-Version", *new))
    assert error.status == 426
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in encode_response(refusal(error), keep_alive=False)


def test_upgrade_must_be_get() -> None:  # H10
    error = refused_upgrade(upgrade_with(line="POST / HTTP/1.1"))
    assert (error.status, error.headers) == (405, (("Allow", "GET"),))


def test_upgrade_must_be_http_1_1() -> None:  # H11
    assert refused_upgrade(upgrade_with(line="GET / HTTP/1.0")).status == 400


def test_upgrade_must_not_have_a_body() -> None:  # H57
    assert refused_upgrade(upgrade_with("X", "Content-Length: 4")).status == 400
    assert check_upgrade(upgrade_with("X", "Content-Length: 0")) == ACCEPT


@pytest.mark.parametrize(
    ("values", "chosen"),
    [
        ((), None),
        (("fastws.v1",), "fastws.v1"),
        (("other, fastws.v1",), "fastws.v1"),
        (("b, fastws.v1",), "b"),  # the client's order decides
        (("other", "fastws.v1"), "fastws.v1"),
        (("Fastws.V1",), None),
        ((",, ,",), None),
        (('"fastws.v1"',), None),
        (("fastws.v1;q=1",), None),
        (("caf\xe9, fastws.v1",), "fastws.v1"),
    ],
)
def test_subprotocol_is_the_first_known_one(values: tuple[str, ...], chosen: str | None) -> None:
    request = upgrade_with("X", *(f"Sec-WebSocket-Protocol: {value}" for value in values))
    assert choose_subprotocol(request, ["fastws.v1", "b"]) == chosen


def test_switching_protocols_golden_bytes() -> None:
    assert switching_protocols(ACCEPT) == (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    )
    assert switching_protocols(ACCEPT, "fastws.v1", [("X-A", "b")]).endswith(
        b"=\r\nSec-WebSocket-Protocol: fastws.v1\r\nX-A: b\r\n\r\n"
    )


def test_refusal_closes_and_names_the_upgrade() -> None:
    assert encode_response(refusal(refused_upgrade(upgrade_with("Upgrade"))), keep_alive=False) == (
        b"HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 31\r\nConnection: close, Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\n\r\na WebSocket upgrade is required"
    )
