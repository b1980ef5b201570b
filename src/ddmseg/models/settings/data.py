"""What a network is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.settings_reader import (
    require,
    require_above_0,
    require_default,
    require_least,
    require_share,
)

LPBA40_FOLDS = ("fold-1", "fold-2", "fold-3", "fold-4")
SHARES = (
    *("data.skull_strip_probability", "data.t1_probability"),
    *("data.brain_centred_probability", "data.synthetic_share"),
    "data.degraded_share",
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
        degraded_share: of augmented training examples, those as of a poor acquisition: thick
            slices, noise, motion or low resolution, see ``imaging.synthesis.artefacts.degrade``.
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
    degraded_share: float = 0.0
    maps: Literal["none", "inter_intra"] = "none"
    normalisation: Literal["robust", "z_score", "min_max", "percentiles"] = "robust"
    bias_field: bool = False
    resample_mm: float = 0.0

    def __post_init__(self) -> None:
        require_above_0(self, "data.spacing_mm")
        require_least(0, self, "data.subjects", "data.resample_mm")
        require_share(self, *SHARES)
        self._check_fold()
        self._check_scans()
        axes = len(self.patch)
        require(axes in (2, 3), self, "data.patch", "give one number for each axis")
        cut = self.kind in PATCH_KINDS
        told = f"{self.kind} is cut in patches of three axes"
        require(not cut or axes == 3, self, "data.patch", told)
        fits = all(p > 0 and p % 8 == 0 for p in self.patch)
        require(fits, self, "data.patch", "each must be a multiple of 8 above 0")

    def _check_fold(self) -> None:
        folded = self.kind in FOLDED_KINDS or not self.fold
        require(folded, self, "data.fold", f"{self.kind} has one split; leave it out")
        known = self.kind != "lpba40" or self.fold in ("", *LPBA40_FOLDS)
        require(known, self, "data.fold", f"allowed are {', '.join(LPBA40_FOLDS)}")

    def _check_scans(self) -> None:
        """Refuse what is done to scans where there are none, and what excludes each other."""
        if self.kind in ("label_maps", *PATCH_KINDS):
            patches = self.kind in PATCH_KINDS
            why = "is prepared as ddmseg segment prepares a scan" if patches else "has no scans"
            for name in _OF_SCANS:
                require_default(self, f"data.{name}", f"{self.kind} {why}; leave it out")
        synthetic = not self.lesions or self.kind == "label_maps"
        require(synthetic, self, "data.lesions", f"{self.kind} has labels of its own; leave it out")
        scans = self.augment and self.kind != "label_maps"
        told = "it is for real scans, augmented; leave it out"
        require(scans or not self.degraded_share, self, "data.degraded_share", told)
        told = f"maps are of the real scan; with data.maps {self.maps} leave it out"
        for name in ("synthetic_share", "degraded_share"):
            alone = self.maps == "none" or not getattr(self, name)
            require(alone, self, f"data.{name}", told)


FOLDED_KINDS = ("ibsr18", "lpba40")
"""Kinds of data with folds, of which ``data.fold`` is tested."""
PATCH_KINDS = ("lpba40", "brats")
"""Kinds of real scans that are cut in patches on a grid of ``data.spacing_mm``."""
_OF_SCANS = ("synthetic_share", "maps", "normalisation", "bias_field", "resample_mm")
