"""IBSR18's protocol: ventricles alone are CSF, the fluid around the brain is grey matter."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from ddmseg.datasets.case import Case
from ddmseg.imaging.labels import ANATOMY_LABELS
from ddmseg.models.card import Card
from ddmseg_lab.studies import ibsr18
from ddmseg_lab.study import ModelOptions


def test_every_label_of_the_model_is_a_tissue() -> None:
    assert set(ibsr18.PLACES) >= set(ANATOMY_LABELS) - {0}
    assert (ibsr18.PLACES[4], ibsr18.PLACES[24], ibsr18.PLACES[3], ibsr18.PLACES[2]) == (1, 2, 2, 3)


def test_a_scan_is_scored_once_by_the_protocol_of_the_set(tmp_path, monkeypatch) -> None:
    found = np.array([[[4, 24, 3, 2]]], np.int32)
    truth = np.array([[[1, 2, 2, 2]]], np.int32)
    card = Card("toy", (0, 2), {}, checksum="a" * 64)
    asked = []

    class Toy:
        def __init__(self) -> None:
            self.card = card

        def __call__(self, path, *, mode):
            asked.append((path, mode))
            return SimpleNamespace(labels=SimpleNamespace(data=found))

    cases = [Case("a", (tmp_path / "a.nii",), tmp_path / "t.nii", "a"), Case("b", (), None, "b")]
    monkeypatch.setattr(ibsr18.Segmenter, "load", lambda *_, **__: Toy())
    monkeypatch.setattr(ibsr18, "list_cases", lambda root: cases)
    monkeypatch.setattr(ibsr18, "read_label_map", lambda path: SimpleNamespace(data=truth))
    written = {}
    monkeypatch.setattr(
        ModelOptions, "write_summary", lambda self, name, cards, summary: written.update(summary)
    )
    options = ModelOptions(output=tmp_path)
    ibsr18.run(options)
    ibsr18.run(options)
    assert asked == [(tmp_path / "a.nii", "fast")]
    tissues = {name: one["mean"] for name, one in written["tissues"].items()}
    assert tissues == pytest.approx({"csf": 1.0, "grey": 0.8, "white": 0.0})
