"""``ddmseg ablate``: the model without one of its parts, one table."""

from __future__ import annotations

from dataclasses import dataclass

from ddmseg_lab.commands.tables import TableArguments, run_table


@dataclass(frozen=True, kw_only=True)
class Arguments(TableArguments):
    """Train and test the model without a part at a time, say lab/configs/ablate/hippocampus."""


def run(arguments: Arguments) -> int:
    """Run the rows that are missing and print the table."""
    return run_table(arguments, "ablate")
