"""`fastws serve`: a feed of ticks or of lines on one port, HTTP beside it. Layer 7."""

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, get_args

import click

from fastws.cli.console import Console, ConsoleLog
from fastws.cli.delivery import DELIVERY_GROUP, delivery_of, delivery_options
from fastws.cli.groups import GroupedCommand, RateOption, config_line
from fastws.cli.secret import read_token
from fastws.cli.source import SOURCE_GROUP, check_beside, describe, source_of, source_options
from fastws.cli.surroundings import PortOption
from fastws.errors import ConfigError, host_and_port
from fastws.feeds.feed import Feed
from fastws.lines.config import LinesOptions
from fastws.lines.feed import LinesFeed
from fastws.server.limits import Limits
from fastws.server.open_files import check_file_limit
from fastws.server.running import LOOPS, SAME_SIGNAL
from fastws.ticks.config import FEED_LIMITS, Fields, LogLevel, Rate, ServeOptions, http_port_of_mode
from fastws.ticks.feed import TickFeed


def limit_options(command: Callable[..., int]) -> Callable[..., int]:
    """Add an option for each limit."""
    for each in reversed(fields(Limits)):
        counts, networks = "low" in each.metadata, "networks" in each.metadata
        option = click.option(
            "--" + each.name.replace("_", "-"),
            type=str if networks else int if counts else float,
            default=getattr(FEED_LIMITS, each.name),
            metavar="NETWORK" if networks else "N" if counts else "SECONDS",
            multiple=networks,
            callback=without_none if networks else None,
            help=each.metadata["help"],
        )
        command = option(command)
    return command


