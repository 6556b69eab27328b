"""`fastws bench`: measures a WebSocket server with native clients. Layer 7."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TextIO, get_args

import click
from click.core import ParameterSource

from fastws.bench.files import write_file
from fastws.bench.measurement import MOST_IN_FLIGHT, BenchOptions, Measurement, SlowRate
from fastws.bench.report import benchmark_object, comparison_object, summary
from fastws.bench.results import add_to_comparison, benchmark_name, comparison_name, encode
from fastws.bench.run import Bench, CannotMeasure, Progress
from fastws.cli.groups import GroupedCommand
from fastws.client.url import Url, parse_url
from fastws.errors import ConfigError
from fastws.feeds.delivery import OnSlow

DEFAULT_URL = "ws://127.0.0.1:8080"  # that of `fastws serve`
CHECK_FAILED = 1  # exit status
INTERRUPTED = 130


def read_url(context: click.Context, parameter: click.Parameter, value: str) -> Url:
    """Return the URL, or say what is wrong with it."""
    try:
        return parse_url(value)
    except ConfigError as error:
        raise click.BadParameter(error.message) from None


def read_target(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> str | None:
    """Refuse, before anything is measured, a file whose folder is not there."""
    if value is None or value == "-":
        return value
    folder = Path(value) if value.endswith("/") else Path(value).parent
    if not folder.is_dir():
        raise click.BadParameter(f"there is no folder {str(folder)!r}")
    return value


def read_header(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """Return names and values."""
    headers = []
    for each in values:
        name, colon, value = each.partition(":")
        if not colon:
            raise click.BadParameter(f"must look like Name: value, not {each!r}")
        headers.append((name, value.strip()))
    return tuple(headers)


def read_slow_rate(context: click.Context, parameter: click.Parameter, value: str) -> SlowRate:
    """Return the rate that a number of bytes, or one with a percent sign, spells."""
    percent = value.endswith("%")
    try:
        return SlowRate(float(value.removesuffix("%").replace("_", "")), percent)
    except ValueError:
        raise click.BadParameter("must be bytes a second, or percent such as 1%") from None


def message_of(send: str | None, send_file: str | None) -> str | bytes | None:
    """Return what --send or --send-file names: text where it is UTF-8, else bytes."""
    if send_file is None:
        return send
    if send is not None:
        raise click.UsageError("--send and --send-file cannot be combined")
    data = Path(send_file).read_bytes()
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


GROUPS = {
    "How much": "clients duration warmup spin",
    "Slow clients": "slow slow_rate policy",
    "A server of your own": "any send send_file echo subprotocol header",
    "Result files": "json_file comparison_file client_id",
}


@click.command(
    cls=GroupedCommand,
    groups=GROUPS,
    short_help="Measure a WebSocket server: ticks, any messages, or echoes.",
    context_settings={"show_default": True},
)
@click.argument("url", callback=read_url, default=DEFAULT_URL, metavar="[URL]")
@click.option(
    "--clients",
    type=int,
    default=1,
    metavar="N",
    help="Connections, up to the limit of open files.",
)
@click.option(
    "--duration", type=float, default=5.0, metavar="SECONDS", help="How long to measure, 0.1 up."
)
@click.option(
    "--warmup",
    type=float,
    default=1.0,
    metavar="SECONDS",
    help="At least so long before that; it goes on until the rate is steady, up to 10 s.",
)
@click.option("--spin", is_flag=True, help="Never sleep: the server wakes nobody. Takes a core.")
@click.option(
    "--slow",
    type=int,
    default=0,
    metavar="N",
    help="So many of the connections read slowly; their figures are apart from those of the rest.",
)
@click.option(
    "--slow-rate",
    default="1%",
    callback=read_slow_rate,
    metavar="N|N%",
    help="Bytes a second that each of them reads, 1,000 up, or a share of what another one gets.",
)
@click.option(
    "--policy",
    type=click.Choice(get_args(OnSlow)),
    help="Each connection asks for it by ?onSlow=, as plain topics and fastws serve take it.",
)
@click.option("--any", is_flag=True, help="Count messages of any content, from any server.")
@click.option(
    "--send", metavar="TEXT", help="Each connection sends this once, when it is open. Means --any."
)
@click.option(
    "--send-file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False),
    help="The same from a file; binary unless it is UTF-8.",
)
@click.option(
    "--echo",
    type=click.IntRange(1, MOST_IN_FLIGHT),
    metavar="N",
    help="Measure round trips to an echo server, N messages in flight on each connection, 1 MiB at "
    "most: what --send says, else 100 characters. Means --any.",
)
@click.option("--subprotocol", multiple=True, metavar="NAME", help="Ask for it; may be repeated.")
@click.option(
    "--header",
    multiple=True,
    metavar="'NAME: VALUE'",
    callback=read_header,
    help="Send it with the handshake, such as 'Authorization: Bearer x'; may be repeated.",
)
@click.option(
    "--json",
    "json_file",
    metavar="FILE",
    callback=read_target,
    help="Write a result file: a folder gets benchmark-<time>.json, - is stdout.",
)
@click.option(
    "--comparison",
    "comparison_file",
    metavar="FILE",
    callback=read_target,
    help="Put a row into a file that compares clients; a folder gets comparison-<day>.json.",
)
@click.option(
    "--client-id", default="native", metavar="NAME", help="What each connection says it is."
)
@click.pass_context
def bench(
    context: click.Context,
    url: Url,
    clients: int,
    duration: float,
    warmup: float,
    spin: bool,
    slow: int,
    slow_rate: SlowRate,
    policy: str | None,
    any: bool,
    send: str | None,
    send_file: str | None,
    echo: int | None,
    subprotocol: tuple[str, ...],
    header: tuple[tuple[str, str], ...],
    json_file: str | None,
    comparison_file: str | None,
    client_id: str,
) -> int:
    """Measure the WebSocket server at URL, ws://127.0.0.1:8080 unless given.

    Opens the connections, waits until four windows of 250 ms differ by less than 10 %, then
    measures. Every frame is checked as RFC 6455 demands.

    \b
    fastws bench --clients 100                                  ticks of fastws serve
    fastws bench --any ws://127.0.0.1:9000/feed --clients 100   a push server of your own
    fastws bench --echo 8 ws://127.0.0.1:9001 --clients 100     an echo server
    fastws bench --send '{"subscribe":"BTC"}' ws://127.0.0.1:9000
    taskset -c 1 fastws bench --duration 60 --json results/
    fastws bench --clients 1000 --slow 500 --policy latest      what slow clients do to the rest

    Ticks: one frame in 61 (all, while little arrives) is looked into, alike on all connections.
    Latency counts from the tick's ts, the time at which it was due: steps of 1 ms, or exact where
    ticks carry tsNs (fastws serve --fields seq). Both clocks must agree. Their seq is read of every
    one: gaps are what was missed, by policy or otherwise. Ticks that come twice or in another
    order, and gaps though the server dropped nothing, are failures.
    Server rate: from GET /stats of the same address, all its connections together; without it there
    is no verdict. Server bottleneck: the server published less than half of its target. Else the
    frames that arrived count against those that were published. From 95 %: Keeping up; from 50 %:
    Partial bottleneck; below: Client is bottleneck, or Network is bottleneck where the client's
    sockets had nothing to read. What the server dropped, and the greatest lag, are shown beside it.

    --any: nothing is sent but what --send says, no HTTP is asked for, a message may have 64 MiB.
    Spacing is the time from a message to the next one of its connection; messages of one read come
    at one time. --echo: an answer that is what was sent is followed by the next message; other
    messages are told apart.

    Status 0: all well. 1: no connection, or a check failed: a bad frame, a connection that ended
    early, a client without a frame (--any: all of them). 2: a wrong option. 130: Ctrl-C, which
    prints what was measured so far and writes no file; twice ends at once.
    """  # noqa: D301  # click reads the \b
    if context.get_parameter_source("url") is ParameterSource.DEFAULT:
        click.echo(f"measuring {DEFAULT_URL}, as no URL is given", err=True)
    message = message_of(send, send_file)
    options = BenchOptions(
        url,
        clients,
        duration,
        warmup,
        client_id,
        spin,
        any=any or message is not None or echo is not None,
        send=message,
        echo=echo or 0,
        subprotocols=subprotocol,
        headers=header,
        policy=policy,
        slow=slow,
        slow_rate=slow_rate,
    )
    out = sys.stderr if "-" in (json_file, comparison_file) else sys.stdout
    with progress_display() as report:
        run = Bench(options, report)
        with interrupted_by_ctrl_c(run):
            try:
                measurement = run.run()
            except CannotMeasure as error:
                raise click.ClickException(str(error)) from None
    for line in summary(measurement):
        click.echo(line, file=out)
    if measurement.interrupted:
        return INTERRUPTED
    try:
        write_files(measurement, json_file, comparison_file)
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    return CHECK_FAILED if measurement.failures else 0


@contextmanager
def interrupted_by_ctrl_c(run: Bench) -> Iterator[None]:
    """The first Ctrl-C ends the measurement, a second one everything."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        run.interrupt()

    before = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


