"""The page of `GET /`: what this server is, and a live view of its feed. Layer 5.

One file with its style and its program, nothing from elsewhere: the Content-Security-Policy names
both by their hashes.
"""

import re
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Literal

from fastws.errors import Headers
from fastws.http.response import Response

HTML = "text/html; charset=utf-8"
_INLINE = re.compile(r"<(style|script)>(.*?)</\1>", re.DOTALL)


def page(feed: Literal["ticks", "lines"], topic: str, headers: Headers = ()) -> Response:
    """Return the page of a feed.

    Args:
        feed: what its messages are: ticks, or lines of text.
        topic: its name, as the page shows it.
        headers: more of them.
    """
    text = files("fastws.feeds").joinpath("page.html").read_text(encoding="utf-8")
    policy = "; ".join(
        [
            "default-src 'none'",
            *(f"{kind}-src {_hash_of(inline)}" for kind, inline in _INLINE.findall(text)),
            "connect-src 'self'",
            "img-src data:",  # the icon, which is empty
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )
    own = (
        ("Content-Security-Policy", policy),
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cache-Control", "no-cache"),
    )
    body = text.replace("FEED", feed, 1).replace("TOPIC", escape(topic), 1)
    return Response(200, body, (*headers, *own), HTML)


def _hash_of(inline: str) -> str:
    return f"'sha256-{b64encode(sha256(inline.encode()).digest()).decode()}'"
