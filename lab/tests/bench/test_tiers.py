"""Which tiers are measured."""

from __future__ import annotations

import pytest

from ddmseg.errors import UsageError
from ddmseg.inference.options import SegmentOptions
from ddmseg_lab.bench.tiers import TIERS, choose_tiers, option_words


def names(tiers) -> list[str]:
    return [tier.name for tier in tiers]


def test_without_a_name_all_are():
    assert names(choose_tiers([])) == ["fast", "auto", "diffusion"]


def test_named_tiers_come_in_the_order_of_the_table():
    assert names(choose_tiers(["auto", "fast"])) == ["fast", "auto"]


def test_what_is_not_known_is_refused():
    with pytest.raises(UsageError, match=r"got 'fsat' \(did you mean 'fast'\?\); allowed are"):
        choose_tiers(["fsat"])


@pytest.mark.parametrize("tier", TIERS.values(), ids=TIERS)
def test_every_tier_is_one_that_can_be_asked_for(tier):
    options = SegmentOptions().changed(tier.options)
    assert all(getattr(options, name) == value for name, value in tier.options.items())
    assert len(option_words(tier.options)) == len(tier.options)
