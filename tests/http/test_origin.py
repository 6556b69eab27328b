import pytest

from fastws.errors import HandshakeError
from fastws.http.head import parse_request
from fastws.http.origin import check_origin

ALLOWED = ("https://example.com", "http://localhost:3000")


def verdict(*origins: str, allowed: tuple[str, ...] | None = ALLOWED) -> int:
    lines = "".join(f"Origin: {origin}\r\n" for origin in origins)
    request = parse_request(f"GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode())
    try:
        check_origin(request, allowed)
    except HandshakeError as error:
        return error.status
    return 101


@pytest.mark.parametrize(
    ("origins", "status"),
    [
        ((), 101),
        (("https://example.com",), 101),
        (("HTTPS://EXAMPLE.COM",), 101),
        (("http://localhost:3000",), 101),
        (("http://localhost:3001",), 403),
        (("http://example.com",), 403),
        (("https://evil-example.com",), 403),
        (("https://example.com.evil.net",), 403),
        (("https://example.com/",), 403),
        (("https://other.net",), 403),
        (("null",), 403),
        (("",), 403),
        (("https://example.com", "https://example.com"), 403),
    ],
)
def test_an_origin_is_compared_whole(origins: tuple[str, ...], status: int) -> None:
    assert verdict(*origins) == status


def test_without_a_list_every_origin_is_let_in() -> None:
    assert verdict("https://other.net", allowed=None) == 101
    assert verdict("tauri://localhost", allowed=None) == 101


def test_a_page_without_an_origin_may_be_let_in_by_name() -> None:
    assert verdict("null", allowed=("null",)) == 101


def test_what_is_quoted_of_a_refused_origin_is_escaped_and_cut() -> None:
    request = parse_request(b"GET / HTTP/1.1\r\nHost: a\r\nOrigin: " + b"\xff" * 300 + b"\r\n\r\n")
    with pytest.raises(HandshakeError) as caught:
        check_origin(request, ALLOWED)
    assert len(caught.value.body) < 400
    assert caught.value.body.isprintable()
