"""From a scan to the features that every mode shares: prepare, encode, crop, keep."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.imaging.preprocess import Prepared, prepare, within
from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import Card
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import channels_last, fold
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

if TYPE_CHECKING:
    from ddmseg.inference.cache import FeatureCache

MARGIN_VOXELS = 4
"""Kept around the coarse foreground, so that the denoiser can grow it."""
LEAST_PIECE = 0.05
"""A piece of foreground smaller than this share of the largest does not widen the box."""
QUARTER = 4
"""Voxels that sides and corners of what denoisers see are multiples of: they look at a quarter
of the grid, and at nothing coarser."""
GRID_VERSION = "6"
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
        multiple: of which each side of the grid must be one.
    """
    data = card.settings["data"]
    return prepare(
        volume, spacing_mm=data["spacing_mm"], multiple=multiple, crop_to_head=card.crops_to_head
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
) -> EncodedScan:
    """Run f^I on a prepared scan, or take its features from the cache.

    Args:
        prepared: the scan on the model's grid.
        key: hash of the scan's content.
        cache: of features, or None.
    """
    progress("encode", 0.0)
    full_key = hashlib.sha256(f"{GRID_VERSION} {key} {card.checksum}".encode()).hexdigest()
    found = cache.get(full_key) if cache is not None else None
    kept = _usable(found, prepared.image.shape, model.image_encoder)
    if kept is not None:
        box = _box_from(kept.pop("box"))
        tensors = {name: tensor.to(device) for name, tensor in kept.items()}
        encoding = _unpack(model.image_encoder, tensors)
    else:
        image = torch.from_numpy(prepared.image)[None, None].to(device)
        encoding, box = encode_image(model, image)
        if cache is not None:
            starts_and_ends = [[side.start, side.stop] for side in box]
            cache.put(full_key, {**_pack(encoding), "box": torch.tensor(starts_and_ends)})
    progress("encode", 1.0)
    return EncodedScan(within(prepared, box), encoding, kept is not None)


