"""A label map made ready for fast reading: one byte a voxel, cropped to the head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor
from torch.nn import functional

from ddmseg.errors import ScanError
from ddmseg.imaging.labels import generation_labels

CSF = 24
RIM = 1
"""Empty voxels around the head, so that a position clamped to the map reads background."""
UNKNOWN = 255


@dataclass(frozen=True)
class CompactHead:
    """Positions in ``generation_labels()``, flattened, and where head and brain lie.

    Boxes are (lowest, highest) voxel along each axis of the cropped map.
    """

    classes: UInt8[Tensor, " voxels"]
    shape: tuple[int, int, int]
    head_box: Float[Tensor, "2 3"]
    brain_box: Float[Tensor, "2 3"]


def compact_head(label_map: Int[Tensor, "i j k"]) -> CompactHead:
    """Crop a map to its head and replace ids by positions in ``generation_labels()``.

    Raises:
        ScanError: when the map is empty, holds a label that is not a generation
            label or has no structure of the brain.
    """
    inside = label_map > 0
    if label_map.ndim != 3 or not inside.any():
        raise ScanError(
            f"label map of shape {tuple(label_map.shape)}: it must have 3 axes and show a head"
        )
    known = generation_labels()
    cropped = label_map[tuple(slice(low, high + 1) for low, high in _spans(inside))]
    table = torch.full((known[-1].index + 2,), UNKNOWN, dtype=torch.uint8)
    for place, label in enumerate(known):
        table[label.index] = place
    bounded = cropped.clamp(-1, known[-1].index + 1).int()
    classes = table[bounded]  # -1 and one past the end both read the last, unknown entry
    if (classes == UNKNOWN).any():
        ids = [label.index for label in known]
        unknown = sorted(set(cropped.flatten().tolist()) - set(ids))
        raise ScanError(f"label map: got labels {unknown}; the allowed ones are {ids}")
    classes = functional.pad(classes, (RIM,) * 6)
    of_brain = torch.tensor([label.target not in (0, CSF) for label in known])
    brain = of_brain[classes.int()]
    if not brain.any():
        raise ScanError("label map: it holds no structure of the brain; add one that does")
    i, j, k = classes.shape
    return CompactHead(classes.flatten(), (i, j, k), _box(classes > 0), _box(brain))


def _box(inside: Bool[Tensor, "i j k"]) -> Float[Tensor, "2 3"]:
    return torch.tensor(_spans(inside), dtype=torch.float32).T.contiguous()


def _spans(inside: Bool[Tensor, "i j k"]) -> list[tuple[int, int]]:
    spans = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        places = inside.any(dim=second).any(dim=first).nonzero().flatten()
        spans.append((int(places[0]), int(places[-1])))
    return spans
