"""``ddmseg evaluate`` from files to files, as it is typed."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from toy_head import everything_in

FILES = ["evaluation.html", "scores.tsv", "summary.json", "summary.tsv"]


def write(path: Path, *, right: int = 53, shift: int = 0, shape=(16, 12, 10)) -> None:
    """Two hippocampi; the left one moved by some voxels."""
    labels = np.zeros(shape, dtype=np.int16)
    labels[2 + shift : 6 + shift, 3:7, 3:7] = 17
    labels[10:14, 3:7, 3:7] = right
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.Nifti1Image(labels, np.diag([1.0, 1.5, 2.0, 1.0])).to_filename(path)


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Three good pairs in the names of ddmseg's own output; and a place for the results."""
    predictions, truth = tmp_path / "P", tmp_path / "T"
    for number in range(3):
        write(predictions / f"sub-0{number}_T1w_dseg.nii.gz", shift=number % 2)
        write(predictions / f"sub-0{number}_T1w_desc-uncertainty_map.nii.gz")
        write(truth / f"sub-0{number}" / "anat" / f"sub-0{number}_desc-manual_dseg.nii.gz")
    return predictions, truth, tmp_path / "out"


def dice_of(out: Path) -> dict[tuple[str, str], float]:
    with (out / "scores.tsv").open(newline="") as file:
        rows = csv.DictReader(file, delimiter="\t")
        return {(row["case"], row["structure"]): float(row["dice"]) for row in rows}


def test_good_pairs_give_every_file_and_code_0(ddmseg, folders) -> None:
    predictions, truth, out = folders
    outcome = ddmseg("evaluate", predictions, truth, "-o", out)
    assert (outcome.code, outcome.errors) == (0, [])
    assert everything_in(out) == FILES
    assert dice_of(out) == {
        (f"sub-0{n}", f"{side}-Hippocampus"): 0.75 if (n, side) == (1, "Left") else 1.0
        for n in range(3)
        for side in ("Left", "Right")
    }
    (line,) = outcome.out.splitlines()
    assert line.startswith("3 patients  mean Dice 0.958 (")
    assert line.endswith(str(out / "evaluation.html"))


def test_a_bad_grid_and_a_missing_truth_do_not_stop_the_others(ddmseg, folders) -> None:
    predictions, truth, out = folders
    write(predictions / "sub-01_T1w_dseg.nii.gz", shape=(17, 12, 10))
    (truth / "sub-02" / "anat" / "sub-02_desc-manual_dseg.nii.gz").unlink()
    done = ddmseg("evaluate", predictions, truth, "-o", out)
    assert done.code == 1
    assert done.errors == [
        f"error: {predictions}/sub-02_T1w_dseg.nii.gz: no truth for it in {truth}; name both "
        "alike or leave it out",
        "error: sub-01: prediction of 17 x 12 x 10 voxels and truth of 16 x 12 x 10: different "
        "grids; bring the prediction to the grid of the truth first, with nearest neighbours",
    ]
    assert "warning: one patient only: no interval, no limits of agreement" in done.err
    assert set(dice_of(out)) == {("sub-00", f"{s}-Hippocampus") for s in ("Left", "Right")}
    told = json.loads((out / "summary.json").read_text())
    assert [f"error: {line}" for line in told["problems"]] == done.errors
    assert told["summary"]["mean"]["dice"] == {
        "mean": 1.0,
        "low": None,
        "high": None,
        "n": 1,
        "undefined": 0,
        "infinite": 0,
    }
    assert "1 patient  mean Dice 1.000  HD95 0.00 mm" in done.out


def test_two_files_and_a_table(ddmseg, folders, tmp_path) -> None:
    predictions, _, out = folders
    table = tmp_path / "labels.tsv"
    table.write_text("name\tprediction\ttruth\nboth\t17,53\t17,99\n")
    write(tmp_path / "t.nii", right=99)
    prediction = predictions / "sub-00_T1w_dseg.nii.gz"
    outcome = ddmseg("evaluate", prediction, tmp_path / "t.nii", "-o", out, "--labels", table)
    assert outcome.code == 0
    assert dice_of(out) == {("t", "both"): 1.0}


def test_ids_that_the_table_does_not_name_are_a_warning(ddmseg, folders, tmp_path) -> None:
    predictions, truth, out = folders
    table = tmp_path / "labels.tsv"
    table.write_text("name\tprediction\ttruth\nleft\t17\t17\n")
    outcome = ddmseg("evaluate", predictions, truth, "-o", out, "--labels", table)
    assert outcome.code == 0
    assert (
        "warning: label ids of the prediction that the table does not name, left out: 53 (3 of 3)"
        in outcome.err.splitlines()
    )


def test_results_that_are_there_are_replaced_only_when_told(ddmseg, folders) -> None:
    predictions, truth, out = folders
    words = ("evaluate", predictions, truth, "-o", out)
    assert ddmseg(*words).code == 0
    outcome = ddmseg(*words)
    assert (outcome.code, outcome.error) == (
        1,
        f"{out}/scores.tsv exists already; pass --overwrite to replace it, or name another folder",
    )
    assert ddmseg(*words, "--overwrite").code == 0


