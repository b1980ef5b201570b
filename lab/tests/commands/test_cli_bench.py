"""``ddmseg bench`` from its first word to its last file, with a toy model and a toy head."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ddmseg.errors import ScanError
from ddmseg.inference.budget import Draw
from ddmseg_lab.comparison.peers import tools
from ddmseg_lab.comparison.peers.tools import Peer
from ddmseg_lab.provenance import describe_machine
from ddmseg_lab.speed import bench, process
from ddmseg_lab.speed.runs import Runner
from ddmseg_lab.studies.tiers import TIERS, TITLES
from ddmseg_lab.table import read_rows
from toy_head import everything_in, write_head

QUICK = ("--repeats", "1", "--no-scaling", "--tiers", "fast,diffusion", "--device", "cpu")
GB = {"seconds": 1.0, "processor_seconds": 2.0, "peak_memory_gb": 0.5}


@pytest.fixture(autouse=True)
def _few_steps(monkeypatch) -> None:
    """The full answer of a toy may be a short one."""
    options = {"mode": "diffusion", "steps": 2, "samples": 1}
    monkeypatch.setitem(TIERS, "diffusion", options)
    monkeypatch.setitem(TITLES, "diffusion", "diffusion, short")
    monkeypatch.setattr(bench, "SAMPLE_STEPS_DRAW", Draw(2, 1))


@pytest.fixture
def commands(monkeypatch) -> list[list[str]]:
    """Processes of their own take a made-up time; returns what would have been run."""
    seen: list[list[str]] = []

    def measure(command):
        seen.append(list(command))
        return GB

    monkeypatch.setattr(process, "measure_command", measure)
    return seen


@pytest.fixture
def head(tmp_path) -> Path:
    return write_head(tmp_path / "patient_name.nii.gz")


def rows(folder: Path) -> list[dict[str, str]]:
    return read_rows(folder / "bench.tsv")


def summary(folder: Path) -> dict:
    return json.loads((folder / "bench.json").read_text())


def test_one_run_measures_tiers_parts_and_start_up(ddmseg, tiny_model, head, tmp_path, commands):
    out = tmp_path / "new" / "results"
    outcome = ddmseg("bench", head, "-o", out, "--model", tiny_model, *QUICK, "--threads", "1")
    assert (outcome.code, outcome.errors) == (0, [])
    assert everything_in(out) == ["bench.json", "bench.tsv"]
    told = summary(out)
    ((name, scan),) = told["scans"].items()
    assert list(scan["methods"]) == ["fast", "diffusion"]
    assert scan["methods"]["diffusion"]["denoise_seconds"]["median"] > 0
    assert scan["methods"]["fast"]["peak_memory_gb"]["median"] == 0.5
    assert set(scan["stages"]) == {"one plain pass", "encoding", "50 sample-steps"}
    assert "| encoding and 50 sample-steps | – | – |" in outcome.out
    assert list(told["start"]) == ["python", "import ddmseg", "ddmseg --help"]
    assert "diffusion, short" in outcome.out
    assert f"## {name.capitalize()}, 26×30×22 voxels" in outcome.out
    for text in (*(path.read_text() for path in out.iterdir()), outcome.err):
        assert "patient" not in text
        assert str(tmp_path) not in text
    segmenting = [command for command in commands if "segment" in command]
    assert len(segmenting) == 2
    for command in segmenting:  # memory is that of the same options
        assert {"--no-cache", "--threads=1", str(head), f"--model={tiny_model}"} <= set(command)
    assert {"--mode=diffusion", "--steps=2", "--samples=1"} <= set(segmenting[1])


def test_a_second_run_measures_only_what_is_missing(
    ddmseg, tiny_model, head, tmp_path, commands, monkeypatch
):
    words = ["bench", head, "-o", tmp_path, "--model", tiny_model, "--no-scaling"]
    words += ["--tiers", "fast", "--device", "cpu", "--repeats"]
    assert ddmseg(*words, "1").code == 0
    first, lines = rows(tmp_path), len(commands)
    with monkeypatch.context() as broken:
        broken.setattr(Runner, "once", None)  # would fail if it were called
        again = ddmseg(*words, "1")
    assert (again.code, again.errors) == (0, [])
    assert rows(tmp_path) == first
    assert len(commands) == lines
    assert ddmseg(*words, "2").code == 0
    more = rows(tmp_path)
    assert more[: len(first)] == first
    assert [row["repeat"] for row in more if row["series"] == "tier"] == ["0", "1"]
    assert ddmseg(*words, "1", "--fresh").code == 0
    assert len(rows(tmp_path)) == len(first)


def test_rows_of_another_machine_are_not_gone_on_with(
    ddmseg, tiny_model, head, tmp_path, commands, monkeypatch
):
    words = ["bench", head, "-o", tmp_path, "--model", tiny_model, *QUICK]
    assert ddmseg(*words).code == 0
    (ours,) = {row["weights"] for row in rows(tmp_path)}
    machine = {**describe_machine(), "threads": 99}
    monkeypatch.setattr("ddmseg_lab.provenance.describe_machine", lambda: machine)
    assert ddmseg(*words).code == 0
    (other,) = {row["weights"] for row in rows(tmp_path)}
    assert ours != other


def test_a_failed_measurement_is_told_and_tried_again(
    ddmseg, tiny_model, head, tmp_path, commands, monkeypatch
):
    def fail(self, paths, options):
        raise ScanError("the memory does not do")

    words = ["bench", head, "-o", tmp_path, "--model", tiny_model, *QUICK]
    with monkeypatch.context() as broken:
        broken.setattr(Runner, "fresh", fail)
        outcome = ddmseg(*words)
    assert outcome.code == 1
    assert outcome.errors == [
        f"error: tier: {tier}: the memory does not do" for tier in ("fast", "diffusion")
    ]
    assert not [row for row in rows(tmp_path) if row["series"] == "tier"]
    assert ddmseg(*words).code == 0
    assert len([row for row in rows(tmp_path) if row["series"] == "tier"]) == 2


def test_every_series_is_made_larger(ddmseg, tiny_model, head, tmp_path, commands, monkeypatch):
    sizes = {"voxels": (1.0, 2.0), "steps": (1, 2), "samples": (1, 2), "scans": (1, 2)}
    for name, some in {**sizes, "structures": (2, 20)}.items():  # the latter in analog bits
        monkeypatch.setitem(bench.SIZES, name, some)
    words = ["bench", head, "-o", tmp_path, "--model", tiny_model, "--device", "cpu"]
    outcome = ddmseg(*words, "--repeats", "1", "--tiers", "fast")
    assert (outcome.code, outcome.errors) == (0, [])
    told = summary(tmp_path)["scaling"]
    assert list(told) == list(bench.SIZES)
    for series, one in told.items():
        assert len(one["points"]) == 2, series
        for point in one["points"]:
            assert point["seconds"]["n"] == 1
            assert point["peak_memory_gb"]["median"] == 0.5
    voxels = [point["at"] for point in told["voxels"]["points"]]
    assert voxels[0] == 26 * 30 * 22
    assert 1.9 < voxels[1] / voxels[0] < 2.1
    several = [command for command in commands if any("copy1" in word for word in command)]
    assert len(several) == 1
    assert len([word for word in several[0] if "copy" in word]) == 2


def test_another_tool_is_measured_once(ddmseg, tiny_model, head, tmp_path, commands, monkeypatch):
    seen = []

    def segment(scan, folder, threads):
        seen.append((scan, folder.is_dir(), threads))
        return {"seconds": 60.0, "processor_seconds": 60.0, "peak_memory_gb": 3.0}

    tool = Peer("samseg", "SAMSEG", "0.5", segment)
    monkeypatch.setattr(tools, "find_peers", lambda names: tuple(tool for name in names))
    words = ["bench", head, "-o", tmp_path, "--model", tiny_model, *QUICK, "--threads", "1"]
    for _ in range(2):
        outcome = ddmseg(*words, "--peers", "samseg")
    assert seen == [(head, True, 1)]
    (scan,) = summary(tmp_path)["scans"].values()
    assert scan["methods"]["samseg"]["seconds"] == {"median": 60, "low": 60, "high": 60, "n": 1}
    assert "| SAMSEG 0.5 | 60.00 | 60.00 |" in outcome.out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--repeats", "0"], "repeats: got 0; it must be at least 1"),
        (["--threads", "0"], "threads: got 0; it must be at least 1"),
        (["--tiers", "fats"], "tiers: got 'fats' (did you mean 'fast'?)"),
        (["--peers", "samsg"], "peers: got 'samsg' (did you mean 'samseg'?)"),
        (["--repeats", "x"], "--repeats: got 'x'; it must be a whole number"),
        (["--device", "gpu"], "allowed are auto, cpu, cuda, mps"),
    ],
)
def test_wrong_words_are_refused(ddmseg, tiny_model, tmp_path, words, told):
    outcome = ddmseg("bench", "-o", tmp_path / "out", "--model", tiny_model, *words)
    assert outcome.code == 2
    assert told in outcome.error
    assert not (tmp_path / "out").exists()


def test_a_wrong_model_is_refused(ddmseg, tmp_path):
    outcome = ddmseg("bench", "-o", tmp_path, "--model", "anatmy")
    assert outcome.code == 2
    assert "model: got 'anatmy' (did you mean 'anatomy'?)" in outcome.error


def test_a_missing_scan_and_a_file_for_a_folder_are_refused(ddmseg, tiny_model, head, tmp_path):
    missing = ddmseg("bench", tmp_path / "no.nii.gz", "-o", tmp_path, "--model", tiny_model)
    assert missing.code == 1
    assert "no.nii.gz" in missing.error
    (tmp_path / "file").touch()
    outcome = ddmseg("bench", head, "-o", tmp_path / "file", "--model", tiny_model, *QUICK)
    assert outcome.code == 1
    assert "choose another folder" in outcome.error
