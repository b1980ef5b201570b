"""Who teaches a student, and how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.settings.checks import require, require_above_0, require_least, require_share


@dataclass(frozen=True)
class DistillationSettings:
    """Who teaches a student and how, see ``training.distillation``.

    Attributes:
        teacher: name of a shipped model or path of its weights; empty: no distillation.
        method: ``consistency`` and ``progressive`` bring the denoiser from ``teacher_steps``
            to ``sampling.steps``; ``soft_labels`` teaches a network of any size.
        teacher_samples: that its soft labels are the mean of, beside the coarse head's; with
            0 that answers alone.
        temperature: by which soft labels are softened, above 0.
        truth_share: of the truth in the loss; the rest is the teacher's.
    """

    teacher: str = ""
    method: Literal["consistency", "progressive", "soft_labels"] = "soft_labels"
    teacher_steps: int = 8
    teacher_samples: int = 0
    temperature: float = 1.0
    truth_share: float = 0.0

    @property
    def of_steps(self) -> bool:
        """Whether steps are saved, rather than parameters."""
        return self.method != "soft_labels"

    def __post_init__(self) -> None:
        """Refuse values out of range, and those that a method has no use for."""
        require_least(1, self, "distillation.teacher_steps")
        require_least(0, self, "distillation.teacher_samples")
        require_above_0(self, "distillation.temperature")
        require_share(self, "distillation.truth_share")
        for name in ("teacher_samples", "temperature"):
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            require(
                not self.of_steps or value == default,
                f"distillation.{name}",
                value,
                f"of soft_labels alone; with method {self.method} leave it out",
            )
