"""What the page is told, and round trips of decisions and corrections."""

from __future__ import annotations

import errno
import gzip
import itertools
import json
import math
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.outputs.write import STEPS
from ddmseg.review import session
from ddmseg.review.log import LOG
from ddmseg.review.payload import session_payload
from ddmseg.review.results import CORRECTED, LABELS, MAPS, ScanResult, Summary
from ddmseg.review.session import Review
from ddmseg.review.verification import verify_review
from review_client import Client
from review_folder import nifti_bytes

PAGE = resources.files("ddmseg.review") / "static"
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


DEEP = "[" * 90_000 + "]" * 90_000
QC = {"verdict": "pass", "expected_dice": 0.5, "reasons": [], "steps": 1, "samples": 1}
BAD_ROWS: dict[str, tuple[str, str | bytes]] = {
    "infinite steps": ("_qc.json", json.dumps({**QC, "steps": math.inf})),
    "huge steps": ("_qc.json", json.dumps(QC).replace('"steps": 1', '"steps": 1e999')),
    "endless digits": ("_qc.json", json.dumps(QC).replace('"steps": 1', f'"steps": {"9" * 9000}')),
    "steps in words": ("_qc.json", json.dumps({**QC, "steps": "1"})),
    "a list of samples": ("_qc.json", json.dumps({**QC, "samples": [1]})),
    "huge Dice": ("_qc.json", json.dumps({**QC, "expected_dice": 10**400})),
    "no number for Dice": ("_qc.json", json.dumps({**QC, "expected_dice": math.nan})),
    "reasons in one word": ("_qc.json", json.dumps({**QC, "reasons": "odd"})),
    "reasons of numbers": ("_qc.json", json.dumps({**QC, "reasons": [1]})),
    "reasons in a table": ("_qc.json", json.dumps({**QC, "reasons": {"a": 1}})),
    "reasons that are none": ("_qc.json", json.dumps({**QC, "reasons": None})),
    "Dice by number": ("_qc.json", json.dumps({**QC, "expected_dice_by_structure": 3})),
    "deep quality": ("_qc.json", DEEP),
    "deep in an object": ("_qc.json", json.dumps(QC)[:-1] + f', "more": {DEEP}}}'),
    "a name twice": ("_qc.json", json.dumps(QC)[:-1] + ', "steps": 2}'),
    "deep receipt": ("_receipt.json", DEEP),
    "a list for a receipt": ("_receipt.json", "[]"),
    "UTF-16": ("_receipt.json", "{}".encode("utf-16")),
    "an endless cell": ("_volumes.tsv", "index\tname\n" + "9" * 200_000 + "\tx\n"),
    "endless digits in a table": ("_dseg.tsv", f"index\tname\tcolor\n{'9' * 9000}\tx\t#ffffff\n"),
    "infinite volume": ("_volumes.tsv", "index\tname\tvolume_ml\tinterval_low_ml\t"
                        "interval_high_ml\n2\tx\tinf\t1\t2\n"),
    "a cell too few": ("_volumes.tsv", "index\tname\tvolume_ml\n2\n"),
    "too many rows": ("_dseg.tsv", "index\tname\tcolor\n" + "2\tx\t#ffffff\n" * 10_001),
    "no colour": ("_dseg.tsv", "index\tname\tcolor\n2\tx\t#+12_45\n"),
    "zeros": ("_dseg.tsv", b"index\tname\tcolor\n\x00\t\x00\t\x00\n"),
}  # fmt: skip


