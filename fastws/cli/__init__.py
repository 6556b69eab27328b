"""The command line: `fastws serve`, `fastws bench`, `fastws ceiling`.

Layer 7. A bad option, a port in use or a bad address is one clear line and status 3.
"""

import os
import sys
from importlib.metadata import version

import click

from fastws.cli.bench import bench
from fastws.cli.ceiling import ceiling
from fastws.cli.serve import serve
from fastws.errors import ConfigError
from fastws.server.streams import open_standard_streams

USAGE = 3  # exit status


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FASTWS"}
)
# Images set FASTWS_VERSION for themselves.
@click.version_option(version("fastws"), prog_name="fastws", allow_from_autoenv=False)
def cli() -> None:
    """A WebSocket server for live data, and what measures it and its clients."""


cli.add_command(serve)
cli.add_command(bench)
cli.add_command(ceiling)


def main() -> None:
    """Run the command line and leave with its status."""
    open_standard_streams()
    try:
        status = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except ConfigError as error:
        status = _complain(f"{_option(error.field)}: {error.message}")
    except click.Abort:
        status = 130
    except click.ClickException as error:
        status = _complain(error.format_message())
    except BrokenPipeError:
        status = _write_no_more()
    except OSError as error:  # such as a full disk under standard output
        _complain(str(error))
        status = _write_no_more()
    sys.exit(status)


def _write_no_more() -> int:
    """Let what is still buffered go nowhere, for Python writes it at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 1


def _option(field: str) -> str:
    return field if field.isupper() else "--" + field.replace("_", "-")


def _complain(message: str) -> int:
    click.echo(f"fastws: {message}", err=True)
    return USAGE
