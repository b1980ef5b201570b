"""What each rival for the interval of a volume says of one scan: a volume and how sure it is.

Every rival but one answers several times and gives mean and standard deviation of the volumes:
samples of the diffusion, or the coarse head on perturbed scans. What ships answers once, and
its spread is the doubt that the discrepancy gives. The scale of a spread means nothing here:
the contest fits one factor per structure.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.imaging.labels import on_other_side
from ddmseg.inference.scan_encoding import encode_image
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import SamplingSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.networks.ensemble import Answer, coarse_answer, sampled_answer
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import assess
from ddmseg.quality.volume_intervals import Sizes
from ddmseg.randomness import draw_uniform, seeded
from ddmseg_lab.table import LETTERS

PERTURBED = 3  # perturbed copies of a scan beside the scan itself; each costs a pass of f^I
LOG_GAMMA, TURN_DEGREES, SCALING = 0.25, 5.0, 0.04
"""Largest change of the grey scale, largest turn about each axis, largest change of size."""
SEED = 4211


@dataclass(frozen=True)
class Said:
    """What a rival says of each class: a volume, and the spread of its log in the rival's units."""

    centre: Tensor
    """In voxels of the model grid."""
    spread: Tensor
    effective: float = 1.0
    """Answers that it counts for, after weighing."""
    seconds: float = 0.0
    """Beyond one pass of f^I."""


class EncodedHead:
    """A scan on the model grid (``1 1 *grid``), encoded once; its number fixes what is drawn."""

    def __init__(
        self, model: DiscrepancyDiffusionSegmenter, card: Card, image: Tensor, number: int
    ) -> None:
        self.model, self.card, self.image, self.number = model, card, image, number

    @cached_property
    def encoding(self) -> Encoding:
        """Features around the brain."""
        return encode_image(self.model, self.image)[0]

    @property
    def generator(self) -> Generator:
        """A generator of this scan's own."""
        return seeded(SEED, self.number)

    @cached_property
    def drawn(self) -> Answer:
        """Samples, as many as the card says, joined with the coarse head."""
        loss = self.card.settings["loss"]
        own = settings_from_dict(SamplingSettings, self.card.settings["sampling"])
        schedule = make_schedule(loss["schedule"], loss["schedule_shift"])
        return sampled_answer(
            MaskSampler(self.model, self.encoding, schedule),
            algorithm=own.sampler,
            steps=own.steps,
            samples=own.samples,
            temperature=own.temperature,
            coarse_share=own.coarse_share,
            generator=self.generator,
        )


def constant(head: EncodedHead) -> Said:
    """The volume of the coarse head's labels, in any scan as sure as in any other."""
    counts = voxels(head.encoding.coarse.argmax(1), len(head.card.labels))
    return Said(counts, torch.ones_like(counts))


def shipped(head: EncodedHead) -> Said:
    """The coarse head's soft volume, and the doubt that the discrepancy gives."""
    return _doubted(head, coarse_answer(head.encoding))


def sampled(head: EncodedHead) -> Said:
    """The same of the answer that samples and the coarse head make together."""
    return _doubted(head, head.drawn)


def _doubted(head: EncodedHead, answer: Answer) -> Said:
    found = assess(head.model, head.card, head.encoding, answer).expectation
    rows = torch.stack([found.size, found.hits, found.missed, found.soft], dim=-1).tolist()
    return Said(found.soft, torch.tensor([Sizes(*row).doubt for row in rows]).double())


def samples(head: EncodedHead) -> Said:
    """Volumes of samples of the diffusion, weighed by the discrepancy."""
    answer = head.drawn
    # Expected voxels of each sample: their label maps are too alike to tell them apart.
    return joined(list(answer.sample_volumes), answer.weights.double())


