"""What `fastws serve` prints: a terminal or pipe that takes nothing must not stop the server.

Layer 7. Lines wait in a bounded queue for a thread that writes them; when it is full, new ones are
dropped, for a row of statistics is worth less than the messages.
"""

import logging
import os
import queue
import re
import threading

LINES = 1000
PATIENCE = 1.0  # seconds at the end for what is still to be written
CLEAR = "\r\x1b[2K"  # the row that the cursor is in
BOLD, YELLOW, PLAIN = "\x1b[1m", "\x1b[33m", "\x1b[0m"
_LABELLED = re.compile(r"((?:lag|dropped)\s*: +)?([\d,]*\d(?:\.\d+)?)")
_LOST = re.compile(r"[1-9]")


class Console:
    """Standard output for rows, standard error for the log; `close` writes what is left."""

    def __init__(self) -> None:
        self._lines: queue.Queue[tuple[str, bool] | None] = queue.Queue(LINES)
        self._live = _is_terminal(1) and os.environ.get("TERM") != "dumb"
        self._colour = self._live and not os.environ.get("NO_COLOR")
        self._row = False  # the terminal shows a row that the next one replaces
        self._thread = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._thread.start()

    def write(self, line: str, *, error: bool = False) -> None:
        """Queue one line, or drop it."""
        replaced = self._row and (not error or _is_terminal(2))
        self._row = self._row and not replaced
        self._queue(f"{CLEAR if replaced else ''}{line}\n", error=error)

    def show(self, row: str) -> None:
        """Queue a row of figures: on a terminal it replaces the one before it, in colour."""
        if not self._live:
            self.write(row)
            return
        before, self._row = CLEAR if self._row else "", True
        columns = _columns()
        row = row[: columns - 1]  # one that is broken into two lines could not be replaced
        self._queue(before + (paint(row) if self._colour else row), error=False)

    def close(self) -> None:
        """Write what is queued, unless nobody takes it for a second."""
        if self._row:
            self._queue("\n", error=False)
        try:
            self._lines.put(None, timeout=PATIENCE)
        except queue.Full:
            return
        self._thread.join(PATIENCE)

    def _queue(self, text: str, *, error: bool) -> None:
        try:
            self._lines.put_nowait((text, error))
        except queue.Full:
            return

    def _write_all(self) -> None:
        while (item := self._lines.get()) is not None:
            text, error = item
            data = text.encode(errors="backslashreplace")
            # Not by sys.stdout: its lock would be held for ever by a write that never returns.
            while data:
                try:
                    data = data[os.write(2 if error else 1, data) :]
                except OSError:
                    break  # a reader that has gone away is no reason to stop


class ConsoleLog(logging.Handler):
    """The log, on the console's standard error."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Queue a record."""
        self._console.write(self.format(record), error=True)


def paint(row: str) -> str:
    """Return a row with its figures in bold, what is lost or late in yellow."""

    def painted(found: re.Match[str]) -> str:
        label, figure = found[1] or "", found[2]
        colour = YELLOW if label and _LOST.search(figure) else BOLD
        return f"{label}{colour}{figure}{PLAIN}"

    return _LABELLED.sub(painted, row)


def _is_terminal(fd: int) -> bool:
    try:
        return os.isatty(fd)
    except OSError:
        return False


def _columns() -> int:
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80
