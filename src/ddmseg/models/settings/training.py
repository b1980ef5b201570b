"""How masks are sampled, how a network is trained, and who teaches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.device import DeviceName
from ddmseg.models.settings_reader import require, require_above_0, require_least, require_share


@dataclass(frozen=True)
class SamplingSettings:
    """How masks are sampled, in validation and later by default.

    The coarse head's answer is the mean with that of the ``mirrored`` scan, left and right
    exchanged back, and with those of ``wide``: a shipped model, or the path of weights, for twice
    the spacing and the same classes. Both are for scans segmented by trained weights; see
    ``networks.views``.
    """

    sampler: Literal["ddim", "ddpm", "dpm", "one-step"] = "ddim"
    steps: int = 10
    samples: int = 4
    temperature: float = 1.0
    guidance: Literal["none", "energy", "classifier_free", "classifier"] = "none"
    guidance_scale: float = 1.0
    coarse_share: float = 0.5
    mirrored: bool = False
    wide: str = ""

    def __post_init__(self) -> None:
        require_least(1, self, "sampling.steps", "sampling.samples")
        require_least(0, self, "sampling.temperature", "sampling.guidance_scale")
        require_share(self, "sampling.coarse_share")


@dataclass(frozen=True)
class TrainingSettings:
    """The loop.

    ``start_from`` names a shipped model or a weights file: every tensor of the same name
    and shape is taken from there, the others begin fresh.

    With ``leg_steps`` a training is a campaign of legs of that length, each with a warm-up, a
    constant learning rate and, over its last third, a fall to zero: every leg ends in weights
    worth using, and ``steps`` can be raised to go on. 0 is one half cosine over all steps.

    With ``least_rise`` a training in legs may end before ``steps``: with the first leg, from the
    third on, after which the best validation score of the last third of the steps is not that
    much above the best before. 0 trains to the last step.

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
    least_rise: float = 0.0
    precision: Literal["auto", "single", "half"] = "auto"
    stop_on_empty_masks: bool = True

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "validate_every", "validation_cases"):
            require_least(1, self, f"training.{name}")
        for name in ("weight_decay", "warmup_steps", "workers", "threads", "leg_steps"):
            require_least(0, self, f"training.{name}")
        require_share(self, "training.least_rise")
        told = "it is judged at the ends of legs; set training.leg_steps"
        require(not self.least_rise or self.leg_steps > 0, self, "training.least_rise", told)
        require_above_0(self, "training.learning_rate", "training.clip_norm")
        require(0 <= self.ema < 1, self, "training.ema", "must be within 0 and 1, 1 excluded")


@dataclass(frozen=True)
class DistillationSettings:
    """Who teaches a student and how, see ``training.distillation``.

    Attributes:
        teacher: name of a shipped model or path of its weights; empty: no distillation.
        teacher_steps: of each of its samples.
        teacher_samples: that its soft labels are the mean of, beside the coarse head's; with
            0 that answers alone.
        temperature: by which soft labels are softened, above 0.
        truth_share: of the truth in the loss; the rest is the teacher's.
    """

    teacher: str = ""
    teacher_steps: int = 8
    teacher_samples: int = 0
    temperature: float = 1.0
    truth_share: float = 0.0

    def __post_init__(self) -> None:
        require_least(1, self, "distillation.teacher_steps")
        require_least(0, self, "distillation.teacher_samples")
        require_above_0(self, "distillation.temperature")
        require_share(self, "distillation.truth_share")
