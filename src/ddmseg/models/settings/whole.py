"""All settings of a run, and the file they are read from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ddmseg.models.settings.checks import require
from ddmseg.models.settings.data import DataSettings
from ddmseg.models.settings.distillation import DistillationSettings
from ddmseg.models.settings.loss import LossSettings
from ddmseg.models.settings.model import ModelSettings
from ddmseg.models.settings.training import SamplingSettings, TrainingSettings
from ddmseg.models.settings_reader import read_toml, settings_from_dict

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
        """Refuse what does not fit together."""
        require(
            not (self.weights_of and self.members),
            "row.members",
            self.members,
            "leave it out where row.weights_of is given",
        )
        for name in ("weights_of", "members"):
            value = getattr(self, name)
            require(
                not (self.adapter and value),
                f"row.{name}",
                value,
                f"leave it out where row.adapter is {self.adapter}, which trains its own",
            )
        require(
            bool(self.adapter) == bool(self.configuration),
            "row.configuration",
            repr(self.configuration),
            "give 2d or 3d_fullres with row.adapter nnunet, and nothing without",
        )


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
        """Refuse what does not fit together."""
        # An encoder on blocks halves the grid before its first level, too.
        multiple = 2 ** (len(self.model.widths) - (self.model.encoder_form == "voxel"))
        require(
            all(p % multiple == 0 for p in self.data.patch),
            "data.patch",
            self.data.patch,
            f"with {len(self.model.widths)} model.widths each must be a multiple of {multiple}",
        )
        require(
            self.data.maps == "none" or self.model.contrasts == CONTRASTS_WITH_MAPS,
            "model.contrasts",
            self.model.contrasts,
            f"with data.maps {self.data.maps} there are {CONTRASTS_WITH_MAPS}: the scan and two "
            "maps",
        )
        self._check_target()
        self._check_patches()
        self._check_adapter()

    def _check_target(self) -> None:
        """Refuse noise as the target where it would not lead to the truth."""
        loss = self.loss
        require(
            self.model.target == "clean"
            or not (loss.recycling_clean_end or loss.recycling_noise_end),
            "model.target",
            self.model.target,
            "where the mask is recycled, the noise in it does not lead to the truth; set "
            "loss.recycling_clean_end and loss.recycling_noise_end to 0",
        )

    def _check_patches(self) -> None:
        """Refuse a network that does not take the patches of LPBA40 or BraTS."""
        wanted = CONTRASTS_OF.get(self.data.kind)
        if wanted is None:
            return
        for name, value in (("contrasts", wanted), ("dims", 3)):
            require(
                getattr(self.model, name) == value,
                f"model.{name}",
                getattr(self.model, name),
                f"with data.kind {self.data.kind} set it to {value}",
            )

    def _check_adapter(self) -> None:
        """Refuse what an adapter would pass over: it augments by itself and starts fresh."""
        if not self.row.adapter:
            return
        require(
            self.data.kind in ADAPTED,
            "data.kind",
            self.data.kind,
            f"row.adapter {self.row.adapter} needs real scans on the grid of their files: "
            f"{' or '.join(ADAPTED)}",
        )
        for place, value, wanted in (
            ("data.augment", self.data.augment, True),
            ("data.maps", self.data.maps, "none"),
            ("data.synthetic_share", self.data.synthetic_share, 0.0),
            ("training.start_from", self.training.start_from, ""),
        ):
            require(
                value == wanted,
                place,
                value,
                f"row.adapter {self.row.adapter} has no such choice; leave it out",
            )


def read_settings(path: Path) -> Settings:
    """Read a run's TOML file; unknown keys and wrong types stop with the place named.

    Raises:
        SettingsError: file missing or not TOML, a key unknown, a value not allowed.
    """
    raw = read_toml(path)
    raw.setdefault("name", path.stem)
    return settings_from_dict(Settings, raw)
