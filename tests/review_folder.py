"""An output folder as ``ddmseg segment`` leaves it, with the scans it was made from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np

from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.volume import LabelMap
from ddmseg.inference.scan_encoding import content_hash
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Quality, Segmentation

SHAPE = (24, 30, 20)
IDS = (2, 41, 53)


def write_results(
    make_segmentation: Callable[..., Segmentation],
    output: Path,
    scans: Path,
    *,
    names: tuple[str, ...] = ("better", "worse"),
    trace: bool = True,
) -> Path:
    """Write one result a name; expected Dice falls from name to name."""
    for place, name in enumerate(names):
        dice = 0.9 - 0.2 * place
        quality = Quality(
            "warn" if place else "pass",
            dice,
            {"Left-Cerebral-White-Matter": dice},
            ["the left side is <b>odd</b>"] * place,
            10,
            4,
        )
        made = make_segmentation(name=name, seed=place, quality=quality)
        write_one(made, output, scans, trace=trace)
    return output


def write_one(made: Segmentation, output: Path, scans: Path, *, trace: bool = True) -> None:
    """Write the scan, and its result with the receipt that tells the scan's hash."""
    scans.mkdir(parents=True, exist_ok=True)
    path = scans / f"{made.scan.name}.nii.gz"
    nib.Nifti1Image(made.scan.data, made.scan.affine).to_filename(path)
    scan = read_volume(path)
    told = {"name": scan.name, "content_sha256": content_hash(scan), "shape": list(scan.shape)}
    frames = np.stack([made.labels.data * (made.labels.data != 53), made.labels.data], axis=-1)
    kept = {"sample_labels": frames, "step_labels": frames} if trace else {}
    whole = replace(made, scan=scan, receipt={**made.receipt, "input": told}, **kept)
    write_outputs(whole, output, stem=scan.name)


def turned(made: Segmentation) -> Segmentation:
    """The same head with its axes in the order posterior, superior, right, a little oblique."""
    order, tilt = (1, 2, 0), np.deg2rad(7)
    matrix = made.scan.affine.copy()
    matrix[:3, :3] = matrix[:3, order]
    turn = np.eye(4)
    turn[:2, :2] = [[np.cos(tilt), -np.sin(tilt)], [np.sin(tilt), np.cos(tilt)]]
    # the first axis runs from front to back
    flip = np.eye(4)
    flip[0, 0], flip[0, 3] = -1, made.scan.shape[1] - 1
    affine = turn @ matrix @ flip

    def turn_array(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(order)[::-1])

    return replace(
        made,
        scan=replace(made.scan, data=turn_array(made.scan.data), affine=affine),
        labels=LabelMap(turn_array(made.labels.data), affine, made.labels.name),
        uncertainty=turn_array(made.uncertainty),
        discrepancy=turn_array(made.discrepancy),
    )


def nifti_bytes(data: np.ndarray, affine: np.ndarray) -> bytes:
    """A plain NIfTI file."""
    return nib.Nifti1Image(data, affine).to_bytes()
