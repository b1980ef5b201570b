"""What the page is told, and round trips of decisions and corrections."""

from __future__ import annotations

import errno
import gzip
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.review.log import LOG
from ddmseg.review.results import CORRECTED, LABELS
from ddmseg.review.server import session_payload
from ddmseg.review.session import Review
from ddmseg.review.verification import verify_review
from review_client import WORDS, Client, correct, decide, told_in_english, upload
from review_folder import nifti_bytes


def test_the_table_has_the_worst_first(client: Client) -> None:
    told = client.get("/api/scans").json()
    worse, better = told["scans"]
    assert (worse["name"], worse["verdict"], worse["state"]) == ("worse", "warn", "open")
    assert worse["reasons"] == ["the left side is <b>odd</b>"]
    assert worse["reason_codes"] == [None]
    assert worse["expected_dice"] < better["expected_dice"]
    assert {row["name"] for row in worse["volumes"]} >= {"Left-Cerebral-White-Matter"}
    assert told["problems"] == []


def test_one_scan_in_full(client: Client, worse: dict) -> None:
    assert worse["has_scan"] is True
    assert worse["has_correction"] is False
    assert worse["maps"] == ["discrepancy", "uncertainty"]
    assert worse["frames"] == {"samples": 2, "steps": 2}
    assert worse["drawable"] is True
    assert [label["index"] for label in worse["labels"]] == [2, 41, 53]
    assert worse["voxel_ml"] == pytest.approx(0.064)
    assert worse["last_edit"] is None


def test_the_session_has_scales_that_are_clear_at_the_low_end(review: Review) -> None:
    told = session_payload(review)
    assert told["reviewer"] == "AB"
    for scale in told["scales"].values():
        assert all(len(scale[channel]) == 256 for channel in "RGBAI")
        assert scale["A"] == sorted(scale["A"])
        assert scale["A"][0] == scale["A"][20] == 0 < scale["A"][96] < scale["A"][255]


def test_the_discrepancy_is_opaque_where_a_label_is_more_probably_wrong(review: Review) -> None:
    opacity = session_payload(review)["scales"]["glacier"]["A"]
    # the middle of its scale: exp(-D / sigma_D^2) = 1/2
    wrong = [1 - 0.5 ** (2 * step / 255) for step in range(256)]
    for shown, probability in zip(opacity, wrong, strict=True):
        assert (shown == max(opacity)) == (probability >= 0.5)
        assert (shown == 0) == (probability <= 1 - 0.5**0.5)


def test_every_volume_lies_on_one_grid(client: Client, worse: dict) -> None:
    affines = []
    for kind in ("scan", "labels", "discrepancy", "uncertainty", "steps/0", "samples/1"):
        answer = client.get(f"/api/scans/{worse['id']}/{kind}.nii")
        assert answer.status_code == 200
        image = nib.Nifti1Image.from_bytes(answer.content)
        assert list(image.shape) == worse["shape"]
        affines.append(image.affine)
    assert all(np.allclose(affines[0], affine, atol=1e-5) for affine in affines)


def test_what_is_not_there_is_told(client: Client, worse: dict) -> None:
    assert client.get(f"/api/scans/{worse['id']}/corrected.nii").status_code == 422
    assert client.get(f"/api/scans/{worse['id']}/steps/7.nii").status_code == 422
    assert client.get(f"/api/scans/{worse['id']}/steps/x.nii").status_code == 422
    assert client.get(f"/api/scans/{worse['id']}/places/odd").status_code == 404


def test_thumbnails_and_places(client: Client, worse: dict) -> None:
    picture = client.get(f"/api/scans/{worse['id']}/thumbnail.png")
    assert picture.content.startswith(b"\x89PNG")
    assert picture.headers["content-type"] == "image/png"
    (first, *_) = client.get(f"/api/scans/{worse['id']}/places/discrepancy").json()
    assert set(first) == {"index", "beside", "position_mm", "volume_ml", "expected_error_ml"}