# What is shown.


@contextmanager
def progress_display() -> Iterator[Callable[[Progress], None]]:
    """Give what shows the progress on stderr: a bar on a terminal, else a line a phase."""
    if not sys.stderr.isatty():
        yield PhaseLines(sys.stderr)
        return
    # Imported here because `fastws serve`, which this module is loaded beside, needs none of it.
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<11}"), BarColumn(), TextColumn("{task.fields[rate]}"))
    console = Console(stderr=True)
    with Bars(*columns, console=console, auto_refresh=False, transient=True) as bars:
        task = bars.add_task("", total=1, rate="")

        def report(progress: Progress) -> None:
            rate = f"{progress.frames_per_s:,.0f} frames/s" if progress.frames_per_s else ""
            bars.update(
                task,
                description=progress.phase,
                total=progress.total or None,
                completed=progress.done,
                rate=rate,
            )
            bars.refresh()

        yield report


class PhaseLines:
    """Writes one line when a phase begins."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._phase = ""

    def __call__(self, progress: Progress) -> None:
        """Take the progress."""
        if progress.phase == self._phase:
            return
        self._phase = progress.phase
        units = " connections" if progress.phase == "connecting" else " s"
        total = f" ({progress.total:g}{units})" if progress.total else ""
        with suppress(OSError):
            print(f"{progress.phase}{total}", file=self._out, flush=True)


# What is written.


def write_files(measured: Measurement, json_file: str | None, comparison_file: str | None) -> None:
    """Write the result files that were asked for."""
    if json_file is not None:
        name = benchmark_name(measured.at)
        write(json_file, name, lambda _: benchmark_object(measured))
    if comparison_file is not None:
        name = comparison_name(measured.at)
        row = comparison_object(measured)
        write(comparison_file, name, lambda existing: add_to_comparison(existing, row))


def write(target: str, name: str, make: Callable[[bytes | None], dict[str, object]]) -> None:
    """Write what `make` makes of the present content to a file, into a folder, or to stdout."""
    if target == "-":
        sys.stdout.buffer.write(encode(make(None)))
        sys.stdout.flush()
        return
    path = Path(target)
    if path.is_dir():
        path /= name
    write_file(path, encode(make(path.read_bytes() if path.is_file() else None)))
