"""What a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.settings.checks import require, require_above_0, require_least, require_share

LPBA40_FOLDS = ("fold-1", "fold-2", "fold-3", "fold-4")
SHARES = (
    "skull_strip_probability",
    "t1_probability",
    "brain_centred_probability",
    "synthetic_share",
)


@dataclass(frozen=True)
class DataSettings:
    """What to train on.

    Attributes:
        fold: the split that is tested (and left out of training) where a set has folds.
        subjects: the first so many training subjects; 0 takes all.
        spacing_mm: voxel edge that scans are brought to, when they are segmented; where the
            examples are patches of heads (label_maps, lpba40, brats), in training too.
        brain_centred_probability: of label_maps' patches, those about the brain rather than
            anywhere over head and neck.
        lesions: white-matter lesions are a class of their own (FreeSurfer id 77), painted into
            every third image; of label_maps alone.
        synthetic_share: of training examples, those whose image is painted from the
            subject's own label map, see ``imaging.synthesis.regions``.
        maps: channels made of the scan: ``inter_intra`` adds the two of arXiv 2405.04974,
            see ``ddmseg_lab.comparison.inter_intra``.
        normalisation: of each scan, see ``imaging.preprocess_variants``.
        bias_field: N4 before that.
        resample_mm: voxel edge to resample scans to and back from; 0 leaves them alone.
    """

    kind: Literal["label_maps", "hippocampus", "ibsr18", "lpba40", "brats"] = "label_maps"
    fold: str = ""
    subjects: int = 0
    spacing_mm: float = 2.0
    patch: tuple[int, ...] = (64, 80, 64)
    augment: bool = True
    skull_strip_probability: float = 0.5
    t1_probability: float = 0.6
    brain_centred_probability: float = 0.75
    lesions: bool = False
    synthetic_share: float = 0.0
    maps: Literal["none", "inter_intra"] = "none"
    normalisation: Literal["robust", "z_score", "min_max", "percentiles"] = "robust"
    bias_field: bool = False
    resample_mm: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        require_above_0(self, "data.spacing_mm")
        for name in ("subjects", "resample_mm"):
            require_least(0, self, f"data.{name}")
        self._check_fold()
        for name in SHARES:
            require_share(self, f"data.{name}")
        self._check_scans()
        require(
            len(self.patch) in (2, 3), "data.patch", self.patch, "give one number for each axis"
        )
        require(
            self.kind not in PATCH_KINDS or len(self.patch) == 3,
            "data.patch",
            self.patch,
            f"{self.kind} is cut in patches of three axes",
        )
        require(
            all(p > 0 and p % 8 == 0 for p in self.patch),
            "data.patch",
            self.patch,
            "each must be a multiple of 8 above 0",
        )

    def _check_fold(self) -> None:
        """Refuse a fold where there is none, and one that LPBA40 has not."""
        require(
            self.kind in FOLDED_KINDS or not self.fold,
            "data.fold",
            repr(self.fold),
            f"{self.kind} has one split; leave it out",
        )
        if self.kind == "lpba40" and self.fold:
            allowed = f"allowed are {', '.join(LPBA40_FOLDS)}"
            require(self.fold in LPBA40_FOLDS, "data.fold", repr(self.fold), allowed)

    def _check_scans(self) -> None:
        """Refuse what is done to scans where there are none, and what excludes each other."""
        for name in _OF_SCANS:
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            require(
                self.kind != "label_maps" or value == default,
                f"data.{name}",
                value,
                "label_maps has no scans; leave it out",
            )
            require(
                self.kind not in PATCH_KINDS or value == default,
                f"data.{name}",
                value,
                f"{self.kind} is prepared as ddmseg segment prepares a scan; leave it out",
            )
        require(
            not self.lesions or self.kind == "label_maps",
            "data.lesions",
            self.lesions,
            f"{self.kind} has labels of its own; leave it out",
        )
        require(
            self.maps == "none" or not self.synthetic_share,
            "data.synthetic_share",
            self.synthetic_share,
            f"maps are of the real scan; with data.maps {self.maps} leave it out",
        )


FOLDED_KINDS = ("ibsr18", "lpba40")
"""Kinds of data with folds, of which ``data.fold`` is tested."""
PATCH_KINDS = ("lpba40", "brats")
"""Kinds of real scans that are cut in patches on a grid of ``data.spacing_mm``."""
_OF_SCANS = ("synthetic_share", "maps", "normalisation", "bias_field", "resample_mm")
