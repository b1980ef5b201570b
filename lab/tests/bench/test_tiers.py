"""Which tiers are measured."""

from __future__ import annotations

import pytest

from ddmseg.errors import MissingExtraError, UsageError
from ddmseg.inference.engines import catalogue
from ddmseg.inference.options import SegmentOptions
from ddmseg_lab.bench.tiers import TIERS, choose_tiers, option_words


@pytest.fixture
def bare(monkeypatch):
    """No engine but torch is installed."""
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: None)


def names(tiers) -> list[str]:
    return [tier.name for tier in tiers]


def test_without_a_name_all_that_can_be_run_are(bare):
    assert names(choose_tiers([])) == ["fast", "auto", "diffusion"]


def test_installed_engines_are_among_them(monkeypatch):
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: object())
    assert names(choose_tiers([])) == list(TIERS)


def test_engines_of_the_cpu_are_not_among_those_of_a_gpu(monkeypatch):
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: object())
    there = names(choose_tiers([], device="cuda"))
    assert there == ["fast", "auto", "diffusion"]
    with pytest.raises(UsageError, match="'onnx' computes on the CPU and the device is cuda"):
        choose_tiers(["onnx"], device="cuda")


def test_named_tiers_come_in_the_order_of_the_table():
    assert names(choose_tiers(["auto", "fast"])) == ["fast", "auto"]


def test_what_cannot_be_run_is_refused(bare):
    with pytest.raises(UsageError, match=r"got 'fsat' \(did you mean 'fast'\?\); allowed are"):
        choose_tiers(["fsat"])
    with pytest.raises(MissingExtraError, match=r"pip install 'ddmseg\[openvino\]'"):
        choose_tiers(["openvino"])


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_every_tier_is_one_that_can_be_asked_for(tier):
    options = SegmentOptions().changed(tier.options)
    assert tier.engine in catalogue.NAMES
    assert all(getattr(options, name) == value for name, value in tier.options.items())
    assert len(option_words(tier.options)) == len(tier.options)