def test_a_decision_goes_to_the_log_and_comes_back(
    client: Client, worse: dict, folder: Path
) -> None:
    entry = decide(client, worse, action="reject", note="tilted").json()
    assert (entry["entry"], entry["action"], entry["note"]) == (1, "reject", "tilted")
    row = client.get("/api/scans").json()["scans"][0]
    assert (row["state"], row["decision"]["reviewer"]) == ("rejected", "AB")
    assert verify_review(folder).entries == 1


def test_a_wrong_decision_is_refused(client: Client, worse: dict, folder: Path) -> None:
    for wrong in (
        {"action": "delete"},
        {"seen": "x"},
        {"note": "x" * 2001},
        {"note": 3},
        {"more": 1},
    ):
        assert decide(client, worse, **wrong).status_code == 400
        assert verify_review(folder).entries == 0


def test_a_decision_must_be_json(client: Client, worse: dict) -> None:
    address = f"/api/scans/{worse['id']}/decision"
    body = json.dumps({"action": "accept", "seen": worse["seen"]})
    plain = client.post(address, content=body, headers={"content-type": "text/plain"})
    assert plain.status_code == 415
    broken = client.post(address, content="{", headers={"content-type": "application/json"})
    assert broken.status_code == 400


def test_a_correction_survives_the_round_trip(
    client: Client, review: Review, worse: dict, folder: Path
) -> None:
    before = (folder / f"worse{LABELS}").read_bytes()
    entry = correct(client, worse, upload(review, worse)).json()
    assert entry["edit"]["voxels_changed"] == 4
    now = client.get(f"/api/scans/{worse['id']}").json()
    assert (now["state"], now["has_correction"]) == ("corrected", True)
    assert now["last_edit"] == entry["edit"]
    assert now["seen"] != worse["seen"]
    shown = nib.Nifti1Image.from_bytes(client.get(f"/api/scans/{now['id']}/corrected.nii").content)
    saved = nib.load(folder / f"worse{CORRECTED}")
    np.testing.assert_array_equal(np.asarray(shown.dataobj), np.asarray(saved.dataobj))
    assert (folder / f"worse{LABELS}").read_bytes() == before
    assert verify_review(folder).problem == ""


def test_errors_have_a_code_that_says_the_same(
    client: Client, review: Review, worse: dict, folder: Path
) -> None:
    labels = review.labels(worse["id"])
    small = gzip.compress(nifti_bytes(labels.data[1:].astype(np.uint8), labels.affine))
    moved = gzip.compress(nifti_bytes(labels.data.astype(np.uint8), 2 * labels.affine))
    strange = gzip.compress(nifti_bytes(labels.data.astype(np.uint8) + 1, labels.affine))
    answers = {
        "correction_shape": correct(client, worse, small),
        "correction_place": correct(client, worse, moved),
        "correction_label": correct(client, worse, strange),
        "no_such_scan": client.get("/api/scans/0000000000000000"),
        "superseded": decide(client, {**worse, "seen": 64 * "0"}),
    }
    (folder / "review_log.jsonl").write_bytes(b"half a line")
    answers["log_cut"] = decide(client, worse)
    for code, answer in answers.items():
        assert answer.json()["code"]["code"] == code
        assert told_in_english(answer) == answer.json()["error"]
    broken = correct(client, worse, b"x" * 999)
    assert (broken.json()["code"]["code"], broken.status_code) == ("no_nifti", 422)
    assert broken.json()["code"]["values"]["file"] == "the correction"
    assert told_in_english(broken) == broken.json()["error"]


def test_a_log_that_is_a_link_is_told_and_the_table_is_there(
    client: Client, worse: dict, folder: Path, tmp_path: Path
) -> None:
    (folder / LOG).symlink_to(tmp_path / "elsewhere")
    told = client.get("/api/scans").json()
    assert (len(told["scans"]), told["problem_codes"][0]["code"]) == (2, "log_link")
    assert told_in_english(decide(client, worse)) == told["problems"][0]
    assert not (tmp_path / "elsewhere").exists()


