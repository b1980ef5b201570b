"""What a network is taught by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ddmseg.models.settings_reader import require, require_above_0, require_least, require_share


@dataclass(frozen=True)
class LossSettings:
    """L = L_disc + lambda L_diff, plus the coarse head's own loss.

    Before ``joint_from_step`` the image encoder trains alone with its coarse head, which
    costs less than a joint step. With ``encoders_until_step`` above 0 nothing is joint:
    up to that step both encoders train without the denoiser, from there on they are
    frozen and the denoiser trains alone. With ``freeze_encoders`` it does so from the first
    step, under the encoders of ``training.start_from``. ``encoder_share`` is how much of the
    gradient of L_diff and L_disc reaches the features of f^I: 1 all of it, 0 none, so that
    they are those of the plain network; z_I is made of them by a map that always has all of it.
    With ``freeze_features`` those of ``training.start_from`` stay as they are, with the coarse
    head: only that map, f^S and the denoiser learn.

    ``foreground_share`` and ``background_share`` are the 2-voxel blocks, with and without any
    structure, on which segmentations are scored in a step, drawn anew each time. Scoring every
    voxel of 33 classes costs more than a network that computes on half the grid.
    """

    diffusion_weight: float = 1.0
    coarse_weight: float = 1.0
    discrepancy_weight: float = 1.0
    dice_weight: float = 1.0
    temperature: float = 1.0
    push: bool = True
    schedule: Literal["linear", "cosine"] = "cosine"
    schedule_shift: float = 0.0
    recycling_clean_end: float = 1.0
    recycling_noise_end: float = 1.0
    drop_image_probability: float = 0.0
    joint_from_step: int = 0
    encoders_until_step: int = 0
    freeze_encoders: bool = False
    encoder_share: float = 1.0
    freeze_features: bool = False
    foreground_share: float = 1.0
    background_share: float = 1.0

    def __post_init__(self) -> None:
        weights = ("diffusion_weight", "coarse_weight", "discrepancy_weight", "dice_weight")
        for name in (*weights, "joint_from_step", "encoders_until_step"):
            require_least(0, self, f"loss.{name}")
        recycling = ("recycling_clean_end", "recycling_noise_end", "drop_image_probability")
        for name in (*recycling, "encoder_share", "foreground_share", "background_share"):
            require_share(self, f"loss.{name}")
        require_above_0(self, "loss.temperature", "loss.foreground_share")
        once = not (self.freeze_features and self.freeze_encoders)
        told = "loss.freeze_encoders keeps the features, too; leave one of them out"
        require(once, self, "loss.freeze_features", told)
