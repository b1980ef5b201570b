"""The estimate and the ladder of what is tried when memory is short."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import ScanError
from ddmseg.inference.memory import plan as memory_plan
from ddmseg.inference.memory.estimate import (
    BASE,
    SCAN_BYTES,
    SLACK,
    Footprint,
    peak_bytes,
)
from ddmseg.inference.memory.plan import (
    first_that_fits,
    plan_memory,
    rungs,
    scans_at_once,
)
from ddmseg.models.checkpoint import Card
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


def test_the_cpu_takes_the_place_of_a_gpu_without_room() -> None:
    assert [(rung.device, rung.name) for rung in rungs(HEAD)] == [("cpu", "")]
    own, instead = ladder = rungs(HEAD, "cuda")
    assert [(rung.device, rung.name) for rung in ladder] == [("cuda", ""), ("cpu", "on the CPU")]
    assert first_that_fits(ladder, None, None) is own
    assert first_that_fits(ladder, 10**12, own.needed_gpu) is own
    assert first_that_fits(ladder, 10**12, own.needed_gpu - 1) is instead
    with pytest.raises(ScanError, match="needs"):
        first_that_fits(ladder, instead.needed - 1, own.needed_gpu - 1)


def test_the_gpu_of_a_mac_takes_the_memory_of_the_cpu() -> None:
    own, shared, on_cpu = rungs(HEAD, "cuda")[0], rungs(HEAD, "mps")[0], rungs(HEAD)[0]
    assert shared.needed_gpu == own.needed_gpu
    assert own.needed < on_cpu.needed <= shared.needed


def test_a_scan_too_large_is_refused_with_how_much_is_needed_and_there() -> None:
    ladder = rungs(HEAD)
    with pytest.raises(ScanError) as refused:
        first_that_fits(ladder, 10**9, None)
    needed = ladder[-1].needed / 1e9
    assert str(refused.value) == (
        f"this scan needs {needed:.1f} GB of memory and 1.0 GB is there; close other programs, "
        "or crop or resample the scan"
    )


@pytest.fixture
def card() -> Card:
    settings = Settings(
        name="head",
        model=ModelSettings(widths=(16, 32, 64, 128), embedding=16),
        data=DataSettings(patch=HEAD.grid),
    )
    return Card("head", tuple(range(33)), settings_to_dict(settings))


def planned(card: Card, monkeypatch, there: int | None, device: str = "cpu"):
    monkeypatch.setattr(memory_plan, "memory_for_this_process", lambda: there)
    monkeypatch.setattr(memory_plan, "free_gpu_bytes", lambda device: 10**6)
    return plan_memory(
        card,
        scan_voxels=HEAD.scan_voxels,
        grid=HEAD.grid,
        device=torch.device(device),
        samples=False,
    )


def test_what_was_chosen_is_recorded(card, monkeypatch) -> None:
    plan = planned(card, monkeypatch, None)
    assert plan.device.type == "cpu"
    assert plan.record == {"estimated_gb": round(peak_bytes(FAST) / 1e9, 2), "rungs": []}
    plan = planned(card, monkeypatch, 10**12, "cuda")
    assert plan.device.type == "cpu"
    assert plan.record["rungs"] == ["on the CPU"]
    assert plan.record["available_gb"] == 1000


def test_as_many_scans_at_a_time_as_there_is_room_for(monkeypatch) -> None:
    peak = peak_bytes(HEAD)
    for there, scans in (
        (None, 3),
        (10**12, 3),
        (peak + 2 * HEAD.waiting, 3),
        (peak + HEAD.waiting, 2),
        (peak + 1, 1),
        (1, 1),  # the scan itself says that it does not fit
    ):
        monkeypatch.setattr(memory_plan, "memory_for_this_process", lambda there=there: there)
        assert scans_at_once(HEAD, 3) == scans


BRAIN = replace(HEAD, widths=(32, 64, 96, 128), embedding=12, grid=(176, 208, 176), block=True)
"""A stripped head at 1 mm, for an encoder on blocks."""


def test_an_encoder_on_blocks_is_estimated_as_it_was_measured():
    # 2.0 GB in mode fast and 3.3 GB with samples, of such a head (docs/decisions.md)
    for samples, measured_gb in ((False, 2.0), (True, 3.3)):
        estimated = peak_bytes(replace(BRAIN, samples=samples)) / 1e9
        assert measured_gb <= estimated <= 1.6 * measured_gb
