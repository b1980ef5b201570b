"""Which case of a set is for training, validation and test, and how it is read.

A split is a small shipped table, which names cases and not counts: a case that the table does
not name is reported as unassigned and never used by accident. For sets that come in parts, each
person's share is drawn from a hash of the set's and the person's name instead: it needs no file,
is the same on every machine, and never puts two scans of one person into two splits.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import ClassVar

from torch import Tensor

from ddmseg.datasets.case import Case
from ddmseg.datasets.source import AsRead, Finish
from ddmseg.datasets.subject import Subject, read_labelled
from ddmseg.errors import UsageError, did_you_mean
from ddmseg.maths.case_scores import Score, score_case
from ddmseg.models.settings import DataSettings

SPLITS = ("train", "validation", "test")
SHARES: Mapping[str, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Of the persons, by split; met on average."""


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


def split_by_person(cases: Iterable[Case], name: str) -> SplitCases:
    """Sort the cases of the set ``name`` into splits by their group."""
    by_split: dict[str, list[Case]] = {split: [] for split in SHARES}
    for case in cases:
        by_split[_split_of(f"{name}/{case.group}")].append(case)
    return SplitCases(name, {split: tuple(found) for split, found in by_split.items()}, ())


def _split_of(key: str) -> str:
    drawn = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    reached = 0.0
    for split, share in SHARES.items():
        reached += share
        if drawn < reached:
            return split
    return SPLITS[-1]


class SplitSource:
    """What sources of real scans share: which subject is for what, and how it is read.

    Args:
        cases: of ``train``, ``validation`` and ``test``.
        settings: of the data; ``subjects`` above 0 keeps the first so many of training.
        slice_axis: spatial axis that 2-D networks cut across.
        left_out: reason by identifier, of cases that are in no split.
    """

    structures: ClassVar[dict[int, str]]

    def __init__(
        self,
        cases: Mapping[str, Sequence[Case]],
        settings: DataSettings,
        *,
        finish: Finish | None = None,
        slice_axis: int = 1,
        left_out: Mapping[str, str] | None = None,
    ) -> None:
        self.left_out = dict(left_out or {})
        self.finish: Finish = finish or AsRead()
        self._settings = settings
        self._slice_axis = slice_axis
        self._cases = {name: list(some) for name, some in cases.items()}
        if settings.subjects:
            self._cases["train"] = self._cases["train"][: settings.subjects]

    def subjects(self, split: str, count: int | None = None) -> Iterator[Subject]:
        """Read the subjects of ``train``, ``validation`` or ``test``, one after the other.

        Args:
            count: the first so many; None takes all.
        """
        for case in self._cases[split][:count]:
            yield self.finish(self.read(case))

    def read(self, case: Case) -> Subject:
        """Read one case on the grid of its file."""
        return read_labelled(case, self._settings, slice_axis=self._slice_axis)

    def score(self, subject: Subject, found: Tensor) -> list[Score]:
        """Score the class indices that were found on the grid of a subject's truth."""
        truth, spacing_mm = subject.truth
        return score_case(
            subject.identifier, found.numpy(), truth.numpy(), self.structures, spacing_mm=spacing_mm
        )

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""
        return {name: [case.identifier for case in cases] for name, cases in self._cases.items()}


def fold_cases(
    cases: Iterable[Case], name: str, fold: str, folds: Sequence[str], *, validation: int
) -> dict[str, list[Case]]:
    """Sort the cases of a set with folds into training, validation and test of one fold.

    Args:
        validation: how many cases of the fold after the tested one choose the weights;
            they are the first ones and are not trained on.

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
