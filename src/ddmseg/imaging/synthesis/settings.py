"""How strongly synthetic images vary."""

from __future__ import annotations

from dataclasses import dataclass, fields

from ddmseg.errors import SettingsError
from ddmseg.imaging.synthesis.artefacts import THICK_MM
from ddmseg.randomness import Range


@dataclass(frozen=True)
class SynthesisSettings:
    """Ranges and probabilities of a ``LabelMapSynthesiser``; it checks itself.

    Attributes:
        contrast_weights: how often T1-like, T2-like, FLAIR-like and any contrast are drawn;
            relative.
        rotation_deg: largest angle about each axis, degrees.
        elastic_std_mm: largest standard deviation of the displacement, mm.
        elastic_spacing_mm: distance of its control points, mm.
        flip_probability: left and right exchanged, labels too.
        brain_centred_probability: patch about the brain rather than anywhere over the head and
            neck.
        gain: largest relative change of brightness after normalising, which stands for the gap
            between a patch and its whole scan.
        noise_std: largest standard deviation of the noise (white matter is about 1 in a T1).
        blur_mm: range of the standard deviation of the blur, mm.
        thick_slice_probability: slices thicker than the voxel along one axis.
        slice_thickness_mm: range of that thickness, mm.
        clean_background_probability: air set to exactly 0.
        skull_strip_probability: only the brain is shown.
        strip_edge_mm: range of the shift of the mask's edge, mm; above 0 it leaves CSF and skull,
            below 0 it cuts cortex.
        cut_fraction: largest fraction of the patch below that plane.

    Raises:
        SettingsError: when a value is out of its range.
    """

    contrast_weights: tuple[float, float, float, float] = (0.6, 0.1, 0.1, 0.2)
    rotation_deg: float = 15.0
    scaling: float = 0.12
    shear: float = 0.04
    translation_mm: float = 8.0
    elastic_std_mm: float = 3.0
    elastic_spacing_mm: float = 16.0
    flip_probability: float = 0.5
    brain_centred_probability: float = 0.75
    bias_std: float = 0.3
    log_gamma: float = 0.25
    gain: float = 0.12
    noise_std: float = 0.07
    blur_mm: Range = (0.3, 1.3)
    thick_slice_probability: float = 0.15
    slice_thickness_mm: Range = THICK_MM
    motion_probability: float = 0.04
    ghost_probability: float = 0.04
    clean_background_probability: float = 0.5
    lesion_probability: float = 0.15
    skull_strip_probability: float = 0.5
    strip_edge_mm: Range = (-1.0, 5.0)
    cut_probability: float = 0.15
    cut_fraction: float = 0.3

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name.endswith("_probability") and not 0 <= value <= 1:
                raise SettingsError(f"{item.name}: got {value}; it must be within 0 and 1")
            if isinstance(value, float) and value < 0:
                raise SettingsError(f"{item.name}: got {value}; it must be at least 0")
        for name in ("blur_mm", "slice_thickness_mm", "strip_edge_mm"):
            low, high = getattr(self, name)
            if low > high or (low < 0 and name != "strip_edge_mm"):
                raise SettingsError(f"{name}: got {(low, high)}; give (low, high) in order, in mm")
        weights = self.contrast_weights
        if len(weights) != 4 or min(weights) < 0 or sum(weights) <= 0:
            raise SettingsError(
                f"contrast_weights: got {weights}; give four numbers of at least 0, "
                "not all 0, for T1, T2, FLAIR and any contrast"
            )
        if self.scaling >= 1 or self.gain >= 1 or self.elastic_spacing_mm <= 0:
            raise SettingsError(
                f"scaling, gain, elastic_spacing_mm: got {self.scaling}, {self.gain}, "
                f"{self.elastic_spacing_mm}; the first two must be below 1, the last above 0"
            )