def test_nothing_is_written_where_no_pair_can_be_scored(ddmseg, folders, tmp_path) -> None:
    _, truth, out = folders
    write(tmp_path / "other" / "x.nii.gz")
    outcome = ddmseg("evaluate", tmp_path / "other", truth, "-o", out)
    assert outcome.code == 1
    assert outcome.errors[-1].startswith("error: no pair could be evaluated, so nothing was writ")
    assert not out.exists()


def test_maps_without_any_label_are_refused(ddmseg, folders, tmp_path) -> None:
    for name in ("a.nii", "b.nii"):
        nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)).to_filename(tmp_path / name)
    outcome = ddmseg("evaluate", tmp_path / "a.nii", tmp_path / "b.nii", "-o", tmp_path / "out")
    assert (outcome.code, outcome.error) == (
        1,
        "no label map holds a label above 0, so nothing was written; check the files",
    )


@pytest.mark.parametrize(
    ("change", "code", "told"),
    [
        ({0: "nowhere"}, 1, "nowhere: no such file or folder; check the path"),
        ({4: "--label=x"}, 2, "--label: unknown option (did you mean '--labels'?)"),
        ({4: "--labels=x"}, 2, "labels: got 'x'; give a TSV file with the columns name, predic"),
        ({1: "", 2: "-o"}, 2, "TRUTH is missing; see ddmseg evaluate --help"),
        ({2: "", 3: ""}, 2, "--output is missing; see ddmseg evaluate --help"),
    ],
)
def test_mistakes_are_one_line(ddmseg, folders, change, code, told) -> None:
    predictions, truth, out = folders
    words = [predictions, truth, "-o", out, ""]
    for place, word in change.items():
        words[place] = word
    outcome = ddmseg("evaluate", *[word for word in words if word != ""])
    assert outcome.code == code
    assert outcome.error.startswith(told)
    assert not out.exists()


def test_a_real_truth_agrees_with_itself_moved_by_nothing(ddmseg, data_folder, tmp_path) -> None:
    truth = data_folder / "hippocampus" / "labelsTr"
    if not truth.is_dir():
        pytest.skip("real data: DDMSEG_DATA holds no hippocampus set")
    (tmp_path / "P").mkdir()
    for path in sorted(truth.glob("hippocampus_*.nii.gz"))[:3]:
        (tmp_path / "P" / path.name).write_bytes(path.read_bytes())
    outcome = ddmseg("evaluate", tmp_path / "P", tmp_path / "P", "-o", tmp_path / "out")
    assert outcome.code == 0
    assert set(dice_of(tmp_path / "out").values()) == {1.0}
    assert {structure for _, structure in dice_of(tmp_path / "out")} == {"label 1", "label 2"}


def write_real(path: Path, off: float) -> None:
    """As :func:`write`, in real numbers that are off by some hundredths."""
    write(path)
    labels = np.asarray(nib.load(path).dataobj).astype(np.float32)
    nib.Nifti1Image(np.where(labels > 0, labels - off, labels), np.eye(4)).to_filename(path)


def test_nearly_whole_ids_are_rounded_and_that_is_said(ddmseg, tmp_path) -> None:
    ours, theirs = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    write_real(ours, 0.04)
    write_real(theirs, 0.0)
    outcome = ddmseg("evaluate", ours, theirs, "-o", tmp_path / "out")
    assert (outcome.code, outcome.errors) == (0, [])
    assert set(dice_of(tmp_path / "out").values()) == {1.0}
    told = f"1 label map ({ours}): ids up to 0.04 from whole numbers, rounded"
    assert told in json.loads((tmp_path / "out" / "summary.json").read_text())["notes"]
    assert told in outcome.err


def test_integers_that_nibabel_scaled_are_label_maps(ddmseg, tmp_path) -> None:
    path = tmp_path / "a.nii.gz"
    write(path)
    labels = np.asarray(nib.load(path).dataobj).astype(np.float64)
    image = nib.Nifti1Image(labels, np.eye(4))
    image.set_data_dtype(np.int16)
    image.to_filename(path)
    values = np.unique(nib.load(path).get_fdata())
    assert not np.array_equal(values, np.rint(values))
    assert ddmseg("evaluate", path, path, "-o", tmp_path / "out").code == 0


def test_ids_further_from_whole_numbers_are_refused(ddmseg, tmp_path) -> None:
    ours, theirs = tmp_path / "a.nii.gz", tmp_path / "b.nii.gz"
    write_real(ours, 0.06)
    write_real(theirs, 0.0)
    outcome = ddmseg("evaluate", ours, theirs, "-o", tmp_path / "out")
    assert outcome.code == 1
    assert any("not a label map: it holds values that are no whole" in e for e in outcome.errors)
