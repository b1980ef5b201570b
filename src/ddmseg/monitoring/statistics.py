"""One run in a line: what is known of a scan and its result, and nothing of the patient.

No name, no id, no date of the examination, no file name, no free text of the header. What
identifies a scan or its labels goes through a key that the store alone knows.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.imaging.dicom.series import Series
from ddmseg.monitoring.columns import VOLUME, Line, Value
from ddmseg.monitoring.embedding import feature_columns
from ddmseg.monitoring.image_statistics import tissue_statistics
from ddmseg.quality.segmentation import Segmentation

FLUID = frozenset({4, 5, 14, 15, 24, 43, 44})
"""FreeSurfer ids of the ventricles and of CSF, which are no brain."""
_STRANGE = re.compile(r"[^A-Za-z0-9 ._/+-]+")
_LONGEST = 32


def run_statistics(
    segmentation: Segmentation,
    *,
    salt: bytes,
    series: Series | None = None,
    labels_sha256: str = "",
    time: datetime | None = None,
) -> Line:
    """Return the line of one run.

    Args:
        segmentation: the result.
        salt: of the store; makes hashes useless outside it.
        series: where the scan came from DICOM.
        labels_sha256: of the labels file, by which reviews find the line; "" for none.
        time: of the run; now when None.
    """
    receipt = segmentation.receipt
    content = _within(receipt, "input", "content_sha256")
    return {
        "time": time or datetime.now(UTC),
        "scan_key": keyed_hash(salt, content),
        "labels_key": keyed_hash(salt, labels_sha256),
        **_software(receipt),
        **scanner_tags(series),
        **_grid(segmentation),
        **_intensities(segmentation),
        **tissue_statistics(segmentation.scan.data, segmentation.labels.data),
        **_quality(segmentation),
        **_volumes(segmentation),
        **feature_columns(segmentation.features),
    }


def keyed_hash(salt: bytes, digest: str) -> str | None:
    """Return a hash of a hash that only the store's salt can repeat; None for none."""
    if not digest:
        return None
    return hmac.new(salt, digest.encode(), hashlib.sha256).hexdigest()[:32]


def scanner_tags(series: Series | None) -> Line:
    """Return what a DICOM header says of scanner and sequence; nothing for other inputs."""
    if series is None:
        return {"input": "other"}
    header = series.headers[0]
    contrast = dict(header.frames[0].contrast) if header.frames else {}
    field_t = header.field_strength_t
    return {
        "input": "DICOM",
        "modality": _word(series.modality),
        "vendor": _word(series.manufacturer.upper()),
        "scanner_model": _word(header.scanner_model),
        "field_strength": None if math.isnan(field_t) else f"{field_t:.1f} T",
        "acquisition": _word(header.acquisition),
        "sequence": _word(" ".join(header.sequence)),
        "repetition_time_ms": header.repetition_time_ms,
        "echo_time_ms": _number(contrast.get("echo time")),
        "inversion_time_ms": header.inversion_time_ms,
        "flip_angle_degrees": header.flip_angle_degrees,
    }


def _word(text: str) -> str | None:
    """A header's word, short and harmless: a table program must not take it for a formula."""
    clean = _STRANGE.sub(" ", text).strip(" +-/.")
    return " ".join(clean.split())[:_LONGEST] or None


def _number(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def _within(receipt: Mapping[str, Any], *keys: str) -> str:
    """A text of the receipt, "" where it has none."""
    found: Any = receipt
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else ""


def _software(receipt: Mapping[str, Any]) -> Line:
    seconds = receipt.get("seconds")
    parts = seconds.values() if isinstance(seconds, Mapping) else [seconds]
    return {
        "software": _within(receipt, "software", "ddmseg") or None,
        "model": _within(receipt, "model", "name") or None,
        "weights": _within(receipt, "model", "weights_sha256")[:12] or None,
        "mode": _within(receipt, "settings", "mode") or None,
        "seconds": sum(_number(part) for part in parts),
    }


def _grid(segmentation: Segmentation) -> Line:
    # in order of size: which axis is which depends on the orientation of the slices
    names = ("min", "middle", "max")
    edges, voxels = sorted(segmentation.scan.spacing_mm), sorted(segmentation.scan.shape)
    return {
        **{f"spacing_{name}_mm": round(edge, 4) for name, edge in zip(names, edges, strict=True)},
        **{f"voxels_{name}": float(n) for name, n in zip(names, voxels, strict=True)},
    }


def _intensities(segmentation: Segmentation) -> Line:
    inside = segmentation.scan.data[segmentation.labels.data > 0]
    return {f"intensity_p{q:02d}": _percentile(inside, q) for q in (5, 50, 95)}


def _percentile(values: NDArray[np.float32], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else math.nan


def _quality(segmentation: Segmentation) -> Line:
    quality = segmentation.quality
    inside = segmentation.labels.data > 0
    discrepancy, uncertainty = segmentation.discrepancy[inside], segmentation.uncertainty[inside]
    return {
        "verdict": quality.verdict,
        "expected_dice": quality.expected_dice,
        "discrepancy_mean": float(discrepancy.mean()) if len(discrepancy) else math.nan,
        "discrepancy_p95": _percentile(discrepancy, 95),
        "uncertainty_mean": float(uncertainty.mean()) if len(uncertainty) else math.nan,
        "sample_agreement": _number(quality.sample_agreement),
        "training_distance": _number(quality.training_distance),
        "samples": float(quality.samples),
        "cleaned_voxels": _cleaned(quality.postprocessing),
    }


def _cleaned(told: Mapping[str, Any]) -> float:
    """Voxels changed, over both sides where each was cleaned by itself; NaN without cleaning."""
    if "applied" in told:
        return _number(told.get("voxels_changed"))
    sides = [_cleaned(side) for side in told.values() if isinstance(side, Mapping)]
    return sum(sides) if sides else math.nan


def _volumes(segmentation: Segmentation) -> dict[str, Value]:
    brain_ml = sum(row.volume_ml for row in segmentation.volumes if row.index not in FLUID)
    return {
        "brain_ml": brain_ml,
        **{f"{VOLUME}{row.name}": row.volume_ml for row in segmentation.volumes},
    }
