"""Where a synthetic patch lies in its label map: affine pose and smooth displacement.

A point at ``p`` mm from the centre of the patch is read from the label map at ``centre + matrix @ p
+ displacement(p)``, in voxels of the 1 mm map.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor
from torch.nn import functional

from ddmseg.errors import ScanError
from ddmseg.imaging.labels import generation_labels
from ddmseg.randomness import draw_uniform

Image3D = Float[Tensor, "i j k"]
Mask3D = Bool[Tensor, "i j k"]
CSF = 24
RIM = 1  # empty voxels around the head, so that a position clamped to the map reads background
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

    An empty map, other labels and a head without a structure of the brain raise ScanError.
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


def _box(inside: Mask3D) -> Float[Tensor, "2 3"]:
    return torch.tensor(_spans(inside), dtype=torch.float32).T.contiguous()


def _spans(inside: Mask3D) -> list[tuple[int, int]]:
    spans = []
    for axis in range(3):
        first, second = (other for other in range(3) if other != axis)
        places = inside.any(dim=second).any(dim=first).nonzero().flatten()
        spans.append((int(places[0]), int(places[-1])))
    return spans


FINE_SHARE = 0.3  # size of the fine displacement as a share of the coarse one


@dataclass(frozen=True)
class Pose:
    """One drawn pose; ``displacement`` is in mm on a coarse grid over the patch."""

    centre: Float[Tensor, " 3"]
    matrix: Float[Tensor, "3 3"]
    displacement: Float[Tensor, "3 a b c"]


def draw_matrix(
    generator: Generator, *, rotation_deg: float, scaling: float, shear: float, flip: bool
) -> Float[Tensor, "3 3"]:
    """Draw rotation @ shear @ scaling, mirrored left to right when ``flip``."""
    device = generator.device
    draws = 2 * torch.rand(9, generator=generator, device=device) - 1
    matrix = torch.eye(3, device=device)
    for axis, angle in enumerate((draws[:3] * math.radians(rotation_deg)).tolist()):
        turn = torch.eye(3, device=device)
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn[a, a] = turn[b, b] = math.cos(angle)
        turn[a, b], turn[b, a] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    skew = torch.eye(3, device=device)
    skew[0, 1], skew[0, 2], skew[1, 2] = (draws[3:6] * shear).tolist()
    size = 1 + draws[6:] * scaling
    if flip:
        size = size * torch.tensor([-1.0, 1.0, 1.0], device=device)
    return matrix @ skew @ torch.diag(size)


def draw_displacement(
    generator: Generator, *, extent_mm: tuple[float, ...], spacing_mm: float, largest_std_mm: float
) -> Float[Tensor, "3 a b c"]:
    """Draw a smooth displacement in mm: a coarse field and a finer, smaller one.

    Their control points are ``2 * spacing_mm`` and ``spacing_mm`` apart. The standard deviation is
    uniform in [0, ``largest_std_mm``].
    """
    device = generator.device
    std = draw_uniform(generator, 0.0, largest_std_mm)
    fine = [max(2, math.ceil(size / spacing_mm) + 1) for size in extent_mm]
    coarse = [max(2, math.ceil(size / (2 * spacing_mm)) + 1) for size in extent_mm]
    large = torch.randn(1, 3, *coarse, generator=generator, device=device)
    small = torch.randn(1, 3, *fine, generator=generator, device=device)
    field = upsample(large, tuple(fine)) + FINE_SHARE * small
    return (field * std)[0]


def upsample(
    field: Float[Tensor, "b c *coarse"], shape: tuple[int, ...]
) -> Float[Tensor, "b c *grid"]:
    """Interpolate a coarse 3-D field linearly so that its corners meet those of ``shape``."""
    return functional.interpolate(field, size=shape, mode="trilinear", align_corners=True)


def sample_positions(pose: Pose, shape: tuple[int, int, int], spacing_mm: float) -> list[Image3D]:
    """Return for each map axis the position read by every voxel of the patch, in voxels."""
    device = pose.centre.device
    offsets = []
    for axis, count in enumerate(shape):
        view = [1, 1, 1]
        view[axis] = count
        steps = torch.arange(count, device=device, dtype=torch.float32) - (count - 1) / 2
        offsets.append((steps * spacing_mm).view(view))
    moved = upsample(pose.displacement[None], shape)[0]
    matrix, centre = pose.matrix.tolist(), pose.centre.tolist()
    for axis in range(3):
        plane = matrix[axis][1] * offsets[1] + matrix[axis][2] * offsets[2] + centre[axis]
        moved[axis].add_(plane).add_(matrix[axis][0] * offsets[0])
    return list(moved)
