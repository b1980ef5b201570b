"""Load a model, call it on a scan; :mod:`ddmseg.interactive` adds what a person needs."""

from __future__ import annotations

import math
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ddmseg.errors import SettingsError, UsageError
from ddmseg.imaging.volume import Volume
from ddmseg.inference.budget import Deadline
from ddmseg.inference.cache import FeatureCache
from ddmseg.inference.model_stages import ModelStages
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.roi import HeadThenCrops
from ddmseg.inference.scan_stages import Progress, ScanRecord
from ddmseg.models.card import Card, require_one_pass
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.device import find_device
from ddmseg.models.zoo import model_path
from ddmseg.quality.segmentation import Segmentation

HEAD_MODEL = "anatomy_fast"
"""Finds the structure on a head for a model that works on crops around it."""

S = TypeVar("S", bound="Segmenter")


class Segmenter:
    """A model ready to segment scans.

    Args:
        model: that this is made of, or that refines what another one found.
        stages: that find the place for the model first.
    """

    def __init__(self, model: ModelStages, stages: HeadThenCrops | None = None) -> None:
        self.model_stages = model
        self.stages = stages or model
        self.card: Card = model.card

    def __repr__(self) -> str:
        return f"<{type(self).__name__} on {self.model_stages.device.type}: {self.card!r}>"

    @classmethod
    def load(
        cls: type[S],
        name: str = "anatomy",
        *,
        device: str = "auto",
        cache: FeatureCache | None = None,
    ) -> S:
        """Load a shipped model by name, or a trained one by the path of its weights.

        Args:
            name: such as ``anatomy`` or ``hippocampus``, or ``path/to/best.safetensors``.
            device: ``auto``, ``cpu``, ``cuda`` or ``mps`` (a Mac's GPU).
            cache: of features; None keeps none.

        Raises:
            UsageError: for an unknown model or device.
            CheckpointError: when the weights are damaged.
        """
        own = _load_stages(name, device=device, cache=cache)
        if not own.card.works_on_crops:
            return cls(own)
        head = partial(_load_stages, HEAD_MODEL, device=own.device.type, cache=cache)
        return cls(own, HeadThenCrops(own, head))

    def __call__(
        self,
        image: object,
        options: SegmentOptions | None = None,
        *,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> Segmentation:
        """Segment one scan; arguments and errors as of :class:`ddmseg.interactive.Segmenter`."""
        chosen = (options or SegmentOptions()).changed(overrides)
        report = progress or (lambda stage, fraction: None)
        deadline = self.start_clock(chosen)
        report("read", 0.0)
        begun = self.prepare(as_volume(image), chosen, report, deadline)
        return self.restore(self.solve(begun))

    @staticmethod
    def start_clock(options: SegmentOptions) -> Deadline | None:
        """Start the clock of a scan's budget; None where there is none."""
        return None if math.isinf(options.budget) else Deadline(options.budget)

    def prepare(
        self,
        scan: Volume,
        options: SegmentOptions,
        progress: Progress,
        deadline: Deadline | None = None,
    ) -> ScanRecord:
        """Begin with a scan and bring it to the model's grid: the first of three stages."""
        return self.stages.prepare(ScanRecord(scan, options, progress, deadline))

    def solve(self, begun: ScanRecord) -> ScanRecord:
        """Encode and denoise: the stage that uses the network."""
        return self.stages.solve(begun)

    def restore(self, solved: ScanRecord) -> Segmentation:
        """Bring everything back to the scan's own grid: the last stage."""
        return self.stages.restore(solved)


def _load_stages(name: str, *, device: str, cache: FeatureCache | None) -> ModelStages:
    """Load one model; arguments and errors as of :meth:`Segmenter.load`."""
    where = find_device(device)
    model, card = load_weights(model_path(name))
    wanted = card.settings["model"]
    if wanted["contrasts"] != 1:
        raise UsageError(
            f"{name}: the model takes {wanted['contrasts']} images of a scan, and a scan here is "
            "one file; score it with ddmseg compare, or name a model of one image"
        )
    try:  # weights of whole heads that an earlier version computed in tiles
        require_one_pass(card.settings["data"]["kind"], wanted.get("encoder_form", "voxel"))
    except SettingsError as error:
        raise UsageError(f"{name}: {error}") from error
    if not wanted["diffusion"]:
        raise UsageError(f"{name}: a plain network without diffusion; train one with it")
    return ModelStages(model, card, device=where, cache=cache)


def as_volume(image: object) -> Volume:
    """Turn what a caller may hold into a checked scan.

    Raises:
        ScanError: when it is not usable.
        UsageError: when it is of no kind that is known.
    """
    from ddmseg.imaging.nifti import read_volume, volume_from_array, volume_from_nibabel

    if isinstance(image, Volume):
        return image
    if isinstance(image, str | PathLike):
        return read_volume(Path(image))
    if isinstance(image, tuple) and len(image) == 2:
        return volume_from_array(np.asarray(image[0]), np.asarray(image[1]))
    if hasattr(image, "dataobj") and hasattr(image, "affine"):
        return volume_from_nibabel(image)  # type: ignore[arg-type]
    raise UsageError(
        f"image: got {type(image).__name__}; give a path, a nibabel image or (array, affine)"
    )
