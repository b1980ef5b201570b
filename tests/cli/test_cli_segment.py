"""``ddmseg segment`` from file to files, with a model too small to know anything."""

from __future__ import annotations

import csv
import hashlib
import json
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.imaging.postprocess import Cleaning
from ddmseg.inference import memory
from ddmseg.inference.cache import CACHE_VARIABLE
from ddmseg.quality.limits import Limits
from real_command import Outcome, run_quietly
from toy_head import PROMISED, everything_in, head_affine, head_voxels, write_head

LABELS = {0, 2, 41, 53}


def promised(stem: str) -> list[str]:
    return [f"{stem}{suffix}" for suffix in PROMISED]


def hashes(folder: Path) -> dict[str, str]:
    """Of every file but the receipt, which tells the time."""
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith("_receipt.json")
    }


def voxels(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def receipt(folder: Path, stem: str = "scan") -> dict:
    return json.loads((folder / f"{stem}_receipt.json").read_text())


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_head(tmp_path / "scan.nii.gz")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, tiny_model) -> tuple[Path, Outcome]:
    """The folder of one scan's results in mode diffusion, and what was said."""
    folder = tmp_path_factory.mktemp("run")
    scan, out = write_head(folder / "scan.nii.gz"), folder / "new" / "out"
    words = ("-o", out, "--mode", "diffusion", "--no-cache", "--model", tiny_model)
    return out, run_quietly("segment", scan, *words)


def test_one_scan_gives_every_promised_file(run) -> None:
    out, outcome = run
    assert (outcome.code, outcome.errors) == (0, [])
    assert everything_in(out) == promised("scan")
    (line,) = outcome.out.splitlines()
    verdict, *_, report = line.split()
    quality = json.loads((out / "scan_qc.json").read_text())
    assert verdict == quality["verdict"]
    assert f"expected Dice {quality['expected_dice']:.2f}" in line
    assert report == str(out / "scan_report.html")
    assert (quality["steps"], quality["samples"]) == (2, 2)
    labels = nib.load(out / "scan_dseg.nii.gz")
    np.testing.assert_allclose(labels.affine, head_affine())
    assert labels.shape == head_voxels().shape
    assert set(np.unique(voxels(out / "scan_dseg.nii.gz"))) <= LABELS
    uncertainty = voxels(out / "scan_desc-uncertainty_map.nii.gz")
    assert 0 <= uncertainty.min() <= uncertainty.max() <= 1
    assert voxels(out / "scan_desc-discrepancy_map.nii.gz").min() >= 0


def test_volumes_are_those_of_the_labels(run) -> None:
    labels = voxels(run[0] / "scan_dseg.nii.gz")
    with (run[0] / "scan_volumes.tsv").open() as file:
        rows = csv.DictReader(file, delimiter="\t")
        table = {int(r["index"]): r for r in rows if r["index"] != "0"}
    assert set(table) == LABELS - {0}
    for index, row in table.items():
        expected = (labels == index).sum() * 0.216
        assert float(row["volume_ml"]) == pytest.approx(expected, abs=1e-3)


def test_probabilities_come_when_asked_for(segment, scan, tmp_path) -> None:
    assert segment(scan, "-o", tmp_path / "out", "--probabilities").code == 0
    p = voxels(tmp_path / "out" / "scan_probseg.nii.gz")
    assert p.shape == (*head_voxels().shape, 4)
    np.testing.assert_allclose(p.sum(-1), 1, atol=0.02)


def test_a_trace_has_a_frame_for_each_sample_and_step(segment, scan, tmp_path) -> None:
    out = tmp_path / "out"
    words = ("--mode", "diffusion", "--steps", 3, "--samples", 2, "--trace")
    assert segment(scan, "-o", out, *words).code == 0
    steps, samples = (voxels(out / f"scan_desc-{n}_dseg.nii.gz") for n in ("steps", "samples"))
    assert steps.shape == (*head_voxels().shape, 3)
    assert samples.shape == (*head_voxels().shape, 2)
    assert set(np.unique(steps)) | set(np.unique(samples)) <= LABELS
    assert set(receipt(out)["outputs"]) >= {"scan_desc-steps_dseg.nii.gz"}
    labels = nib.load(out / "scan_desc-samples_dseg.nii.gz")
    np.testing.assert_allclose(labels.affine, head_affine())
    # A later run without a trace takes the old one away: it would be another run's.
    assert segment(scan, "-o", out, "--overwrite").code == 0
    assert everything_in(out) == promised("scan")


