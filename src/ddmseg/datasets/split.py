"""Which case of a set is for training, validation and test.

A split is a small shipped table, which names cases and not counts: a case that the table does
not name is in no split and never used by accident. For sets that come in parts, each
person's share is drawn from a hash of the set's and the person's name instead: it needs no file,
is the same on every machine, and never puts two scans of one person into two splits.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

from ddmseg.datasets.case import Case
from ddmseg.errors import UsageError, did_you_mean

SPLITS = ("train", "validation", "test")
SHARES: Mapping[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Of the persons, by split; met on average."""


@dataclass(frozen=True)
class SplitCases:
    """Cases at hand by split."""

    name: str
    by_split: dict[str, tuple[Case, ...]]

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
        """Return :meth:`cases`, of which there must be some: else a UsageError."""
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
    """Sort cases into the splits of a shipped table (:func:`read_split`)."""
    table, listed = read_split(name), list(cases)
    by_split = {
        split: tuple(case for case in listed if table.get(case.identifier) == split)
        for split in table.values()
    }
    return SplitCases(name, by_split)


def split_by_person(cases: Iterable[Case], name: str) -> SplitCases:
    """Sort the cases of the set ``name`` into splits by their group."""
    by_split: dict[str, list[Case]] = {split: [] for split in SHARES}
    for case in cases:
        by_split[_split_of(f"{name}/{case.group}")].append(case)
    return SplitCases(name, {split: tuple(found) for split, found in by_split.items()})


def _split_of(key: str) -> str:
    drawn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    reached = 0.0
    for split, share in SHARES.items():
        reached += share
        if drawn < reached:
            return split
    return SPLITS[-1]


def fold_cases(
    cases: Iterable[Case], name: str, fold: str, folds: Sequence[str], *, validation: int
) -> dict[str, list[Case]]:
    """Sort the cases of a set with folds into training, validation and test of one fold.

    The first ``validation`` cases of the fold after the tested one choose the weights and are
    not trained on.

    Raises:
        UsageError: when the fold is unknown.
    """
    if fold not in folds:
        raise UsageError(f"data.fold: got '{fold}'; allowed are {', '.join(folds)}")
    split = split_cases(cases, name)
    following = folds[(folds.index(fold) + 1) % len(folds)]
    chosen = split.cases(following)[:validation]
    rest = split.cases(*(one for one in folds if one != fold))
    train = [case for case in rest if case not in chosen]
    return {"train": train, "validation": chosen, "test": split.cases(fold)}


def with_labels(cases: Iterable[Case]) -> tuple[list[Case], dict[str, str]]:
    """Return the cases that have a label map, and the others with the reason."""
    listed = list(cases)
    bare = {case.identifier: "no label map" for case in listed if case.labels is None}
    return [case for case in listed if case.labels is not None], bare
