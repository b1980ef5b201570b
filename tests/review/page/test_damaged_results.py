"""Damaged files of a result cost one row or one answer, with a code that says the same."""

from __future__ import annotations

import gzip
import itertools
import json
import math
import os
import shutil
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.outputs.names import STEPS
from ddmseg.review import session
from ddmseg.review.log import LOG
from ddmseg.review.results import CORRECTED, LABELS, MAPS, ScanResult, Summary
from ddmseg.review.session import Review
from review_client import WORDS, Client, decide, told_in_english


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


def test_a_damaged_image_of_a_result_has_a_code_too(
    client: Client, worse: dict, folder: Path
) -> None:
    path = folder / f"worse{LABELS}"
    whole = path.read_bytes()
    for code, damage in DAMAGES.items():
        damaged = damage(whole)
        path.unlink(missing_ok=True)
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
     (b"{}", "result_damaged"), (None, "file_unreadable"), (b" " * (1 << 25), "file_damaged")],
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


def test_one_bad_row_is_one_bad_row(client: Client, worse: dict, folder: Path) -> None:
    for what, (suffix, content) in BAD_ROWS.items():
        path = folder / f"worse{suffix}"
        whole = path.read_bytes()
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        answer = client.get("/api/scans")
        assert answer.status_code == 200, what
        told = answer.json()
        assert [row["name"] for row in told["scans"]] == ["better"], what
        (problem,) = told["problems"]
        assert "worse" in problem, what
        assert len(problem.splitlines()) == 1, what
        assert client.get(f"/api/scans/{worse['id']}").status_code == 422, what
        path.write_bytes(whole)


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
    assert "no regular file" in told["problems"][0]


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


def test_a_damaged_line_of_the_log_is_told_and_the_table_is_there(
    client: Client, worse: dict, folder: Path
) -> None:
    for what, line in ODD_LINES.items():
        (folder / LOG).write_bytes(line)
        told = client.get("/api/scans").json()
        assert len(told["scans"]) == 2, what
        assert "review_log.jsonl: line 1: " in told["problems"][0], what
        assert told["problem_codes"][0]["code"] == "log_changed", what
        detail = client.get(f"/api/scans/{worse['id']}").json()
        assert detail["last_edit"] is None, what
        answer = decide(client, worse)
        assert (answer.status_code, answer.json()["code"]["code"][:4]) == (507, "log_"), what


def test_zeros_without_end_take_no_memory(client: Client, worse: dict, folder: Path) -> None:
    plain = nib.Nifti1Image(np.zeros((2, 2, 2), "<i4"), np.eye(4)).to_bytes()
    large = bytearray(plain[:352])
    struct.pack_into("<4h", large, 40, 3, 512, 512, 512)
    # the header decides: what follows it is not looked at
    zipped = gzip.compress(bytes(large) + bytes(1 << 24))
    suffixes = {"discrepancy": MAPS["discrepancy"], "steps/0": STEPS, "corrected": CORRECTED}
    for kind, suffix in {**suffixes, "labels": LABELS}.items():  # the others need whole labels
        (folder / f"worse{suffix}").write_bytes(zipped)
        tracemalloc.start()
        try:
            answer = client.get(f"/api/scans/{worse['id']}/{kind}.nii")
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        told = "too_many_voxels" if kind in ("discrepancy", "steps/0") else "labels_large"
        assert (answer.status_code, answer.json()["code"]["code"]) == (422, told)
        assert most < 20 << 20
