"""``ddmseg segment --budget``, and several scans at a time, with a tiny model."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ddmseg.inference import memory, model_stages
from ddmseg.inference.sampling_policy import SamplingPolicy
from ddmseg.inference.segmenter import Segmenter
from ddmseg.models.card import Card
from ddmseg.quality.volumes import USUAL_WIDTH
from toy_head import PROMISED, everything_in, write_head


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    return write_head(tmp_path / "scan.nii.gz")


@pytest.fixture
def in_doubt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let volumes be in more doubt than usual, so that mode auto draws samples."""
    made = SamplingPolicy.__init__

    def with_usual(self: SamplingPolicy, model: Any, card: Card) -> None:
        made(self, model, replace(card, calibration={**card.calibration, USUAL_WIDTH: 0.5}))

    monkeypatch.setattr(SamplingPolicy, "__init__", with_usual)
    monkeypatch.setattr(SamplingPolicy, "_width", lambda self, found: 1.0)


def receipt(folder: Path) -> dict:
    return json.loads((folder / "scan_receipt.json").read_text())


def test_what_was_spent_is_told(segment, scan, tmp_path, in_doubt) -> None:
    out = tmp_path / "out"
    outcome = segment(scan, "-o", out, "--budget", 200)
    assert (outcome.code, outcome.errors) == (0, [])
    told = receipt(out)["budget"]
    assert told["seconds"] == 200
    assert [row["samples"] for row in told["drawn"]] == [2]
    assert all(0 <= row["expected_dice"] <= 1 for row in told["drawn"])
    assert told["spent_seconds"] < 200
    assert "(budget 200 s: 2 steps x 2 samples" in outcome.out
    assert outcome.out.rstrip().endswith("scan_report.html")


@pytest.mark.parametrize(
    ("how", "drawn"), [((), "no samples"), (("--mode", "diffusion"), "2 steps x 1 sample")]
)
def test_a_budget_that_cannot_be_met_gives_the_least_and_says_so(
    segment, scan, tmp_path, in_doubt, how, drawn
) -> None:
    outcome = segment(scan, "-o", tmp_path / "out", "--budget", 1e-3, *how)
    assert (outcome.code, outcome.errors) == (0, [])
    assert f"(budget 0.001 s: {drawn}; no time for more; exceeded)" in outcome.out


@pytest.mark.parametrize("wrong", ["0", "-3", "nan"])
def test_a_budget_of_nothing_is_wrong_usage(segment, scan, tmp_path, wrong) -> None:
    outcome = segment(scan, "-o", tmp_path / "out", f"--budget={wrong}")
    assert outcome.code == 2
    assert "it must be above 0 seconds" in outcome.error


def test_memory_stands_in_the_receipt(segment, scan, tmp_path) -> None:
    assert segment(scan, "-o", tmp_path / "out", "--mode", "fast").code == 0
    told = receipt(tmp_path / "out")["memory"]
    assert told["rungs"] == []
    assert 0.3 < told["estimated_gb"] < 1


def test_a_scan_too_large_for_the_memory_is_refused_and_the_others_done(
    segment, scan, tmp_path, monkeypatch
) -> None:
    there, planned, mine = iter([10**5, 10**9]), model_stages.plan_memory, threading.local()

    def plan(*card: Any, **sizes: Any) -> Any:
        mine.there = next(there)  # of the stage that plans; other threads have enough
        return planned(*card, **sizes)

    monkeypatch.setattr(model_stages, "plan_memory", plan)
    monkeypatch.setattr(memory, "memory_for_this_process", lambda: getattr(mine, "there", 10**9))
    other = write_head(tmp_path / "other.nii.gz", seed=1)
    outcome = segment(scan, other, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert outcome.error == (
        f"{scan}: this scan needs 0.4 GB of memory and 0.0 GB is there; close other programs, "
        "or crop or resample the scan"
    )
    assert all(name.startswith("other_") for name in everything_in(tmp_path / "out"))


# several scans at a time


@pytest.fixture
def scans(tmp_path: Path) -> Iterator[Path]:
    for number in range(4):
        write_head(tmp_path / "in" / f"s{number}.nii.gz", seed=number)
    before = set(threading.enumerate())  # another test's thread may live on in this process
    yield tmp_path / "in"
    assert set(threading.enumerate()) <= before  # no stage is left behind


def test_lines_come_in_the_order_of_the_scans(segment, scans, tmp_path) -> None:
    (scans / "s1.nii.gz").write_bytes(b"no scan")
    outcome = segment(scans, "-o", tmp_path / "out", "--mode", "fast")
    assert outcome.code == 1
    assert [line.split("/")[-1] for line in outcome.out.splitlines()] == [
        f"s{number}_report.html" for number in (0, 2, 3)
    ]
    assert outcome.error.startswith(str(scans / "s1.nii.gz"))
    assert outcome.err.endswith("1 of 4 failed\n")


def test_the_next_scan_is_read_while_one_is_encoded(segment, scans, tmp_path, monkeypatch) -> None:
    read = [threading.Event() for _ in range(4)]
    prepare, solve = Segmenter.prepare, Segmenter.solve

    def preparing(self, scan, *rest):
        read[int(scan.name[1])].set()
        return prepare(self, scan, *rest)

    def solving(self, begun):
        number = int(begun.scan.name[1])
        assert number == 3 or read[number + 1].wait(20)
        return solve(self, begun)

    monkeypatch.setattr(Segmenter, "prepare", preparing)
    monkeypatch.setattr(Segmenter, "solve", solving)
    outcome = segment(scans, "-o", tmp_path / "out", "--mode", "fast")
    assert (outcome.code, outcome.errors) == (0, [])


def test_ctrl_c_while_a_scan_is_denoised_leaves_only_whole_results(
    segment, scans, tmp_path, monkeypatch
) -> None:
    draw = SamplingPolicy.draw
    sent = threading.Event()

    def drawing(self, encoded, *rest, **how):
        if (tmp_path / "out" / "s0_receipt.json").exists() and not sent.is_set():
            sent.set()
            os.kill(os.getpid(), signal.SIGINT)
        return draw(self, encoded, *rest, **how)

    monkeypatch.setattr(SamplingPolicy, "draw", drawing)
    outcome = segment(scans, "-o", tmp_path / "out", "--mode", "diffusion")
    assert outcome.code in (0, 130)
    if sent.is_set():
        assert outcome.code == 130
        assert outcome.err.endswith("stopped\n")
    found = everything_in(tmp_path / "out")
    assert len(found) % len(PROMISED) == 0
    assert not [name for name in found if name.startswith(".")]


def test_with_a_budget_scans_do_not_share_the_processors(
    segment, scans, tmp_path, monkeypatch
) -> None:
    at_work: list[str] = []
    prepare, restore = Segmenter.prepare, Segmenter.restore

    def preparing(self, scan, *rest):
        at_work.append(scan.name)
        assert len(at_work) == 1
        return prepare(self, scan, *rest)

    def restoring(self, solved):
        at_work.remove(solved.scan.name)
        return restore(self, solved)

    monkeypatch.setattr(Segmenter, "prepare", preparing)
    monkeypatch.setattr(Segmenter, "restore", restoring)
    assert segment(scans, "-o", tmp_path / "out", "--budget", 80).code == 0
