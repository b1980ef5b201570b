"""Masks made wrong on purpose: what the discrepancy learns to tell apart.

Each corruption takes and returns class indices (``b *grid``). Together they cover
how segmentations go wrong: misplaced, too large or small, confused, torn, or
another subject's.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ddmseg.randomness import draw_integer


def shift(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Move the whole mask by up to 4 voxels an axis; what leaves comes in opposite."""
    axes = range(1, labels.dim())
    return torch.roll(labels, [draw_integer(generator, -4, 5) for _ in axes], list(axes))


def another_subject(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Take the next item's mask, or a mirrored and moved one when there is no other."""
    if labels.shape[0] > 1:
        return labels.roll(1, 0)
    axis = draw_integer(generator, 1, labels.dim())
    return shift(labels.flip(axis), classes, generator)


def swap_classes(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Exchange two of the classes present."""
    present: Tensor = torch.unique(labels)
    pair = present[torch.randperm(len(present), generator=generator)[:2].to(present.device)]
    if len(pair) < 2:
        return labels
    swapped = labels.clone()
    swapped[labels == pair[0]] = pair[1]
    swapped[labels == pair[1]] = pair[0]
    return swapped


def _pool(x: Tensor, width: int) -> Tensor:
    pool = F.max_pool3d if x.dim() == 5 else F.max_pool2d
    return pool(x, width, stride=1, padding=width // 2)


def dilate(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Grow one foreground class by 1 or 2 voxels over its neighbours."""
    index = _foreground(labels, generator)
    chosen = (labels == index)[:, None].float()
    grown = _pool(chosen, 2 * draw_integer(generator, 1, 3) + 1)[:, 0] > 0
    return labels.masked_fill(grown, index)


def erode(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Shrink the foreground, or one class of it, by 1 or 2 voxels into background."""
    whole = draw_integer(generator, 0, 2)
    chosen = (labels > 0) if whole else labels == _foreground(labels, generator)
    rest = (~chosen)[:, None].float()
    lost = (_pool(rest, 2 * draw_integer(generator, 1, 3) + 1)[:, 0] > 0) & chosen
    return labels.masked_fill(lost, 0)


def _foreground(labels: Tensor, generator: Generator) -> int:
    present: Tensor = torch.unique(labels)
    present = present[present > 0]
    if not len(present):
        return 0
    return int(present[draw_integer(generator, 0, len(present))])


def blob(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Give a ball of 3 to 10 voxels' radius to one class, perhaps background."""
    centre = [draw_integer(generator, 0, n) for n in labels.shape[1:]]
    radius = draw_integer(generator, 3, 11)
    distance = torch.zeros((), device=labels.device)
    for axis, (n, c) in enumerate(zip(labels.shape[1:], centre, strict=True)):
        room = [1] * (labels.dim() - 1)
        room[axis] = n
        line = torch.arange(n, device=labels.device, dtype=torch.float32) - c
        distance = distance + line.square().reshape(room)
    value = draw_integer(generator, 0, classes)
    return labels.masked_fill((distance <= radius**2)[None], value)


CORRUPTIONS: dict[str, Callable[[Tensor, int, Generator], Tensor]] = {
    make.__name__: make for make in (shift, another_subject, swap_classes, dilate, erode, blob)
}


def corrupt(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Apply one corruption, or two in turn, drawn at random from a generator on the CPU.

    Args:
        labels: class indices, ``b *grid``.
        classes: number of classes, background included.
    """
    names = list(CORRUPTIONS)
    for _ in range(draw_integer(generator, 1, 3)):
        labels = CORRUPTIONS[names[draw_integer(generator, 0, len(names))]](
            labels, classes, generator
        )
    return labels
