"""Fixed splits, shipped as one small table a data set.

A split names cases, not counts: a case that the table does not name is
reported as unassigned and never used by accident.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources

from ddmseg.datasets.case import Case
from ddmseg.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class SplitCases:
    """Cases at hand by split, and those that the table does not name."""

    name: str
    by_split: dict[str, tuple[Case, ...]]
    unassigned: tuple[Case, ...]

    def cases(self, *splits: str) -> list[Case]:
        """Return the cases of one or more splits, in the order of the data set.

        Raises:
            UsageError: when a split is unknown.
        """
        for split in splits:
            if split not in self.by_split:
                allowed = sorted(self.by_split)
                raise UsageError(
                    f"split: got '{split}'; {self.name} has {', '.join(allowed)}"
                    f"{did_you_mean(split, allowed)}"
                )
        chosen = [case for split in splits for case in self.by_split[split]]
        return sorted(chosen, key=lambda case: case.identifier)

    def require(self, *splits: str) -> list[Case]:
        """Return the cases as :meth:`cases` does, of which there must be some.

        Raises:
            UsageError: when a split is unknown, or none of its cases is at hand.
        """
        found = self.cases(*splits)
        if not found:
            raise UsageError(
                f"{self.name}: no case of {' or '.join(splits)} is at hand; the split names "
                "which belong to it, and --data or DDMSEG_DATA the folder of the data sets"
            )
        return found


def read_split(name: str) -> dict[str, str]:
    """Return ``{case identifier: split}`` of a shipped table.

    Raises:
        UsageError: when no table of that name is shipped.
    """
    file = resources.files("ddmseg.datasets") / "splits" / f"{name}.tsv"
    if not file.is_file():
        raise UsageError(f"split: no table is shipped for the data set '{name}'")
    rows = csv.DictReader(file.read_text().splitlines(), delimiter="\t")
    return {row["case"]: row["split"] for row in rows}


def split_cases(cases: Iterable[Case], name: str) -> SplitCases:
    """Sort cases into the splits of a shipped table.

    Raises:
        UsageError: when no table of that name is shipped.
    """
    table = read_split(name)
    by_split: dict[str, list[Case]] = {split: [] for split in table.values()}
    unassigned = []
    for case in cases:
        if case.identifier in table:
            by_split[table[case.identifier]].append(case)
        else:
            unassigned.append(case)
    found = {split: tuple(members) for split, members in by_split.items()}
    return SplitCases(name, found, tuple(unassigned))
