"""Sources of a row: plain, or with the inter and intra maps of each scan as two more channels."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from ddmseg.datasets.source import LabelledSource, Once
from ddmseg.datasets.sources import labelled_source
from ddmseg.datasets.subject import Subject
from ddmseg.errors import UsageError
from ddmseg.models.device import working_seconds
from ddmseg.models.settings import DataSettings
from ddmseg_lab.comparison.inter_intra import Kept, keep_maps, load_maps, subject_maps


def row_source(
    settings: DataSettings,
    root: str | None = None,
    *,
    run_folder: Path | None = None,
    training: bool = False,
) -> LabelledSource:
    """Open the data of a row, with the maps where ``data.maps`` asks for them.

    Args:
        settings: of the data.
        root: folder of the data sets, None for the environment's.
        run_folder: where the weights of the run lie, and with them the auto-encoders of
            ``data.maps``. None where no example is drawn.
        training: the run is being trained: make there what is missing.
    """
    if settings.maps == "none":
        return labelled_source(settings, root)
    open_plain = partial(labelled_source, replace(settings, maps="none"), root)
    finish = WithMaps(settings, open_plain, run_folder, train=training)
    return labelled_source(settings, root, finish=finish)


class WithMaps:
    """Adds the maps to each subject that a source reads.

    The auto-encoders lie with the weights of the run, so that another process makes the
    same maps. They are looked for, and trained when need be, at the first subject.

    Args:
        settings: of the data.
        plain: opens the same source without maps.
        folder: of the run; None where no example is ever drawn.
        train: train the auto-encoders when the folder has none of these settings.
    """

    def __init__(
        self,
        settings: DataSettings,
        plain: Callable[[], LabelledSource],
        folder: Path | None,
        *,
        train: bool,
    ) -> None:
        self._settings = settings
        self._plain = plain
        self._folder = folder
        self._train = train
        self._kept = Once(self._find)

    @property
    def parameters(self) -> int:
        """Of all auto-encoders."""
        return sum(p.numel() for p in self._kept().maps.parameters())

    @property
    def train_seconds(self) -> float:
        """That their training took."""
        return self._kept().seconds

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with both maps behind its scan."""
        maps = self._kept().maps
        start = working_seconds()
        channels = torch.cat([subject.image, subject_maps(maps, subject)])
        return replace(subject, image=channels, channel_seconds=working_seconds() - start)

    def _find(self) -> Kept:
        if self._folder is None:
            raise UsageError(
                "data.maps: inter_intra needs the auto-encoders that lie beside its weights; "
                "name the folder of the run"
            )
        if not self._train:
            return load_maps(self._folder, self._settings)
        source = self._plain()
        subjects: Iterable[Subject] = source.subjects("train")
        return keep_maps(self._folder, self._settings, subjects, source.sought)
