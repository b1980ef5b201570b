"""What the page is told, and round trips of decisions and corrections."""

from __future__ import annotations

import errno
import gzip
import json
import shutil
import struct
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.interfaces.review.payload import session_payload
from ddmseg.pipeline.review.results import CORRECTED, LABELS
from ddmseg.pipeline.review.session import Review
from ddmseg.pipeline.review.verification import verify_review
from review_client import Client
from review_folder import nifti_bytes

PAGE = resources.files("ddmseg.interfaces.review") / "static"
WORDS = json.loads((PAGE / "i18n" / "en.json").read_text(encoding="utf-8"))


@pytest.fixture
def worse(client: Client) -> dict:
    """The first row of the table, in full."""
    rows = client.get("/api/scans").json()["scans"]
    return client.get(f"/api/scans/{rows[0]['id']}").json()


def upload(review: Review, scan: dict, voxels: int = 4) -> bytes:
    labels = review.labels(scan["id"])
    data = labels.data.astype(np.uint8)
    data[tuple(np.argwhere(data == 41)[:voxels].T)] = 2
    return gzip.compress(nifti_bytes(data, labels.affine))


def correct(client: Client, scan: dict, data: bytes, **headers: str):
    return client.post(
        f"/api/scans/{scan['id']}/correction?seen={scan['seen']}",
        content=data,
        headers={"content-type": "application/octet-stream", **headers},
    )


def decide(client: Client, scan: dict, **decision: object):
    wanted = {"action": "accept", "seen": scan["seen"], **decision}
    return client.post(f"/api/scans/{scan['id']}/decision", json=wanted)


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


@pytest.mark.parametrize(
    "wrong",
    [{"action": "delete"}, {"seen": "x"}, {"note": "x" * 2001}, {"note": 3}, {"more": 1}],
)
def test_a_wrong_decision_is_refused(client: Client, worse: dict, folder: Path, wrong) -> None:
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


def told_in_english(answer) -> str:
    """What an English page shows: the words of the code, with its values."""
    told = answer.json()
    return WORDS[f"error.{told['code']['code']}"].format(**told["code"]["values"])


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


def header(at: int, form: str, *values: float) -> Callable[[bytes], bytes]:
    """Change the header of a zipped file."""

    def change(data: bytes) -> bytes:
        plain = bytearray(gzip.decompress(data))
        struct.pack_into(form, plain, at, *values)
        return gzip.compress(bytes(plain))

    return change


DAMAGES: dict[str, Callable[[bytes], bytes | None]] = {
    "scan_absent": lambda data: None,
    "content_absent": lambda data: b"/annex/objects/MD5E-s9--abc.nii.gz",
    "scan_empty": lambda data: b"",
    "gzip_cut": lambda data: data[:-20],
    "gzip_damaged": lambda data: data[:-8] + bytes(8),
    "no_nifti": lambda data: b"x" * 999,
    "nifti_half": header(344, "4s", b"ni1\0"),
    "voxel_type": header(70, "<h", 32),
    "voxels_at": header(108, "<f", float("nan")),
    "header_sizes": header(40, "<h", 9),
    "flat_image": header(40, "<4h", 3, 1, 30, 20),
    "several_volumes": header(40, "<5h", 4, 24, 30, 10, 2),
    "too_many_voxels": header(40, "<4h", 3, 9999, 9999, 9999),
    "file_short": header(42, "<h", 30),
    "file_too_short": header(42, "<3h", 500, 500, 500),
    "file_long": lambda data: gzip.compress(gzip.decompress(data) + bytes(2 << 20)),
    "no_label_map": header(112, "<2f", 0.5, 0.0),
}


@pytest.mark.parametrize("code", DAMAGES)
def test_a_damaged_image_of_a_result_has_a_code_too(
    client: Client, worse: dict, folder: Path, code: str
) -> None:
    path = folder / f"worse{LABELS}"
    damaged = DAMAGES[code](path.read_bytes())
    path.unlink()
    if damaged is not None:
        path.write_bytes(damaged)
    answer = client.get(f"/api/scans/{worse['id']}")
    assert (answer.status_code, answer.json()["code"]["code"]) == (422, code)
    assert told_in_english(answer) == answer.json()["error"]


def test_results_that_are_gone_meanwhile_have_a_code_too(client: Client, folder: Path) -> None:
    for path in folder.glob("*_receipt.json"):
        path.unlink()
    empty = client.get("/api/scans")
    shutil.rmtree(folder)
    gone = client.get("/api/scans")
    for code, answer in {"folder_empty": empty, "folder_gone": gone}.items():
        assert answer.json()["code"]["code"] == code
        assert told_in_english(answer) == answer.json()["error"]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"{", "file_damaged"), (b"[]", "file_damaged"), (b"\xff", "file_damaged"),
     (b"{}", "result_damaged"), (None, "file_unreadable"), (b" " * (1 << 25), "file_large")],
)  # fmt: skip
def test_what_the_table_cannot_show_has_a_code_too(
    client: Client, folder: Path, content: bytes | None, code: str
) -> None:
    path = folder / "worse_qc.json"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    told = client.get("/api/scans").json()
    (problem,), (found,) = told["problems"], told["problem_codes"]
    assert found["code"] == code
    assert WORDS[f"error.{code}"].format(**found["values"]) == problem
    assert len(told["scans"]) == 1


def test_a_full_disk_while_saving_is_told_with_its_code(
    client: Client, review: Review, worse: dict, folder: Path, monkeypatch
) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ddmseg.imaging.atomic._sync", full)
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
