"""Who may change something over HTTP, and that each change is counted and said."""

import hmac
import logging
from dataclasses import replace

import pytest
from support import From

from fastws.errors import HandshakeError
from fastws.http.head import parse_request
from fastws.http.request import Request
from fastws.ticks.access import Access, is_loopback
from fastws.ticks.changes import Changes

FREE = Access(allowed_origins=("https://panel.example", "file://"), own_names=("box", "fe80::1"))
LOCKED = Access("s3cret", ("https://panel.example",))


def asked(
    *fields: str, host: str = "localhost", remote: str = "127.0.0.1", target: str = "/config"
) -> Request:
    lines = (f"POST {target} HTTP/1.1", f"Host: {host}", *fields, "", "")
    return parse_request("\r\n".join(lines).encode("latin-1"), peer=From(remote))


def refusal(request: Request, access: Access = FREE) -> str:
    """Why it is refused; "" where it is not."""
    try:
        access.check(request)
    except HandshakeError as error:
        refused = error
    else:
        return ""
    assert refused.status == 403
    assert refused.body.isprintable()
    return refused.body


# Without a token.


@pytest.mark.parametrize("remote", ["127.0.0.1", "127.9.8.7", "::1", "::ffff:127.0.0.1", ""])
def test_this_machine_may_change_what_it_likes(remote: str) -> None:
    assert refusal(asked(remote=remote)) == ""


@pytest.mark.parametrize(
    "remote", ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8::1", "localhost", "127.0.0.1.example"]
)
def test_other_machines_may_not(remote: str) -> None:
    assert "changes from elsewhere need" in refusal(asked(remote=remote))
    assert "changes from elsewhere need" in refusal(
        asked("Authorization: Bearer None", remote=remote)
    )


@pytest.mark.parametrize(
    "field",
    [
        "X-Forwarded-For: 127.0.0.1", "x-forwarded-for:", "Forwarded: for=127.0.0.1",
        "X-Real-IP: 127.0.0.1", "Via: 1.1 proxy", "CF-Connecting-IP: 127.0.0.1",
    ],
)  # fmt: skip
@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", ""])
def test_a_header_of_a_proxy_means_that_the_address_is_not_the_peers(
    field: str, remote: str
) -> None:
    assert "through a proxy" in refusal(asked(field, remote=remote))


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LocalHost:8080", "panel.localhost", "127.0.0.1", "127.0.0.1:80", "127.1.2.3",
        "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]", "box", "BOX:8080", "[fe80::1]:8080",
    ],
)  # fmt: skip
def test_a_host_that_names_this_machine_is_good(host: str) -> None:
    assert refusal(asked(host=host)) == ""


@pytest.mark.parametrize(
    "host",
    [
        "", "evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example",
        "evillocalhost", ".localhost", "192.0.2.1", "[2001:db8::1]", "0.0.0.0", "box.evil.example",
        "box:80:80", "::1", "[::1", "localhost:80:80", "boxer", "127.0.0.1:", "fe80::2",
    ],
)  # fmt: skip
@pytest.mark.parametrize("remote", ["127.0.0.1", ""])
def test_a_name_that_was_pointed_here_is_refused(host: str, remote: str) -> None:
    assert "is not this machine" in refusal(asked(host=host, remote=remote))


def test_an_absolute_target_must_name_this_machine_as_well() -> None:
    assert refusal(asked(target="http://localhost:8080/config")) == ""
    assert "evil.example" in refusal(asked(target="http://evil.example/config"))
    assert "is not this machine" in refusal(asked(target="http://localhost@evil.example/config"))


def test_a_request_without_a_host_is_refused() -> None:
    request = parse_request(b"POST /config HTTP/1.0\r\n\r\n", peer=From("127.0.0.1"))
    assert "is not this machine" in refusal(request)


@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost", "http://localhost:5173", "https://localhost:1", "HTTP://LOCALHOST:80",
        "http://127.0.0.1:3000", "http://[::1]:3000", "http://127.8.8.8", "tauri://localhost",
        "https://tauri.localhost", "https://panel.example", "file://",
    ],
)  # fmt: skip
def test_pages_of_this_machine_and_those_that_are_allowed_may_change(origin: str) -> None:
    assert refusal(asked(f"Origin: {origin}")) == ""


