"""From a scan to the features that every mode shares: prepare, encode, crop, keep."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.imaging.preprocess import Prepared, prepare, within
from ddmseg.imaging.volume import Volume
from ddmseg.inference.brain_looks import (
    OWN_STEM,
    Box,
    box_around,
    crop_encoding,
    look_at_brain,
    names_of,
    pack_looks,
    unpack_looks,
    views_in_use,
)
from ddmseg.models.checkpoint import Card
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import channels_last, fold
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

if TYPE_CHECKING:
    from ddmseg.inference.cache import FeatureCache
    from ddmseg.inference.scan_stages import ScanRecord

GRID_VERSION = "7"
"""Part of the cache's key; to be raised when preparing or cropping changes."""


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
    begun: ScanRecord,
    *,
    cache: FeatureCache | None,
) -> ScanRecord:
    """Run f^I on a prepared scan, or take its features from the cache; cut both to the box."""
    prepared = begun.prepared
    assert prepared is not None
    begun.progress("encode", 0.0)
    key = hashlib.sha256(f"{GRID_VERSION} {begun.key} {card.checksum}".encode()).hexdigest()
    kept = _usable(cache.get(key) if cache is not None else None, prepared.image.shape, model)
    if kept is not None:
        box: Box = tuple(slice(start, stop) for start, stop in kept.pop("box").tolist())
        encoding = _unpack(model, {name: x.to(begun.device) for name, x in kept.items()})
    else:
        image = torch.from_numpy(prepared.image)[None, None].to(begun.device)
        encoding, box, tensors = encode_image(model, image)
        if cache is not None:
            bounds = [[side.start, side.stop] for side in box]
            cache.put(key, {**tensors, "box": torch.tensor(bounds)})
    begun.progress("encode", 1.0)
    return replace(
        begun, prepared=within(prepared, box), encoding=encoding, cached=kept is not None
    )


def _usable(
    kept: dict[str, Tensor] | None, grid: Sequence[int], model: DiscrepancyDiffusionSegmenter
) -> dict[str, Tensor] | None:
    """Return an entry of the cache; None where it is not what this version keeps of a scan."""
    encoder = model.image_encoder
    needed, first = {"stem", "embedding", "coarse_logits"}, "stem"
    if isinstance(encoder, BlockEncoder):
        needed, first = names_of(views_in_use(model, encoder)), OWN_STEM
    if kept is None or not {"box", *needed} <= set(kept) or kept["box"].shape != (len(grid), 2):
        return None
    box = kept["box"].tolist()
    inside = all(0 <= start < stop <= n for (start, stop), n in zip(box, grid, strict=True))
    sides = [(stop - start) // encoder.stem_stride for start, stop in box]
    return kept if inside and list(kept[first].shape[2:]) == sides else None


def encode_image(
    model: DiscrepancyDiffusionSegmenter, image: Tensor
) -> tuple[Encoding, Box, dict[str, Tensor]]:
    """Encode an image in one pass.

    Args:
        image: one item whose grid is a multiple of ``model.multiple``.

    Returns:
        What lies around its foreground, that box, and what a cache keeps of it.
    """
    encoder = model.image_encoder
    if isinstance(encoder, BlockEncoder):
        views = views_in_use(model, encoder)
        box, own, wide = look_at_brain(views, image)
        # probabilities of the box alone: of a whole head they would take more than all features
        return views.encoding(own, wide), box, pack_looks(own, wide)
    encoding = model.encode(image)
    foreground = encoding.coarse.argmax(1)[0] > 0
    box = box_around(foreground, model.multiple, tuple(image.shape[2:]))
    encoding = crop_encoding(encoding, box)
    levels = {f"pyramid{level}": x for level, x in enumerate(encoding.pyramid)}
    # the logits as well: the head looks around, of a cut it would say else
    own_tensors = {"embedding": encoding.embedding, "coarse_logits": encoding.coarse}
    return encoding, box, {"stem": encoding.stem, **levels, **own_tensors}


def _unpack(model: DiscrepancyDiffusionSegmenter, tensors: dict[str, Tensor]) -> Encoding:
    """Return the encoding that a cache kept."""
    # Files keep values, not memory layout; kernels round differently by layout.
    last = {name: channels_last(x) for name, x in tensors.items()}
    encoder = model.image_encoder
    if isinstance(encoder, BlockEncoder):
        return views_in_use(model, encoder).encoding(*unpack_looks(last))
    pyramid = tuple(last[name] for name in sorted(last) if name.startswith("pyramid"))
    return Encoding(last["stem"], pyramid, last["embedding"], last["coarse_logits"])


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
