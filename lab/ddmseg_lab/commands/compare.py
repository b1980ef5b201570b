"""``ddmseg compare``: methods on equal terms, one table."""

from __future__ import annotations

from dataclasses import dataclass

from ddmseg_lab.commands.tables import TableArguments, run_table


@dataclass(frozen=True, kw_only=True)
class Arguments(TableArguments):
    """Train and test methods on equal terms, say those of lab/configs/compare/hippocampus."""


def run(arguments: Arguments) -> int:
    """Run the rows that are missing and print the table."""
    return run_table(arguments, "compare")
