"""Cases of a data set in training, validation and test, read as they are wanted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import ClassVar

from torch import Tensor

from ddmseg.datasets.case import Case
from ddmseg.datasets.subject import AsRead, Finish, Subject, read_labelled
from ddmseg.errors import UsageError
from ddmseg.maths.case_scores import Score, score_case
from ddmseg.models.settings import DataSettings


class SplitCases:
    """What sources of real scans share: which subject is for what, and how it is read.

    Args:
        cases: of ``train``, ``validation`` and ``test``.
        settings: of the data; ``subjects`` above 0 keeps the first so many of training.
        finish: what is done to each subject that is read.
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
            split: which of them.
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
        cases: with labels.
        name: of the set.
        fold: that is tested.
        folds: all of them, in order.
        validation: how many cases of the fold after the tested one choose the weights;
            they are the first ones and are not trained on.

    Raises:
        UsageError: when the fold is unknown.
    """
    from ddmseg.datasets.split_tables import split_cases

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
