"""``ddmseg segment scan.nii.gz -o seg.nii.gz``: the labels in that file, and nothing else."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from toy_head import everything_in, head_affine, write_head

LABELS = {0, 2, 41, 53}


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_head(tmp_path / "in" / "scan.nii.gz")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "new" / "out"


@pytest.mark.parametrize("name", ["seg.nii.gz", "seg.nii", "Seg.NII.GZ"])
def test_the_file_holds_the_labels_and_stands_alone(segment, scan, out, name) -> None:
    outcome = segment(scan, "-o", out / name)
    assert (outcome.code, outcome.errors) == (0, [])
    assert everything_in(out) == [name]
    assert outcome.out.splitlines()[0].endswith(f"  {out / name}")
    zipped = (out / name).read_bytes()[:2] == b"\x1f\x8b"
    assert zipped == name.lower().endswith(".gz")
    # nibabel chooses by the letters as they are
    image = nib.Nifti1Image.from_filename((out / name).rename(out / name.lower()))
    np.testing.assert_allclose(image.affine, head_affine())
    assert set(np.unique(np.asarray(image.dataobj))) <= LABELS


def test_the_labels_are_those_of_a_folder_in_freesurfers_format_too(
    segment, scan, tmp_path
) -> None:
    for name in ("seg.nii.gz", "seg.mgz", "out"):
        assert segment(scan, "-o", tmp_path / name).code == 0
    together = tmp_path / "out" / "scan_dseg.nii.gz"
    assert (tmp_path / "seg.nii.gz").read_bytes() == together.read_bytes()
    labels, same = (nib.load(tmp_path / name) for name in ("seg.mgz", "seg.nii.gz"))
    assert isinstance(labels, nib.MGHImage)
    np.testing.assert_array_equal(np.asarray(labels.dataobj), np.asarray(same.dataobj))
    np.testing.assert_allclose(labels.affine, same.affine, atol=1e-4)


def test_reasons_of_the_verdict_are_said_since_no_file_tells_them(segment, scan, out) -> None:
    outcome = segment(scan, "-o", out / "seg.nii.gz", "--on-fail", "warn")
    verdict = outcome.out.split()[0]
    told = [line for line in outcome.err.splitlines() if line.startswith(f"{out / 'seg.nii.gz'}: ")]
    assert bool(told) == (verdict != "pass")
    assert told  # weights drawn at random convince nobody


def test_what_stands_there_stays_unless_it_is_to_be_replaced(segment, scan, out) -> None:
    out.mkdir(parents=True)
    (out / "seg.nii.gz").write_text("mine")
    outcome = segment(scan, "-o", out / "seg.nii.gz")
    assert outcome.code == 1
    assert outcome.error == (
        f"{out / 'seg.nii.gz'} exists already; pass --overwrite to replace it, or name another file"
    )
    assert (out / "seg.nii.gz").read_text() == "mine"
    assert segment(scan, "-o", out / "seg.nii.gz", "--overwrite").code == 0
    assert nib.load(out / "seg.nii.gz").shape == nib.load(scan).shape


def test_a_failure_while_writing_leaves_the_old_file_and_no_other(
    segment, scan, out, monkeypatch
) -> None:
    out.mkdir(parents=True)
    (out / "seg.nii.gz").write_text("mine")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("ddmseg.imaging.nifti_write._planes", full)
    outcome = segment(scan, "-o", out / "seg.nii.gz", "--overwrite")
    assert outcome.code == 1
    assert "the disk is full" in outcome.error
    assert (out / "seg.nii.gz").read_text() == "mine"
    assert everything_in(out) == ["seg.nii.gz"]


def test_several_scans_do_not_fit_in_one_file(segment, scan, out) -> None:
    other = write_head(scan.with_name("other.nii.gz"))
    told = (
        f"--output {out / 'seg.nii.gz'}: a file for the labels of one scan, and 2 were given; "
        "name a folder"
    )
    for inputs in ([scan, other], [scan.parent], [scan, scan.with_name("absent.nii.gz")]):
        outcome = segment(*inputs, "-o", out / "seg.nii.gz")
        assert (outcome.code, outcome.error) == (2, told)
    other.unlink()
    assert segment(scan.parent, "-o", out / "seg.nii.gz").code == 0  # a folder of one
    assert everything_in(out) == ["seg.nii.gz"]


@pytest.mark.parametrize("words", [["--probabilities"], ["--trace"], ["--root", "/"]])
def test_other_results_need_a_folder(segment, scan, out, words) -> None:
    outcome = segment(scan, "-o", out / "seg.nii.gz", *words)
    assert outcome.code == 2
    assert outcome.error.endswith(f"{words[0]} needs a folder for the results; name one")
    assert not out.exists()


def test_the_scan_itself_is_never_replaced(segment, scan, tmp_path) -> None:
    before = scan.read_bytes()
    (tmp_path / "link.nii.gz").symlink_to(scan)
    for output in (scan, tmp_path / "link.nii.gz"):
        outcome = segment(scan, "-o", output, "--overwrite")
        assert outcome.code == 2
        assert outcome.error == (f"--output {output}: this is the scan itself; name another file")
    assert scan.read_bytes() == before


def test_a_folder_called_as_a_file_is_no_place(segment, scan, out) -> None:
    (out / "seg.nii.gz").mkdir(parents=True)
    outcome = segment(scan, "-o", out / "seg.nii.gz")
    assert outcome.error == f"{out / 'seg.nii.gz'} is a folder called as a file; name another place"
    assert everything_in(out) == ["seg.nii.gz"]


@pytest.mark.parametrize("name", ["seg.mgh", "seg.nrrd", "seg.MHA", "seg.img", "x.gz", "seg.dcm"])
def test_other_kinds_of_images_are_refused_and_no_folder_is_made(segment, scan, out, name) -> None:
    outcome = segment(scan, "-o", out / name)
    assert (outcome.code, outcome.error) == (
        2,
        f"{out / name}: labels are written as .nii.gz, .nii or .mgz; name such a file, or a folder",
    )
    assert not out.exists()


def test_a_folder_with_such_an_ending_that_is_there_is_one(segment, scan, tmp_path) -> None:
    (tmp_path / "study.img").mkdir()
    assert segment(scan, "-o", tmp_path / "study.img").code == 0
    assert (tmp_path / "study.img" / "scan_receipt.json").is_file()


def test_a_failed_check_leaves_no_file_where_that_was_asked(segment, scan, out) -> None:
    outcome = segment(scan, "-o", out / "seg.nii.gz", "--on-fail", "skip")
    assert outcome.code == 0
    assert "not written" in outcome.out
    assert not (out / "seg.nii.gz").exists()


def test_results_of_a_bids_folder_need_a_folder(ddmseg, scan, out, tiny_model) -> None:
    words = ("--skip-bids-validation", "--model", tiny_model)
    outcome = ddmseg("bids", scan.parent, out / "seg.nii.gz", "participant", *words)
    assert outcome.error.startswith(f"{out / 'seg.nii.gz'} is called as a file; the results need ")
