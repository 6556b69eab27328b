"""The options of `fastws serve --source`, and what those of the ticks mean beside it. Layer 7."""

from collections.abc import Callable
from typing import Any

import click

from fastws.cli.groups import was_given
from fastws.errors import ConfigError, printable
from fastws.lines.config import STANDARD_INPUT, LinesOptions
from fastws.ticks.config import ServeOptions

SOURCE_GROUP = "source topic last max_line wait_for repeat keep_open"
TICKS_ONLY = ("format", "fields", "late", "admin_token", "admin_token_file")


def source_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add the options of a source."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = [
    click.option(
        "--source",
        metavar="-|FILE",
        help="Send each line as a text message: -: of standard input, as they come; FILE: of a "
        "file, --rate lines a second. The server ends with the source.",
    ),
    click.option("--topic", default="lines", metavar="NAME", help="Name of the lines' topic."),
    click.option(
        "--last",
        type=int,
        default=10,
        metavar="N",
        help="How many of the last lines a new client gets first, 0 to 1,000.",
    ),
    click.option(
        "--max-line",
        type=int,
        default=64 * 1024,
        metavar="BYTES",
        help="Longest line; the rest of a longer one is left out, which is said and counted.",
    ),
    click.option(
        "--wait-for",
        type=int,
        metavar="N",
        help="Read the source when so many clients have connected. Default: 0, of a FILE: 1.",
    ),
    click.option("--repeat", is_flag=True, help="Begin the FILE again at its end."),
    click.option("--keep-open", is_flag=True, help="Stay when the source has ended."),
]


def source_of(context: click.Context, given: dict[str, Any]) -> LinesOptions | None:
    """Take the options of a source out of `given`; None where there is none.

    Raises:
        ConfigError: one is bad, or makes no sense without a source or beside it.
    """
    values = {name: given.pop(name) for name in SOURCE_GROUP.split()}
    if values["source"] is None:
        for name in values:
            if was_given(context, name):
                raise ConfigError(name, "needs --source")
        return None
    for name in TICKS_ONLY:
        if was_given(context, name):
            raise ConfigError(name, "is of ticks; --source sends lines, which nobody can change")
    is_file = values["source"] != STANDARD_INPUT
    if was_given(context, "rate") and not is_file:
        raise ConfigError("rate", "is of a file: lines of standard input are sent as they come")
    if values["wait_for"] is None:
        values["wait_for"] = 1 if is_file else 0
    return LinesOptions(rate=context.params["rate"] if is_file else "max", **values)


def check_beside(options: ServeOptions) -> None:
    """Refuse options that make no sense for lines, which are lossless where nothing else is said.

    Raises:
        ConfigError: one is.
    """
    if options.on_slow is None:
        options.check_lossless()


def describe(lines: LinesOptions, on_slow: str) -> str:
    """Return what is sent, for the console."""
    rate = "as they come" if lines.rate == "max" else f"{lines.rate:,}/s"
    name = "standard input" if lines.source == STANDARD_INPUT else printable(lines.source)
    waits = f", when {lines.wait_for:,} clients have connected" if lines.wait_for else ""
    return f"{name} to the topic {lines.topic}, {rate}, {on_slow}{waits}"
