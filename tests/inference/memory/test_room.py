"""How many scans fit, from their headers."""

from __future__ import annotations

import gzip
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch

from ddmseg.errors import ScanError
from ddmseg.inference.memory import plan as memory_plan
from ddmseg.inference.memory import room
from ddmseg.inference.memory.room import require_room, scans_in_flight, voxels_in_header
from ddmseg.models.card import Card


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 3)])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_voxels_are_those_of_one_volume(tmp_path, name, shape, kind) -> None:
    path = tmp_path / name
    kind(np.zeros(shape, np.float32), np.eye(4)).to_filename(path)
    assert voxels_in_header(path) == 4 * 5 * 6


def test_what_cannot_be_read_counts_as_nothing(tmp_path: Path) -> None:
    for name, content in (
        ("empty.nii", b""),
        ("cut.nii.gz", gzip.compress(b"x" * 1000)[:20]),
        ("text.nii", b"hello" * 200),
    ):
        (tmp_path / name).write_bytes(content)
        assert voxels_in_header(tmp_path / name) == 0
    assert voxels_in_header(tmp_path / "missing.nii") == 0


@pytest.fixture
def segmenter() -> SimpleNamespace:
    data = {"kind": "label_maps", "spacing_mm": 2.0, "patch": [48, 64, 48]}
    model = {"widths": [16, 32, 64, 128], "embedding": 16}
    card = Card("toy", tuple(range(33)), {"data": data, "model": model})
    own = SimpleNamespace(device=torch.device("cpu"))
    return SimpleNamespace(card=card, model_stages=own)


def test_the_largest_scan_decides(monkeypatch, segmenter) -> None:
    monkeypatch.setattr(memory_plan, "memory_for_this_process", lambda: 5 * 10**9)
    assert scans_in_flight(segmenter, [0], most=3) == 3
    assert scans_in_flight(segmenter, [10**6, 7 * 10**6], most=2) == 2
    assert scans_in_flight(segmenter, [512**3, 10**6], most=3) == 1


@pytest.mark.parametrize("gb", [2, 4])
def test_what_is_too_large_is_refused_before_it_is_read(monkeypatch, segmenter, gb) -> None:
    monkeypatch.setattr(room, "memory_for_this_process", lambda: gb * 10**9)
    require_room(segmenter, 181 * 217 * 181)
    require_room(segmenter, 0)  # not known
    with pytest.raises(ScanError, match=rf"needs 5\.3 GB of memory and {gb}\.0 GB is there"):
        require_room(segmenter, 512**3)
    monkeypatch.setattr(room, "memory_for_this_process", lambda: None)
    require_room(segmenter, 512**3)
