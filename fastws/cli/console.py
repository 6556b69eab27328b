"""What `fastws serve` prints: a terminal or pipe that takes nothing must not stop the server.

Layer 7. Lines wait in a bounded queue for a thread that writes them; when it is full, new ones are
dropped, for a row of statistics is worth less than the ticks.
"""

import logging
import os
import queue
import threading

LINES = 1000
PATIENCE = 1.0  # seconds at the end for what is still to be written


class Console:
    """Standard output for rows, standard error for the log; `close` writes what is left."""

    def __init__(self) -> None:
        self._lines: queue.Queue[tuple[bool, str] | None] = queue.Queue(LINES)
        self._thread = threading.Thread(target=self._write_all, name="console", daemon=True)
        self._thread.start()

    def write(self, line: str, *, error: bool = False) -> None:
        """Queue one line, or drop it."""
        try:
            self._lines.put_nowait((error, line))
        except queue.Full:
            return

    def close(self) -> None:
        """Write what is queued, unless nobody takes it for a second."""
        try:
            self._lines.put(None, timeout=PATIENCE)
        except queue.Full:
            return
        self._thread.join(PATIENCE)

    def _write_all(self) -> None:
        while (item := self._lines.get()) is not None:
            error, line = item
            data = f"{line}\n".encode(errors="backslashreplace")
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
