"""``ddmseg compare``: methods on equal terms, one table."""

from __future__ import annotations

from dataclasses import dataclass

from ddmseg.interfaces.tables import TableArguments, run_table


@dataclass(frozen=True, kw_only=True)
class Arguments(TableArguments):
    """Train and test the methods of a table on equal terms, such as configs/compare/hippocampus."""


def run(arguments: Arguments) -> int:
    """Run the rows that are missing and print the table.

    Raises:
        DdmsegError: when the table cannot be read.
    """
    return run_table(arguments, "compare")
