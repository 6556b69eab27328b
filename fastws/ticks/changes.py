"""What becomes of changes over HTTP: counted, and said in the log. Layer 6.

Anybody may ask for a change, as often as they like, so the lines are few: the counts are exact.
"""

import logging
import time
from collections.abc import Callable

from fastws.errors import host_and_port, printable
from fastws.http.request import Request

logger = logging.getLogger("fastws")

AT_ONCE = 10  # lines, and then one a second
SHOWN = 200  # characters of a body


class Changes:
    """Counts changes, and logs those that were accepted (INFO) and refused (WARNING).

    Args:
        clock: seconds that only grow.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.accepted = 0
        self.refused = 0
        self._accepted_lines = _Lines(clock)
        self._refused_lines = _Lines(clock)  # of its own: many of them hide no accepted one

    def accept(self, request: Request) -> None:
        """Hear that a change was made."""
        self.accepted += 1
        self._accepted_lines.say(logging.INFO, f"change accepted: {_shown(request)}")

    def refuse(self, request: Request, reason: str) -> None:
        """Hear that a change was refused; the reason is printable."""
        self.refused += 1
        self._refused_lines.say(logging.WARNING, f"change refused: {_shown(request)}: {reason}")


class _Lines:
    """Lines of the log, ten at once and then one a second; those left out are counted in it."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._at = clock()
        self._room = float(AT_ONCE)
        self._left_out = 0

    def say(self, level: int, text: str) -> None:
        now = self._clock()
        self._room = min(float(AT_ONCE), self._room + now - self._at)
        self._at = now
        if self._room < 1:
            self._left_out += 1
            return
        self._room -= 1
        if self._left_out:
            text += f" ({self._left_out:,} before it were not logged)"
        self._left_out = 0
        logger.log(level, "%s", text)


def _shown(request: Request) -> str:
    """Return one printable line: what is asked for, and by whom."""
    address = request.remote_address
    parts = [request.method, printable(request.target, SHOWN)]
    if request.body:
        parts.append(printable(request.body[:SHOWN].decode(errors="replace")))
    parts.append(f"from {host_and_port(address) if address[0] else 'the Unix socket'}")
    origin = request.header("origin")
    if origin is not None:
        parts.append(f"with Origin {printable(origin, 80)}")
    return " ".join(parts)
