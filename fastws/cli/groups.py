"""What commands share: options under headings, rates, and errors by option. Layer 7."""

from collections.abc import Mapping
from typing import Any

import click
from click.core import ParameterSource

from fastws.errors import ConfigError
from fastws.ticks.config import Rate, parse_rate

REST = "Other options"


class GroupedCommand(click.Command):
    """A command whose help lists its options under headings.

    Args:
        groups: names of parameters by heading, separated by blanks; the order of headings and of
            options is kept. Options of no group come last.
    """

    def __init__(self, *arguments: Any, groups: Mapping[str, str], **others: Any) -> None:
        super().__init__(*arguments, **others)
        self.groups = {heading: names.split() for heading, names in groups.items()}

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
        records = {
            str(each.name): record
            for each in self.get_params(ctx)
            if isinstance(each, click.Option) and (record := each.get_help_record(ctx)) is not None
        }
        for heading, names in self.groups.items():
            with formatter.section(heading):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section(REST):
            formatter.write_dl(list(records.values()))


class RateOption(click.ParamType[Rate]):
    """A rate: an integer that may be written as 1_000_000, 1e6, 500k or 1.5M; or `max`.

    Args:
        number: `max` is refused.
    """

    name = "rate"

    def __init__(self, *, number: bool = False) -> None:
        self._number = number

    def convert(
        self, value: Any, parameter: click.Parameter | None, context: click.Context | None
    ) -> Rate:
        """Return the rate, or say what is wrong with it."""
        if isinstance(value, int):
            return value
        try:
            rate = parse_rate(value)
        except ConfigError as error:
            self.fail(error.message, parameter, context)
        if self._number and rate == "max":
            self.fail("must be a number", parameter, context)
        return rate


def was_given(context: click.Context, name: str) -> bool:
    """Whether a parameter comes from the command line or the environment."""
    return context.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)


def config_line(error: ConfigError) -> str:
    """Return one line for a setting that is wrong, under the name of its option."""
    field = error.field
    option = field if field.isupper() else "--" + field.replace("_", "-")
    return f"{option}: {error.message}"