@pytest.mark.parametrize(("suffix", "content"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_one_bad_row_is_one_bad_row(
    client: Client, worse: dict, folder: Path, suffix: str, content: str | bytes
) -> None:
    data = content if isinstance(content, bytes) else content.encode()
    (folder / f"worse{suffix}").write_bytes(data)
    answer = client.get("/api/scans")
    assert answer.status_code == 200
    told = answer.json()
    assert [row["name"] for row in told["scans"]] == ["better"]
    (problem,) = told["problems"]
    assert "worse" in problem
    assert len(problem.splitlines()) == 1
    assert client.get(f"/api/scans/{worse['id']}").status_code == 422


ODD_RECEIPTS = {
    "no input": {}, "a word": {"input": "x"}, "mixed shape": {"shape": [1, "a", None]},
    "shape of nothing": {"shape": None}, "nested shape": {"shape": [[1]]},
    "huge shape": {"shape": [10**30, 10**30, 10**30]}, "negative": {"shape": [-1, 2, 3]},
    "odd name": {"name": [1]}, "odd hash": {"content_sha256": 3},
}  # fmt: skip


MODELS = [{}, "x", [1], {"name": 3, "weights_sha256": None}, None]


def test_a_receipt_of_wrong_kinds_shows_what_there_is(
    client: Client, worse: dict, folder: Path
) -> None:
    kinds = itertools.product(ODD_RECEIPTS.values(), MODELS[:1])
    for told, model in (*kinds, *((ODD_RECEIPTS["a word"], model) for model in MODELS)):
        stated = told.get("input", {"content_sha256": 64 * "0", **told}) if told else None
        (folder / "worse_receipt.json").write_text(json.dumps({"input": stated, "model": model}))
        assert len(client.get("/api/scans").json()["scans"]) == 2
        assert client.get(f"/api/scans/{worse['id']}").json()["has_scan"] is False
        for address in ("discrepancy.nii", "scan.nii", "places/uncertainty"):
            assert client.get(f"/api/scans/{worse['id']}/{address}").status_code == 200


def test_a_pipe_for_a_file_holds_nothing_up(client: Client, folder: Path) -> None:
    (folder / "worse_qc.json").unlink()
    os.mkfifo(folder / "worse_qc.json")
    told = client.get("/api/scans").json()
    assert [row["name"] for row in told["scans"]] == ["better"]
    assert "no plain file" in told["problems"][0]


def test_what_nobody_thought_of_is_one_bad_row_too(
    client: Client, review: Review, monkeypatch
) -> None:
    read = session.read_summary

    def fail(result: ScanResult) -> Summary:
        if result.name == "worse":
            raise ZeroDivisionError("odd")
        return read(result)

    monkeypatch.setattr(session, "read_summary", fail)
    told = client.get("/api/scans").json()
    assert [row["name"] for row in told["scans"]] == ["better"]
    assert told["problem_codes"][0]["code"] == "result_damaged"


ODD_LINES = {
    "cut off": b'{"scan": "worse", "act',
    "no JSON": b"\xff\xfe\n",
    "deep": DEEP.encode() + b"\n",
    "no number": b'{"scan": "worse", "action": "correct", "edit": {"ml_changed": NaN}}\n',
    "a list": b"[]\n",
    "odd kinds": b'{"scan": ["worse"], "action": {}, "edit": 3}\n',
    "an edit of nothing": b'{"scan": "worse", "action": "correct", "edit": {}}\n',
    "odd structures": b'{"scan": "worse", "action": "correct", "edit": {"voxels_changed": 1, '
                      b'"ml_changed": 1, "structures": [{"index": [1]}]}}\n',
    "half a pair": b'{"scan": "worse", "action": "reject", "note": "\\ud800", "reviewer": "x"}\n',
}  # fmt: skip


@pytest.mark.parametrize("line", ODD_LINES.values(), ids=ODD_LINES)
def test_a_damaged_line_of_the_log_is_told_and_the_table_is_there(
    client: Client, worse: dict, folder: Path, line: bytes
) -> None:
    (folder / LOG).write_bytes(line)
    told = client.get("/api/scans").json()
    assert len(told["scans"]) == 2
    assert "review_log.jsonl: line 1: " in told["problems"][0]
    assert told["problem_codes"][0]["code"] == "log_changed"
    detail = client.get(f"/api/scans/{worse['id']}").json()
    assert detail["last_edit"] is None
    answer = decide(client, worse)
    assert (answer.status_code, answer.json()["code"]["code"][:4]) == (507, "log_")


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


@pytest.mark.parametrize("kind", ["labels", "corrected", "discrepancy", "steps/0"])
def test_zeros_without_end_take_no_memory(
    client: Client, worse: dict, folder: Path, kind: str
) -> None:
    suffix = {"labels": LABELS, "corrected": CORRECTED, "discrepancy": MAPS["discrepancy"],
              "steps/0": STEPS}[kind]  # fmt: skip
    plain = nib.Nifti1Image(np.zeros((2, 2, 2), "<i4"), np.eye(4)).to_bytes()
    large = bytearray(plain[:352])
    struct.pack_into("<4h", large, 40, 3, 512, 512, 512)
    # the header decides: what follows it is not looked at
    (folder / f"worse{suffix}").write_bytes(gzip.compress(bytes(large) + bytes(1 << 24)))
    tracemalloc.start()
    try:
        answer = client.get(f"/api/scans/{worse['id']}/{kind}.nii")
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    told = "too_many_voxels" if kind in ("discrepancy", "steps/0") else "labels_large"
    assert (answer.status_code, answer.json()["code"]["code"]) == (422, told)
    assert most < 20 << 20


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
