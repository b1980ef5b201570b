"""Predict and score the test subjects of one row, in a process of its own.

A subject goes through a network in 3-D at once or slice by slice; a fresh process knows how
much memory prediction alone takes.
"""

from __future__ import annotations

import json
import multiprocessing
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.datasets.source import padded
from ddmseg.datasets.subject import Subject, box_around
from ddmseg.maths.case_scores import Score
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Network, load_network
from ddmseg.models.device import working_seconds
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.networks.ensemble import sampled_answer
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded
from ddmseg_lab.comparison.inter_intra import SLICES_AT_ONCE as SLICES_AT_ONCE
from ddmseg_lab.comparison.inter_intra import by_slices, row_source
from ddmseg_lab.comparison.inter_intra import uncentred as uncentred
from ddmseg_lab.comparison.nnunet.driver import peak_memory_mb

MULTIPLE = 8
"""Grids are padded to this at least."""


@dataclass(frozen=True)
class Member:
    """A network with the settings that it answers by."""

    network: Network
    settings: Settings


@torch.inference_mode()
def predict(members: Sequence[Member], subject: Subject, generator: Generator) -> Tensor:
    """Return class indices (``i j k``) by the mean probability of members in eval mode.

    They lie on the grid of the subject's truth. The generator, on the CPU, fixes all samples.
    """
    shares = [_probabilities(member, subject, generator) for member in members]
    return subject.answer(torch.stack(shares).mean(0))


def _probabilities(member: Member, subject: Subject, generator: Generator) -> Tensor:
    network = member.network
    multiple = max(network.multiple, MULTIPLE)
    if network.dims == 3:
        image, _ = padded(subject.image, subject.labels, multiple)
        p = class_probabilities(member, image[None], generator)[0]
        return uncentred(p, subject.labels.shape)
    # Slices are trained on inside the brain; normalisation over the grid would see other means
    # in slices that are mostly air.
    box = box_around(subject.image[0] > subject.image[0].min())
    image = subject.image[(slice(None), *box)]

    def compute(part: Tensor) -> Tensor:
        return class_probabilities(member, part, generator)

    p = by_slices(image, subject.slice_axis, multiple, compute)
    whole = torch.zeros(len(p), *subject.labels.shape)
    whole[0] = 1.0  # where there is nothing, background is certain
    whole[(slice(None), *box)] = p
    return whole


def class_probabilities(member: Member, image: Tensor, generator: Generator) -> Tensor:
    """Return class probabilities (``b k *grid``) of a batch, sampled where it can be."""
    network, settings = member.network, member.settings
    if not isinstance(network, DiscrepancyDiffusionSegmenter) or network.denoiser is None:
        return F.softmax(network(image), dim=1)
    own = settings.sampling
    guidance = Guidance(own.guidance, own.guidance_scale, settings.loss.temperature)
    schedule = make_schedule(settings.loss.schedule, settings.loss.schedule_shift)
    return sampled_answer(
        MaskSampler(network, network.encode(image), schedule, guidance),
        algorithm=own.sampler, steps=own.steps, samples=own.samples,
        temperature=own.temperature, coarse_share=own.coarse_share, generator=generator,
    ).probabilities  # fmt: skip


@dataclass(frozen=True)
class RowResult:
    """What testing a row found.

    Attributes:
        seconds_a_scan: median over subjects, reading left out.
        peak_memory_mb: resident, in 1e6 bytes; None where the system does not tell.
        preparation_seconds: that training what the data need took, such as auto-encoders.
    """

    scores: list[Score]
    seconds_a_scan: float
    peak_memory_mb: float | None
    parameters: int
    preparation_seconds: float = 0.0


@dataclass(frozen=True)
class Tested:
    """A row trained and tested; what its record is made of, under the names it has there."""

    result: RowResult
    trained_steps: int
    samples_seen: int
    validation_dice: float | None
    train_seconds: float
    threads: int
    curve: Path | None
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


def score_apart(
    weights: list[Path], settings: list[str], data: str | None, threads: int
) -> RowResult:
    """Run :func:`score_row` in a fresh process and return what it found."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(score_row, weights, settings, data, threads).result()


def score_row(
    weights: list[Path], settings: list[str], data: str | None, threads: int
) -> RowResult:
    """Predict and score all test subjects.

    Args:
        weights: of each member; what the data need lies beside the first.
        settings: of each member as JSON; the first says which data.
        threads: of torch, 0 for its own choice.
    """
    if sys.platform == "linux":  # forget the peak of the parent process; proc(5), clear_refs
        Path("/proc/self/clear_refs").write_text("5")
    if threads:
        torch.set_num_threads(threads)
    read = [settings_from_dict(Settings, json.loads(text)) for text in settings]
    members = [Member(load_network(path)[0], one) for path, one in zip(weights, read, strict=True)]
    source = row_source(read[0].data, data, run_folder=weights[0].parent)
    scores: list[Score] = []
    seconds: list[float] = []
    for number, subject in enumerate(source.subjects("test")):
        start = working_seconds()
        found = predict(members, subject, seeded(read[0].training.seed, number))
        seconds.append(working_seconds() - start + subject.channel_seconds)
        scores += source.score(subject, found)
    parameters = sum(p.numel() for m in members for p in m.network.parameters())
    parameters += source.finish.parameters
    middle, spent = statistics.median(seconds), source.finish.train_seconds
    return RowResult(scores, middle, peak_memory_mb(), parameters, spent)
