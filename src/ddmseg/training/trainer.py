"""One plain training loop; every variant of the model is a setting.

A run writes into one folder: ``settings.json``, ``curve.csv``, ``curve.png``,
``state.safetensors`` (to resume) and ``best.safetensors`` with its card. Resuming
continues the very trajectory: each step draws from a generator of its own number,
so weights, moments and the step are all the state there is.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ddmseg.datasets.source import Source
from ddmseg.errors import CheckpointError, TrainingError, UsageError
from ddmseg.models.checkpoint import (
    Card,
    Network,
    adopt_weights,
    build_network,
    check_views,
    first_reason,
    load_state,
    replace_file,
    save_state,
    save_weights,
    sweep,
)
from ddmseg.models.device import find_device, working_seconds
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded
from ddmseg.training.batches import batches
from ddmseg.training.curve import Curve, is_done, learning_rate_factor
from ddmseg.training.objective import Losses, LossFunction, Objective, stage_at
from ddmseg.training.precision import find_precision
from ddmseg.training.validation import validate

STATE_FILE = "state.safetensors"
CURVE_FILE = "curve.csv"
NOISE_STREAM = 1
"""Separates the generator of noise and times from that of the examples."""
EMPTY_MASKS_UNTIL = 1000
"""Up to this step sampled masks may all be empty: small structures are learnt late."""


@dataclass(frozen=True)
class Progress:
    """What a progress bar wants to know after each step."""

    step: int
    steps: int
    loss: float
    sampled_dice: float | None


@dataclass(frozen=True)
class Teaching:
    """What makes a training a distillation; ``teacher`` is for the card.

    ``make_objective`` gets the model and returns what it is trained on in place of the truth alone.
    """

    make_objective: Callable[[Network], LossFunction]
    teacher: dict[str, str]


class Trainer:
    """Trains one model as the settings say; UsageError when they name a teacher that is not given.

    Args:
        source: examples; its ``labels`` are the classes.
        folder: where the run leaves its files.
        resume: continue the state in the folder.
        teaching: by a teacher; None: the truth alone teaches.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        folder: Path,
        *,
        resume: bool = False,
        teaching: Teaching | None = None,
    ) -> None:
        if settings.distillation.teacher and teaching is None:
            raise UsageError(
                f"distillation.teacher: got {settings.distillation.teacher}, but this is a plain "
                "training; run ddmseg distill, or leave the table out"
            )
        asked = settings.training
        self.source = source
        self.folder = folder
        self.device = _device(asked.device)
        self.rank, self.ranks = _join_group(self.device)
        if asked.threads:
            torch.set_num_threads(asked.threads)
        before = load_state(folder / STATE_FILE)[1].get("precision") if resume else None
        precision = find_precision(asked.precision, self.device, before=before)
        self._asked = settings
        self.settings = replace(settings, training=replace(asked, precision=precision))
        torch.manual_seed(asked.seed)
        self.model = build_network(settings, len(source.labels)).to(self.device)
        if asked.start_from and not resume:
            adopt_weights(self.model, model_path(asked.start_from))
        self.ema = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=asked.learning_rate, weight_decay=asked.weight_decay
        )
        self.objective: LossFunction = (
            teaching.make_objective(self.model)
            if teaching
            else Objective(self.model, settings.loss)
        )
        self._teacher = teaching.teacher if teaching else {}
        self.step, self.best, self.seconds = 0, -1.0, 0.0
        check_views(self.model, self._card({}))
        title = f"{settings.name}, trained in {precision} precision"
        self.curve = Curve(folder / CURVE_FILE, title)
        if resume:
            self._load()

    @property
    def is_done(self) -> bool:
        """Whether the last step is taken, or a leg has ended in which the curve was flat."""
        return is_done(self.settings, self.step, self.curve)

    def run(
        self,
        *,
        max_minutes: float = math.inf,
        report: Callable[[Progress], None] | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Path:
        """Train to the last step or until the minutes are over.

        Args:
            report: called after each step.
            should_stop: asked after each step; True saves the state and ends the run.

        Returns:
            Where the best weights lie, once there has been a validation.

        Raises:
            TrainingError: when loss or gradient are not finite, sampled masks stay
                empty or there is nothing to validate on.
        """
        if self.rank == 0:
            sweep(self.folder)
            # As asked: what a machine made of them stands on the card.
            text = json.dumps(settings_to_dict(self._asked), indent=2)
            replace_file(self.folder / "settings.json", text.encode())
        training = self.settings.training
        start = self._clock() - self.seconds
        deadline = time.monotonic() + 60 * max_minutes
        may_stop = math.isfinite(deadline) or should_stop is not None
        validation = self.source.validation_examples(training.validation_cases)
        if not validation:
            raise TrainingError(
                "the data hold no validation examples; add validation cases of the split"
            )
        todo = batches(
            self.source,
            seed=training.seed,
            batch=training.batch,
            start=self.step,
            stop=self.step if self.is_done else training.steps,
            rank=self.rank,
            ranks=self.ranks,
            workers=training.workers,
        )
        with closing(todo) as loader:
            for step, image, labels in loader:
                losses = self._update(step, image.to(self.device), labels.to(self.device))
                self.step = step + 1
                self.seconds = self._clock() - start
                self.curve.add(self.step, self.seconds, losses)
                sampled = None
                if self.step % training.validate_every == 0 or self.step == training.steps:
                    sampled = self._validate(validation)
                if report is not None:
                    total = float(losses.total.detach())
                    report(Progress(self.step, training.steps, total, sampled))
                over = time.monotonic() > deadline or (should_stop is not None and should_stop())
                if self.is_done or (may_stop and self._any(over)):
                    break
        self._save()
        return self.folder / "best.safetensors"

    def _clock(self) -> float:
        return working_seconds(on_gpu=self.device.type != "cpu")

    def _update(self, step: int, image: Tensor, labels: Tensor) -> Losses:
        """Take one step of the optimiser."""
        training = self.settings.training
        for group in self.optimiser.param_groups:
            group["lr"] = training.learning_rate * learning_rate_factor(
                step, training.warmup_steps, training.steps, training.leg_steps
            )
        stage = stage_at(step, self.settings.loss)
        if stage == "denoiser":
            freeze_encoders(self.model)
        if stage == "on_features":
            # The features and their head stay, running statistics included; the map to z_I learns.
            encoder = cast(DiscrepancyDiffusionSegmenter, self.model).image_encoder
            encoder.eval().requires_grad_(False)
            encoder.embed.requires_grad_(True)
        generator = seeded(training.seed + NOISE_STREAM, step * self.ranks + self.rank)
        half = training.precision == "half"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            losses = self.objective(image, labels, generator, stage=stage)
        self.optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        _average_gradients(self.model, self.ranks)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        # After the averaging, so that all processes stop; before the weights are spoilt.
        if not torch.isfinite(losses.total) or not torch.isfinite(norm):
            raise TrainingError(
                f"step {step + 1}: the loss is {losses.total.item()}, the norm of its gradient "
                f"{norm.item()}; lower training.learning_rate (now {training.learning_rate}) "
                "and resume from the last state"
            )
        self.optimiser.step()
        self._average_weights(step)
        return losses

    @torch.no_grad()
    def _average_weights(self, step: int) -> None:
        # Early on a long memory would keep the random start alive.
        decay = min(self.settings.training.ema, (1 + step) / (10 + step))
        for mean, now in zip(self.ema.parameters(), self.model.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)
        # Statistics of batch normalisation are averages already.
        for kept, current in zip(self.ema.buffers(), self.model.buffers(), strict=True):
            kept.copy_(current)

    def _validate(self, examples: list[tuple[Tensor, Tensor]]) -> float:
        scores = validate(self.ema, examples, self.settings, self.device)
        self.curve.validated(self.step, scores)
        late = self.step > EMPTY_MASKS_UNTIL
        if self.settings.training.stop_on_empty_masks and scores.all_empty and late:
            if self.rank == 0:
                self.curve.write()
            raise TrainingError(
                f"step {self.step}: every sampled mask is empty; the model has collapsed: "
                "lower training.learning_rate or raise loss.dice_weight"
            )
        if self.rank != 0:
            return scores.sampled_dice
        if scores.sampled_score > self.best:
            self.best = scores.sampled_score
            save_weights(self.ema, self._card(asdict(scores)), self.folder / "best.safetensors")
        self._save()
        return scores.sampled_dice

    def _any(self, here: bool) -> bool:
        """Say whether it is so in any process: all must leave the loop at one step."""
        if self.ranks == 1:
            return here
        flag = torch.tensor(float(here), device=self.device)
        torch.distributed.all_reduce(flag, torch.distributed.ReduceOp.MAX)
        return bool(flag)

    def _card(self, scores: dict[str, Any]) -> Card:
        return Card(
            name=self.settings.name,
            labels=tuple(int(index) for index in self.source.labels),
            settings=settings_to_dict(self.settings),
            data=self.source.data,
            licence=self.source.licence,
            scores={"validation": scores},
            trained_steps=self.step,
            teacher=self._teacher,
        )

    def _save(self) -> None:
        if self.rank != 0:
            return
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"ema.{name}": value for name, value in self.ema.state_dict().items()}
        for number, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": value for name, value in moments.items()}
        numbers = {"step": self.step, "best": self.best, "seconds": self.seconds}
        precision = self.settings.training.precision
        save_state(self.folder / STATE_FILE, tensors, {**numbers, "precision": precision})
        self.curve.write()

    def _load(self) -> None:
        path = self.folder / STATE_FILE
        tensors, numbers = load_state(path)
        moments: dict[int, dict[str, Tensor]] = {}
        weights: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}}
        for name, value in tensors.items():
            kind, rest = name.split(".", 1)
            if kind == "adam":
                number, moment = rest.split(".")
                moments.setdefault(int(number), {})[moment] = value
            else:
                weights[kind][rest] = value
        try:
            self.model.load_state_dict(weights["model"])
            self.ema.load_state_dict(weights["ema"])
        except RuntimeError as error:
            raise CheckpointError(
                f"{path}: is of another network than the settings ({first_reason(error)}); "
                "resume with the settings it was begun with"
            ) from error
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": moments, "param_groups": groups})
        # Files hold no memory order; another one than the weights' might round differently.
        for parameter, own in self.optimiser.state.items():
            for name, value in own.items():
                if value.shape == parameter.shape:
                    own[name] = torch.empty_like(parameter, requires_grad=False).copy_(value)
        self.step, self.best = int(numbers["step"]), float(numbers["best"])
        self.seconds = float(numbers["seconds"])
        self.curve.read(up_to=self.step)


