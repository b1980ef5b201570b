"""What a user may choose for one segmentation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from ddmseg.errors import SettingsError, did_you_mean

Mode = Literal["auto", "fast", "diffusion"]
SamplerName = Literal["ddim", "ddpm", "dpm", "one-step"]


@dataclass(frozen=True)
class SegmentOptions:
    """How to segment a scan; what is left out is the model's own.

    Attributes:
        mode: how much is computed: ``fast`` stops after the coarse head; ``diffusion``
            always samples; ``auto`` samples where the volumes of the scan are in more doubt
            than usual.
        steps: evaluations of the denoiser per sample, at least 1.
        samples: masks to draw, at least 1.
        sampler: which algorithm draws them.
        temperature: how freely samples are averaged (sigma_D of their weights), at least 0:
            0 keeps the one with the least discrepancy, inf is the plain mean.
        seed: whole number that the noise is drawn from; the same gives the same labels.
        probabilities: keep the class probabilities on the scan's grid.
        brain: write the image within the brain mask as well.
        mgz: write the labels as ``.mgz`` as well, for FreeSurfer's tools.
        trace: keep the labels of each sample and of each step of the first one.
        raw: leave out the cleaning of small islands and holes.
        budget: seconds that one scan may take, without start-up; as many samples are drawn
            as fit; inf for no limit.
    """

    mode: Mode = "auto"
    steps: int | None = None
    samples: int | None = None
    sampler: SamplerName | None = None
    temperature: float | None = None
    seed: int = 0
    probabilities: bool = False
    brain: bool = False
    mgz: bool = False
    trace: bool = False
    raw: bool = False
    budget: float = math.inf

    def __post_init__(self) -> None:
        for name in ("steps", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(f"{name}: got {value}; it must be at least 1")
        if not self.budget > 0:
            raise SettingsError(f"budget: got {self.budget:g}; it must be above 0 seconds")
        if self.temperature is not None and not self.temperature >= 0:
            raise SettingsError(f"temperature: got {self.temperature}; it must not be negative")

    @property
    def chooses_freely(self) -> bool:
        """Whether steps and samples are left to what the scan needs."""
        return self.mode == "auto" and self.steps is None and self.samples is None

    def changed(self, overrides: Mapping[str, Any]) -> SegmentOptions:
        """Return the options with some changed; SettingsError for an unknown or wrong one."""
        known = asdict(self)
        for name in overrides:
            if name not in known:
                raise SettingsError(
                    f"{name}: unknown option; allowed are {', '.join(known)}"
                    f"{did_you_mean(name, known)}"
                )
        return replace(self, **overrides)
