"""Rates of a machine: measured on a toy, kept, and not believed when they cannot be right."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from ddmseg.imaging.nifti import volume_from_array
from ddmseg.pipeline.budget import calibration
from ddmseg.pipeline.budget.calibration import measure, processor, rates_file, rates_of
from ddmseg.pipeline.budget.costs import Draw, Rates, Size
from ddmseg.pipeline.cache import CACHE_VARIABLE
from ddmseg.pipeline.inference import Segmenter
from ddmseg.pipeline.region import RegionalSegmenter
from tiny_weights import CROPS, save_tiny
from toy_head import head_affine, head_voxels

KNOWN = Rates(1e-7, 2e-7, 3e-7, 4e-7, 5e-7, 6e-7, 7e-7, fixed=0.2, probe=0.1)


@pytest.fixture
def segmenter(tmp_path, monkeypatch) -> RegionalSegmenter:
    """A tiny model of crops, to be measured on a toy head."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    toy = volume_from_array(head_voxels((40, 48, 40)), head_affine(2.0))
    monkeypatch.setattr("ddmseg.pipeline.inference.demo_head", lambda: toy)
    loaded = Segmenter.load(str(save_tiny(tmp_path, CROPS, (0, 17, 53))), device="cpu")
    assert isinstance(loaded, RegionalSegmenter)
    return loaded


def test_measured_rates_predict_what_was_measured(segmenter, monkeypatch) -> None:
    # A clock that each part moves by what it is called, so that nothing depends on speed.
    rates = measure(segmenter)
    assert all(np.isfinite(value) and value >= 0 for value in asdict(rates).values())
    assert rates.encode > 0
    assert rates.write > 0
    assert rates.probe > 0
    voxels = calibration.PROBE_SIDE**3
    costs = rates.costs(Size(voxels, voxels, voxels), writes=True)
    assert costs.fast + costs.of(Draw(1, 1)) >= rates.probe - 1e-9  # the fixed part fills it up


def test_steps_and_samples_are_told_apart() -> None:
    # answer 3 s, sample 2 s, step 1 s on a grid of 10 voxels
    draws = {"1 step x 1 sample": 6.0, "1 step x 3 samples": 12.0, "6 steps x 1 sample": 11.0}
    seconds = {"prepare": 1.0, "encode": 8.0, "restore": 2.0, "write": 4.0, **draws}
    rates = calibration._rates(seconds, Size(scan=100, tiles=20, grid=10), 0.5)
    assert (rates.answer, rates.sample, rates.step) == pytest.approx((0.3, 0.2, 0.1))
    assert (rates.prepare, rates.encode, rates.write) == pytest.approx((0.01, 0.4, 0.04))
    noisy = {**seconds, "6 steps x 1 sample": 5.0}
    assert calibration._rates(noisy, Size(100, 20, 10), 0.5).step == 0.0


def test_rates_are_kept_and_a_busy_machine_is_seen(segmenter, monkeypatch) -> None:
    probes = iter([9.0, 0.15, 9.0, 0.05, 9.0, 99.0])
    monkeypatch.setattr(calibration, "measure", lambda segmenter: KNOWN)
    monkeypatch.setattr(calibration, "probe", lambda segmenter: next(probes))
    assert rates_of(segmenter) == (KNOWN, 1.0)
    monkeypatch.setattr(calibration, "measure", None)  # not measured again
    assert rates_of(segmenter) == (KNOWN, pytest.approx(1.5))
    assert rates_of(segmenter) == (KNOWN, 1.0)
    assert rates_of(segmenter) == (KNOWN, calibration.SLOWEST_PROBE)


@pytest.mark.parametrize(
    "content",
    [
        *("", "[]", "{}", '{"probe": "x"}'),
        json.dumps({**asdict(KNOWN), "step": -1.0}),
        json.dumps({**asdict(KNOWN), "probe": 0}),
        json.dumps({**asdict(KNOWN), "more": 1}),
    ],
)
def test_a_file_that_makes_no_sense_is_measured_anew(segmenter, monkeypatch, content) -> None:
    monkeypatch.setattr(calibration, "measure", lambda segmenter: KNOWN)
    path = rates_file(segmenter)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    assert rates_of(segmenter) == (KNOWN, 1.0)
    assert json.loads(path.read_text()) == asdict(KNOWN)


def test_rates_belong_to_weights_threads_and_processor(segmenter, monkeypatch) -> None:
    names = {rates_file(segmenter)}
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    names.add(rates_file(segmenter))
    monkeypatch.setattr(calibration, "processor", lambda: "another")
    names.add(rates_file(segmenter))
    segmenter.card = replace(segmenter.card, checksum="0" * 64)
    names.add(rates_file(segmenter))
    assert len(names) == 4
    assert processor() == processor() != ""


def test_without_a_cache_nothing_is_kept(segmenter, monkeypatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    monkeypatch.setattr(calibration, "measure", lambda segmenter: KNOWN)
    assert rates_file(segmenter) is None
    assert rates_of(segmenter) == (KNOWN, 1.0)


def test_a_cache_that_cannot_be_written_is_no_error(segmenter, tmp_path, monkeypatch) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    monkeypatch.setattr(calibration, "measure", lambda segmenter: KNOWN)
    assert rates_of(segmenter) == (KNOWN, 1.0)


def test_a_model_of_crops_is_measured_on_a_crop(segmenter) -> None:
    scan = segmenter.calibration_scan()
    np.testing.assert_allclose(scan.spacing_mm, 2.0)
    assert scan.shape == (18, 25, 18)
    head = nib.Nifti1Image(head_voxels((40, 48, 40)), head_affine(2.0))
    np.testing.assert_allclose(
        scan.affine[:3, 3], (head.affine @ [(40 - 18) // 2, (48 - 25) // 2, 11, 1])[:3]
    )


def test_the_demo_head_is_a_whole_head() -> None:
    assert calibration.demo_head().shape == (181, 217, 181)
    assert Path(calibration.__file__).is_file()
