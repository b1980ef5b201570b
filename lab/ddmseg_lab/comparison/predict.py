"""One whole subject through one trained network, in 3-D at once or slice by slice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.datasets.subject import Subject, box_around, padded
from ddmseg.imaging.augmentation import centre
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Network
from ddmseg.models.settings import Settings
from ddmseg.networks.ensemble import sampled_answer
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

SLICES_AT_ONCE = 16
MULTIPLE = 8
"""Grids are padded to this at least."""


@dataclass(frozen=True)
class Member:
    """A network with the settings that it answers by."""

    network: Network
    settings: Settings


@torch.inference_mode()
def predict(members: Sequence[Member], subject: Subject, generator: Generator) -> Tensor:
    """Return class indices (``i j k``) by the mean probability of the members.

    They lie on the grid of the subject's truth.

    Args:
        members: one or more networks in eval mode.
        subject: image on its own grid or that of the networks.
        generator: on the CPU; fixes all samples.
    """
    shares = [_probabilities(member, subject, generator) for member in members]
    return subject.answer(torch.stack(shares).mean(0))


def _probabilities(member: Member, subject: Subject, generator: Generator) -> Tensor:
    """Return ``k i j k``."""
    network = member.network
    multiple = max(network.multiple, MULTIPLE)
    if network.dims == 3:
        image, _ = padded(subject.image, subject.labels, multiple)
        p = answer(member, image[None], generator)[0]
        return uncentred(p, subject.labels.shape)
    # Slices are trained on inside the brain; normalisation over the grid would see other means
    # in slices that are mostly air.
    box = box_around(subject.image[0] > subject.image[0].min())
    p = _by_slices(member, subject.image[(slice(None), *box)], subject.slice_axis, generator)
    whole = torch.zeros(len(p), *subject.labels.shape)
    whole[0] = 1.0  # where there is nothing, background is certain
    whole[(slice(None), *box)] = p
    return whole


def _by_slices(member: Member, image: Tensor, axis: int, generator: Generator) -> Tensor:
    """Return ``k i j k`` of an image cut across an axis."""
    multiple = max(member.network.multiple, MULTIPLE)
    slices = image.movedim(1 + axis, 0)
    whole = slices.shape[2:]
    shape = tuple(-(-n // multiple) * multiple for n in whole)
    slices = torch.stack([centre(one, one[0], shape)[0] for one in slices])
    parts = [answer(member, part, generator) for part in torch.split(slices, SLICES_AT_ONCE)]
    p = uncentred(torch.cat(parts).movedim(0, 1), (len(slices), *whole))
    return p.movedim(1, 1 + axis)


def answer(member: Member, image: Tensor, generator: Generator) -> Tensor:
    """Return class probabilities (``b k *grid``) of a batch, sampled where it can be."""
    network, settings = member.network, member.settings
    if not isinstance(network, DiscrepancyDiffusionSegmenter) or network.denoiser is None:
        return F.softmax(network(image), dim=1)
    own = settings.sampling
    sampler = MaskSampler(
        network,
        network.encode(image),
        make_schedule(settings.loss.schedule, settings.loss.schedule_shift),
        Guidance(own.guidance, own.guidance_scale, settings.loss.temperature),
    )
    return sampled_answer(
        sampler,
        algorithm=own.sampler,
        steps=own.steps,
        samples=own.samples,
        temperature=own.temperature,
        coarse_share=own.coarse_share,
        generator=generator,
    ).probabilities


def uncentred(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo the even padding of ``centre`` on the last axes, as many as the shape has."""
    for axis, n in enumerate(shape, start=x.dim() - len(shape)):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x
