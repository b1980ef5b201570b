"""The commands of docs/datasets.md, on small folders laid out as the sets are handed out."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from ddmseg.datasets import adni, lpba40
from ddmseg.datasets.patches import PatchSource
from ddmseg.evaluation.labels import load_label_table
from ddmseg.imaging.labels import structure
from ddmseg.imaging.nifti import read_label_map
from ddmseg.models.checkpoint import load_weights
from ddmseg.training.curve import Curve
from dicom_files import affine_of, rotation, write_series
from real_sets import write_brats, write_lpba40
from toy_head import head_affine, head_voxels

ROOT = Path(__file__).parents[2]
TINY = """
[model]
encoder_form = "block"
denoiser_form = "light"
widths = [4, 8, 8]
mask_stride = 2
embedding = 2
mask_width = 4
denoiser_width = 4
{model}
[data]
kind = "{kind}"
patch = [16, 16, 16]
{data}
[training]
steps = 3
batch = 1
validate_every = 3
validation_cases = 2
workers = 1
warmup_steps = 1
threads = 1
device = "cpu"
[sampling]
steps = 1
samples = 2
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw no curve and calibrate on few patches: both take longer than all the rest."""
    whole = PatchSource.validation_examples
    monkeypatch.setattr(Curve, "_draw", lambda self: None)
    monkeypatch.setattr(
        PatchSource, "validation_examples", lambda self, count: whole(self, min(count, 4))
    )


def tiny_config(folder: Path, kind: str, *, model: str = "", data: str = "") -> Path:
    path = folder / f"{kind}.toml"
    path.write_text(TINY.format(kind=kind, model=model, data=data))
    return path


# LPBA40


def test_lpba40_is_trained_segmented_and_evaluated(ddmseg, tmp_path) -> None:
    write_lpba40(tmp_path)
    config = tiny_config(tmp_path, "lpba40", data='fold = "fold-1"\nspacing_mm = 3.0')
    done = ddmseg("train", config, "-o", tmp_path / "run", "--data", tmp_path)
    assert (done.code, done.errors) == (0, [])
    assert "left out" not in done.err
    best = tmp_path / "run" / "best.safetensors"
    _, card = load_weights(best)
    assert len(card.labels) == 57
    assert "LPBA40" in card.data
    assert card.calibration["always_present"] == list(card.labels[1:])

    case = lpba40.list_cases(tmp_path)[0]
    scan, _ = lpba40.write_nifti(case, tmp_path / "nifti")
    done = ddmseg("segment", scan, "-o", tmp_path / "out", "--model", best)
    assert (done.code, done.errors) == (0, [])
    labels = read_label_map(tmp_path / "out" / "S01_T1w_dseg.nii.gz")
    assert labels.shape == nibabel.load(scan).shape
    assert set(np.unique(labels.data)) <= set(card.labels)

    table = ROOT / "docs" / "labels" / "lpba40_model.tsv"
    done = ddmseg(
        *("evaluate", tmp_path / "out", tmp_path / "nifti" / "labels"),
        *("-o", tmp_path / "scores", "--labels", table),
    )
    assert (done.code, done.errors) == (0, [])


def test_the_table_of_the_documentation_is_the_model_s_ids() -> None:
    table = load_label_table(str(ROOT / "docs" / "labels" / "lpba40_model.tsv"))
    assert {s.truth: s.prediction for s in table.structures} == {
        (index,): (own,) for index, own in lpba40.model_ids().items()
    }
    assert [s.name for s in table.structures] == [
        structure(own).name for own in lpba40.model_ids().values()
    ]


# BraTS


def test_brats_is_trained_and_says_why_it_cannot_segment_one_file(ddmseg, tmp_path) -> None:
    write_brats(tmp_path, bare=1)
    config = tiny_config(tmp_path, "brats", model="contrasts = 4", data="spacing_mm = 1.0")
    done = ddmseg("train", config, "-o", tmp_path / "run", "--data", tmp_path)
    assert (done.code, done.errors) == (0, [])
    assert (
        "warning: brats: 1 left out of all splits: BraTS2021_90000 (no label map)"
        in done.err.splitlines()
    )
    best = tmp_path / "run" / "best.safetensors"
    _, card = load_weights(best)
    assert card.labels == (0, 41001, 41002, 41003)
    flair = next(tmp_path.rglob("*_flair.nii.gz"))
    refused = ddmseg("segment", flair, "-o", tmp_path / "out", "--model", best)
    assert refused.code == 2
    assert refused.error == (
        f"{best}: the model takes 4 images of a scan, and a scan here is one file; score it with "
        "ddmseg compare, or name a model of one image"
    )
    assert not (tmp_path / "out").exists()


def test_the_shipped_recipes_say_what_is_missing(ddmseg, tmp_path) -> None:
    for kind in ("lpba40", "brats"):
        done = ddmseg(
            *("train", ROOT / "configs" / f"{kind}.toml"),
            *("-o", tmp_path / kind, "--data", tmp_path),
        )
        assert done.code != 0
        assert f"data set {kind}: the folder {tmp_path / kind} does not exist" in done.error


# ADNI


def add_adni_dicom(root: Path, subject: str, image: str) -> None:
    leaf = root / "adni/ADNI" / subject / "MP-RAGE" / "2006-04-18_08_20_30.0" / image
    for number, path in enumerate(write_series(leaf, head_voxels(), head_affine())):
        path.rename(leaf / f"ADNI_{subject}_MR_MP-RAGE_br_raw_2006_{number}_S1_{image}.dcm")


def test_adni_is_segmented_image_by_image(segment, tmp_path) -> None:
    """``ddmseg segment ADNI/*/*/*/*``: the shell names the folder of every image."""
    add_adni_dicom(tmp_path, "002_S_0295", "I13722")
    add_adni_dicom(tmp_path, "002_S_0413", "I13893")
    leaf = tmp_path / "adni/ADNI/002_S_0413/MPR__N3__Scaled/2006-05-19_16_17_47.0/S14782"
    leaf.mkdir(parents=True)
    name = "ADNI_002_S_0413_MR_MPR__N3__Scaled_Br_2007_S14782_I45117"
    nibabel.Nifti1Image(head_voxels(), affine_of(rotation(0.1, 0.0, 0.1))).to_filename(
        leaf / f"{name}.nii"
    )
    images = sorted((tmp_path / "adni/ADNI").glob("*/*/*/*"))
    done = segment(*images, "-o", tmp_path / "out")
    assert (done.code, done.errors) == (0, [])
    found = sorted(tmp_path.glob("out/**/*_dseg.nii.gz"))
    assert len(found) == len(adni.list_cases(tmp_path)) == 3
    assert tmp_path / "out" / f"{name}_dseg.nii.gz" in found
    assert {path.parent.name for path in found} == {"out", "I13722", "I13893"}


# MALC2012


def test_malc2012_is_segmented_and_evaluated(segment, ddmseg, tmp_path) -> None:
    folder = tmp_path / "malc2012"
    folder.mkdir()
    for number in ("1000", "1003"):
        scan = head_voxels()
        nibabel.Nifti1Image(scan, head_affine()).to_filename(folder / f"{number}_SS.nii.gz")
        truth = np.zeros(scan.shape, np.uint8)
        truth[5:20, 5:20, 5:20] = 45  # Left Cerebral White Matter of Neuromorphometrics
        nibabel.Nifti1Image(truth, head_affine()).to_filename(folder / f"{number}_glm.nii.gz")
    done = segment(*sorted(folder.glob("*_SS.nii.gz")), "-o", tmp_path / "out")
    assert (done.code, done.errors) == (0, [])
    scores = tmp_path / "scores"
    words = ("evaluate", tmp_path / "out", folder, "-o", scores, "--labels", "malc2012")
    done = ddmseg(*words)
    assert (done.code, done.errors) == (0, [])
    assert done.out.startswith("2 patients")
    assert json.loads((scores / "summary.json").read_text())
    text = (scores / "scores.tsv").read_text()
    assert "Left-Cerebral-White-Matter" in text
