"""The options of a command under headings. Layer 7."""

from collections.abc import Mapping
from typing import Any

import click

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
            if (record := each.get_help_record(ctx)) is not None
        }
        for heading, names in self.groups.items():
            with formatter.section(heading):
                formatter.write_dl([records.pop(name) for name in names])
        with formatter.section(REST):
            formatter.write_dl(list(records.values()))
