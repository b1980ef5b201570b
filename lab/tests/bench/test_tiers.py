"""Which tiers are measured."""

from __future__ import annotations

import pytest

from ddmseg.errors import MissingExtraError, UsageError
from ddmseg.pipeline.engines import catalogue
from ddmseg.pipeline.options import SegmentOptions
from ddmseg_lab.bench.tiers import TIERS, choose_tiers, option_words


@pytest.fixture
def bare(monkeypatch):
    """No engine but torch is installed."""
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: None)


def names(tiers) -> list[str]:
    return [tier.name for tier in tiers]


def test_without_a_name_all_that_can_be_run_are(bare):
    assert names(choose_tiers([], has_second_level=False)) == ["fast", "auto", "diffusion"]
    assert names(choose_tiers([], has_second_level=True))[-1] == "level2"


def test_installed_engines_are_among_them(monkeypatch):
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: object())
    assert names(choose_tiers([], has_second_level=True)) == list(TIERS)


def test_engines_of_the_cpu_are_not_among_those_of_a_gpu(monkeypatch):
    monkeypatch.setattr(catalogue.util, "find_spec", lambda name: object())
    there = names(choose_tiers([], has_second_level=True, device="cuda"))
    assert there == ["fast", "auto", "diffusion", "level2"]
    with pytest.raises(UsageError, match="'onnx' computes on the CPU and the device is cuda"):
        choose_tiers(["onnx"], has_second_level=True, device="cuda")


def test_named_tiers_come_in_the_order_of_the_table():
    assert names(choose_tiers(["auto", "fast"], has_second_level=False)) == ["fast", "auto"]


def test_what_cannot_be_run_is_refused(bare):
    with pytest.raises(UsageError, match=r"got 'fsat' \(did you mean 'fast'\?\); allowed are"):
        choose_tiers(["fsat"], has_second_level=True)
    with pytest.raises(UsageError, match="'level2'; the model has one level"):
        choose_tiers(["level2"], has_second_level=False)
    with pytest.raises(MissingExtraError, match=r"pip install 'ddmseg\[openvino\]'"):
        choose_tiers(["openvino"], has_second_level=False)


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_every_tier_is_one_that_can_be_asked_for(tier):
    options = SegmentOptions().changed(tier.options)
    assert tier.engine in catalogue.NAMES
    assert all(getattr(options, name) == value for name, value in tier.options.items())
    assert len(option_words(tier.options)) == len(tier.options)
