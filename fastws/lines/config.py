"""What can be set of a source of lines: the options of `fastws serve --source`. Layer 5."""

from dataclasses import dataclass

from fastws.checks import check_flag, check_integer, check_text
from fastws.errors import ConfigError
from fastws.ticks.config import Rate, check_rate

STANDARD_INPUT = "-"
MOST_LAST = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class LinesOptions:
    """Where lines come from, and how they are published.

    Args:
        source: path of a file, or `-`: standard input.
        topic: the name of their topic.
        rate: lines a second, 1 to 100,000,000, or "max": as they come.
        max_line: bytes of a line, 4 to 16 MiB; the rest of a longer one is left out.
        last: how many of the last lines a new client gets first, 0 to 1,000.
        wait_for: the source is read from when so many clients have connected.
        repeat: at its end the file begins again.
        keep_open: the server stays when the source has ended.

    Raises:
        ConfigError: one clear line; the field is the argument's name.
    """

    source: str = STANDARD_INPUT
    topic: str = "lines"
    rate: Rate = "max"
    max_line: int = 64 * 1024
    last: int = 10
    wait_for: int = 0
    repeat: bool = False
    keep_open: bool = False

    def __post_init__(self) -> None:
        if not self.source or "\0" in self.source:
            raise ConfigError("source", "must be - or the path of a file")
        check_text("topic", self.topic)
        if check_rate(self.rate) == 0:
            raise ConfigError("rate", "of a source must be more than 0")
        check_integer("max_line", self.max_line, 4, 16 << 20)
        check_integer("last", self.last, 0, MOST_LAST)
        check_integer("wait_for", self.wait_for, 0, 10_000_000)
        check_flag("repeat", self.repeat)
        check_flag("keep_open", self.keep_open)
        if self.repeat and self.source == STANDARD_INPUT:
            raise ConfigError("repeat", "needs a file: standard input cannot begin again")
