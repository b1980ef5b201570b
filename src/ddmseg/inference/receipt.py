"""What was done, with what, to which scan: enough to do it again."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib import metadata
from typing import Any

import torch

from ddmseg.imaging.notice import NOTICE as NOTICE
from ddmseg.imaging.volume import Volume
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_encoding import EncodedScan
from ddmseg.models.checkpoint import Card
from ddmseg.networks.ensemble import Answer


def receipt(
    scan: Volume,
    content: str,
    card: Card,
    options: SegmentOptions,
    answer: Answer,
    encoded: EncodedScan,
    seconds: dict[str, float],
    device: torch.device,
) -> dict[str, Any]:
    """Return the receipt of one segmentation, ready for JSON.

    Args:
        content: hash of its voxels and affine.
    """
    return {
        "notice": NOTICE,
        "software": {
            "ddmseg": _version("ddmseg"),
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        "input": {
            "name": scan.name,
            "content_sha256": content,
            "shape": list(scan.shape),
            "spacing_mm": [round(s, 4) for s in scan.spacing_mm],
        },
        "model": {
            "name": card.name,
            "weights_sha256": card.checksum,
            "card_sha256": card.digest,
            "steps": card.trained_steps,
        },
        "settings": asdict(options),
        "spent": {
            "steps": answer.steps,
            "samples": answer.samples,
            "sample_weights": [round(float(w), 6) for w in answer.weights],
            "device": device.type,
            "engine": {"name": "torch", "version": torch.__version__},
            "threads": torch.get_num_threads(),
        },
        **({} if answer.choice is None else {"choice": asdict(answer.choice)}),
        "preparation": encoded.prepared.describe(),
        "features_from_cache": encoded.cached,
        "seconds": seconds,
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
