"""The command line: `fastws serve`, `fastws bench`, `fastws ceiling`.

Layer 7. What goes wrong is one clear line. Status 2: a wrong option, environment variable or
setting. 1: what failed at running time, such as a port in use or a server that does not answer.
"""

import os
import sys
from importlib.metadata import version

import click

from fastws.cli.bench import bench
from fastws.cli.ceiling import ceiling
from fastws.cli.groups import config_line
from fastws.cli.serve import serve
from fastws.errors import ConfigError
from fastws.server.streams import open_standard_streams

USAGE = 2  # exit status, that of getopt and click
FAILED = 1


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FASTWS"}
)
# Images set FASTWS_VERSION for themselves.
@click.version_option(version("fastws"), prog_name="fastws", allow_from_autoenv=False)
def cli() -> None:
    """A WebSocket server for live data, and what measures it and its clients.

    \b
    fastws serve                   send 100 ticks a second on ws://127.0.0.1:8080
    fastws bench --clients 100     count and check them
    fastws COMMAND --help          the options of a command, with examples

    Status 0: all well. 1: it failed at running time. 2: a wrong option, environment variable or
    setting. 130: ended by Ctrl-C before it was done. Errors are one line on standard error.
    """  # noqa: D301  # click reads the \b


cli.add_command(serve)
cli.add_command(bench)
cli.add_command(ceiling)


def main() -> None:
    """Run the command line and leave with its status."""
    open_standard_streams()
    try:
        status = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except ConfigError as error:
        status = _complain(config_line(error), USAGE)
    except click.Abort:
        status = 130
    except click.ClickException as error:
        status = _complain(error.format_message(), error.exit_code)
    except BrokenPipeError:
        status = _write_no_more()
    except OSError as error:  # such as a full disk under standard output
        _complain(str(error), FAILED)
        status = _write_no_more()
    sys.exit(status)


def _write_no_more() -> int:
    """Let what is still buffered go nowhere, for Python writes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return FAILED


def _complain(message: str, status: int) -> int:
    click.echo(f"fastws: {message}", err=True)
    return status
