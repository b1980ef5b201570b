"""Sources of a row: plain, or with the inter and intra maps of each scan as two more channels."""

from __future__ import annotations

from dataclasses import replace
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
    settings: DataSettings, root: str | None = None, *, run_folder: Path | None = None,
    training: bool = False,
) -> LabelledSource:  # fmt: skip
    """Open the data of a row, with the maps where ``data.maps`` asks for them.

    Args:
        root: folder of the data sets, None for the environment's.
        run_folder: where the weights of the run lie, and with them the auto-encoders of
            ``data.maps``. None where no example is drawn.
        training: make there what is missing.
    """
    if settings.maps == "none":
        return labelled_source(settings, root)
    return labelled_source(settings, root, finish=WithMaps(settings, root, run_folder, training))


class WithMaps:
    """Adds the maps to each subject that a source reads.

    The auto-encoders lie with the weights of the run, so that another process makes the
    same maps. They are looked for, and trained when need be, at the first subject.
    """

    def __init__(
        self, settings: DataSettings, root: str | None, folder: Path | None, train: bool
    ) -> None:
        self._settings, self._root, self._folder, self._train = settings, root, folder, train
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
        plain = labelled_source(replace(self._settings, maps="none"), self._root)
        return keep_maps(self._folder, self._settings, plain.subjects("train"), plain.sought)
