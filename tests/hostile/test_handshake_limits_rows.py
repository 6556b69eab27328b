"""H: what is left to the server, heads beyond limits, other protocols, and the slow ones."""

import random
import time
from collections.abc import Callable

import pytest
from servers import Place
from surroundings import INSTRUMENTED
from wire import HANDSHAKE_TIMEOUT, PATIENCE, PING, TEXT, Wire, frame, request

MIB = 1 << 20
TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + random.Random(1).randbytes(189)


def opens_plainly(place: Place, *fields: str) -> None:
    """A 101 without a subprotocol and without an extension, within 2 s."""
    wire, began = place.dial(), time.monotonic()
    answered = wire.handshake(*fields)
    assert time.monotonic() - began < 2
    assert not {"sec-websocket-protocol", "sec-websocket-extensions"} & answered.keys()
    wire.round_trip(TEXT, b"hello")


@pytest.mark.hostile("H40")
@pytest.mark.parametrize("fields", [("chat",), ("chat, superchat",), ("a", "b")])
def test_a_subprotocol_that_nobody_speaks_is_not_chosen(
    echo: Place, fields: tuple[str, ...]
) -> None:
    opens_plainly(echo, *[f"Sec-WebSocket-Protocol: {field}" for field in fields])


@pytest.mark.hostile("H41")
@pytest.mark.parametrize("value", ["", ",", ",,a", "a b", 'a,"b"', "a;q=1", "a,a", "(x)", "é"])
def test_a_malformed_subprotocol_is_passed_over(echo: Place, value: str) -> None:
    opens_plainly(echo, f"Sec-WebSocket-Protocol: {value}")


@pytest.mark.hostile("H42")
@pytest.mark.parametrize("value", ["x-unknown", "permessage-bzip2; a=1", 'foo, bar; baz="1"'])
def test_an_unknown_extension_is_declined(echo: Place, value: str) -> None:
    opens_plainly(echo, f"Sec-WebSocket-Extensions: {value}")