def test_raw_labels_are_not_cleaned(segment, scan, tmp_path, monkeypatch) -> None:
    def empty(labels, *, voxel_ml):
        islands = {41: int((labels > 0).sum())}
        return np.zeros_like(labels), Cleaning(islands, pieces={41: 2}, open_holes_ml=(7.0,))

    monkeypatch.setattr("ddmseg.inference.restoring.clean_labels", empty)
    for name, words in (("clean", ()), ("raw", ("--raw",))):
        assert segment(scan, "-o", tmp_path / name, *words).code == 0
    told = {
        name: json.loads((tmp_path / name / "scan_qc.json").read_text())["postprocessing"]
        for name in ("clean", "raw")
    }
    clean, raw = (voxels(tmp_path / name / "scan_dseg.nii.gz") for name in ("clean", "raw"))
    assert not clean.any()
    assert told["clean"]["voxels_changed"] == (raw > 0).sum() > 0
    left = {"large_pieces": {"Right-Cerebral-White-Matter": 2}, "large_holes_ml": [7.0]}
    assert told["raw"] == {"applied": False, **left}
    assert {key: told["clean"][key] for key in left} == left


@pytest.mark.parametrize(
    ("choice", "code", "written"), [("warn", 0, 1), ("skip", 0, 0), ("error", 1, 0)]
)
def test_a_failed_scan_is_handled_as_asked(
    segment, scan, tmp_path, monkeypatch, choice, code, written
) -> None:
    monkeypatch.setattr(Limits, "of", lambda card: Limits(fails=1.1))  # whatever comes fails
    out = tmp_path / "out"
    outcome = segment(scan, "-o", out, "--on-fail", choice)
    assert outcome.code == code
    assert len(list(out.glob("*_dseg.nii.gz"))) == written
    if choice == "skip":
        assert outcome.out.startswith("fail  expected Dice")
        assert "not written" in outcome.out
    if choice == "error":
        assert "failed the quality check (" in outcome.error


def test_the_same_seed_gives_the_same_hashes_and_another_seed_others(
    segment, scan, run, tmp_path
) -> None:
    for name, seed in (("same", 0), ("other", 2)):
        segment(scan, "-o", tmp_path / name, "--mode", "diffusion", "--seed", seed, "--no-cache")
    assert not (tmp_path / "feature cache").exists()
    assert hashes(tmp_path / "same") == hashes(run[0])
    assert receipt(tmp_path / "same")["outputs"] == receipt(run[0])["outputs"] == hashes(run[0])
    assert hashes(tmp_path / "other") != hashes(run[0])


def test_a_second_run_takes_the_features_from_the_cache_and_repeats_the_first(
    segment, scan, run, tmp_path
) -> None:
    common = (scan, "--mode", "diffusion", "-o")
    segment(*common, tmp_path / "first")
    segment(*common, tmp_path / "second")
    segment(*common, tmp_path / "steps", "--steps", "3")
    folders = (run[0], *(tmp_path / name for name in ("first", "second", "steps")))
    cached = [receipt(folder)["features_from_cache"] for folder in folders]
    assert cached == [False, False, True, True]
    assert hashes(run[0]) == hashes(tmp_path / "first") == hashes(tmp_path / "second")


def test_the_cache_can_be_switched_off_for_good(segment, scan, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, "off")
    for name in ("a", "b"):
        segment(scan, "-o", tmp_path / name)
    assert receipt(tmp_path / "b")["features_from_cache"] is False


def test_what_was_asked_for_is_spent(segment, scan, tmp_path) -> None:
    asked = "--mode diffusion --steps 3 --samples 5 --sampler dpm --temperature 0.5 --seed 7"
    assert segment(scan, "-o", tmp_path / "out", *asked.split(), "--threads", "1").code == 0
    told = receipt(tmp_path / "out")
    assert told["spent"]["steps"] == 3
    assert told["spent"]["samples"] == 5
    assert told["settings"]["sampler"] == "dpm"
    assert told["settings"]["temperature"] == 0.5
    assert told["settings"]["seed"] == 7


ODD = ["LIA", "PSR", "AIL"]


def test_odd_orientations_get_labels_on_their_own_grid(segment, scan, tmp_path) -> None:
    """Turning a scan turns its labels and changes nothing else."""
    from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

    image, start = nib.load(scan), io_orientation(head_affine())
    turns = {codes: ornt_transform(start, axcodes2ornt(tuple(codes))) for codes in ODD}
    for codes, turn in turns.items():
        image.as_reoriented(turn).to_filename(tmp_path / f"{codes}.nii.gz")
    assert segment(tmp_path, "-o", tmp_path / "out", "--mode", "fast").code == 0
    for codes, turn in turns.items():
        labels = nib.load(tmp_path / "out" / f"{codes}_dseg.nii.gz")
        np.testing.assert_allclose(labels.affine, image.as_reoriented(turn).affine)
        expected = nib.load(tmp_path / "out" / "scan_dseg.nii.gz").as_reoriented(turn)
        same = np.asarray(labels.dataobj) == np.asarray(expected.dataobj)
        assert len(np.unique(np.asarray(expected.dataobj))) > 1
        assert same.mean() > 0.999, codes  # ties may fall either way


