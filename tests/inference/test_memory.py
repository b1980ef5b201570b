"""The estimate, the ladder of what is tried when memory is short, and how many scans fit."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import ScanError
from ddmseg.inference import memory
from ddmseg.inference.memory import (
    BASE,
    SCAN_BYTES,
    SLACK,
    Footprint,
    peak_bytes,
    plan_memory,
    require_room,
    scans_in_flight,
    voxels_in_header,
)
from ddmseg.models.card import Card
from ddmseg.models.settings import DataSettings, ModelSettings, Settings
from ddmseg.models.settings_reader import settings_to_dict

HEAD = Footprint(
    widths=(16, 32, 64, 128),
    embedding=16,
    classes=33,
    scan_voxels=181 * 217 * 181,
    grid=(96, 112, 96),
)
FAST = replace(HEAD, samples=False)
sides = st.integers(1, 20).map(lambda n: 8 * n)


def test_the_estimate_by_hand() -> None:
    # features: 4 x (2 + 3 + 5 + 8/8 + 16/64) bytes a voxel
    small = Footprint((2, 8, 16), 3, 5, 0, (8, 8, 8), samples=False)
    features = 4 * (2 + 3 + 5 + 1 + 0.25)
    assert small.network == pytest.approx(512 * (2 * features + 4 * 3 * 2))
    assert peak_bytes(small) == round(BASE + SLACK * small.network)
    large = replace(small, scan_voxels=10**7)
    kept = 512 * 4 * 5
    assert peak_bytes(large) == round(BASE + SLACK * (10**7 * (SCAN_BYTES + 1) + kept))


def test_a_head_of_1_mm_stays_within_two_gigabytes() -> None:
    assert peak_bytes(FAST) < peak_bytes(HEAD) <= 2e9


@given(st.tuples(sides, sides, sides), st.integers(0, 10**8), st.booleans(), st.booleans())
def test_more_of_anything_never_takes_less(grid, voxels, probabilities, samples) -> None:
    one = replace(HEAD, grid=grid, scan_voxels=voxels, probabilities=probabilities, samples=samples)
    two = [
        replace(one, scan_voxels=voxels + 10**6),
        replace(one, classes=40),
        replace(one, probabilities=True),
        replace(one, samples=True),
        replace(one, grid=(grid[0], grid[1], grid[2] + 16)),
    ]
    assert all(peak_bytes(larger) >= peak_bytes(one) for larger in two)
    assert peak_bytes(one, on_gpu=True) <= peak_bytes(one)


@pytest.fixture
def card() -> Card:
    settings = Settings(
        name="head",
        model=ModelSettings(widths=(16, 32, 64, 128), embedding=16),
        data=DataSettings(patch=HEAD.grid),
    )
    return Card("head", tuple(range(33)), settings_to_dict(settings))


def planned(
    card: Card, monkeypatch, there: int | None, device: str = "cpu", there_gpu: int | None = 10**6
):
    monkeypatch.setattr(memory, "memory_for_this_process", lambda: there)
    monkeypatch.setattr(memory, "free_gpu_bytes", lambda device: there_gpu)
    return plan_memory(
        card,
        scan_voxels=HEAD.scan_voxels,
        grid=HEAD.grid,
        device=torch.device(device),
        samples=False,
    )


def test_what_was_chosen_is_recorded(card, monkeypatch) -> None:
    device, record = planned(card, monkeypatch, None)
    assert device.type == "cpu"
    assert record == {"estimated_gb": round(peak_bytes(FAST) / 1e9, 2), "rungs": []}
    device, record = planned(card, monkeypatch, 10**12, "cuda")
    assert device.type == "cpu"
    assert record["rungs"] == ["on the CPU"]
    assert record["available_gb"] == 1000


def test_the_cpu_takes_the_place_of_a_gpu_without_room(card, monkeypatch) -> None:
    own, on_cpu = round(SLACK * FAST.network), peak_bytes(FAST)
    for there, there_gpu, chosen in (
        (None, None, "cuda"),
        (10**12, own, "cuda"),
        (10**12, own - 1, "cpu"),
        (peak_bytes(FAST, on_gpu=True), own, "cuda"),
        (on_cpu, own - 1, "cpu"),
    ):
        device, record = planned(card, monkeypatch, there, "cuda", there_gpu)
        assert device.type == chosen
        assert record["rungs"] == ([] if chosen == "cuda" else ["on the CPU"])
    with pytest.raises(ScanError, match="needs"):
        planned(card, monkeypatch, on_cpu - 1, "cuda", own - 1)


def test_the_gpu_of_a_mac_takes_the_memory_of_the_cpu(card, monkeypatch) -> None:
    enough = peak_bytes(FAST)
    assert planned(card, monkeypatch, enough, "mps", None)[0].type == "mps"
    with pytest.raises(ScanError, match="needs"):
        planned(card, monkeypatch, enough - 1, "mps", None)


def test_a_scan_too_large_is_refused_with_how_much_is_needed_and_there(card, monkeypatch) -> None:
    with pytest.raises(ScanError) as refused:
        planned(card, monkeypatch, 10**8)
    assert str(refused.value) == (
        f"this scan needs {peak_bytes(FAST) / 1e9:.1f} GB of memory and 0.1 GB is there; close "
        "other programs, or crop or resample the scan"
    )


WHOLE = replace(HEAD, widths=(32, 64, 96, 128), embedding=12, grid=(192, 224, 192), block=True)
"""The demo head at 1 mm, for an encoder on blocks."""


def test_an_encoder_on_blocks_is_estimated_as_it_was_measured():
    # whole head, fast and sampled (lab/docs/studies/memory.md)
    for samples, measured_gb in ((False, 2.05), (True, 2.82)):
        estimated = peak_bytes(replace(WHOLE, samples=samples)) / 1e9
        assert measured_gb <= estimated <= 1.6 * measured_gb


# From headers


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [("a.nii", (4, 5, 6), nib.Nifti2Image), ("a.nii.gz", (4, 5, 6, 3), nib.Nifti1Image)],
)
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


def test_as_many_scans_at_a_time_as_there_is_room_for(monkeypatch, segmenter) -> None:
    voxels = HEAD.scan_voxels
    head = Footprint.of(segmenter.card, scan_voxels=voxels, grid=(100, 120, 120))
    peak = peak_bytes(head)
    for there, scans in (
        (None, 3),
        (10**12, 3),
        (peak + 2 * head.waiting, 3),
        (peak + head.waiting, 2),
        (peak + 1, 1),
        (1, 1),  # the scan itself says that it does not fit
    ):
        monkeypatch.setattr(memory, "memory_for_this_process", lambda there=there: there)
        assert scans_in_flight(segmenter, [voxels], most=3) == scans


def test_the_largest_scan_decides(monkeypatch, segmenter) -> None:
    monkeypatch.setattr(memory, "memory_for_this_process", lambda: 5 * 10**9)
    assert scans_in_flight(segmenter, [0], most=3) == 3
    assert scans_in_flight(segmenter, [10**6, 7 * 10**6], most=2) == 2
    assert scans_in_flight(segmenter, [512**3, 10**6], most=3) == 1


@pytest.mark.parametrize("gb", [2, 4])
def test_what_is_too_large_is_refused_before_it_is_read(monkeypatch, segmenter, gb) -> None:
    monkeypatch.setattr(memory, "memory_for_this_process", lambda: gb * 10**9)
    require_room(segmenter, 181 * 217 * 181)
    require_room(segmenter, 0)  # not known
    with pytest.raises(ScanError, match=rf"needs 5\.3 GB of memory and {gb}\.0 GB is there"):
        require_room(segmenter, 512**3)
    monkeypatch.setattr(memory, "memory_for_this_process", lambda: None)
    require_room(segmenter, 512**3)
