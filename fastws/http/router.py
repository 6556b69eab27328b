"""Routes: which handler a method and a path belong to. Layer 5."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastws.errors import VERSION_HEADERS, HandshakeError

WEBSOCKET = "WEBSOCKET"  # in the place of a method

Handler = Callable[..., Any]

_PARAMETER = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True, slots=True)
class Match:
    """The handler of a request, and the parameters that its path has."""

    handler: Handler
    parameters: Mapping[str, str]


@dataclass(slots=True)
class _Pattern:
    expression: re.Pattern[str]
    handlers: dict[str, Handler] = field(default_factory=dict)


class Router:
    """Finds handlers by method and path.

    A path is literal but for `{name}`, which stands for one segment: anything without a slash. A
    trailing slash is forgiven. Literal paths come first, patterns in the order of adding.
    """

    def __init__(self) -> None:
        self._literal: dict[str, dict[str, Handler]] = {}
        self._patterns: dict[str, _Pattern] = {}

    def add(self, method: str, path: str, handler: Handler) -> None:
        """Add a route.

        Raises:
            ValueError: the method is not in capitals, or HEAD (a GET answers it); the path does not
                begin with a slash, a parameter of it has no name or one
                twice, or the route is there already.
        """
        if method == "HEAD" or method != method.upper():
            raise ValueError(f"a method is in capitals, and HEAD is a GET: {method!r}")
        if not path.startswith("/"):
            raise ValueError(f"a path begins with a slash, unlike {path!r}")
        handlers = self._handlers(path)
        if method in handlers:
            raise ValueError(f"there is a route for {method} {path} already")
        handlers[method] = handler

    def _handlers(self, path: str) -> dict[str, Handler]:
        names = _PARAMETER.findall(path)
        if not names and "{" not in path and "}" not in path:
            return self._literal.setdefault(_trimmed(path), {})
        if len(set(names)) < len(names) or not all(name.isidentifier() for name in names):
            raise ValueError(f"each parameter of {path!r} needs a name of its own")
        path = _trimmed(path)
        parts = _PARAMETER.split(path)
        if any("{" in part or "}" in part for part in parts[::2]):
            raise ValueError(f"a brace of the path {path!r} has no counterpart")
        known = self._patterns.get(path)
        if known is None:
            text = "".join(
                f"(?P<{part}>[^/]+)" if i % 2 else re.escape(part) for i, part in enumerate(parts)
            )
            known = self._patterns[path] = _Pattern(re.compile(text, re.DOTALL))
        return known.handlers

    def find(self, method: str, path: str) -> Match | None:
        """Return the handler for a method and path, None when no route has the path.

        Raises:
            HandshakeError: 405 where there are only routes for other methods (HEAD is GET), 426
                where there are only those for WebSockets.
        """
        wanted = "GET" if method == "HEAD" else method
        others: list[str] = []
        candidates = self._candidates(_trimmed(path))
        for handlers, parameters in candidates:
            if wanted in handlers:
                return Match(handlers[wanted], parameters)
            others += [each for each in handlers if each != WEBSOCKET]
        if method == WEBSOCKET or not candidates:
            return None
        if not others:
            raise HandshakeError(426, "a WebSocket upgrade is required", VERSION_HEADERS)
        allow = ", ".join(dict.fromkeys([*others, *(["HEAD"] if "GET" in others else [])]))
        raise HandshakeError(405, "Method not allowed", (("Allow", allow),))

    def _candidates(self, path: str) -> list[tuple[dict[str, Handler], dict[str, str]]]:
        found: list[tuple[dict[str, Handler], dict[str, str]]] = []
        if path in self._literal:
            found.append((self._literal[path], {}))
        for pattern in self._patterns.values():
            match = pattern.expression.fullmatch(path)
            if match is not None:
                found.append((pattern.handlers, match.groupdict()))
        return found

    def has(self, method: str) -> bool:
        """Whether there is any route for a method."""
        return any(method in handlers for handlers in self._all())

    @property
    def has_http(self) -> bool:
        """Whether there is any route that is not for WebSockets."""
        return any(method != WEBSOCKET for handlers in self._all() for method in handlers)

    def _all(self) -> Iterator[dict[str, Handler]]:
        yield from self._literal.values()
        yield from (pattern.handlers for pattern in self._patterns.values())


def _trimmed(path: str) -> str:
    return path[:-1] if path.endswith("/") and path != "/" else path
