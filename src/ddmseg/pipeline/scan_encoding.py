"""From a scan to the features that every mode shares: prepare, encode, crop, keep."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ddmseg.imaging.grid import three
from ddmseg.imaging.preprocess import Prepared, prepare
from ddmseg.imaging.steps import Crop
from ddmseg.imaging.volume import Volume
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.tiling import encode_tiled
from ddmseg.pipeline.checkpoint import Card

if TYPE_CHECKING:
    from ddmseg.pipeline.cache import FeatureCache
    from ddmseg.pipeline.engines.engine import Engine

MARGIN_VOXELS = 4
"""Kept around the coarse foreground, so that the denoiser can grow it."""
HEADS = ("label_maps", "lpba40")
"""Kinds of data whose models see heads, from which air and neck are cut first."""
GRID_VERSION = "4"
"""Part of the cache's key; to be raised when preparing or cropping changes."""


@dataclass(frozen=True)
class EncodedScan:
    """A scan on the model grid with its features, both cut to what matters.

    Attributes:
        prepared: the cut image and how to undo everything.
        encoding: features of the cut.
        cached: whether the encoder could be skipped.
    """

    prepared: Prepared
    encoding: Encoding
    cached: bool


def content_hash(volume: Volume) -> str:
    """Return the SHA-256 of a scan's voxels and affine, whatever file they came from."""
    digest = hashlib.sha256(repr(volume.shape).encode())
    digest.update(volume.data.astype("<f4", copy=False).tobytes())
    digest.update(volume.affine.astype("<f8").tobytes())
    return digest.hexdigest()


def prepare_scan(card: Card, volume: Volume, *, multiple: int) -> Prepared:
    """Bring a scan to the grid of a model, as its card says.

    Args:
        card: of the weights.
        volume: the scan.
        multiple: of which each side of the grid must be one.
    """
    data = card.settings["data"]
    whole_head = data["kind"] in HEADS
    return prepare(
        volume, spacing_mm=data["spacing_mm"], multiple=multiple, crop_to_head=whole_head
    )


def encode_scan(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    prepared: Prepared,
    *,
    key: str,
    cache: FeatureCache | None,
    device: torch.device,
    progress: Callable[[str, float], None],
    patch: Sequence[int] | None = None,
    at_once: int = 1,
    engine: Engine | None = None,
) -> EncodedScan:
    """Run f^I on a prepared scan, or take its features from the cache.

    Args:
        model: the network.
        card: of its weights.
        prepared: the scan on the model's grid.
        key: hash of the scan's content.
        cache: of features, or None.
        device: where to compute.
        progress: gets stage and fraction.
        patch: voxels of the tiles; None for those of training.
        at_once: tiles in a batch.
        engine: computes f^I; None is torch.
    """
    progress("encode", 0.0)
    own = card.settings["data"]["patch"]
    tiles = list(patch or own)
    sizes = "" if tiles == list(own) else f" {tiles}"  # other tiles give other features
    engine_key = "" if engine is None else engine.features_key
    source = f"{GRID_VERSION} {key} {card.checksum}{sizes}{engine_key}"
    full_key = hashlib.sha256(source.encode()).hexdigest()
    kept = cache.get(full_key) if cache is not None else None
    if kept is not None:
        box = _box_from(kept.pop("box"))
        encoding = _unpack({name: tensor.to(device) for name, tensor in kept.items()})
    else:
        image = torch.from_numpy(prepared.image)[None, None].to(device)
        encode = None if engine is None else engine.encode
        encoding = encode_tiled(model, image, tiles, encode=encode, at_once=at_once)
        box = foreground_box(encoding.coarse_logits, model.multiple)
        encoding = crop_encoding(encoding, box)
        if cache is not None:
            starts_and_ends = [[side.start, side.stop] for side in box]
            cache.put(full_key, {**_pack(encoding), "box": torch.tensor(starts_and_ends)})
    progress("encode", 1.0)
    return EncodedScan(within(prepared, box), encoding, kept is not None)


def within(prepared: Prepared, box: tuple[slice, ...]) -> Prepared:
    """Return the prepared scan cut to a box of its model grid, still undoable."""
    image = prepared.image[box]
    crop = Crop(three(image.shape), three(side.start for side in box))
    grid = prepared.grid.seen_through(crop.undo, crop.shape)
    return replace(prepared, image=image, grid=grid, steps=(*prepared.steps, crop))


def foreground_box(
    logits: Tensor, multiple: int, *, margin: int = MARGIN_VOXELS
) -> tuple[slice, ...]:
    """Return the box of the coarse foreground with a margin, on multiples.

    The whole grid when there is no foreground.
    """
    grid = logits.shape[2:]
    inside = logits.argmax(1)[0] > 0
    if not inside.any():
        return tuple(slice(0, n) for n in grid)
    box = []
    for axis, n in enumerate(grid):
        others = [i for i in range(len(grid)) if i != axis]
        places = inside.sum(dim=others).nonzero().flatten()
        start = max(0, int(places[0]) - margin) // multiple * multiple
        stop = min(n, int(places[-1]) + 1 + margin)
        box.append(slice(start, min(n, -(-stop // multiple) * multiple)))
    return tuple(box)


def crop_encoding(encoding: Encoding, box: tuple[slice, ...]) -> Encoding:
    """Cut all features to a box of the image grid whose sides are multiples.

    Of a level too coarse for the multiple stays what touches the box.
    """

    def cut(x: Tensor, factor: int) -> Tensor:
        sides = [slice(side.start // factor, -(-side.stop // factor)) for side in box]
        form = torch.channels_last_3d if x.dim() == 5 else torch.channels_last
        return x[(slice(None), slice(None), *sides)].contiguous(memory_format=form)

    return Encoding(
        stem=cut(encoding.stem, 1),
        pyramid=tuple(cut(x, 2 ** (level + 1)) for level, x in enumerate(encoding.pyramid)),
        embedding=cut(encoding.embedding, 2),
        coarse_logits=cut(encoding.coarse_logits, 1),
    )


def _pack(encoding: Encoding) -> dict[str, Tensor]:
    levels = {f"pyramid{level}": x for level, x in enumerate(encoding.pyramid)}
    return {
        "stem": encoding.stem,
        "embedding": encoding.embedding,
        "coarse_logits": encoding.coarse_logits,
        **levels,
    }


def _unpack(tensors: dict[str, Tensor]) -> Encoding:
    # Files keep values, not memory layout; kernels round differently by layout.
    form = torch.channels_last_3d if tensors["stem"].dim() == 5 else torch.channels_last
    last = {name: x.contiguous(memory_format=form) for name, x in tensors.items()}
    names = sorted(name for name in last if name.startswith("pyramid"))
    return Encoding(
        stem=last["stem"],
        pyramid=tuple(last[name] for name in names),
        embedding=last["embedding"],
        coarse_logits=last["coarse_logits"],
    )


def _box_from(bounds: Tensor) -> tuple[slice, ...]:
    return tuple(slice(int(start), int(stop)) for start, stop in bounds)
