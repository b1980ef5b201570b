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


def _integer(low: int, high: int, generator: Generator) -> int:
    """Draw from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def shift(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Move the whole mask by up to 4 voxels an axis; what leaves comes in opposite."""
    axes = range(1, labels.dim())
    return torch.roll(labels, [_integer(-4, 4, generator) for _ in axes], list(axes))


def another_subject(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Take the next item's mask, or a mirrored and moved one when there is no other."""
    if labels.shape[0] > 1:
        return labels.roll(1, 0)
    axis = _integer(1, labels.dim() - 1, generator)
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
    chosen = (labels == _foreground(labels, generator))[:, None].float()
    grown = _pool(chosen, 2 * _integer(1, 2, generator) + 1)[:, 0] > 0
    return torch.where(grown, _foreground_value(labels, chosen), labels)


def erode(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Shrink the foreground, or one class of it, by 1 or 2 voxels into background."""
    whole = _integer(0, 1, generator)
    chosen = (labels > 0) if whole else labels == _foreground(labels, generator)
    rest = (~chosen)[:, None].float()
    lost = (_pool(rest, 2 * _integer(1, 2, generator) + 1)[:, 0] > 0) & chosen
    return labels.masked_fill(lost, 0)


def _foreground(labels: Tensor, generator: Generator) -> int:
    present: Tensor = torch.unique(labels)
    present = present[present > 0]
    if not len(present):
        return 0
    return int(present[_integer(0, len(present) - 1, generator)])


def _foreground_value(labels: Tensor, chosen: Tensor) -> Tensor:
    inside = labels[chosen[:, 0] > 0]
    return inside[0] if len(inside) else labels.new_zeros(())


def blob(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Give a ball of 3 to 10 voxels' radius to one class, perhaps background."""
    centre = [_integer(0, n - 1, generator) for n in labels.shape[1:]]
    radius = _integer(3, 10, generator)
    distance = torch.zeros((), device=labels.device)
    for axis, (n, c) in enumerate(zip(labels.shape[1:], centre, strict=True)):
        room = [1] * (labels.dim() - 1)
        room[axis] = n
        line = torch.arange(n, device=labels.device, dtype=torch.float32) - c
        distance = distance + line.square().reshape(room)
    value = _integer(0, classes - 1, generator)
    return labels.masked_fill((distance <= radius**2)[None], value)


CORRUPTIONS: dict[str, Callable[[Tensor, int, Generator], Tensor]] = {
    "shift": shift,
    "another_subject": another_subject,
    "swap_classes": swap_classes,
    "dilate": dilate,
    "erode": erode,
    "blob": blob,
}


def corrupt(labels: Tensor, classes: int, generator: Generator) -> Tensor:
    """Apply one corruption, or two in turn, drawn at random.

    Args:
        labels: class indices, ``b *grid``.
        classes: number of classes, background included.
        generator: on the CPU; fixes what is drawn.
    """
    names = list(CORRUPTIONS)
    for _ in range(_integer(1, 2, generator)):
        labels = CORRUPTIONS[names[_integer(0, len(names) - 1, generator)]](
            labels, classes, generator
        )
    return labels