def test_labels_that_were_changed_are_open_again(client: Client, worse: dict, folder: Path) -> None:
    assert decide(client, worse).status_code == 200
    (folder / f"worse{LABELS}").write_bytes((folder / f"worse{LABELS}").read_bytes() + b"x")
    told = client.get("/api/scans").json()
    assert told["scans"][0]["state"] == "open"
    (problem,), (code,) = told["problems"], told["problem_codes"]
    assert code["code"] == "labels_changed"
    assert WORDS["error.labels_changed"].format(**code["values"]) == problem


def test_names_that_are_no_text_are_shown_and_decided_on(folder: Path, tmp_path: Path) -> None:
    odd = os.fsdecode(b"M\xfcller\x1b[2J")
    try:
        for path in list(folder.glob("worse_*")):
            path.rename(folder / path.name.replace("worse", odd))
    except OSError:
        pytest.skip("this disk takes names in UTF-8 only")
    client = Client(Review(folder))
    client.get(f"/?token={Client.TOKEN}")
    row = client.get("/api/scans").json()["scans"][0]
    assert row["name"] == r"M\xfcller\x1b[2J"
    detail = client.get(f"/api/scans/{row['id']}").json()
    assert decide(client, detail, note="嗯").status_code == 200
    assert correct(client, detail, upload(Review(folder), detail)).status_code == 200
    assert client.get("/api/scans").json()["scans"][0]["state"] == "corrected"
    assert verify_review(folder).problem == ""


def test_a_full_disk_while_saving_is_told_with_its_code(
    client: Client, review: Review, worse: dict, folder: Path, monkeypatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ddmseg.atomic._sync", full)
    answer = correct(client, worse, upload(review, worse))
    assert (answer.status_code, answer.json()["code"]["code"]) == (507, "not_saved")
    assert answer.json()["code"]["values"]["why"] == "the disk is full"
    assert told_in_english(answer) == answer.json()["error"]
    assert not (folder / f"worse{CORRECTED}").exists()


def test_a_window_that_was_overtaken_is_told(client: Client, review: Review, worse: dict) -> None:
    assert correct(client, worse, upload(review, worse)).status_code == 200
    again = correct(client, worse, upload(review, worse, 9))
    assert again.status_code == 409
    assert "changed in the meantime" in again.json()["error"]
    assert decide(client, worse).status_code == 409


def test_wrong_corrections_are_refused(
    client: Client, review: Review, worse: dict, folder: Path
) -> None:
    assert correct(client, worse, b"x" * 999).status_code == 422
    bomb = gzip.compress(bytes(30_000_000))
    assert correct(client, worse, bomb).status_code == 422
    typed = correct(client, worse, upload(review, worse), **{"content-type": "text/plain"})
    assert typed.status_code == 415
    short = client.post(
        f"/api/scans/{worse['id']}/correction?seen=x",
        content=b"x",
        headers={"content-type": "application/octet-stream"},
    )
    assert short.status_code == 422
    assert not (folder / f"worse{CORRECTED}").exists()
    assert verify_review(folder).entries == 0


def test_the_page_and_its_parts_are_served(client: Client) -> None:
    page = client.get("/")
    assert "/static/js/app.js" in page.text
    assert "<script>" not in page.text
    types = {
        "js/app.js": "text/javascript; charset=utf-8",
        "niivue.umd.js": "text/javascript; charset=utf-8",
        "style.css": "text/css; charset=utf-8",
        "i18n/zh.json": "application/json",
        "icon.svg": "image/svg+xml",
        "niivue.LICENSE.txt": "text/plain; charset=utf-8",
    }
    for name, kind in types.items():
        answer = client.get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"]) == (200, kind)
