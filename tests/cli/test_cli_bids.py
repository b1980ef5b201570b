"""``ddmseg bids``: derivatives that the validator takes, and the same command again."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from bids_folder import describe, image, study
from toy_head import PROMISED, everything_in

_PLACES = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
VALIDATOR = shutil.which("bids-validator-deno", path=_PLACES)
SIDECARS = ["_desc-discrepancy_map.json", "_desc-uncertainty_map.json"]


@pytest.fixture
def bids(ddmseg, tiny_model):
    def run(*words: object):
        return ddmseg("bids", *words, "--model", tiny_model, "--mode", "fast")

    return run


def test_participant_then_group_then_nothing_more_to_do(bids, tmp_path) -> None:
    raw, out = study(tmp_path / "raw"), tmp_path / "raw" / "derivatives" / "ddmseg"
    image(raw, "sub-04_PDw")
    first = bids(raw, out, "participant", "-w", tmp_path / "work")
    assert (first.code, first.errors) == (0, [])
    assert "passed over sub-04: no T1w or FLAIR or T2w image (1 *_PDw)" in first.err
    stem = out / "sub-02" / "anat" / "sub-02_space-orig"
    made = sorted(path.name for path in stem.parent.iterdir())
    assert made == sorted(f"{stem.name}{end}" for end in PROMISED + SIDECARS)
    told = json.loads(Path(f"{stem}_dseg.json").read_text())
    assert told["SpatialReference"] == "orig"
    assert told["Sources"] == ["bids:raw:sub-02/anat/sub-02_T1w.nii.gz"]
    assert told["index"]["Description"]  # of the table beside it, too
    about = json.loads((out / "dataset_description.json").read_text())
    assert about["DatasetType"] == "derivative"
    assert about["DatasetLinks"] == {"raw": "../.."}
    assert [one["Name"] for one in about["GeneratedBy"]] == ["ddmseg"]
    before = everything_in(out)
    again = bids(raw, out, "participant")
    assert (again.code, again.out) == (0, "")
    assert "3 of 3 done already" in again.err
    assert everything_in(out) == before
    group = bids(raw, out, "group")
    assert group.code == 0
    assert group.out == f"3 scans  {out / 'group_report.html'}\n"
    assert "without a result: sub-04 (no T1w" in group.err
    page = (out / "group_report.html").read_text()
    assert 'href="sub-02/anat/sub-02_space-orig_report.html"' in page


def test_subjects_by_label_and_by_contrast(bids, tmp_path) -> None:
    raw, out = study(tmp_path / "raw"), tmp_path / "out"
    image(raw, "sub-03_FLAIR", seed=4)
    some = bids(raw, out, "participant", "--participant-label", "01", "sub-03", "77")
    assert some.code == 1
    assert some.error == f"{raw / 'sub-77'}: {raw}: there is no sub-77; check the label"
    assert [path.name for path in sorted(out.glob("sub-*"))] == ["sub-01", "sub-03"]
    flair = bids(raw, tmp_path / "flair", "participant", "--suffix", "FLAIR")
    assert flair.code == 0
    assert "passed over sub-01: no FLAIR image (1 *_T1w)" in flair.err
    group = bids(raw, out, "group")
    assert "without a result: sub-02_space-orig (not segmented yet, or failed" in group.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere", "out", "participant"], 2, "no such folder; name a BIDS folder"),
        (["raw", "out", "subject"], 2, "LEVEL: got 'subject'; allowed are participant, group"),
        (["raw", "raw", "participant"], 2, "the results would lie among the scans"),
        (["raw", "file", "participant"], 1, "is a file; the results need a folder"),
        (["raw", "other", "participant"], 1, "is not of ddmseg; choose another folder"),
        (["raw", "out", "group"], 1, "no such folder; name one that holds results"),
        (["raw", "empty", "group"], 1, "no result that can be read; segment some scans first"),
        (["plain", "out", "participant"], 2, "dataset_description.json is missing"),
        (["raw", "out", "participant", "--participant-label"], 2, "the value is missing"),
        (["raw", "out", "participant", "--bids-filter-file", "none"], 2, "cannot be read as JSON"),
    ],
)
def test_what_cannot_be_is_one_line(bids, tmp_path, monkeypatch, words, code, said) -> None:
    monkeypatch.chdir(tmp_path)
    study(Path("raw"), subjects=1)
    for name in ("plain", "empty"):
        Path(name).mkdir()
    describe(Path("other"))
    Path("file").write_text("")
    before = everything_in(tmp_path)
    outcome = bids(*words)
    assert outcome.code == code
    assert said in outcome.error
    assert everything_in(tmp_path) == before


def test_a_folder_without_any_image_writes_nothing(bids, tmp_path) -> None:
    raw = describe(tmp_path / "raw")
    (raw / "sub-01" / "func").mkdir(parents=True)
    outcome = bids(raw, tmp_path / "out", "participant")
    assert outcome.code == 1
    assert "no image to segment; the lines above say why" in outcome.error
    assert not (tmp_path / "out").exists()


EXTRA_FILES = ("--probabilities", "--trace", "--brain", "--mgz")


@pytest.mark.skipif(VALIDATOR is None, reason="pip install bids-validator-deno brings a validator")
def test_the_validator_of_bids_has_no_error(bids, tmp_path) -> None:
    raw, out = describe(tmp_path / "raw"), tmp_path / "out"
    image(raw, "sub-01_ses-a_acq-x_run-1_T1w", seed=1)
    image(raw, "sub-02_ses-b_part-mag_T2w", seed=2)
    assert bids(raw, out, "participant", *EXTRA_FILES).code == 0
    assert bids(raw, out, "group").code == 0
    assert VALIDATOR is not None
    done = subprocess.run([VALIDATOR, "--json", out], capture_output=True, text=True)
    issues = json.loads(done.stdout)["issues"]["issues"]
    assert [one for one in issues if one["severity"] == "error"] == []
    named = [path.name for path in out.rglob("sub-*_dseg.nii.gz")]
    assert "sub-02_ses-b_part-mag_space-orig_dseg.nii.gz" in named


def test_results_lie_on_the_grid_of_the_image(bids, tmp_path) -> None:
    raw, out = study(tmp_path / "raw", subjects=1), tmp_path / "out"
    assert bids(raw, out, "participant").code == 0
    scan = nib.load(raw / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    labels = nib.load(out / "sub-01" / "anat" / "sub-01_space-orig_dseg.nii.gz")
    assert labels.shape == scan.shape
    assert (labels.affine == scan.affine).all()
