"""What is judged on real scans, and what the masks of a set add up to."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from ddmseg.datasets.case import Case
from ddmseg.errors import CheckpointError
from ddmseg.imaging.labels import ANATOMY_LABELS
from ddmseg.maths.calibration import DiceCalibration
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.studies import expected_dice as bench
from ddmseg_lab.study import ModelOptions
from toys import tiny_model, tiny_settings

pytestmark = pytest.mark.usefixtures("quick_intervals")

CSF, OPTIC_CHIASM, LEFT_PUTAMEN = 46, 69, 58
"""Labels of the MALC2012 protocol; FreeSurfer does not draw the chiasm as ``anatomy`` does."""


def row(person: str, kind: str, expected: float, true: float) -> dict[str, str]:
    values = {
        "person": person,
        "kind": kind,
        "expected": expected,
        "true": true,
        "auroc": 0.98,
        "auroc_entropy": 0.9,
        "ece": 0.01,
        "ece_softmax": 0.02 if kind in bench.INTACT else "nan",
        "covered": 0.9 if kind in bench.INTACT else "nan",
    }
    return {name: str(value) for name, value in values.items()}


def rows(persons: int = 6) -> list[dict[str, str]]:
    found = []
    for i in range(persons):
        good, bad = 0.7 + 0.03 * i, 0.1 + 0.07 * i
        found += [row(str(i), "coarse", good, good - 0.02), row(str(i), "sampled", good, good)]
        found += [row(str(i), "corrupted", bad, bad + 0.02) for _ in range(3)]
    return found


@pytest.fixture
def scan(tmp_path) -> Case:
    """A skull-stripped head of 2 mm voxels with a putamen, CSF and a chiasm in it."""
    labels = np.zeros((40, 40, 40), np.int16)
    labels[8:32, 8:32, 8:32] = LEFT_PUTAMEN
    labels[8:12, 8:32, 8:32] = CSF
    labels[28:32, 8:32, 8:32] = OPTIC_CHIASM
    image = np.where(labels > 0, 100.0, 0.0) + np.random.default_rng(0).normal(0, 2, labels.shape)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    nib.save(nib.Nifti1Image(image.astype(np.float32), affine), tmp_path / "image.nii.gz")
    nib.save(nib.Nifti1Image(labels, affine), tmp_path / "labels.nii.gz")
    return Case("1", (tmp_path / "image.nii.gz",), tmp_path / "labels.nii.gz", "1")


def test_only_structures_that_both_protocols_define_are_judged(scan):
    card = Card("toy", ANATOMY_LABELS, settings_to_dict(tiny_settings(dims=3)))
    subject = bench.malc_subject(tiny_model(dims=3), card, scan)
    putamen = ANATOMY_LABELS.index(12)
    known = subject.truth[subject.known]
    assert set(known.tolist()) == {0, putamen}
    assert int((known == putamen).sum()) == 16 * 24 * 24
    # CSF and the chiasm: four slices each.
    assert int((~subject.known).sum()) == 8 * 24 * 24
    assert ANATOMY_LABELS.index(24) not in subject.evaluated
    assert len(subject.evaluated) == len(ANATOMY_LABELS) - 2
    assert subject.image.shape[1:] == subject.truth.shape
    assert subject.truth.dtype == torch.int64


def test_a_set_adds_up_by_subject():
    found = bench.summarise(rows(), DiceCalibration())
    assert (found["subjects"], found["masks"]) == (6, 30)
    assert found["mae_raw"]["mean"] == pytest.approx((0.02 + 0.0 + 3 * 0.02) / 5)
    assert found["mae_calibrated"]["mean"] == pytest.approx(found["mae_raw"]["mean"], abs=1e-3)
    assert found["pearson_r"]["mean"] > 0.99
    assert found["detection"]["sampled"]["auroc"]["mean"] == pytest.approx(0.98)
    assert "ece_softmax" not in found["detection"]["corrupted"]
    assert len(found["points"]) == 30


def test_calibration_moves_the_error_but_not_the_raw_one():
    shifted = bench.summarise(rows(), DiceCalibration(c=1.0))
    plain = bench.summarise(rows(), DiceCalibration())
    assert shifted["mae_raw"] == plain["mae_raw"]
    assert shifted["mae_calibrated"]["mean"] > plain["mae_calibrated"]["mean"] + 0.05


def test_the_discrepancy_is_compared_with_the_entropy_on_the_same_masks():
    found = bench.summarise(rows(), DiceCalibration())
    for masks in ("detection_intact", "detection_all"):
        assert found[masks]["difference"]["difference"] == pytest.approx(0.08)
        assert found[masks]["auroc"]["n"] == 6


def test_one_subject_has_figures_but_no_test():
    found = bench.summarise(rows(1), DiceCalibration())
    assert found["detection_all"]["difference"] is None
    assert found["pearson_r"]["n"] == 1


def test_weights_without_a_calibration_are_refused(weights):
    with pytest.raises(CheckpointError, match="without a calibration; give weights with one"):
        bench.run(ModelOptions(model=str(weights)))
