"""A review from table to log: decisions, corrections, windows that overtake each other."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.imaging.labels import count_voxels, structure
from ddmseg.review.log import LOG
from ddmseg.review.results import CORRECTED, LABELS
from ddmseg.review.session import (
    MAX_NOTE,
    Review,
    SupersededError,
)
from ddmseg.review.verification import verify_review
from review_folder import nifti_bytes


@pytest.fixture
def worse(review: Review) -> str:
    return review.rows()[0].result.identifier


def edited(review: Review, identifier: str, voxels: int = 5) -> bytes:
    labels = review.labels(identifier)
    data = labels.data.astype(np.uint8)
    data[tuple(np.argwhere(data == 2)[:voxels].T)] = 53
    return nifti_bytes(data, labels.affine)


def entries(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / LOG).read_text().splitlines()]


def test_the_worst_comes_first_and_what_is_damaged_is_told(review: Review, folder: Path) -> None:
    assert [row.result.name for row in review.rows()] == ["worse", "better"]
    (folder / "better_qc.json").write_text("{")
    assert [row.result.name for row in review.rows()] == ["worse"]
    (problem,) = review.problems
    assert "better_qc.json: damaged" in problem


def test_new_results_appear(review: Review, folder: Path) -> None:
    for path in list(folder.glob("better_*")):
        (folder / path.name.replace("better", "later")).write_bytes(path.read_bytes())
    assert "later" in [row.result.name for row in review.rows()]


def test_an_unknown_scan_is_refused(review: Review) -> None:
    for identifier in ("", "../worse", "0" * 16):
        with pytest.raises(UsageError, match="no scan of that identifier"):
            review.row(identifier)


def test_pictures_and_volumes_for_the_viewer(review: Review, worse: str) -> None:
    assert review.thumbnail(worse).startswith(b"\x89PNG")
    assert review.thumbnail(worse) is review.thumbnail(worse)
    affine = review.labels(worse).affine
    shown = [
        review.scan_bytes(worse),
        review.label_bytes(worse),
        review.map_bytes(worse, "discrepancy"),
        review.map_bytes(worse, "uncertainty"),
        review.frame_bytes(worse, "samples", 1),
    ]
    for data in shown:
        image = nib.Nifti1Image.from_bytes(data)
        assert image.shape == (24, 30, 20)
        np.testing.assert_allclose(image.affine, affine, atol=1e-5)
    assert review.frame_counts(worse) == {"samples": 2, "steps": 2}


def test_the_discrepancy_is_on_one_scale_for_all_scans(review: Review) -> None:
    for row in review.rows():
        header = nib.Nifti1Image.from_bytes(review.map_bytes(row.result.identifier, "discrepancy"))
        # exp(-D / sigma_D^2) is a half in the middle, a quarter at the end; sigma_D is 1 here
        assert np.exp(-float(header.header["cal_max"])) == pytest.approx(0.25)
        assert float(header.header["cal_min"]) == 0.0


def test_kinds_that_are_not_are_refused(review: Review, worse: str) -> None:
    for ask in (
        lambda: review.map_bytes(worse, "dseg"),
        lambda: review.doubtful_regions(worse, "../etc"),
        lambda: review.frame_bytes(worse, "labels", 0),
        lambda: review.decide(worse, "correct", seen=review.seen(worse)),
        lambda: review.decide(worse, "accept", note="x" * (MAX_NOTE + 1), seen=review.seen(worse)),
    ):
        with pytest.raises(UsageError, match="got"):
            ask()


def test_without_the_scan_the_page_is_black_but_works(folder: Path) -> None:
    review = Review(folder)
    worse = review.rows()[0].result.identifier
    assert review.source_scan(worse) is None
    image = nib.Nifti1Image.from_bytes(review.scan_bytes(worse))
    assert not np.asarray(image.dataobj).any()
    assert review.thumbnail(worse).startswith(b"\x89PNG")


def test_places_are_sorted_and_ready_for_json(review: Review, worse: str) -> None:
    for kind in ("discrepancy", "uncertainty"):
        told = [region.as_dict() for region in review.doubtful_regions(worse, kind)]
        errors = [place["expected_error_ml"] for place in told]
        assert errors == sorted(errors, reverse=True)
        assert json.loads(json.dumps(told))


def test_places_by_discrepancy_are_what_stands_out_where_the_card_says_what_is_usual(
    review: Review, worse: str, monkeypatch
) -> None:
    def card(limit: float) -> Any:
        found = count_voxels(review.labels(worse).data)
        usual = {structure(index).name: limit for index in found if index}
        return lambda *_: SimpleNamespace(
            calibration={"standing_out": {"discrepancy": usual}},
            settings={"loss": {"temperature": 1.0}},
        )

    found = []
    for limit in (1e-3, 1e3):
        monkeypatch.setattr(Review, "_card", card(limit))
        review._small_cache = type(review._small_cache)(10)
        found.append(review.doubtful_regions(worse, "discrepancy"))
    everything, nothing = found
    assert nothing == []
    sizes = [one.volume_ml for one in everything]
    assert sizes
    assert sizes == sorted(sizes, reverse=True)


def test_decisions_go_to_the_log(review: Review, folder: Path, worse: str) -> None:
    review.decide(worse, "accept", note="good enough", seen=review.seen(worse))
    review.decide(worse, "reject", seen=review.seen(worse))
    first, second = entries(folder)
    assert (first["scan"], first["action"], first["note"]) == ("worse", "accept", "good enough")
    assert (first["reviewer"], first["file"]) == ("AB", "worse_dseg.nii.gz")
    assert first["file_sha256"] == first["original_sha256"] == review.seen(worse)
    assert second["action"] == "reject"
    assert [entry["action"] for entry in review.row(worse).decisions] == ["accept", "reject"]
    assert verify_review(folder).entries == 2


def test_a_correction_is_saved_measured_and_logged(
    review: Review, folder: Path, worse: str
) -> None:
    original = (folder / f"worse{LABELS}").read_bytes()
    entry = review.correct(worse, edited(review, worse), seen=review.seen(worse))
    assert (folder / f"worse{LABELS}").read_bytes() == original
    assert entry["edit"]["voxels_changed"] == 5
    assert entry["file"] == f"worse{CORRECTED}"
    assert entry["file_sha256"] == review.seen(worse)
    assert {row["index"] for row in entry["edit"]["structures"]} == {2, 53}
    corrected = nib.load(folder / f"worse{CORRECTED}")
    before = nib.load(folder / f"worse{LABELS}")
    assert corrected.header.binaryblock == before.header.binaryblock
    changed = np.asarray(corrected.dataobj) != np.asarray(before.dataobj)
    assert changed.sum() == 5
    again = Review(folder).row(worse)
    assert again.decisions[-1]["edit"] == entry["edit"]
    assert verify_review(folder).problem == ""


def test_a_wrong_correction_leaves_no_trace(review: Review, folder: Path, worse: str) -> None:
    with pytest.raises(ScanError, match="neither NIfTI nor MGH"):
        review.correct(worse, b"x" * 1000, seen=review.seen(worse))
    assert not (folder / f"worse{CORRECTED}").exists()
    assert not (folder / LOG).exists()


def test_a_window_that_was_overtaken_saves_nothing(
    review: Review, folder: Path, worse: str
) -> None:
    seen = review.seen(worse)
    review.correct(worse, edited(review, worse), seen=seen)
    kept = (folder / f"worse{CORRECTED}").read_bytes()
    with pytest.raises(SupersededError, match="changed in the meantime"):
        review.correct(worse, edited(review, worse, 9), seen=seen)
    with pytest.raises(SupersededError, match="load the scan again"):
        review.decide(worse, "accept", seen=seen)
    assert (folder / f"worse{CORRECTED}").read_bytes() == kept
    assert len(entries(folder)) == 1
    review.correct(worse, edited(review, worse, 9), seen=review.seen(worse))
    assert verify_review(folder).problem == ""


def test_two_windows_at_once_lose_no_decision(folder: Path, worse: str, review: Review) -> None:
    seen = review.seen(worse)
    windows = [Review(folder), Review(folder)]
    threads = [
        threading.Thread(target=window.decide, args=(worse, "accept"), kwargs={"seen": seen})
        for window in windows * 4
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verify_review(folder).entries == 8


def test_a_log_that_cannot_be_written_keeps_the_earlier_correction(
    review: Review, folder: Path, worse: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(entry: dict, **_: object) -> dict:
        raise OutputError("the disk is full")

    monkeypatch.setattr(review.log, "append", fail)
    with pytest.raises(OutputError, match="the disk is full"):
        review.correct(worse, edited(review, worse), seen=review.seen(worse))
    assert not (folder / f"worse{CORRECTED}").exists()


def test_verification_names_what_was_changed(review: Review, folder: Path, worse: str) -> None:
    review.decide(worse, "reject", seen=review.seen(worse))
    review.correct(worse, edited(review, worse), seen=review.seen(worse))
    path = folder / f"worse{CORRECTED}"
    kept = path.read_bytes()
    path.write_bytes(kept + b"x")
    assert verify_review(folder).problem == f"line 2: {path.name} was changed after it was saved"
    path.unlink()
    assert verify_review(folder).problem == f"line 2: {path.name} is missing"
    path.write_bytes(kept)
    assert verify_review(folder).problem == ""
    (folder / f"better{CORRECTED}").write_bytes(kept)
    problem = verify_review(folder).problem
    assert problem == f"better{CORRECTED}: no line of the log tells of this correction"
    log = folder / LOG
    log.write_bytes(log.read_bytes().replace(b"reject", b"accept"))
    assert verify_review(folder).problem.startswith("line 2: its previous_sha256")


def test_verification_reads_nothing_outside_the_folder(review: Review, folder: Path) -> None:
    with review.log.locked():
        review.log.append({"action": "correct", "file": "../x.nii.gz", "file_sha256": ""})
    assert verify_review(folder).problem == "line 1: ../x.nii.gz is not in this folder"
