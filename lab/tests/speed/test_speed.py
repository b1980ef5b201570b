"""What the timing commands are made of; nothing here asserts a time."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ddmseg.datasets.case import Case
from ddmseg.imaging.volume import Volume
from ddmseg_lab.speed import memory, process, segment, synthesis
from ddmseg_lab.speed.runs import Runner
from ddmseg_lab.study import data_at_hand, describe_machine
from toy_head import write_head
from toys import BoxSource, tiny_settings


def test_the_machine_is_described_without_names():
    assert set(describe_machine()) == {
        *("processor", "threads", "system", "python", "torch", "instructions")
    }


class NamedSource(BoxSource):
    always_present: tuple[int, ...] = ()
    data = "boxes"
    licence = "none"


def test_as_many_steps_are_timed_as_asked_without_validating():
    seconds = synthesis.time_training(tiny_settings(), NamedSource(), 4)
    assert len(seconds) == 4
    assert all(s > 0 for s in seconds)


def test_drawing_is_timed_batch_by_batch():
    seconds = synthesis.time_drawing(tiny_settings(), NamedSource(), 3)
    assert len(seconds) == 3
    assert all(s > 0 for s in seconds)


def test_a_batch_is_compared_with_a_step_without_its_drawing():
    found = synthesis.summarise([0.1, 0.2, 0.3], [1.6, 2.6], 3)
    assert found["step_seconds"]["median"] == pytest.approx(1.5)
    assert found["batch_over_step"] == pytest.approx(3 * 0.2 / 1.5)


def test_modes_and_stages_of_a_scan_are_timed(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setitem(segment.TIERS, "diffusion", {"mode": "diffusion", "steps": 2, "samples": 1})
    costs = {"seconds": 1.0, "processor_seconds": 2.0, "peak_memory_gb": 0.5}
    monkeypatch.setattr(process, "measure_command", lambda command: costs)
    head = write_head(tmp_path / "head.nii.gz")
    found = segment.measure_scan(head, Runner(str(tiny_model)), 2)
    assert list(found["seconds"]) == [*segment.STAGES, *segment.MODES]
    assert found["seconds"]["fast"]["n"] == 2
    assert found["seconds"]["diffusion"]["median"] > found["seconds"]["encode"]["median"]
    assert found["shape"] == [26, 30, 22]
    assert all(a >= b for a, b in zip(found["model_grid"], found["cropped_grid"], strict=True))
    assert found["peak_memory_gb"] == {"fast": 0.5, "diffusion": 0.5}
    assert found["step_over_encode"] >= 0


def test_the_estimate_is_that_of_the_receipt(tiny_model, tmp_path, monkeypatch):
    def measure(command):
        folder = Path(command[command.index("-o") + 1])
        for n, gb in enumerate((1.5, 2.5)):
            receipt = {"memory": {"estimated_gb": gb}}
            (folder / f"scan{n}_receipt.json").write_text(json.dumps(receipt))
        return {"peak_memory_gb": 2.0}

    monkeypatch.setattr(process, "measure_command", measure)
    monkeypatch.setattr(memory, "demo_head", lambda: write_head(tmp_path / "head.nii.gz"))
    monkeypatch.setattr(memory, "PADDED_SIDE", 32)
    memory.run(memory.Arguments(output=tmp_path))
    found = json.loads((tmp_path / "memory.json").read_text())["runs"]
    assert list(found)[2:] == [
        *("padded to 32^3, fast", "padded to 32^3, sampled"),
        *("whole head, probabilities", "three heads, sampled"),
    ]
    told = {"heads": 3, "estimated_gb": 2.5, "peak_gb": 2.0, "estimate_over_peak": 1.25}
    assert found["three heads, sampled"] == told


def test_the_data_folder_is_the_one_named_or_that_of_the_variable(monkeypatch):
    monkeypatch.setenv("DDMSEG_DATA", "there")
    assert data_at_hand("here") == "here"
    assert data_at_hand(None) == "there"
    monkeypatch.setenv("DDMSEG_DATA", "")
    assert data_at_hand(None) is None
    monkeypatch.delenv("DDMSEG_DATA")
    assert data_at_hand(None) is None


@pytest.mark.parametrize("by", ["option", "variable"])
def test_the_crop_is_timed_wherever_the_data_are_named(tmp_path, monkeypatch, by):
    """It must not get lost from the record because the folder came by the variable."""
    small = Volume(np.ones((4, 4, 4), np.float32), np.eye(4), "head")
    monkeypatch.setattr(segment, "read_volume", lambda path: small)
    monkeypatch.setattr(segment, "PADDED_SIDE", 8)
    crop = Case("hippocampus_001", (tmp_path / "crop.nii.gz",), None, "hippocampus_001")
    asked = []

    def cases(split, data, count):
        asked.append((split, data))
        return [crop]

    monkeypatch.setattr(segment, "CROPS", SimpleNamespace(cases=cases))
    monkeypatch.delenv("DDMSEG_DATA", raising=False)
    if by == "variable":
        monkeypatch.setenv("DDMSEG_DATA", "folder")
    named = "folder" if by == "option" else None
    scans = segment.find_scans(named, tmp_path)
    assert scans["hippocampus crop"] == (crop.images[0], "hippocampus")
    assert asked == [("test", "folder")]


def test_without_data_only_heads_are_timed(tmp_path, monkeypatch):
    monkeypatch.delenv("DDMSEG_DATA", raising=False)
    small = Volume(np.ones((4, 4, 4), np.float32), np.eye(4), "head")
    monkeypatch.setattr(segment, "read_volume", lambda path: small)
    monkeypatch.setattr(segment, "PADDED_SIDE", 8)
    scans = segment.find_scans(None, tmp_path)
    assert list(scans) == ["whole head, default model", "whole head", "whole head padded to 8^3"]
    assert all(path.is_file() for path, _ in scans.values())
