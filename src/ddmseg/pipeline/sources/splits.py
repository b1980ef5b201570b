"""Cases of a data set in training, validation and test, read as they are wanted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ddmseg.imaging.datasets.case import Case
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.sources.subject import AsRead, Finish, Subject, read_labelled


class SplitCases:
    """What sources of real scans share: which subject is for what, and how it is read.

    Args:
        cases: of ``train``, ``validation`` and ``test``.
        settings: of the data; ``subjects`` above 0 keeps the first so many of training.
        finish: what is done to each subject that is read.
        slice_axis: spatial axis that 2-D networks cut across.
    """

    def __init__(
        self,
        cases: Mapping[str, Sequence[Case]],
        settings: DataSettings,
        *,
        finish: Finish | None = None,
        slice_axis: int = 1,
    ) -> None:
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
            yield self.finish(read_labelled(case, self._settings, slice_axis=self._slice_axis))

    def split(self) -> dict[str, list[str]]:
        """Return the identifiers of the subjects of training, validation and test."""
        return {name: [case.identifier for case in cases] for name, cases in self._cases.items()}
