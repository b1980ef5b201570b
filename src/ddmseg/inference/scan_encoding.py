"""From a scan to the features that every mode shares: prepare, encode, crop, keep."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.imaging.preprocess import Prepared, prepare, within
from ddmseg.imaging.volume import Volume
from ddmseg.inference.brain_box import Box, crop_encoding, foreground_box
from ddmseg.inference.brain_looks import OWN_STEM, BrainLooks, look_at_brain, names_of, views_in_use
from ddmseg.models.checkpoint import Card
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.blocks import channels_last, fold
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

if TYPE_CHECKING:
    from ddmseg.inference.cache import FeatureCache

GRID_VERSION = "7"
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
    kept = _usable(found, prepared.image.shape, model)
    if kept is not None:
        box = _box_from(kept.pop("box"))
        tensors = {name: tensor.to(device) for name, tensor in kept.items()}
        encoding = _unpack(model, box, tensors)
    else:
        image = torch.from_numpy(prepared.image)[None, None].to(device)
        encoding, box, tensors = _encoded(model, image)
        if cache is not None:
            starts_and_ends = [[side.start, side.stop] for side in box]
            cache.put(full_key, {**tensors, "box": torch.tensor(starts_and_ends)})
    progress("encode", 1.0)
    return EncodedScan(within(prepared, box), encoding, kept is not None)


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
) -> tuple[Encoding, tuple[slice, ...]]:
    """Encode an image in one pass; return what lies around its foreground, and that box.

    Args:
        image: one item whose grid is a multiple of ``model.multiple``.
    """
    encoding, box, _ = _encoded(model, image)
    return encoding, box


def _encoded(
    model: DiscrepancyDiffusionSegmenter, image: Tensor
) -> tuple[Encoding, Box, dict[str, Tensor]]:
    """Return the same, and what a cache keeps of it."""
    encoder = model.image_encoder
    if isinstance(encoder, BlockEncoder):
        views = views_in_use(model, encoder)
        looks = look_at_brain(views, image)
        return looks.decided(views), looks.box, looks.tensors()
    encoding = model.encode(image)
    box = foreground_box(encoding.coarse, model.multiple)
    encoding = crop_encoding(encoding, box)
    return encoding, box, _pack(encoding)


def _pack(encoding: Encoding) -> dict[str, Tensor]:
    """Return all of it as named tensors: the head looks around, of a cut it would say else."""
    levels = {f"pyramid{level}": x for level, x in enumerate(encoding.pyramid)}
    own = {"embedding": encoding.embedding, "coarse_logits": encoding.coarse}
    return {"stem": encoding.stem, **levels, **own}


def _unpack(model: DiscrepancyDiffusionSegmenter, box: Box, tensors: dict[str, Tensor]) -> Encoding:
    encoder = model.image_encoder
    if isinstance(encoder, BlockEncoder):
        return BrainLooks.of_tensors(box, tensors).decided(views_in_use(model, encoder))
    last = {name: channels_last(x) for name, x in tensors.items()}
    pyramid = tuple(last[name] for name in sorted(last) if name.startswith("pyramid"))
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
