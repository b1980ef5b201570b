"""``ddmseg segment --monitor`` and ``ddmseg monitor`` from scans to a page."""

from __future__ import annotations

import csv
import hashlib
import json
import sys
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from ddmseg.maths.shift import find_shifts
from ddmseg.monitoring import compare
from ddmseg.monitoring.statistics import keyed_hash
from ddmseg.monitoring.store import Store
from ddmseg.review.log import ReviewLog
from monitor_store import START, simulated, write_store
from toy_head import everything_in, head_affine, head_voxels, write_head

pytest.importorskip("pyarrow", reason="needs ddmseg[monitor]")


@pytest.fixture(autouse=True)
def _fewer_deals(monkeypatch: pytest.MonkeyPatch) -> None:
    """How fine p-values are is tested with the statistics themselves."""
    monkeypatch.setattr(compare, "find_shifts", partial(find_shifts, permutations=499))


def folder_of_heads(folder: Path, count: int) -> Path:
    for number in range(count):
        write_head(folder / f"scan{number:03d}.nii.gz", seed=number)
    return folder


def test_every_run_adds_a_line_with_the_hash_of_its_labels(segment, tmp_path) -> None:
    scans = folder_of_heads(tmp_path / "in", 2)
    store, out = tmp_path / "store", tmp_path / "out"
    assert segment(scans, "-o", out, "--monitor", store).err.count("warning") == 0
    lines = Store(store).read().lines
    salt = Store(store).salt()
    hashes = [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(out.glob("*_dseg.nii.gz"))]
    assert {line["labels_key"] for line in lines} == {keyed_hash(salt, one) for one in hashes}
    assert {line["model"] for line in lines} == {"tiny"}
    assert "feature.001" in lines[0]
    everything = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"scan00" not in everything