def without_none(_: click.Context, __: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    """Return what an option that may be repeated was given; `none` alone is an empty list."""
    return () if value == ("none",) else value


def read_mode(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """Return the permissions that an octal number spells."""
    if value is None:
        return None
    try:
        mode = int(value, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.BadParameter("must be from 0 to 777 in octal, such as 660")
    return mode


GROUPS = {
    "Where to listen": "host port unix unix_mode http_port",
    "Lines of text instead of ticks": SOURCE_GROUP,
    "Ticks": "rate format fields late",
    "Slow clients, and those that come later": DELIVERY_GROUP,
    "Who may connect": "allowed_origin admin_token admin_token_file max_connections "
    "max_per_address handshake_rate exempt_addresses",
    "What one client sends": "message_rate byte_rate max_message_size max_fragments max_head_size "
    "max_head_line max_head_fields max_body_size max_subscriptions max_topic_name",
    "Memory": "max_log_bytes max_buffered_bytes handler_queue high_mark outbox_limit",
    "Time-outs, in seconds": "handshake_timeout keep_alive_timeout close_timeout ping_interval "
    "pong_timeout message_timeout write_timeout",
}


@click.command(
    cls=GroupedCommand,
    groups=GROUPS,
    short_help="Send ticks, or lines of text, to every WebSocket client.",
    context_settings={"show_default": True, "auto_envvar_prefix": "FASTWS"},
)
@click.option("--host", default="127.0.0.1", help="Address or name to listen on.")
@click.option(
    "--port",
    cls=PortOption,
    type=int,
    default=8080,
    help="Port for WebSocket and HTTP; 0: any free one.",
)
@click.option(
    "--rate",
    type=RateOption(),
    default="100",
    metavar="N|max",
    help="Ticks a second, 0 to 100,000,000, also as 250_000, 1e6, 500k or 1.5M; max: the slowest "
    "client sets the pace. With --source FILE: lines a second.",
)
@click.option(
    "--format",
    type=click.Choice(["json", "binary"]),
    default="json",
    help="Ticks as JSON in text frames, or as 20 bytes in binary frames.",
)
@click.option(
    "--fields",
    type=click.Choice(get_args(Fields)),
    default="base",
    help="seq: ticks also carry their sequence number and their time in ns; quote: bid, ask and "
    "volume, too.",
)
@click.option(
    "--loop", type=click.Choice(["uvloop", "asyncio"]), default="uvloop", help="Event loop."
)
@click.option(
    "--http-port",
    cls=PortOption,
    type=int,
    help="A second port for the HTTP API, beside --unix too; SERVER_MODE=ws opens 8081.",
)
@click.option("--unix", metavar="PATH", help="Listen on a Unix socket instead of --port.")
@click.option(
    "--unix-mode",
    metavar="OCTAL",
    callback=read_mode,
    help="Permissions of its file, such as 660: who may write to it may connect. Default: as the "
    "umask has it.",
)
@click.option(
    "--allowed-origin",
    multiple=True,
    metavar="ORIGIN",
    help="Origin of web pages that may connect, and change the rate: scheme://host[:port], file:// "
    "or null; https://*.example.com has every name below it, http://localhost:* every port. May "
    "be repeated. Default: all pages may connect, those of this machine may change the rate.",
)
@click.option(
    "--admin-token",
    help="Secret without which nothing is changed, sent as Authorization: Bearer TOKEN. Default: "
    "changes are taken from this machine only. `ps` shows it to everybody on the machine: use "
    "--admin-token-file, or FASTWS_ADMIN_TOKEN.",
)
@click.option(
    "--admin-token-file",
    metavar="PATH",
    help="The same secret, read from a file at the start.",
)
@click.option(
    "--late",
    type=click.Choice(["burst", "smooth", "skip"]),
    default="burst",
    help="Ticks over 10 ms late: sent at once, sent at twice the rate, or counted as missed.",
)
@source_options
@delivery_options
@click.option("--deflate", is_flag=True, help="Compress for clients that offer it (RFC 7692).")
@limit_options
@click.option(
    "--log-level",
    type=click.Choice(get_args(LogLevel)),
    default="info",
    help="What of the log is written to standard error; info: each change of the rate, too.",
)
@click.option("--quiet", is_flag=True, help="Print errors only: no address, no console rows.")
def serve(
    host: str,
    port: int,
    rate: Rate,
    format: str,
    fields: str,
    loop: str,
    http_port: int | None,
    unix: str | None,
    unix_mode: int | None,
    allowed_origin: tuple[str, ...],
    admin_token: str | None,
    admin_token_file: str | None,
    late: str,
    deflate: bool,
    log_level: str,
    quiet: bool,
    **others: Any,
) -> int:
    """Send ticks to every WebSocket client that connects, on any path.

    With --source each line of a file or of standard input is sent instead, as a text message.

    HTTP on the same port: GET / is a page with a live view, GET and POST /config show and change
    the rate and the format of the ticks, GET and DELETE /stats show and forget what clients
    reported. Ctrl-C stops. Each option is also read from the environment: FASTWS_PORT,
    FASTWS_RATE, FASTWS_ADMIN_TOKEN and so on.

    \b
    fastws serve --rate 1M
    tail -f app.log | fastws serve --source - --topic log
    fastws bench --clients 100
    curl -d '{"rate": 2000000}' localhost:8080/config

    Status 0: stopped by Ctrl-C or SIGTERM, or by the end of the source. 1: it cannot listen, or
    the source cannot be read. 2: a wrong option or variable. A second signal ends it at once; one
    within 0.5 s of the first is taken for a copy of it.
    """  # noqa: D301  # click reads the \b
    refuse_empty_variables()
    if admin_token_file is not None:
        if admin_token is not None:
            raise ConfigError("admin_token_file", "cannot be combined with --admin-token")
        admin_token = read_token(admin_token_file)
    context = click.get_current_context()
    lines, delivery = source_of(context, others), delivery_of(context, others)
    options = ServeOptions(
        host=host,
        port=port,
        rate=rate,
        format=format,  # type: ignore[arg-type]  # ServeOptions checks it again
        loop=loop,  # type: ignore[arg-type]
        http_port=http_port if http_port is not None else http_port_of_mode(os.environ),
        unix=unix,
        unix_mode=unix_mode,
        allowed_origins=allowed_origin,
        admin_token=admin_token,
        log_level=log_level,  # type: ignore[arg-type]
        quiet=quiet,
        fields=fields,  # type: ignore[arg-type]
        late=late,  # type: ignore[arg-type]
        deflate=deflate,
        limits=Limits(**others),
        **delivery,
    )
    if lines is not None:
        check_beside(options)
    try:
        check_file_limit()
        with asyncio.Runner(loop_factory=LOOPS[options.loop]) as runner, long_lived_heap():
            status = runner.run(run(options, lines))
    except ConfigError as error:  # the options are good, but it cannot run here
        raise click.ClickException(config_line(error)) from None
    return status


def refuse_empty_variables() -> None:
    """Refuse what click takes for unset, where that would let in more than was meant."""
    for name in ("FASTWS_ALLOWED_ORIGIN", "FASTWS_ADMIN_TOKEN", "FASTWS_ADMIN_TOKEN_FILE"):
        if not os.environ.get(name, "unset").strip():
            raise ConfigError(name, "is empty: give it a value, or unset it")


@contextmanager
def long_lived_heap() -> Iterator[None]:
    """Keep what has been imported out of garbage collections.

    Messages that are parsed into many objects cause full collections; each of them held every
    client for 7 ms, for modules that nothing will free.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def run(options: ServeOptions, lines: LinesOptions | None = None) -> int:
    """Serve until SIGINT or SIGTERM, or the end of the source; return the exit status.

    A second signal ends it at once; see `stop`.
    """
    console = Console()
    log = ConsoleLog(console)
    logging.getLogger().addHandler(log)
    logging.getLogger("fastws").setLevel(log_level(options))
    feed = None
    try:
        feed = feed_of(options, lines, console)
        addresses = feed.listen()
        signalled = asyncio.Event()
        catch_signals(signalled)
        feed.start()
        if not options.quiet:
            announce(addresses, options, lines, console.write)
        await first_of(signalled.wait(), feed.finished())
        await stop(feed)
        if not options.quiet:
            console.write(feed.summary())
        return feed.status
    finally:
        if feed is not None:
            feed.close()
        logging.getLogger().removeHandler(log)
        console.close()


async def stop(feed: Feed) -> None:
    """Close the clients; a signal that is no copy of the first one cuts that short."""
    signalled = asyncio.Event()
    later = asyncio.get_running_loop().call_later(SAME_SIGNAL, catch_signals, signalled)
    try:
        await first_of(feed.stop(), signalled.wait())
    finally:
        later.cancel()


def feed_of(options: ServeOptions, lines: LinesOptions | None, console: Console) -> Feed:
    """Make the feed that is asked for."""
    write = None if options.quiet else console.write
    if lines is None:
        return TickFeed(options, write)
    return LinesFeed(options, lines, write, None if options.quiet else console.show)


def log_level(options: ServeOptions) -> int:
    """Return the least level that is written; a quiet server says no more than warnings."""
    level = logging.getLevelNamesMapping()[options.log_level.upper()]
    return max(level, logging.WARNING) if options.quiet else level


def catch_signals(signalled: asyncio.Event) -> None:
    """Set the event on SIGINT and SIGTERM."""
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, signalled.set)


async def first_of(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Return when one is done, or raise what it raised; the others are cancelled."""
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if not task.cancelled():
            task.result()


def announce(
    addresses: list[tuple[str, int]],
    options: ServeOptions,
    lines: LinesOptions | None,
    write_line: Callable[[str], None],
) -> None:
    """Say where it listens and what it sends."""
    paths = "/, /config, /stats" if lines is None else "/, /stats"
    if options.unix is not None:
        write_line(f"listening on the Unix socket {options.unix} (HTTP: {paths})")
    for address in addresses:
        write_line(f"listening on ws://{host_and_port(address)} (HTTP: {paths})")
    if lines is not None:
        on_slow = options.on_slow or "lossless"
        write_line(f"lines: {describe(lines, on_slow)}; loop: {options.loop}; Ctrl-C stops")
        return
    rate = "max" if options.rate == "max" else f"{options.rate:,}/s"
    policy = "" if options.on_slow is None else f", {options.on_slow}"
    write_line(f"ticks: {rate}, {options.format}{policy}; loop: {options.loop}; Ctrl-C stops")