def test_a_folder_is_done_as_a_whole(segment, tmp_path) -> None:
    for number in range(2):
        write_head(tmp_path / "in" / f"s{number}.nii.gz", seed=number)
    outcome = segment(tmp_path / "in", "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 2
    assert everything_in(tmp_path / "out") == promised("s0") + promised("s1")


@pytest.mark.parametrize("room_for", [1, 2])
def test_fewer_scans_at_once_than_asked_for_are_told(segment, tmp_path, monkeypatch, room_for):
    monkeypatch.setattr(memory, "scans_in_flight", lambda *_, most: min(most, room_for))
    for name in ("a", "b"):
        write_head(tmp_path / "in" / f"{name}.nii.gz")
    assert segment(tmp_path / "in", "-o", tmp_path / "out", "--mode", "fast").code == 0
    for name in ("a", "b"):
        told = receipt(tmp_path / "out", name)["memory"].get("scans_at_once")
        assert told == (1 if room_for == 1 else None)


def test_results_may_lie_beside_the_scans_and_are_not_scans(segment, scan, tmp_path) -> None:
    folder = scan.parent
    assert segment(folder, "-o", folder, "--mode", "fast").code == 0
    outcome = segment(folder, "-o", folder, "--mode", "fast", "--overwrite")
    assert outcome.code == 0
    assert len(outcome.out.splitlines()) == 1


def test_scans_of_one_name_do_not_overwrite_each_other(segment, tmp_path) -> None:
    a = write_head(tmp_path / "a" / "t1.nii.gz", seed=1)
    b = write_head(tmp_path / "b" / "t1.nii.gz", seed=2)
    outcome = segment(a, b, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 0
    for name in "ab":
        files = sorted(path.name for path in (tmp_path / "out" / name).iterdir())
        assert files == promised("t1")
    first, second = (receipt(tmp_path / "out" / name, "t1") for name in "ab")
    assert first["input"]["content_sha256"] != second["input"]["content_sha256"]


def test_a_bids_folder_is_done_as_a_whole(segment, tmp_path) -> None:
    write_head(tmp_path / "bids" / "sub-01" / "anat" / "sub-01_T1w.nii.gz")
    assert segment(tmp_path / "bids", "-o", tmp_path / "out", "--mode", "fast").code == 0
    assert everything_in(tmp_path / "out") == promised("sub-01_T1w")


def test_one_volume_of_many_can_be_chosen(segment, tmp_path) -> None:
    many = np.stack([head_voxels(seed=0), head_voxels(seed=1)], axis=-1)
    nib.Nifti1Image(many, head_affine()).to_filename(tmp_path / "many.nii.gz")
    one = write_head(tmp_path / "one.nii.gz", seed=1)
    out = tmp_path / "out"
    chosen = segment(tmp_path / "many.nii.gz", "-o", out, "--volume", "1", "--mode", "fast")
    assert chosen.code == 0
    segment(one, "-o", out, "--mode", "fast")
    np.testing.assert_array_equal(voxels(out / "many_dseg.nii.gz"), voxels(out / "one_dseg.nii.gz"))


def test_progress_tells_no_name_and_fast_mode_draws_no_sample(segment, tmp_path) -> None:
    path = write_head(tmp_path / "DOE_JOHN_1950.nii.gz")
    outcome = segment(path, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.err.splitlines()[0] == "scan 1 of 1: read"
    assert "DOE" not in outcome.err
    assert receipt(tmp_path / "out", path.name.split(".")[0])["spent"]["steps"] == 0


def test_it_is_the_same_from_a_shell(tiny_model, scan, tmp_path) -> None:
    words = ["segment", scan, tmp_path / "missing.nii", "-o", tmp_path / "out"]
    words += ["--model", tiny_model, "--mode", "fast"]
    done = subprocess.run(
        [sys.executable, "-m", "ddmseg", *map(str, words)], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stdout.endswith("scan_report.html\n")
    assert done.stderr.splitlines() == [
        f"error: {tmp_path / 'missing.nii'}: no such file; check the path",
        "scan 1 of 1: read",
        "1 of 2 failed",
    ]
    assert everything_in(tmp_path / "out") == promised("scan")


def test_jobs_of_one_scan_each_do_not_collide_below_a_root(segment, tmp_path) -> None:
    for number, name in enumerate(("p1", "p2")):
        write_head(tmp_path / "in" / name / "t1.nii.gz", seed=number)
    words = ["-o", tmp_path / "out", "--mode", "fast", "--root", tmp_path / "in"]
    for name in ("p1", "p2"):
        assert segment(tmp_path / "in" / name / "t1.nii.gz", *words).code == 0
    both = segment(*(tmp_path / "in" / name / "t1.nii.gz" for name in ("p1", "p2")), *words)
    assert "2 of 2 done already" in both.err
    flat = ["-o", tmp_path / "flat", "--mode", "fast"]
    assert segment(tmp_path / "in" / "p1" / "t1.nii.gz", *flat).code == 0
    refused = segment(tmp_path / "in" / "p2" / "t1.nii.gz", *flat)
    assert refused.error.endswith("or keep scans of one name apart with --root")
