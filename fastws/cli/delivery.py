"""The options of `fastws serve` for slow clients, and for those that come later. Layer 7."""

from collections.abc import Callable
from typing import Any, get_args

import click

from fastws.cli.groups import was_given
from fastws.errors import ConfigError
from fastws.feeds.delivery import OnSlow

DELIVERY_GROUP = (
    "on_slow max_lag max_lag_bytes max_lag_messages min_rate history history_bytes "
    "history_seconds retain"
)


def delivery_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add these options."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS = [
    click.option(
        "--on-slow",
        type=click.Choice(get_args(OnSlow)),
        show_default="latest; at --rate max and with --source: lossless",
        help="A client past a limit of its lag jumps to the newest message (latest), or to the "
        "oldest within the limits (drop_oldest); it is closed with 1013 (close); or the feed waits "
        "until it has taken some, and one that takes less than --min-rate is closed (lossless).",
    ),
    click.option(
        "--max-lag",
        type=float,
        metavar="SECONDS",
        show_default="0.5; with --source: 0",
        help="Limit: the next message of a client may be so old. 0: no such limit. Not for "
        "lossless.",
    ),
    click.option(
        "--max-lag-bytes",
        type=int,
        default=12 << 20,
        metavar="BYTES",
        help="Limit: a client may be so many bytes behind, 4,096 up. By default ticks at --rate "
        "max, which are lossless, have 256 KiB.",
    ),
    click.option(
        "--max-lag-messages",
        type=int,
        default=0,
        metavar="N",
        help="Limit: a client may be so many messages behind. 0: no such limit. Not for lossless.",
    ),
    click.option(
        "--min-rate",
        type=int,
        default=1 << 20,
        metavar="BYTES",
        help="A lossless client that delays the feed, and takes fewer bytes a second over 5 s, is "
        "closed (1013). 0: no minimum.",
    ),
    click.option(
        "--history",
        type=int,
        default=0,
        metavar="N",
        help="Keep the last N messages for clients that come back with ?since= to /topics/NAME. "
        "0: no such limit; with none of the three nothing is kept.",
    ),
    click.option(
        "--history-bytes",
        type=int,
        default=0,
        metavar="BYTES",
        help="Keep so many bytes of the last messages. 0: no such limit.",
    ),
    click.option(
        "--history-seconds",
        type=float,
        default=0,
        metavar="SECONDS",
        help="Keep messages that are not older. 0: no such limit.",
    ),
    click.option(
        "--retain", is_flag=True, help="Keep the newest message: a new client gets it at once."
    ),
]


def delivery_of(context: click.Context, given: dict[str, Any]) -> dict[str, Any]:
    """Take these options out of `given`; return them as arguments of ServeOptions.

    Raises:
        ConfigError: one makes no sense beside another.
    """
    values = {name: given.pop(name) for name in DELIVERY_GROUP.split()}
    on_slow = values["on_slow"]
    if was_given(context, "min_rate") and on_slow not in (None, "lossless"):
        raise ConfigError("min_rate", f"is for lossless clients; --on-slow is {on_slow}")
    return values
