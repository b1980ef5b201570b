"""One run in a line: what is known of a scan and its result, and nothing of the patient.

No name, no id, no date of the examination, no file name, no free text of the header. What
identifies a scan or its labels goes through a key that the store alone knows.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_erosion, find_objects

from ddmseg.imaging.dicom.series import Series
from ddmseg.monitoring.columns import FEATURE, VOLUME, Line
from ddmseg.quality.segmentation import Segmentation

FLUID = frozenset({4, 5, 14, 15, 24, 43, 44})
"""FreeSurfer ids of the ventricles and of CSF, which are no brain."""
WHITE_MATTER, CORTEX = (2, 41), (3, 42)
FEWEST = 50
"""Voxels, or pairs of them, below which a tissue says nothing."""
CUT = 3.0
"""Differences beyond so many standard deviations are edges, not noise."""
_NORMAL = 1.4826
"""Standard deviation over median absolute deviation of a normal distribution ..."""
_CUT_FACTOR = 1.0136
"""... and over the root mean square of what the cut leaves of it."""
_STRANGE = re.compile(r"[^A-Za-z0-9 ._/+-]+")
_LONGEST = 32


def run_statistics(
    segmentation: Segmentation,
    *,
    salt: bytes,
    series: Series | None = None,
    labels_sha256: str = "",
) -> Line:
    """Return the line of one run.

    The salt of the store makes hashes useless outside it. The series is there where the scan came
    from DICOM; the hash of the labels file is what reviews find the line by.
    """
    receipt = segmentation.receipt
    return {
        "time": datetime.now(UTC),
        "scan_key": keyed_hash(salt, _within(receipt, "input", "content_sha256")),
        "labels_key": keyed_hash(salt, labels_sha256),
        **_software(receipt),
        **scanner_tags(series),
        **_image(segmentation),
        **_result(segmentation),
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


def _image(segmentation: Segmentation) -> Line:
    scan, labels = segmentation.scan, segmentation.labels.data
    # in order of size: which axis is which depends on the orientation of the slices
    names = ("min", "middle", "max")
    edges, voxels = sorted(scan.spacing_mm), sorted(scan.shape)
    inside = scan.data[labels > 0]
    return {
        **{f"spacing_{name}_mm": round(edge, 4) for name, edge in zip(names, edges, strict=True)},
        **{f"voxels_{name}": float(n) for name, n in zip(names, voxels, strict=True)},
        **{f"intensity_p{q:02d}": _percentile(inside, q) for q in (5, 50, 95)},
        **tissue_statistics(scan.data, labels),
    }


def _percentile(values: NDArray[np.float32], q: float) -> float:
    return float(np.percentile(values, q)) if len(values) else math.nan


def _result(segmentation: Segmentation) -> Line:
    quality, volumes = segmentation.quality, segmentation.volumes
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
        "brain_ml": sum(row.volume_ml for row in volumes if row.index not in FLUID),
        **{f"{VOLUME}{row.name}": row.volume_ml for row in volumes},
    }


def _cleaned(report: Mapping[str, Any]) -> float:
    """Voxels changed, over both sides where each was cleaned by itself; NaN without cleaning."""
    if "applied" in report:
        return _number(report.get("voxels_changed"))
    sides = [_cleaned(side) for side in report.values() if isinstance(side, Mapping)]
    return sum(sides) if sides else math.nan


def feature_columns(features: NDArray[np.float32] | None) -> dict[str, float]:
    """Return the features as columns of one line."""
    values = [] if features is None else features.tolist()
    return {f"{FEATURE}{channel:03d}": float(value) for channel, value in enumerate(values)}


def tissue_statistics(scan: NDArray[np.float32], labels: NDArray[np.int32]) -> dict[str, float]:
    """Return noise, signal to noise and contrast to noise; NaN where a tissue is too small.

    The noise is measured in white matter, not in air: scanners, converters and removal of
    the face set air to 0. It is the spread of the difference of neighbouring voxels, so that
    neither a bias field nor the level counts, and robust against the tissue's rim. Scans
    that were interpolated have neighbours that agree, and seem to have less noise.
    The contrast is white minus grey: negative in T2-weighted scans. Labels are FreeSurfer ids.
    """
    found = find_objects(np.isin(labels, (*WHITE_MATTER, *CORTEX)).astype(np.uint8), 1)[0]
    box = found or (slice(0, 0),) * 3
    scan, labels = scan[box], labels[box]
    white, grey = _inner(labels, WHITE_MATTER), np.isin(labels, CORTEX)
    noise = _neighbour_noise(scan, white)
    signal = _median(scan[white])
    contrast = signal - _median(scan[grey])
    return {
        "noise": noise,
        "signal_to_noise": signal / noise if noise > 0 else math.nan,
        "contrast_to_noise": contrast / noise if noise > 0 else math.nan,
    }


def _inner(labels: NDArray[np.int32], ids: Collection[int]) -> NDArray[np.bool_]:
    """A tissue without its outermost voxels, which hold something of the neighbour."""
    whole = np.isin(labels, list(ids))
    inner = binary_erosion(whole)
    return inner if inner.sum() >= FEWEST else whole


def _neighbour_noise(scan: NDArray[np.float32], inside: NDArray[np.bool_]) -> float:
    pairs = []
    for axis in range(3):
        values, mask = np.moveaxis(scan, axis, 0), np.moveaxis(inside, axis, 0)
        pairs.append((values[1:] - values[:-1])[mask[1:] & mask[:-1]])
    differences = np.concatenate(pairs)
    if len(differences) < FEWEST:
        return math.nan
    size = np.abs(differences, dtype=np.float64)
    first = _NORMAL * float(np.median(size)) or float(size.mean())
    # the median of whole numbers is one itself; within its reach the mean square is finer
    within = size[size <= CUT * first]
    # the difference of two voxels has twice the variance of one
    return _CUT_FACTOR * math.sqrt(float((within**2).mean()) / 2)


def _median(values: NDArray[np.float32]) -> float:
    return float(np.median(values)) if len(values) >= FEWEST else math.nan
