"""Responses as values and as bytes; no name or value starts another line."""

import pytest
from support import encoded

from fastws.http.fields import encode_fields
from fastws.http.upgrade import switching_protocols

REFUSED = "control character|token|codec can't encode|set by fastws|status|HTTPStatus"
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_response_golden_bytes() -> None:
    assert encoded(200, b"hi", headers=[("X-A", "b")]) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n"
        b"Connection: keep-alive\r\nX-A: b\r\n\r\nhi"
    )
    assert encoded(404, b"Not found", keep_alive=False, head_only=True) == (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\n"
        b"Content-Length: 9\r\nConnection: close\r\n\r\n"
    )
    assert encoded(204) == b"HTTP/1.1 204 No Content\r\nConnection: keep-alive\r\n\r\n"


@pytest.mark.parametrize(
    "value", ["a\rb", "a\nb", "a\r\nSet-Cookie: x", "a\0b", "\x1b[0m", "\u20ac"]
)
def test_no_value_can_start_another_line(value: str) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        encode_fields([("X", value)])
    with pytest.raises(ValueError, match=REFUSED):
        encoded(200, headers=[("X", value)])
    with pytest.raises(ValueError, match=REFUSED):
        encoded(200, content_type=value)
    with pytest.raises(ValueError, match=REFUSED):
        switching_protocols(ACCEPT, extra=[("X", value)])
    with pytest.raises(ValueError, match=REFUSED):
        switching_protocols(ACCEPT, value)
    with pytest.raises(ValueError, match=REFUSED):
        switching_protocols(value)


@pytest.mark.parametrize("name", ["", "a b", "a:", "a\r\nb", "caf\xe9", "a\0"])
def test_names_are_tokens(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        encoded(200, headers=[(name, "x")])


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "CONNECTION"])
def test_framing_fields_are_ours_alone(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        encoded(200, headers=[(name, "1")])
    with pytest.raises(ValueError, match=REFUSED):
        switching_protocols(ACCEPT, extra=[(name, "1")])


@pytest.mark.parametrize(("status", "body"), [(101, b""), (99, b""), (799, b""), (204, b"x")])
def test_impossible_responses_are_not_built(status: int, body: bytes) -> None:
    with pytest.raises(ValueError, match=REFUSED):
        encoded(status, body)
