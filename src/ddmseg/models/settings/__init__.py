"""All settings of a run: frozen dataclasses that check themselves, one file a table of the TOML."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddmseg.models.settings.data import DataSettings
from ddmseg.models.settings.loss import LossSettings
from ddmseg.models.settings.model import ModelSettings
from ddmseg.models.settings.training import DistillationSettings, SamplingSettings, TrainingSettings
from ddmseg.models.settings_reader import read_toml, require, require_default, settings_from_dict

__all__ = [
    "DataSettings",
    "DistillationSettings",
    "LossSettings",
    "ModelSettings",
    "RowSettings",
    "SamplingSettings",
    "Settings",
    "TrainingSettings",
    "read_settings",
]

CONTRASTS_WITH_MAPS = 3
CONTRASTS_OF = {"lpba40": 1, "brats": 4}
"""Images of a scan, where the kind of data says so."""
ADAPTED = ("hippocampus", "ibsr18")
"""Kinds of data that an adapter can lay out."""


@dataclass(frozen=True)
class RowSettings:
    """What a row of a table is beyond its training.

    Attributes:
        title: in the table.
        weights_of: row whose weights are tested with this row's sampling; empty: own.
        members: rows whose probabilities are averaged; nothing is trained then.
        adapter: program that trains and predicts in place of our networks, see
            ``ddmseg_lab.comparison.nnunet``; empty: none. Of the other settings it heeds
            those of the data, ``training.steps`` times ``training.batch`` as the examples
            that it may see, and ``training.seed``, ``threads`` and ``device``.
        configuration: of nnU-Net.
    """

    title: str = ""
    weights_of: str = ""
    members: tuple[str, ...] = ()
    adapter: Literal["", "nnunet"] = ""
    configuration: Literal["", "2d", "3d_fullres"] = ""

    def __post_init__(self) -> None:
        told = "leave it out where row.weights_of is given"
        require(not (self.weights_of and self.members), self, "row.members", told)
        told = f"leave it out where row.adapter is {self.adapter}, which trains its own"
        for name in ("weights_of", "members"):
            require(not (self.adapter and getattr(self, name)), self, f"row.{name}", told)
        told = "give 2d or 3d_fullres with row.adapter nnunet, and nothing without"
        require(bool(self.adapter) == bool(self.configuration), self, "row.configuration", told)


@dataclass(frozen=True)
class Settings:
    """A whole run: what ``ddmseg train CONFIG.toml`` reads."""

    name: str
    model: ModelSettings = field(default_factory=ModelSettings)
    data: DataSettings = field(default_factory=DataSettings)
    loss: LossSettings = field(default_factory=LossSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    training: TrainingSettings = field(default_factory=TrainingSettings)
    row: RowSettings = field(default_factory=RowSettings)
    distillation: DistillationSettings = field(default_factory=DistillationSettings)

    def __post_init__(self) -> None:
        # An encoder on blocks halves the grid before its first level, too.
        levels = len(self.model.widths)
        multiple = 2 ** (levels - (self.model.encoder_form == "voxel"))
        told = f"with {levels} model.widths each must be a multiple of {multiple}"
        require(all(p % multiple == 0 for p in self.data.patch), self, "data.patch", told)
        maps = self.data.maps
        told = f"with data.maps {maps} there are {CONTRASTS_WITH_MAPS}: the scan and two maps"
        fits = maps == "none" or self.model.contrasts == CONTRASTS_WITH_MAPS
        require(fits, self, "model.contrasts", told)
        self._check_target()
        self._check_patches()
        self._check_views()
        self._check_adapter()

    def _check_target(self) -> None:
        recycled = self.loss.recycling_clean_end or self.loss.recycling_noise_end
        told = (
            "where the mask is recycled, the noise in it does not lead to the truth; set "
            "loss.recycling_clean_end and loss.recycling_noise_end to 0"
        )
        require(self.model.target == "clean" or not recycled, self, "model.target", told)

    def _check_patches(self) -> None:
        kind, model = self.data.kind, self.model
        if kind in CONTRASTS_OF:
            for name, wanted in (("contrasts", CONTRASTS_OF[kind]), ("dims", 3)):
                told = f"with data.kind {kind} set it to {wanted}"
                require(getattr(model, name) == wanted, self, f"model.{name}", told)

    def _check_views(self) -> None:
        model, sampling = self.model, self.sampling
        fits = not sampling.mirrored or (model.architecture, model.dims) == ("ddm", 3)
        told = "it is for a ddm in 3-D; set model.dims to 3, or leave it out"
        require(fits, self, "sampling.mirrored", told)
        fits = not sampling.wide or (model.encoder_form, model.dims) == ("block", 3)
        told = 'it is for a ddm in 3-D on blocks; set model.encoder_form to "block" or leave it out'
        require(fits, self, "sampling.wide", told)

    def _check_adapter(self) -> None:
        """Refuse what an adapter would pass over: it augments by itself and starts fresh."""
        if not self.row.adapter:
            return
        adapter = f"row.adapter {self.row.adapter}"
        told = f"{adapter} needs real scans on the grid of their files: {' or '.join(ADAPTED)}"
        require(self.data.kind in ADAPTED, self, "data.kind", told)
        own = ("data.augment", "data.maps", "data.synthetic_share", "data.degraded_share")
        for name in (*own, "training.start_from"):
            require_default(self, name, f"{adapter} has no such choice; leave it out")


def read_settings(path: Path) -> Settings:
    """Read a run's TOML file; what is unknown or not allowed stops with the place named."""
    raw = read_toml(path)
    raw.setdefault("name", path.stem)
    return settings_from_dict(Settings, raw)
