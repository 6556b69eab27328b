"""HTTP beside a feed of lines: its counts; nothing can be changed. Layer 5."""

from collections.abc import Callable

import orjson

from fastws.errors import HandshakeError
from fastws.http.request import Request
from fastws.http.response import Response, refusal
from fastws.ticks.api import CORS_HEADERS


class LinesApi:
    """The routes beside the page.

    Args:
        stats: the JSON of `GET /stats`.
    """

    def __init__(self, stats: Callable[[], orjson.Fragment]) -> None:
        self._stats = stats

    def handle(self, request: Request) -> Response:
        """Answer a request that is not an upgrade."""
        if request.method == "OPTIONS":
            return Response(204, headers=CORS_HEADERS)
        if request.path.rstrip("/") != "/stats":
            return self.refuse(HandshakeError(404, "Not found"))
        if request.method not in ("GET", "HEAD"):
            allow = (("Allow", "GET, HEAD, OPTIONS"),)
            return self.refuse(HandshakeError(405, "Method not allowed", allow))
        return Response.json(self._stats(), headers=CORS_HEADERS)

    def refuse(self, error: HandshakeError) -> Response:
        """Answer a request that is refused."""
        return refusal(error, CORS_HEADERS)
