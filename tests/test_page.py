"""The page of `GET /`: one file, that may run nothing but what stands in it."""

import re
from base64 import b64encode
from hashlib import sha256

from fastws.feeds.page import page

HASHED = re.compile(r"(style|script)-src 'sha256-([A-Za-z0-9+/=]+)'")


def inline(body: str, kind: str) -> str:
    (found,) = re.findall(rf"<{kind}>(.*?)</{kind}>", body, re.DOTALL)
    return str(found)


def test_its_policy_names_its_style_and_its_program_and_allows_nothing_else() -> None:
    answer = page("ticks", "ticks")
    policy = dict(answer.headers)["Content-Security-Policy"]
    body = str(answer.body)
    hashes = dict(HASHED.findall(policy))
    assert hashes == {
        kind: b64encode(sha256(inline(body, kind).encode()).digest()).decode()
        for kind in ("style", "script")
    }
    rest = [each for each in policy.split("; ") if not HASHED.match(each)]
    assert rest == [
        "default-src 'none'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ]


def test_it_has_nothing_from_elsewhere() -> None:
    body = str(page("lines", "log").body)
    assert not re.search(r"https?://|\bsrc=|@import|url\(|style=|\bon\w+=\"", body)
    links = re.findall(r'href="([^"]+)"', body)
    assert links == ["data:,", "/stats", "/config", "/healthz"]


def test_it_knows_its_feed_and_escapes_the_topic() -> None:
    answer = page("lines", '"><script>x</script>', [("X-More", "1")])
    assert answer.content_type == "text/html; charset=utf-8"
    assert ("X-More", "1") in answer.headers
    body = str(answer.body)
    assert 'data-feed="lines" data-topic="&quot;&gt;&lt;script&gt;x&lt;/script&gt;"' in body
    assert body.count("<script>") == 1