def _usable(
    kept: dict[str, Tensor] | None, grid: Sequence[int], encoder: FeatureEncoder
) -> dict[str, Tensor] | None:
    """Return an entry of the cache; None where it is not what this version keeps of a scan."""
    stride = encoder.stem_stride
    needed = {"box", "stem", *(("embedding", "coarse_logits") if stride == 1 else ())}
    if kept is None or not needed <= set(kept) or kept["box"].shape != (len(grid), 2):
        return None
    box = kept["box"].tolist()
    inside = all(0 <= start < stop <= n for (start, stop), n in zip(box, grid, strict=True))
    sides = [(stop - start) // stride for start, stop in box]
    return kept if inside and list(kept["stem"].shape[2:]) == sides else None


def encode_image(
    model: DiscrepancyDiffusionSegmenter, image: Tensor
) -> tuple[Encoding, tuple[slice, ...]]:
    """Encode an image in one pass; return what lies around its foreground, and that box.

    Args:
        image: one item whose grid is a multiple of ``model.multiple``.
    """
    if isinstance(model.image_encoder, BlockEncoder):
        return _encode_brain(model.image_encoder, image)
    encoding = model.encode(image)
    box = foreground_box(encoding.coarse, model.multiple)
    return crop_encoding(encoding, box), box


def _encode_brain(encoder: BlockEncoder, image: Tensor) -> tuple[Encoding, tuple[slice, ...]]:
    """Make the logits of every class within the box alone.

    On a whole head they would take more memory than all features together.
    """
    stem, pyramid = encoder.features(image)
    inside = encoder.foreground(stem, pyramid)
    box = _box_around(_main_pieces(inside), QUARTER, tuple(image.shape[2:]))
    stem = _cut(stem, box, encoder.stem_stride)
    pyramid = tuple(_cut(x, box, 2 ** (level + 1)) for level, x in enumerate(pyramid))
    return encoder.decided(stem, pyramid), box


def _main_pieces(inside: Tensor) -> Tensor:
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


def _box_around(
    inside: Tensor, multiple: int, grid: tuple[int, ...], margin: int = MARGIN_VOXELS
) -> tuple[slice, ...]:
    """Return the box of a mask with a margin, on multiples; the whole grid of an empty one.

    Args:
        inside: mask on the image grid or a coarser one.
        margin: voxels of the image grid.
    """
    if not inside.any():
        return tuple(slice(0, n) for n in grid)
    box = []
    for axis, n in enumerate(grid):
        others = [i for i in range(len(grid)) if i != axis]
        places = inside.sum(dim=others).nonzero().flatten()
        stride = n // inside.shape[axis]
        start = max(0, int(places[0]) * stride - margin) // multiple * multiple
        stop = min(n, (int(places[-1]) + 1) * stride + margin)
        box.append(slice(start, min(n, -(-stop // multiple) * multiple)))
    return tuple(box)


def foreground_box(
    logits: Tensor, multiple: int, *, margin: int = MARGIN_VOXELS
) -> tuple[slice, ...]:
    """Return the box of the coarse foreground with a margin, on multiples.

    The whole grid when there is no foreground.
    """
    return _box_around(logits.argmax(1)[0] > 0, multiple, tuple(logits.shape[2:]), margin)


def crop_encoding(encoding: Encoding, box: tuple[slice, ...]) -> Encoding:
    """Cut all features to a box of the image grid whose sides are multiples.

    Of a level too coarse for the multiple stays what touches the box.
    """

    pyramid = enumerate(encoding.pyramid)
    return replace(
        encoding,
        stem=_cut(encoding.stem, box, encoding.stem_stride),
        pyramid=tuple(_cut(x, box, 2 ** (level + 1)) for level, x in pyramid),
        embedding=_cut(encoding.embedding, box, 2),
        coarse=_cut(encoding.coarse, box, 1),
    )


def _cut(x: Tensor, box: tuple[slice, ...], stride: int) -> Tensor:
    """Return what a box of the image grid holds of a tensor on every ``stride``-th voxel."""
    sides = [slice(side.start // stride, -(-side.stop // stride)) for side in box]
    return channels_last(x[(slice(None), slice(None), *sides)])


def _pack(encoding: Encoding) -> dict[str, Tensor]:
    """Return the features alone: z_I and logits are linear maps of them, and larger."""
    levels = {f"pyramid{level}": x for level, x in enumerate(encoding.pyramid)}
    found = {"stem": encoding.stem, **levels}
    if encoding.stem_stride == 1:  # its head looks around: of a cut it would say something else
        found |= {"embedding": encoding.embedding, "coarse_logits": encoding.coarse}
    return found


def _unpack(encoder: FeatureEncoder, tensors: dict[str, Tensor]) -> Encoding:
    # Files keep values, not memory layout; kernels round differently by layout.
    last = {name: channels_last(x) for name, x in tensors.items()}
    pyramid = tuple(last[name] for name in sorted(last) if name.startswith("pyramid"))
    if isinstance(encoder, BlockEncoder):
        return encoder.decided(last["stem"], pyramid)
    return Encoding(last["stem"], pyramid, last["embedding"], last["coarse_logits"])


def _box_from(bounds: Tensor) -> tuple[slice, ...]:
    return tuple(slice(int(start), int(stop)) for start, stop in bounds)


def mean_features(encoding: Encoding, coarse: Tensor) -> NDArray[np.float32] | None:
    """Return z_I averaged over the foreground of the coarse head, one number a channel.

    The coarse head rather than the answer: its foreground does not depend on the mode or on
    the samples drawn. None where it finds no foreground.

    Args:
        coarse: class indices that the coarse head gives (``1 *grid``).
    """
    inside = fold((coarse > 0)[:, None]).flatten(2)[0].float()
    if not inside.any():
        return None
    # Of each place in the blocks apart, as z_I is kept: unfolding it would take most of the time.
    rows = encoding.embedding.flatten(2)[0].T.float()
    sums = torch.unflatten(inside @ rows, 1, (len(inside), -1)).diagonal().sum(-1)
    features: NDArray[np.float32] = (sums / inside.sum()).cpu().numpy()
    return features
