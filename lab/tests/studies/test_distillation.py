"""A student beside its teacher: what is judged, and what the figures say of made-up rows."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.datasets.case import Case
from ddmseg.errors import UsageError
from ddmseg.imaging.labels import ANATOMY_LABELS, HIPPOCAMPUS_LABELS
from ddmseg.models.checkpoint import Card, load_weights, save_weights
from ddmseg.models.settings import DistillationSettings
from ddmseg.models.settings_reader import settings_to_dict
from ddmseg_lab.scans import calibration_error, mean_dice
from ddmseg_lab.studies import distillation as bench
from ddmseg_lab.table import RawTable, write_summary
from tiny_weights import CROPS, save_tiny
from toys import tiny_model, tiny_settings

SHAPE = (15, 18, 14)


@pytest.fixture
def case(tmp_path) -> Case:
    truth = np.zeros(SHAPE, np.uint8)
    truth[4:10, 9:14, 4:9], truth[4:10, 4:9, 4:9] = 1, 2
    image = 100.0 * truth + np.random.default_rng(0).normal(0, 5, SHAPE)
    for name, data in (("image", image.astype(np.float32)), ("labels", truth)):
        nib.save(nib.Nifti1Image(data, np.diag([-1.0, 1.0, 1.0, 1.0])), tmp_path / f"{name}.nii.gz")
    return Case("one", (tmp_path / "image.nii.gz",), tmp_path / "labels.nii.gz", "one")


@pytest.fixture
def teacher_path(tmp_path) -> Path:
    return save_tiny(tmp_path, CROPS, HIPPOCAMPUS_LABELS, name="teacher")


@pytest.fixture
def student_path(tmp_path, teacher_path) -> Path:
    """Weights whose card says who taught them."""
    model, card = load_weights(teacher_path)
    asked = settings_to_dict(DistillationSettings(str(teacher_path)))
    settings = {**card.settings, "distillation": asked}
    path = tmp_path / "student.safetensors"
    teacher = {"name": "teacher", "checksum": card.checksum}
    save_weights(model, replace(card, name="student", settings=settings, teacher=teacher), path)
    return path


def row(case: str, person: str, dice: float, ece: float = 0.1, seconds: float = 2.0):
    values = {"case": case, "person": person, "dice": dice, "ece": ece}
    return {k: str(v) for k, v in {**values, "processor_seconds": seconds}.items()}


# What is judged


def test_calibration_is_judged_where_answer_or_truth_is_a_structure():
    truth = np.array([[[17, 17, 0, 0, 24]]])
    p = np.zeros((1, 1, 5, 3), np.float32)
    # Right and sure; wrongly background; wrongly 17; background, which no one doubts; CSF.
    p[0, 0, 0] = [0.0, 1.0, 0.0]
    p[0, 0, 1] = [0.8, 0.2, 0.0]
    p[0, 0, 2] = [0.4, 0.6, 0.0]
    p[0, 0, 3] = [0.5, 0.3, 0.2]
    p[0, 0, 4] = [0.0, 0.0, 1.0]
    found = calibration_error(p, (0, 17, 24), truth, (17,))
    # Each in a bin of its own: gaps of 0, 0.8 and 0.6 over three voxels.
    assert found == pytest.approx((0 + 0.8 + 0.6) / 3, abs=1e-6)


def test_the_mean_dice_leaves_out_what_neither_has():
    truth = np.array([17, 17, 0, 0])
    labels = np.array([17, 0, 0, 0])
    assert mean_dice(labels, truth, (17, 53)) == pytest.approx(2 / 3)


def test_a_scan_is_scored_on_its_own_grid(case, teacher_path):
    model = bench.Model.load(str(teacher_path))
    found = bench.measure(model, bench.CROPS, "test", case, "diffusion")
    assert tuple(found) == bench.COLUMNS
    assert 0 <= found["dice"] <= 1
    assert 0 <= found["ece"] <= 1
    assert found["processor_seconds"] > 0
    assert found["weights"] == model.card.checksum[:12]


def test_each_kind_of_model_has_its_scans(teacher_path):
    _, crops = load_weights(teacher_path)
    heads = replace(crops, settings={**crops.settings, "data": {"kind": "label_maps"}})
    assert bench.scan_set(crops) is bench.CROPS
    assert bench.scan_set(heads) is bench.HEADS
    assert set(bench.HEADS.structures) < set(ANATOMY_LABELS)


# Who taught whom


def test_the_card_names_the_teacher(student_path, teacher_path):
    assert bench.teacher_of(bench.Model.load(str(student_path)).card) == str(teacher_path)


def test_a_model_that_no_one_taught_is_refused(teacher_path):
    with pytest.raises(UsageError, match="teacher: its card names no teacher; give a distilled"):
        bench.teacher_of(bench.Model.load(str(teacher_path)).card)


def test_a_teacher_that_has_changed_since_is_refused(student_path, teacher_path):
    _, card = load_weights(teacher_path)
    save_weights(tiny_model(dims=3, seed=5), card, teacher_path)
    with pytest.raises(UsageError, match=r"taught by other weights of teacher .*distil it anew"):
        bench.teacher_of(bench.Model.load(str(student_path)).card)


def test_a_plain_student_is_refused(tmp_path):
    plain = tiny_settings(dims=3, model={"diffusion": False})
    path = tmp_path / "plain.safetensors"
    card = Card("plain", HIPPOCAMPUS_LABELS, settings_to_dict(plain))
    save_weights(tiny_model(dims=3, diffusion=False), card, path)
    with pytest.raises(UsageError, match="a plain network without diffusion; distil one with it"):
        bench.Model.load(str(path))


# What the figures say


def test_the_share_is_of_means_over_persons():
    student = [row("1", "a", 0.8), row("2", "b", 0.4), row("3", "b", 0.6)]
    teacher = [row("1", "a", 0.8), row("2", "b", 0.8), row("3", "b", 0.6)]
    found = bench.compare(student, teacher)
    assert found["cases"] == 3
    assert found["student_dice"]["mean"] == pytest.approx((0.8 + 0.5) / 2)
    assert found["share_of_dice"]["mean"] == pytest.approx((0.8 + 0.5) / (0.8 + 0.7))
    assert found["share_of_dice"]["n"] == 2
    assert found["share_of_dice"]["low"] == pytest.approx(0.5 / 0.7)
    assert found["share_of_dice"]["high"] == pytest.approx(1.0)


def test_differences_are_student_less_teacher_and_cost_is_teacher_over_student():
    student = [row("1", "a", 0.8, 0.05, 1.0), row("2", "b", 0.6, 0.07, 1.0)]
    teacher = [row("2", "b", 0.7, 0.06, 4.0), row("1", "a", 0.9, 0.06, 4.0)]
    found = bench.compare(student, teacher)
    assert found["dice_difference"]["mean"] == pytest.approx(-0.1)
    assert found["ece_difference"]["mean"] == pytest.approx(0.0)
    assert found["times_cheaper"] == pytest.approx(4.0)


def test_one_scan_has_no_interval():
    found = bench.compare([row("1", "a", 0.8)], [row("1", "a", 0.9)])
    assert found["share_of_dice"]["mean"] == pytest.approx(8 / 9)
    assert math.isnan(found["share_of_dice"]["low"])


def test_what_was_measured_is_not_measured_again(case, student_path, teacher_path, tmp_path):
    student, teacher = (bench.Model.load(str(path)) for path in (student_path, teacher_path))
    # Equal weights: the student of this test is its teacher.
    assert student.weights == teacher.weights
    table = RawTable(tmp_path / "raw.tsv", bench.COLUMNS, [student.weights])
    for _ in range(2):
        bench._measure_missing(table, (student, teacher), bench.CROPS, "test", case)
    assert [row["mode"] for row in table.rows] == ["fast", "diffusion"]
    found = bench.summarise(table, student, teacher, [case])
    assert list(found) == [
        "fast against fast",
        "diffusion against diffusion",
        "fast against diffusion",
    ]
    assert found["fast against fast"]["share_of_dice"]["mean"] == 1.0
    assert student.describe()["parameters"] == student.parameters > 0


def test_students_of_earlier_runs_stay_beside_the_same_teacher(student_path, tmp_path):
    student = bench.Model.load(str(student_path))
    record = tmp_path / "distillation.json"
    assert bench.earlier(record, [student], {"today"}) == {}
    told = {
        name: {"student": {"weights": name}, "teacher": {"weights": teacher}}
        for name, teacher in (("a", "today"), ("b", "before"), (student.card.name, "today"))
    }
    write_summary(record, {"students": told})
    assert bench.earlier(record, [student], {"today"}) == {"a": told["a"]}
