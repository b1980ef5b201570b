"""The box of the brain, and what an encoder on blocks and its views see of it in a whole head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import channels_last
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.views import Look, View, Views

MARGIN_VOXELS = 4
"""Kept around the coarse foreground, so that the denoiser can grow it."""
LEAST_PIECE = 0.05
"""A piece of foreground smaller than this share of the largest does not widen the box."""
QUARTER = 4
"""Voxels that sides and corners of what denoisers see are multiples of: they look at a quarter
of the grid, and at nothing coarser."""
CONTEXT_VOXELS = 4
"""Around the box that is encoded with it where the box is known before."""
WIDE_STRIDE = 2
"""Image voxels a side of one that a wide network sees."""
OWN_STEM, _WIDE_STEM = "own_beside", "wide_beside"
"""Name of the tensor whose grid is that of the model's blocks."""

Box = tuple[slice, ...]


def main_pieces(inside: Tensor) -> Tensor:
    """Return a mask of blocks without the pieces that are small beside the largest.

    A few voxels painted into the neck would else make the box, and all that follows, larger.
    """
    from scipy.ndimage import label

    pieces, count = label(inside.cpu().numpy())
    if count <= 1:
        return inside
    sizes = torch.bincount(torch.from_numpy(pieces).flatten().long())
    sizes[0] = 0
    kept = sizes >= LEAST_PIECE * sizes.max()
    return kept[torch.from_numpy(pieces).long()].to(inside.device) & inside


def box_around(inside: Tensor, multiple: int, grid: tuple[int, ...]) -> Box:
    """Return the box of a mask with a margin, on multiples; the whole grid of an empty one.

    Args:
        inside: mask on the image grid or a coarser one.
    """
    if not inside.any():
        return tuple(slice(0, n) for n in grid)
    box = []
    for axis, n in enumerate(grid):
        others = [i for i in range(len(grid)) if i != axis]
        places = inside.sum(dim=others).nonzero().flatten()
        stride = n // inside.shape[axis]
        start = max(0, int(places[0]) * stride - MARGIN_VOXELS) // multiple * multiple
        stop = min(n, (int(places[-1]) + 1) * stride + MARGIN_VOXELS)
        box.append(slice(start, min(n, -(-stop // multiple) * multiple)))
    return tuple(box)


def crop_encoding(encoding: Encoding, box: Box) -> Encoding:
    """Cut all features to a box of the image grid whose sides are multiples.

    Of a level too coarse for the multiple stays what touches the box.
    """
    return replace(
        encoding,
        stem=_cut(encoding.stem, box, encoding.stem_stride),
        pyramid=_cut_levels(encoding.pyramid, box),
        embedding=_cut(encoding.embedding, box, 2),
        coarse=_cut(encoding.coarse, box, 1),
    )


def views_in_use(model: DiscrepancyDiffusionSegmenter, encoder: BlockEncoder) -> Views:
    """Return a model's views: its straight look alone where it was given none."""
    return model.views if isinstance(model.views, Views) else Views(View.of(encoder))


def look_at_brain(views: Views, image: Tensor) -> tuple[Box, Look, Look | None]:
    """Look at a head: whole, or near the brain alone where a wide network finds it first.

    Args:
        image: one item whose grid is a multiple of what the model's own encoder needs.

    Returns:
        The brain's box, and of it the model's own look and the wide network's, if there is one.
    """
    grid, wide = tuple(image.shape[2:]), views.look_wide(image)
    around: Box = tuple(slice(0, n) for n in grid)
    if wide is not None and views.wide is not None:
        box = _box(views.wide, wide, grid)
        multiple = views.own.encoder.multiple
        around = tuple(
            slice(
                max(0, side.start - CONTEXT_VOXELS) // multiple * multiple,
                min(n, -(-(side.stop + CONTEXT_VOXELS) // multiple) * multiple),
            )
            for side, n in zip(box, grid, strict=True)
        )
        wide = _cut_look(wide, box, WIDE_STRIDE)
    own = views.own.look(image[(slice(None), slice(None), *around)])
    if wide is None:
        box = _box(views.own, own, grid)
    within = tuple(
        slice(side.start - other.start, side.stop - other.start)
        for side, other in zip(box, around, strict=True)
    )
    return box, _cut_look(own, within), wide


def pack_looks(own: Look, wide: Look | None) -> dict[str, Tensor]:
    """Return both as named tensors, for a file: probabilities are larger and follow from them."""
    found: dict[str, Tensor] = {}
    for kind, look in (("own", own), ("wide", wide)):
        if look is not None:
            levels = {f"{kind}_pyramid{level}": x for level, x in enumerate(look.pyramid)}
            found |= {f"{kind}_beside": look.beside, **levels}
    return found


def unpack_looks(tensors: Mapping[str, Tensor]) -> tuple[Look, Look | None]:
    """Undo :func:`pack_looks`."""

    def look(kind: str) -> Look:
        levels = sorted(name for name in tensors if name.startswith(f"{kind}_pyramid"))
        return Look(tuple(tensors[name] for name in levels), tensors[f"{kind}_beside"])

    return look("own"), look("wide") if _WIDE_STEM in tensors else None


def names_of(views: Views) -> set[str]:
    """Return names that tensors of these views have among others."""
    wide = set() if views.wide is None else {_WIDE_STEM, "wide_pyramid0"}
    return {OWN_STEM, "own_pyramid0"} | wide


def _box(view: View, look: Look, grid: tuple[int, ...]) -> Box:
    inside = view.encoder.foreground(view.stem(look), look.pyramid)
    return box_around(main_pieces(inside), QUARTER, grid)


def _cut_look(look: Look, box: Box, stride: int = 1) -> Look:
    """Return what a look with ``stride`` image voxels a side of one holds of a box."""
    return Look(_cut_levels(look.pyramid, box, stride), _cut(look.beside, box, 2 * stride))


def _cut_levels(pyramid: tuple[Tensor, ...], box: Box, stride: int = 1) -> tuple[Tensor, ...]:
    return tuple(_cut(x, box, stride * 2**level) for level, x in enumerate(pyramid, start=1))


def _cut(x: Tensor, box: Box, stride: int) -> Tensor:
    """Return what a box of the image grid holds of a tensor on every ``stride``-th voxel."""
    sides = [slice(side.start // stride, -(-side.stop // stride)) for side in box]
    return channels_last(x[(slice(None), slice(None), *sides)])
