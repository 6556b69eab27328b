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

USAGE = 3  # exit status


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "FASTWS"}
)
@click.version_option(version("fastws"), prog_name="fastws")
def cli() -> None:
    """A WebSocket server for live data, and what measures it and its clients."""


cli.add_command(serve)
cli.add_command(bench)
cli.add_command(ceiling)


def main() -> None:
    """Run the command line and leave with its status."""
    try:
        status = cli.main(sys.argv[1:] or ["--help"], standalone_mode=False)
    except ConfigError as error:
        status = _complain(f"{_option(error.field)}: {error.message}")
    except click.Abort:
        status = 130
    except click.ClickException as error:
        status = _complain(error.format_message())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    sys.exit(status)


def _option(field: str) -> str:
    return field if field.isupper() else "--" + field.replace("_", "-")


def _complain(message: str) -> int:
    click.echo(f"fastws: {message}", err=True)
    return USAGE