@pytest.mark.parametrize(
    "origin",
    [
        "", "null", "https://evil.example", "http://localhost.evil.example", "http://127.0.0.1.nip.io",
        "https://panel.example:444", "http://panel.example", "tauri://evil", "ftp://localhost",
        "chrome-extension://localhost", "http://localhost:80:80", "http://localhost/", "localhost",
        "http://me@localhost", "http://192.0.2.1", "file://x", "\x80\xff",
    ],
)  # fmt: skip
def test_pages_of_others_may_not(origin: str) -> None:
    assert refusal(asked(f"Origin: {origin}")).startswith("Forbidden origin: ")
    twice = asked(f"Origin: {origin}", "Origin: http://localhost")
    assert refusal(twice) == "More than one Origin"


def test_pages_of_this_machine_need_not_be_named() -> None:
    assert refusal(asked("Origin: http://localhost:3000"), Access()) == ""
    assert refusal(asked("Origin: https://panel.example"), Access()) != ""
    assert refusal(asked("Origin: null"), Access(allowed_origins=("null",))) == ""


# With a token.


@pytest.mark.parametrize("remote", ["127.0.0.1", "::1", "", "192.0.2.1"])
def test_a_token_is_always_needed_once_there_is_one(remote: str) -> None:
    for text in ("", "Bearer", "Bearer s3cre", "Bearer s3cret2", "Basic s3cret", "s3cret",
                 "Bearer caf\xe9"):  # fmt: skip
        request = asked(f"Authorization: {text}", remote=remote)
        assert "need the admin token" in refusal(request, LOCKED), text
    assert refusal(asked(remote=remote), LOCKED) != ""
    assert refusal(asked(*["Authorization: Bearer s3cret"] * 2, remote=remote), LOCKED) != ""


def test_with_the_token_nothing_else_is_asked() -> None:
    for scheme in ("Bearer", "bearer"):
        request = asked(
            f"Authorization: {scheme} s3cret",
            "Origin: https://anywhere.example",
            "X-Forwarded-For: 192.0.2.7",
            host="feed.example",
            remote="192.0.2.1",
        )
        assert refusal(request, LOCKED) == ""


def test_tokens_are_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[object, object]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((left, right))
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    assert refusal(asked("Authorization: Bearer guess"), LOCKED) != ""
    assert compared == [(b"guess", b"s3cret")]


@pytest.mark.parametrize("remote", ["128.0.0.1", "0.0.0.0", "::", "fe80::1%eth0", "127.1", "x"])
def test_other_addresses_are_not_loopback(remote: str) -> None:
    assert not is_loopback(remote)


# What is counted and said.


def test_each_change_is_counted_and_is_one_line_of_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    changes = Changes()
    request = replace(asked("Origin: http://localhost:5173"), body=b'{"rate":5}\n\x1b[2J')
    with caplog.at_level(logging.INFO, "fastws"):
        changes.accept(request)
        changes.refuse(asked("Origin: \x80", remote=""), "Forbidden")
    assert (changes.accepted, changes.refused) == (1, 1)
    assert caplog.record_tuples == [
        (
            "fastws",
            logging.INFO,
            'change accepted: POST /config {"rate":5}\\n\\x1b[2J from 127.0.0.1:50000 with Origin '
            "http://localhost:5173",
        ),
        (
            "fastws",
            logging.WARNING,
            "change refused: POST /config from the Unix socket with Origin \\x80: Forbidden",
        ),
    ]


def test_a_flood_of_refusals_is_counted_but_does_not_fill_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = [100.0]
    changes = Changes(lambda: now[0])
    for _ in range(1000):
        changes.refuse(asked(), "no")
    assert changes.refused == 1000
    assert len(caplog.records) == 10
    with caplog.at_level(logging.INFO, "fastws"):
        changes.accept(asked())
    assert caplog.messages[-1].startswith("change accepted: ")  # which the flood does not hide
    now[0] += 1
    changes.refuse(asked(), "no")
    changes.refuse(asked(), "no")
    assert len(caplog.records) == 12
    assert caplog.messages[-1].endswith(": no (990 before it were not logged)")
