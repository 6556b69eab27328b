import pytest

from fastws.errors import HandshakeError
from fastws.http.head import parse_request
from fastws.http.origin import check_origin, matches, origins_of

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


# Patterns, and pages of files.


@pytest.mark.parametrize(
    ("allowed", "origin", "status"),
    [
        ("https://*.example.com", "https://a.example.com", 101),
        ("https://*.example.com", "HTTPS://A.B.example.COM", 101),
        ("https://*.example.com", "https://example.com", 403),
        ("https://*.example.com", "https://.example.com", 403),
        ("https://*.example.com", "https://evil-example.com", 403),
        ("https://*.example.com", "https://aexample.com", 403),
        ("https://*.example.com", "https://a.exampleXcom", 403),
        ("https://*.example.com", "http://a.example.com", 403),
        ("https://*.example.com", "https://a.example.com:444", 403),
        ("https://*.example.com", "https://a.example.com.evil.net", 403),
        ("https://*.example.com", "https://evil.net/.example.com", 403),
        ("https://*.example.com", "https://evil.net#.example.com", 403),
        ("https://*.example.com", "https://me@a.example.com", 403),
        ("https://*.example.com", "https://a.example.com\n", 403),
        ("https://*.example.com", "null", 403),
        ("https://*.example.com:8443", "https://a.example.com:8443", 101),
        ("http://localhost:*", "http://localhost:5173", 101),
        ("http://localhost:*", "http://localhost", 101),
        ("http://localhost:*", "http://localhost:", 403),
        ("http://localhost:*", "http://localhost:5173.evil.net", 403),
        ("http://localhost:*", "http://localhost.evil.net:5173", 403),
        ("http://*.test:*", "http://a.test:1", 101),
        ("http://[::1]:*", "http://[::1]:1", 101),
        ("file://", "file://", 101),
        ("file://", "FILE://", 101),
        ("file://", "file://x", 403),
        ("file://", "null", 403),
        ("null", "null", 101),
    ],
)
def test_what_a_pattern_stands_for(allowed: str, origin: str, status: int) -> None:
    assert matches(origin, origins_of("origins", ["https://other.example", allowed])) == (
        status == 101
    )
    if "\n" not in origin:
        assert verdict(origin, allowed=(allowed,)) == status


def test_no_origin_at_all_is_allowed_by_an_empty_list() -> None:
    assert verdict("https://example.com", allowed=()) == 403
    assert verdict(allowed=()) == 101


@pytest.mark.parametrize(
    ("origin", "host", "passes"),
    [
        ("http://127.0.0.1:8080", "127.0.0.1:8080", True),
        ("http://[::1]:8080", "[::1]:8080", True),
        ("http://localhost:8080", "LOCALHOST:8080", True),
        ("https://10.0.0.5", "10.0.0.5", True),
        ("http://127.0.0.1:8081", "127.0.0.1:8080", False),
        ("http://rebound.example:8080", "rebound.example:8080", False),
        ("http://127.0.0.1.example", "127.0.0.1.example", False),
        ("ws://127.0.0.1:8080", "127.0.0.1:8080", False),
    ],
)
def test_the_servers_own_page_may_connect_unless_a_name_was_pointed_here(
    origin: str, host: str, passes: bool
) -> None:
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\n\r\n"
    request = parse_request(head.encode())
    if passes:
        check_origin(request, ["https://panel.example"])
    else:
        with pytest.raises(HandshakeError):
            check_origin(request, ["https://panel.example"])