def perturbed(head: EncodedHead) -> Said:
    """Volumes by the coarse head of the scan and of perturbed copies of it."""
    counts = [voxels(head.encoding.coarse.argmax(1), len(head.card.labels))]
    generator = head.generator
    for copy in range(PERTURBED):
        image, per_voxel = perturbation(head.image, generator, mirrored=copy % 2 == 0)
        labels = encode_image(head.model, image)[0].coarse.argmax(1)
        found = voxels(labels, len(head.card.labels)) * per_voxel
        counts.append(found[on_other_side(head.card.labels)] if copy % 2 == 0 else found)
    return joined(counts)


Rival = Callable[[EncodedHead], Said]
RIVALS: Mapping[str, Rival] = {
    one.__name__: one for one in (constant, shipped, samples, sampled, perturbed)
}
"""Those that need no training."""


def voxels(labels: Tensor, classes: int) -> Tensor:
    """Return the voxels of each class."""
    return torch.bincount(labels.flatten(), minlength=classes).double()


def joined(counts: Sequence[Tensor], weights: Tensor | None = None) -> Said:
    """Return weighted mean, and standard deviation of the log, of several answers.

    An answer without a voxel counts as one voxel, so that the log is finite.
    """
    table = torch.stack(list(counts)).double()
    w = torch.full((len(table),), 1 / len(table)).double() if weights is None else weights
    logs = table.clamp_min(1).log()
    middle = w @ logs
    squares = w @ (logs - middle).square()
    alike = float(w.square().sum())  # 1 where one answer has all the weight
    spread = (squares / max(1 - alike, 1e-9)).sqrt()
    return Said(w @ table, spread, 1 / alike)


def timed(rival: Rival, head: EncodedHead) -> Said:
    """Return what a rival says, with the seconds it took once the scan is encoded."""
    head.encoding  # noqa: B018 (made when first asked for)
    start = time.perf_counter()
    said = rival(head)
    return replace(said, seconds=time.perf_counter() - start)


COLUMNS = (
    *("weights", "set", "number", "name", "subject", "kind", "rival", "index"),
    *("centre", "spread", "true", "effective", "seconds"),
)
"""Of a table of answers."""


def answers(
    head: EncodedHead, rivals: Mapping[str, Rival], true: Sequence[float], at: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each rival and class of which the true voxels are known."""
    for name, rival in rivals.items():
        said = timed(rival, head)
        for place, index in enumerate(head.card.labels):
            if index and not math.isnan(true[place]):
                yield {
                    **{"weights": head.card.checksum[:LETTERS], **at, "rival": name},
                    **{"index": index, "true": true[place]},
                    "centre": float(said.centre[place]),
                    "spread": float(said.spread[place]),
                    "effective": round(said.effective, 4),
                    "seconds": round(said.seconds, 3),
                }


def perturbation(image: Tensor, generator: Generator, *, mirrored: bool) -> tuple[Tensor, float]:
    """Return a perturbed copy of an image and the volume of its voxels, in voxels of the image.

    The image is ``1 1 i j k``, the first spatial axis from left to right; mirrored exchanges these.
    """
    gamma = math.exp(draw_uniform(generator, -LOG_GAMMA, LOG_GAMMA))
    angles = [math.radians(draw_uniform(generator, -TURN_DEGREES, TURN_DEGREES)) for _ in range(3)]
    size = 1 + draw_uniform(generator, -SCALING, SCALING)
    matrix = torch.eye(3)
    for axis, angle in enumerate(angles):
        a, b = [i for i in range(3) if i != axis]
        turn = torch.eye(3)
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = turn @ matrix
    # affine_grid counts from -1 to 1 along each axis and takes the last axis first.
    half = torch.tensor(image.shape[2:]).flip(0) / 2
    matrix = (matrix / size).flip(0, 1) * half[None, :] / half[:, None]
    theta = torch.cat([matrix, torch.zeros(3, 1)], dim=1)[None]
    grid = F.affine_grid(theta, list(image.shape), align_corners=False)
    copy = F.grid_sample(image.clamp_min(0).pow(gamma), grid, align_corners=False)
    return copy.flip(2) if mirrored else copy, size**-3
