"""What a file leaves in doubt reaches the verdict, whatever the model: never a plain pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg import Segmenter
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.nifti_header import sides_unknown
from ddmseg.imaging.volume import Volume
from ddmseg.inference.roi import _Side, _worst
from ddmseg.quality.reasons import reason_code
from tiny_weights import CROPS, save_tiny


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Segmenter:
    return Segmenter.load(str(save_tiny(tmp_path_factory.mktemp("tiny"), CROPS, (0, 231, 232))))


def crop(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 300, (24, 30, 20)).astype(np.float32)


def codes(segmenter: Segmenter, scan: object) -> list[str]:
    result = segmenter(scan, mode="fast")
    assert result.quality.verdict != "pass"
    assert result.labels.shape == result.scan.shape
    assert np.array_equal(result.labels.affine, result.scan.affine)
    told = [reason_code(reason) for reason in result.quality.reasons]
    return [one["code"] for one in told if one is not None]


def test_unknown_sides_are_a_reason(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "a.nii").write_bytes(nib.Nifti1Image(crop(), None).to_bytes())
    assert "sides_unknown" in codes(segmenter, tmp_path / "a.nii")
    assert "sides_unknown" in codes(segmenter, read_volume(tmp_path / "a.nii"))
    known = segmenter(Volume(crop(), np.eye(4), "a"), mode="fast").quality.reasons
    assert "sides_unknown" not in [getattr(reason, "code", "") for reason in known]


def test_an_oblique_scan_is_named_and_returns_to_its_grid(segmenter: Segmenter) -> None:
    c, s = np.cos(0.5), np.sin(0.5)
    affine = np.array([[1.0, 0, 0, 3], [0, c, -s, 4], [0, s, c, 5], [0, 0, 0, 1]])
    assert "scan_oblique" in codes(segmenter, (crop(), affine))


def test_notes_of_a_head_are_told_once_beside_those_of_its_sides(make_segmentation) -> None:
    part = make_segmentation()
    quality = replace(part.quality, verdict="pass", reasons=[])
    box = (slice(0, 3), slice(0, 6), slice(0, 5))
    sides = [_Side(name, box, replace(part, quality=quality)) for name in ("left", "right")]
    assert _worst(sides, ()).verdict == "pass"
    told = _worst(sides, (sides_unknown(),))
    assert (told.verdict, told.reasons) == ("warn", [sides_unknown()])
