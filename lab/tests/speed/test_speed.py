"""What the timing commands are made of; nothing here asserts a time."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ddmseg.datasets.case import Case
from ddmseg.imaging.volume import Volume
from ddmseg_lab.speed import segment, synthesis
from ddmseg_lab.study import data_at_hand, describe_machine
from toys import BoxSource, tiny_settings


class NamedSource(BoxSource):
    always_present: tuple[int, ...] = ()
    data = "boxes"
    licence = "none"


def test_a_stopwatch_keeps_every_run_of_a_stage():
    watch = segment.Stopwatch()
    for _ in range(3):
        with watch("encode"):
            pass
    with watch("decode"):
        pass
    assert watch.medians()["encode"]["n"] == 3
    assert list(watch.medians()) == ["encode", "decode"]


def test_the_machine_is_described_without_names():
    assert set(describe_machine()) == {
        *("processor", "threads", "system", "python", "torch", "instructions")
    }


def test_steps_are_timed_without_their_drawing():
    source = synthesis.TimedSource(NamedSource())
    seconds = synthesis.time_training(tiny_settings(), source, 4)
    assert len(seconds) == 4
    assert all(s > 0 for s in seconds)
    assert len(source.seconds) == 2 * (4 + synthesis.WARM_UP)  # two examples a step


def test_a_timed_source_draws_what_the_other_does():
    timed, plain = synthesis.TimedSource(NamedSource()), NamedSource()
    ours, theirs = (s.training_example(torch.Generator().manual_seed(3)) for s in (timed, plain))
    assert torch.equal(ours[0], theirs[0])
    assert timed.labels == plain.labels
    assert len(timed.validation_examples(2)) == 2


def test_a_short_run_never_validates():
    training = synthesis.short_run(tiny_settings(), 5).training
    assert training.validate_every > training.steps > 5 + synthesis.WARM_UP
    assert training.workers == 0


def test_a_batch_is_compared_with_a_step():
    found = synthesis.summarise([0.1, 0.2, 0.3], [1.0, 2.0], 3)
    assert found["batch_over_step"] == pytest.approx(3 * 0.2 / 1.5)


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
    arguments = segment.Arguments(data=named)
    scans = segment.find_scans(arguments, tmp_path)
    assert scans["hippocampus crop"] == (crop.images[0], "hippocampus")
    assert asked == [("test", "folder")]


def test_without_data_only_heads_are_timed(tmp_path, monkeypatch):
    monkeypatch.delenv("DDMSEG_DATA", raising=False)
    small = Volume(np.ones((4, 4, 4), np.float32), np.eye(4), "head")
    monkeypatch.setattr(segment, "read_volume", lambda path: small)
    monkeypatch.setattr(segment, "PADDED_SIDE", 8)
    arguments = segment.Arguments()
    scans = segment.find_scans(arguments, tmp_path)
    assert list(scans) == ["whole head, default model", "whole head", "whole head padded to 8^3"]
    assert all(path.is_file() for path, _ in scans.values())
