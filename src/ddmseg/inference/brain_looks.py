"""What an encoder on blocks, and its views, see of the brain in a whole head."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ddmseg.inference.brain_box import (
    QUARTER,
    Box,
    box_around,
    cut,
    main_pieces,
    shifted,
    surroundings,
)
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import channels_last
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.views import Look, View, Views

_OWN, _WIDE, _BESIDE, _LEVEL = "own_", "wide_", "beside", "pyramid"
OWN_STEM = f"{_OWN}{_BESIDE}"
"""Name of the tensor whose grid is that of the model's blocks."""
WIDE_STRIDE = 2
"""Image voxels a side of one that a wide network sees."""


@dataclass(frozen=True)
class BrainLooks:
    """Features of the brain's box: of the model's own look, and of a wide network's.

    They are kept in place of probabilities, which are larger and follow from them.
    """

    box: Box
    own: Look
    wide: Look | None

    def decided(self, views: Views) -> Encoding:
        """Return the encoding that they stand for.

        Probabilities are made within the box alone: on a whole head they would take more
        memory than all features together.
        """
        return views.encoding(self.own, self.wide)

    def tensors(self) -> dict[str, Tensor]:
        """Return all of it as named tensors, for a file."""
        found = _named(_OWN, self.own)
        return found if self.wide is None else found | _named(_WIDE, self.wide)

    @classmethod
    def of_tensors(cls, box: Box, tensors: Mapping[str, Tensor]) -> BrainLooks:
        """Undo :meth:`tensors`.

        Files keep values, not memory layout; kernels round differently by layout.
        """
        last = {name: channels_last(x) for name, x in tensors.items()}
        wide = _look(_WIDE, last) if f"{_WIDE}{_BESIDE}" in last else None
        return cls(box, _look(_OWN, last), wide)


def views_in_use(model: DiscrepancyDiffusionSegmenter, encoder: BlockEncoder) -> Views:
    """Return a model's views: its straight look alone where it was given none."""
    return model.views if isinstance(model.views, Views) else Views(View.of(encoder))


def names_of(views: Views) -> set[str]:
    """Return names that tensors of these views have among others."""
    wide = set() if views.wide is None else {f"{_WIDE}{_BESIDE}", f"{_WIDE}{_LEVEL}0"}
    return {OWN_STEM, f"{_OWN}{_LEVEL}0"} | wide


def look_at_brain(views: Views, image: Tensor) -> BrainLooks:
    """Look at a head: whole, or near the brain alone where a wide network finds it first.

    Args:
        image: one item whose grid is a multiple of what the model's own encoder needs.
    """
    grid, wide = tuple(image.shape[2:]), views.look_wide(image)
    around: Box = tuple(slice(0, n) for n in grid)
    if wide is not None and views.wide is not None:
        box = _box(views.wide, wide, grid)
        around = surroundings(box, views.own.encoder.multiple, grid)
        wide = _cut(wide, box, WIDE_STRIDE)
    own = views.own.look(image[(slice(None), slice(None), *around)])
    if wide is None:
        box = _box(views.own, own, grid)
    return BrainLooks(box, _cut(own, shifted(box, around)), wide)


def _box(view: View, look: Look, grid: tuple[int, ...]) -> Box:
    inside = view.encoder.foreground(view.stem(look), look.pyramid)
    return box_around(main_pieces(inside), QUARTER, grid)


def _cut(look: Look, box: Box, stride: int = 1) -> Look:
    """Return what a look holds of a box of the image.

    Args:
        stride: image voxels a side of one that it saw.
    """
    levels = [cut(x, box, stride * 2 ** (level + 1)) for level, x in enumerate(look.pyramid)]
    return Look(tuple(levels), cut(look.beside, box, 2 * stride))


def _named(prefix: str, look: Look) -> dict[str, Tensor]:
    levels = {f"{prefix}{_LEVEL}{level}": x for level, x in enumerate(look.pyramid)}
    return {f"{prefix}{_BESIDE}": look.beside, **levels}


def _look(prefix: str, tensors: Mapping[str, Tensor]) -> Look:
    levels = sorted(name for name in tensors if name.startswith(f"{prefix}{_LEVEL}"))
    return Look(tuple(tensors[name] for name in levels), tensors[f"{prefix}{_BESIDE}"])
