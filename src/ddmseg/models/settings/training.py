"""How masks are sampled, and how a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.device import DeviceName
from ddmseg.models.settings.checks import require, require_above_0, require_least, require_share


@dataclass(frozen=True)
class SamplingSettings:
    """How masks are sampled, in validation and later by default.

    With ``one_body`` the labels of a scan hang together, and what lies apart is taken away, see
    ``imaging.postprocess``.
    """

    sampler: Literal["ddim", "ddpm", "dpm", "one-step"] = "ddim"
    steps: int = 10
    samples: int = 4
    temperature: float = 1.0
    guidance: Literal["none", "energy", "classifier_free", "classifier"] = "none"
    guidance_scale: float = 1.0
    coarse_share: float = 0.5
    one_body: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("steps", "samples"):
            require_least(1, self, f"sampling.{name}")
        for name in ("temperature", "guidance_scale"):
            require_least(0, self, f"sampling.{name}")
        require_share(self, "sampling.coarse_share")


@dataclass(frozen=True)
class TrainingSettings:
    """The loop.

    ``start_from`` names a shipped model or a weights file: every tensor of the same name
    and shape is taken from there, the others begin fresh.

    With ``leg_steps`` a training is a campaign of legs of that length, each with a warm-up, a
    constant learning rate and, over its last third, a fall to zero: every leg ends in weights
    worth using, and ``steps`` can be raised to go on. 0 is one half cosine over all steps.

    ``precision`` is of training alone: ``half`` computes in bfloat16 where torch's autocast
    does, ``auto`` times a convolution both ways at start and takes what is faster.
    """

    start_from: str = ""
    steps: int = 1000
    batch: int = 1
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_steps: int = 100
    clip_norm: float = 1.0
    ema: float = 0.999
    validate_every: int = 250
    validation_cases: int = 10
    seed: int = 0
    workers: int = 1
    device: DeviceName = "auto"
    threads: int = 0
    leg_steps: int = 0
    precision: Literal["auto", "single", "half"] = "auto"
    stop_on_empty_masks: bool = True

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name in ("steps", "batch", "validate_every", "validation_cases"):
            require_least(1, self, f"training.{name}")
        for name in ("weight_decay", "warmup_steps", "workers", "threads", "leg_steps"):
            require_least(0, self, f"training.{name}")
        for name in ("learning_rate", "clip_norm"):
            require_above_0(self, f"training.{name}")
        require(0 <= self.ema < 1, "training.ema", self.ema, "must be within 0 and 1, 1 excluded")
