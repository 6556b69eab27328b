"""`fastws ceiling`: the highest rate that a client sustains. Layer 7."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import click

from fastws.bench import ceiling_report
from fastws.bench.ceiling import Builtin, Ceiling, CeilingOptions, CeilingRun, Step
from fastws.bench.chart import NoChart, draw, pyplot
from fastws.bench.children import CannotStart
from fastws.bench.results import add_to_comparison, benchmark_name, comparison_name
from fastws.bench.trials import NoClient
from fastws.cli.bench import INTERRUPTED, read_target, write
from fastws.cli.groups import GroupedCommand, RateOption
from fastws.cli.surroundings import PortOption

NOT_FOUND = 1  # exit status


GROUPS = {
    "The client": "client_id spawn builtin clients",
    "The search": "format start slo_p99 precision budget port",
    "Result files": "json_file results chart",
}


@click.command(
    cls=GroupedCommand,
    groups=GROUPS,
    short_help="Find the highest rate of ticks that a client sustains.",
    context_settings={"show_default": True},
)
@click.option("--client-id", metavar="NAME", help="The client's name in its reports (clientId).")
@click.option(
    "--spawn",
    metavar="COMMAND",
    help="Start this client. {url}, {port} and {seconds} are replaced; with neither of the first "
    "two, --url URL is put behind it.",
)
@click.option("--builtin", type=click.Choice(get_args(Builtin)), help="Start a client of fastws.")
@click.option("--format", type=click.Choice(["json", "binary"]), default="json")
@click.option(
    "--clients", type=int, default=1, metavar="N", help="Connections; --spawn starts so many."
)
@click.option(
    "--budget", type=float, default=180.0, metavar="SECONDS", help="For everything, 20 up."
)
@click.option(
    "--precision",
    type=float,
    default=5.0,
    metavar="PERCENT",
    help="Width of the interval in which the ceiling is found.",
)
@click.option(
    "--start",
    type=RateOption(number=True),
    default=1000,
    metavar="RATE",
    help="The first rate, also as 500k or 1e6; near the ceiling it saves time.",
)
@click.option("--slo-p99", type=float, metavar="MS", help="A rate is good up to this p99 only.")
@click.option(
    "--port",
    cls=PortOption,
    type=int,
    help="Where the server listens. Default: 8080 where a client has to connect by itself, else "
    "any free port.",
)
@click.option(
    "--json", "json_file", metavar="FILE", callback=read_target, help="All figures; - is stdout."
)
@click.option(
    "--results",
    metavar="FOLDER",
    type=click.Path(exists=True, file_okay=False),
    help="Write benchmark-<time>.json and a row of comparison-<day>.json there.",
)
@click.option(
    "--chart", metavar="FILE", callback=read_target, help="The curve as SVG; needs matplotlib."
)
def ceiling(
    client_id: str | None,
    spawn: str | None,
    builtin: Builtin | None,
    format: str,
    clients: int,
    budget: float,
    precision: float,
    start: int,
    slo_p99: float | None,
    port: int | None,
    json_file: str | None,
    results: str | None,
    chart: str | None,
) -> int:
    """Find the highest rate of ticks that a client sustains, and who limits it.

    The client is one that connects by itself (--client-id), a command (--spawn) or built in
    (--builtin). It identifies itself and reports once a second as docs/protocol.md 1 says; a
    client that does not is judged by what its kernel holds unread.

    A server of its own publishes ticks, on one core where there are two; the client has the other
    cores. First the server is calibrated with a native sink in the client's place. A rate is good
    when the backlog stays flat and nothing is dropped, bad when not, and the trial is invalid
    when the server published late. The highest good rate is confirmed by a long trial; then a
    curve of about ten rates is measured.

    \b
    fastws ceiling --builtin python
    fastws ceiling --spawn "node benchmarks/clients/node/client.mjs --duration {seconds} --json"
    fastws ceiling --client-id browser --format binary --budget 300 --chart browser.svg

    Status 0: found. 1: no rate was good, or no client. 2: a wrong option. 130: Ctrl-C, which prints
    what is known so far and writes the files with it.
    """  # noqa: D301  # click reads the \b
    options = CeilingOptions(
        client_id=client_id,
        spawn=spawn,
        builtin=builtin,
        format=format,  # type: ignore[arg-type]  # click checks it
        clients=clients,
        budget=budget,
        precision=precision,
        start=start,
        slo_p99_ms=slo_p99,
        port=port,
    )
    try:
        if chart is not None:
            pyplot()  # before minutes are spent
        with progress_display() as report:
            found = CeilingRun(options, report, say_where).run()
        for line in ceiling_report.summary(found):
            click.echo(line, file=sys.stderr if json_file == "-" else sys.stdout)
        write_files(found, json_file, results, chart)
    except (CannotStart, NoClient, NoChart, OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if found.interrupted:
        return INTERRUPTED
    return 0 if found.rate else NOT_FOUND


def say_where(url: str) -> None:
    """Say where the client is to connect."""
    click.echo(f"waiting for a client at {url}", err=True)


@contextmanager
def progress_display() -> Iterator[Callable[[Step], None]]:
    """Give what shows the steps on stderr: one line that is written over, or a line for each."""
    shown = StepLines(sys.stderr.isatty())
    try:
        yield shown
    finally:
        shown.end()


class StepLines:
    """Writes phases and trials, and on a terminal the time that is left.

    Args:
        live: whether the last line may be written over.
    """

    def __init__(self, live: bool) -> None:
        self._live = live
        self._phase = ""
        self._width = 0

    def __call__(self, step: Step) -> None:
        """Take a step."""
        left = max(0.0, step.total - step.spent)
        if step.phase != self._phase:
            self._phase = step.phase
            self._print(f"{step.phase} (at most {left:.0f} s left)")
        if step.trial is not None:
            self._print(ceiling_report.trial_line(step.trial))
        elif self._live:
            text = f"{step.phase}: {step.spent:.0f} s, at most {left:.0f} s left"
            self._overwrite(text)

    def end(self) -> None:
        """Clear the line that is written over."""
        if self._live:
            self._overwrite("")

    def _print(self, text: str) -> None:
        self.end()
        click.echo(text, err=True)

    def _overwrite(self, text: str) -> None:
        blank = " " * max(0, self._width - len(text))
        click.echo(f"\r{text}{blank}" + ("" if text else "\r"), nl=False, err=True)
        self._width = len(text)


def write_files(
    found: Ceiling, json_file: str | None, results: str | None, chart: str | None
) -> None:
    """Write what was asked for."""
    if json_file is not None:
        name = benchmark_name(found.at).replace("benchmark", "ceiling", 1)
        write(json_file, name, lambda _: ceiling_report.ceiling_object(found))
    if results is not None and found.rate:
        write(results, benchmark_name(found.at), lambda _: ceiling_report.benchmark_object(found))
        row = ceiling_report.comparison_object(found)
        write(results, comparison_name(found.at), lambda old: add_to_comparison(old, row))
    if chart is not None:
        draw(found, str(Path(chart)))