def freeze_encoders(model: nn.Module) -> None:
    """Keep f^I and f^S as they are: the optimiser passes over what has no gradient."""
    for part in (model.image_encoder, model.segmentation_encoder):
        part.requires_grad_(False)


def is_finished(folder: Path, settings: Settings) -> bool:
    """Say whether the training in a folder is done; CheckpointError without a readable state."""
    step = int(load_state(folder / STATE_FILE)[1]["step"])
    curve = Curve(folder / CURVE_FILE)
    curve.read(up_to=step)
    return is_done(settings, step, curve)


def _device(name: str) -> torch.device:
    device = find_device(name, setting="training.device")
    if device.type == "cuda":
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def _join_group(device: torch.device) -> tuple[int, int]:
    """Join the processes that ``torchrun`` started; return own rank and their number."""
    ranks = int(os.environ.get("WORLD_SIZE", "1"))
    if ranks > 1 and not torch.distributed.is_initialized():
        torch.distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return int(os.environ.get("RANK", "0")), ranks


def _average_gradients(model: nn.Module, ranks: int) -> None:
    """Give every rank the mean gradient, in one message: each costs more than its numbers."""
    if ranks == 1:
        return
    gradients = []
    for parameter in model.parameters():
        # What does not learn is left out: a gradient of zero would still let its weights decay.
        if parameter.requires_grad:
            if parameter.grad is None:  # of a branch not taken here; zero for the mean
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    message = torch.cat([gradient.flatten() for gradient in gradients])
    torch.distributed.all_reduce(message)
    pieces = torch.split(message / ranks, [gradient.numel() for gradient in gradients])
    for gradient, piece in zip(gradients, pieces, strict=True):
        gradient.copy_(piece.view(gradient.shape))
