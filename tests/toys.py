"""Tiny models, data and runs that tests share.

As a script it trains one run, in a process of its own that a test can kill or pair with
another: ``python toys.py FOLDER [--stop-at STEP] [--pair]``.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from ddmseg.models.settings import (
    DataSettings,
    LossSettings,
    ModelSettings,
    SamplingSettings,
    Settings,
    TrainingSettings,
)
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.curve import Curve
from ddmseg.training.trainer import Progress, Trainer

SIZE = 16
"""Voxels along each axis of a toy image."""


def tiny_model(
    *, dims: int = 2, classes: int = 3, seed: int = 0, fresh: bool = False, **sizes: Any
) -> DiscrepancyDiffusionSegmenter:
    """Build a small network; unless ``fresh``, no weight is left at zero."""
    small: dict[str, Any] = {"embedding": 2, "mask_width": 4, "denoiser_width": 4}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        small = {"widths": (4, 8, 8), **small, **sizes}
        model = DiscrepancyDiffusionSegmenter(dims, 1, classes, **small)
        if not fresh:
            shake(model)
    return model.eval()


def shake(model: nn.Module) -> None:
    """Move every weight a little, so that heads which start at zero say something."""
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.2 * torch.randn_like(weight)


class BoxSource:
    """Noisy pictures of a box whose left half is class 1 and whose right half is class 2."""

    labels = (0, 17, 53)
    always_present = (17, 53)
    data = "boxes made up for tests"
    licence = "CC0"

    def __init__(self, dims: int = 2) -> None:
        self.dims = dims

    def training_example(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Put the box anywhere."""
        labels = torch.zeros((SIZE,) * self.dims, dtype=torch.int64)
        corner = torch.randint(0, SIZE - 8, (self.dims,), generator=generator).tolist()
        box = tuple(slice(c, c + 8) for c in corner)
        labels[box] = 2
        labels[(*box[:-1], slice(corner[-1], corner[-1] + 4))] = 1
        noise = torch.randn(labels.shape, generator=generator)
        return (0.5 * labels + 0.1 * noise)[None], labels

    def validation_examples(self, count: int) -> list[tuple[Tensor, Tensor]]:
        """Draw from seeds far away."""
        return [self.training_example(Generator().manual_seed(10**6 + i)) for i in range(count)]


def tiny_settings(
    *,
    dims: int = 2,
    model: dict[str, Any] | None = None,
    loss: dict[str, Any] | None = None,
    **loop: Any,
) -> Settings:
    """Settings of a run of a few steps; ``loop`` are those of the training table."""
    training = {
        "steps": 10,
        "batch": 2,
        "learning_rate": 0.01,
        "warmup_steps": 2,
        "validate_every": 5,
        "validation_cases": 2,
        "workers": 0,
        "device": "cpu",
        "threads": 1,
        "ema": 0.5,
        "precision": "single",
    }
    sizes = {"widths": (4, 8, 8), "embedding": 2, "mask_width": 4, "denoiser_width": 4}
    return Settings(
        name="toy",
        model=ModelSettings(dims=dims, **{**sizes, **(model or {})}),
        data=DataSettings(patch=(SIZE,) * dims),
        loss=LossSettings(**(loss or {})),
        sampling=SamplingSettings(steps=2),
        training=TrainingSettings(**{**training, **loop}),
    )


def fingerprint(model: nn.Module) -> str:
    """Hash of all weights, bit for bit."""
    digest = hashlib.sha256()
    for name, weight in model.state_dict().items():
        digest.update(name.encode() + weight.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Train in this process."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--stop-at", type=int, default=0, help="hang there, to be killed")
    parser.add_argument("--pair", action="store_true", help="one of two processes")
    wanted = parser.parse_args()

    def report(progress: Progress) -> None:
        if progress.step == wanted.stop_at:
            print("hanging", flush=True)
            time.sleep(600)

    Curve._draw = lambda self: None  # takes longer than all the rest
    settings = tiny_settings()
    if wanted.pair:
        settings = replace(settings, training=replace(settings.training, batch=1))
    trainer = Trainer(settings, BoxSource(), wanted.folder)
    if wanted.pair:
        # Only one of the two has no time left; both must stop.
        trainer.run(max_minutes=0 if trainer.rank == 0 else 60)
        print(trainer.step, fingerprint(trainer.model), fingerprint(trainer.ema), flush=True)
    trainer.run(report=report)
    print(trainer.step, fingerprint(trainer.model), fingerprint(trainer.ema), flush=True)


if __name__ == "__main__":
    main()