def test_the_variable_names_the_store_too(segment, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DDMSEG_MONITOR", str(tmp_path / "store"))
    segment(write_head(tmp_path / "scan.nii.gz"), "-o", tmp_path / "out")
    assert len(Store(tmp_path / "store").read().lines) == 1


def test_results_left_out_are_counted_all_the_same(segment, tmp_path) -> None:
    scan = write_head(tmp_path / "scan.nii.gz")
    words = ("-o", tmp_path / "out", "--on-fail", "skip", "--monitor", tmp_path / "store")
    outcome = segment(scan, *words)
    assert "not written" in outcome.out
    (line,) = Store(tmp_path / "store").read().lines
    assert line["verdict"] == "fail"
    assert line.get("labels_key") is None


def test_dicom_brings_its_scanner_but_not_its_patient(segment, tmp_path) -> None:
    pytest.importorskip("pydicom", reason="needs ddmseg[dicom]")
    from dicom_files import PATIENT, write_series

    voxels = np.clip(head_voxels() * 10, 0, None).astype(np.uint16)
    write_series(tmp_path / "export", voxels, head_affine())
    store = tmp_path / "store"
    words = ("--monitor", store, "--dicom-seg", "none")
    assert segment(tmp_path / "export", "-o", tmp_path / "out", *words).code == 0
    (line,) = Store(store).read().lines
    assert (line["input"], line["modality"], line["vendor"]) == ("DICOM", "MR", "TOYS")
    everything = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    for secret in (PATIENT, "SECRET-7", "MPRAGE"):
        assert secret.encode() not in everything


@pytest.mark.parametrize("trouble", ["file", "other files", "no pyarrow", "bug"])
def test_trouble_of_the_store_costs_one_line_and_nothing_else(
    segment, tmp_path, monkeypatch, trouble
) -> None:
    scans, store = folder_of_heads(tmp_path / "in", 2), tmp_path / "store"
    if trouble == "file":
        store.write_text("no folder")
    elif trouble == "other files":
        write_head(store / "scan.nii.gz")
    elif trouble == "no pyarrow":
        monkeypatch.setitem(sys.modules, "pyarrow", None)
    else:

        def broken(*_: object) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(Store, "append", broken)
    outcome = segment(scans, "-o", tmp_path / "out", "--mode", "fast", "--monitor", store)
    assert (outcome.code, outcome.errors) == (0, [])
    (warning,) = [line for line in outcome.err.splitlines() if "warning" in line]
    assert warning.startswith("warning: not added to the monitor: ")
    assert len(list((tmp_path / "out").glob("*_report.html"))) == 2


def test_from_scans_to_a_page(ddmseg, segment, tmp_path) -> None:
    """Real runs of the tiny model, backdated, then repeated as if months had passed."""
    scans = folder_of_heads(tmp_path / "in", 4)
    segment(scans, "-o", tmp_path / "out", "--mode", "fast", "--monitor", tmp_path / "a")
    real = Store(tmp_path / "a").read().lines
    lines = []
    for number in range(64):
        line = {k: v for k, v in real[number % 4].items() if k != "run"}
        time = START + timedelta(days=number)
        lines.append({**line, "time": time, "scan_key": f"{number:032x}"})
    store = write_store(tmp_path / "store", lines)
    page = tmp_path / "monitor.html"
    outcome = ddmseg("monitor", store, "-o", page, "--window", "24")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("no shift found in ")
    assert outcome.out.endswith(f"{page}\n")
    text = page.read_text()
    for told in ("tiny", "Window, 24 scans", "Right-Hippocampus", "not for diagnosis"):
        assert told in text
    assert ddmseg("monitor", store, "-o", page).error.startswith(f"{page} exists already")
    assert ddmseg("monitor", store, "-o", page, "--overwrite", "--window", "20d").code == 0
    assert [name for name in everything_in(tmp_path) if ".partial" in name] == []


def test_reviews_are_joined_and_lines_exported(ddmseg, tmp_path) -> None:
    store = write_store(tmp_path / "store", simulated(60))
    salt = Store(store).salt()
    reviewed = [
        {**line, "labels_key": keyed_hash(salt, f"{n}")}
        for n, line in enumerate(simulated(60, seed=1))
    ]
    write_store(store, [{**line, "scan_key": f"r{n}"} for n, line in enumerate(reviewed)])
    log = ReviewLog(tmp_path)
    for number in range(60):
        edit = {"edit": {"ml_changed": 2.0}} if number % 3 == 0 else {}
        action = "correct" if edit else "accept"
        log.append({"scan": "s", "action": action, "original_sha256": f"{number}", **edit})
    page, table = tmp_path / "monitor.html", tmp_path / "all.csv"
    words = ("monitor", store, "-o", page, "--reviews", tmp_path, "--export", table)
    outcome = ddmseg(*words)
    assert outcome.out.splitlines()[0] == f"120 runs  {table}"
    assert "Corrected, of those reviewed</small><b>3" in page.read_text()
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 120
    assert sum(row["review"] == "corrected" for row in rows) == 20
    described = json.loads(table.with_suffix(".json").read_text())
    assert described.pop("notice") == "research use, not for diagnosis"
    assert list(described) == list(rows[0])
    path = tmp_path / "review_log.jsonl"
    path.write_text(path.read_text().replace('"accept"', '"reject"', 1))
    outcome = ddmseg(*words, "--overwrite")
    assert outcome.code == 0
    assert outcome.err.startswith(f"warning: {path}: line ")
    assert "Know before you read on" in page.read_text()


def test_damaged_files_are_told_and_the_rest_compared(ddmseg, tmp_path) -> None:
    store = write_store(tmp_path / "store", simulated(80))
    next(store.glob("month=*/*.parquet")).write_bytes(b"PAR1")
    outcome = ddmseg("monitor", store, "-o", tmp_path / "page.html")
    assert outcome.code == 0
    assert "cannot be read" in outcome.err
    assert "left out" in (tmp_path / "page.html").read_text()


def test_wrong_use_is_one_line(ddmseg, tmp_path) -> None:
    page = tmp_path / "page.html"
    store = write_store(tmp_path / "store", simulated(25))
    (tmp_path / "told.json").write_text("somebody's")
    for words, code, told in (
        ((store,), 2, "--output or --export is missing"),
        ((tmp_path / "none", "-o", page), 1, "no such folder; name the one given to"),
        ((tmp_path, "-o", page), 1, "no monitor store here"),
        ((store, "-o", tmp_path), 1, "is a folder; name a file"),
        ((store, "-o", page), 2, "reference: 0 scans; at least 20 are needed"),
        ((store, "-o", page, "--window", "x"), 2, "window: got 'x'"),
        ((store, "-o", page, "--reviews", tmp_path), 1, "no review_log.jsonl here"),
        ((store, "--export", tmp_path / "a.json"), 2, "name the table otherwise, such as"),
        ((store, "-o", tmp_path / "a.json", "--export", tmp_path / "a.csv"), 2, "a.json says"),
        ((store, "--export", tmp_path / "told.csv"), 1, "told.json exists already; pass"),
    ):
        outcome = ddmseg("monitor", *words)
        assert outcome.code == code, words
        assert told in outcome.error
    index = store / "store.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "version": 3}))
    assert "a store of version 3" in ddmseg("monitor", store, "-o", page).error
    assert not page.exists()