@pytest.mark.hostile("H43")
@pytest.mark.parametrize(
    "value",
    [
        "constructor", "__proto__; toString", ";", "=", ",,", "a; b=", "a; =b", "a; b=\"",
        "x; y=\"" + "\\" * 7000, "x; y=\"" + "\\\"" * 3500, "a;" * 3000, "a,b;c=" * 1000,
        "permessage-deflate; permessage-deflate", "permessage-deflate; x=\"",
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_a_malformed_extension_is_declined_in_good_time(echo: Place, value: str) -> None:
    opens_plainly(echo, f"Sec-WebSocket-Extensions: {value}")


@pytest.mark.hostile("H44")
@pytest.mark.parametrize("blank", [" ", "\t", " \t"])
@pytest.mark.parametrize("name", ["Protocol", "Extensions"])
def test_long_blanks_in_a_list_cost_no_time(echo: Place, name: str, blank: str) -> None:
    room = blank * (7000 // len(blank))
    opens_plainly(echo, f"Sec-WebSocket-{name}: a{room}b")
    opens_plainly(echo, f"Sec-WebSocket-{name}: a{room},{room[:500]}b")


def answered_cheaply(place: Place, data: bytes) -> int:
    """The status that a request beyond a limit gets, for little time and memory."""
    cpu, rss = place.cpu_seconds(), place.rss_bytes()
    wire = place.dial()
    wire.send(data)
    answer = wire.answer()
    assert answer.headers["connection"] == "close"
    assert answer.body
    wire.ends(may_reset=True)
    assert INSTRUMENTED or place.cpu_seconds() - cpu < 0.05
    assert INSTRUMENTED or place.rss_bytes() - rss < MIB
    return answer.status


@pytest.mark.hostile("H45")
@pytest.mark.parametrize("n", [65, 1000, 5000])
def test_too_many_fields_are_431(echo: Place, n: int) -> None:
    fields = [f"X-{i}: {i}" for i in range(n)]
    assert answered_cheaply(echo, request(*fields)) == 431


@pytest.mark.hostile("H46")
@pytest.mark.parametrize("n", [8193, 20_000, MIB])
def test_a_field_too_long_is_431(echo: Place, n: int) -> None:
    assert answered_cheaply(echo, request("X-Long: " + "x" * n)) == 431
    assert answered_cheaply(echo, request("X" * n + ": short")) == 431


@pytest.mark.hostile("H47")
@pytest.mark.parametrize("n", [8193, 20_000, MIB])
def test_a_target_too_long_is_414(echo: Place, n: int) -> None:
    assert answered_cheaply(echo, request(line="GET /" + "x" * n + " HTTP/1.1")) == 414


@pytest.mark.hostile("H48")
def test_four_mebibytes_without_a_line_end_are_400(echo: Place) -> None:
    assert answered_cheaply(echo, b"x" * (4 * MIB)) == 400


@pytest.mark.parametrize(
    ("data", "status"),
    [
        pytest.param(
            random.Random(50).randbytes(600).replace(b"\n", b"") + b"\r\n\r\n",
            400,
            marks=pytest.mark.hostile("H50"),
        ),
        pytest.param(b"\xff" * 9, 400, marks=pytest.mark.hostile("H50")),
        pytest.param(TLS_HELLO, 400, marks=pytest.mark.hostile("H51")),
        pytest.param(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505, marks=pytest.mark.hostile("H52")
        ),
        pytest.param(b"\r\n" * 20, 400, marks=pytest.mark.hostile("H53")),
        pytest.param(b"GET /\r\n\r\n", 400, marks=pytest.mark.hostile("H54")),
        pytest.param(request(line="GET / HTTP/0.9"), 505, marks=pytest.mark.hostile("H54")),
        pytest.param(request(line="GET / HTTP/9.9"), 505, marks=pytest.mark.hostile("H55")),
        pytest.param(request(line="get / HTTP/1.1"), 400, marks=pytest.mark.hostile("H56")),
        pytest.param(request(line="Get / HTTP/1.1"), 400, marks=pytest.mark.hostile("H56")),
    ],
    ids=lambda value: value[:16].hex() if isinstance(value, bytes) else None,
)
def test_another_protocol_gets_an_answer_at_once_and_the_end(
    echo: Place, data: bytes, status: int
) -> None:
    answer = echo.ask(data)
    assert answer.status == status
    assert "close" in answer.headers["connection"]


@pytest.mark.hostile("H57")
@pytest.mark.parametrize("upgrade", [True, False])
def test_a_body_of_two_lengths_is_400_and_never_read_as_a_request(
    echo: Place, upgrade: bool
) -> None:
    fields = ("Content-Length: 6", "Transfer-Encoding: chunked")
    head = request(*fields, line="POST / HTTP/1.1", without=() if upgrade else ("Upgrade",))
    wire = echo.dial()
    wire.send(head + b"0\r\n\r\nG" + request())
    assert wire.answer().status == 400
    wire.ends()


@pytest.mark.hostile("H58")
@pytest.mark.parametrize("missing", ["Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
def test_frames_behind_a_refused_upgrade_are_never_read(echo: Place, missing: str) -> None:
    wire = echo.dial()
    wire.send(request(without=(missing,)) + frame(PING, b"?") + frame(TEXT, b"?") + request())
    assert wire.answer().status in (400, 426)
    wire.ends()


def at_their_leisure(place: Place) -> dict[str, float]:
    """Seconds from accept to the end, for clients that never finish their request."""
    began = time.monotonic()
    wires: dict[str, Wire] = {name: place.dial() for name in ("silent", "dripping", "half", "0.9")}
    wires["half"].send(request()[:-2])
    wires["0.9"].send(b"GET /\r\n")
    took: dict[str, float] = {}
    drips = iter(request())
    while len(took) < len(wires):
        assert time.monotonic() - began < PATIENCE, f"only these ended: {took}"
        if "dripping" not in took:
            wires["dripping"].send(bytes([next(drips)]))
        time.sleep(0.5)  # the case itself: a byte each half second
        for name in wires.keys() - took.keys():
            if not wires[name].is_open():
                took[name] = time.monotonic() - began
    return took


@pytest.mark.timeout(180)
@pytest.mark.slow
@pytest.mark.hostile("H60", "H61")
def test_a_handshake_has_ten_seconds_in_all(
    where: str, slowly: Callable[[Callable[[Place], object], str], dict[str, float]]
) -> None:
    for name, took in slowly(at_their_leisure, where).items():
        assert HANDSHAKE_TIMEOUT - 0.5 < took < HANDSHAKE_TIMEOUT + 2, name
