"""Made-up rows through the real summary: medians, ratios, exponents."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from ddmseg_lab.bench.jobs import FIGURES, HELP, KEYS, MEMORY, PEER, SCALING, STAGE, START
from ddmseg_lab.bench.jobs import TIER as OF_TIER
from ddmseg_lab.bench.scans import BenchScan
from ddmseg_lab.bench.summary import figures_of, median_range, ratios, summarise
from ddmseg_lab.bench.tiers import TIERS
from ddmseg_lab.bench.workbench import ENCODING, PLAIN_PASS, SAMPLE_STEPS, Peer, PeerOutcome

SCAN = BenchScan("demo head", Path("head.nii.gz"), (10, 20, 30))
PEER_TOOL = Peer("samseg", "SAMSEG", "0.5", lambda *_: PeerOutcome({}))


def row(part, name, *, scan=SCAN.name, at="-", repeat=0, **figures) -> dict[str, str]:
    keys = dict(zip(KEYS, (part, scan, name, at, repeat), strict=True))
    return {k: str(v) for k, v in {**keys, **dict.fromkeys(FIGURES, math.nan), **figures}.items()}


def times(seconds: float) -> dict[str, float]:
    return {"seconds": seconds, "processor_seconds": 2 * seconds}


ROWS = [
    *(row(OF_TIER, "fast", repeat=n, **times(s), dice=0.9) for n, s in enumerate((1, 3, 2))),
    *(row(OF_TIER, "diffusion", repeat=n, **times(s), dice=1) for n, s in enumerate((8, 9, 10))),
    row(MEMORY, "fast", **times(99), peak_memory_gb=1.25),
    row(OF_TIER, "fast", scan="scan of another run", **times(1000)),
    row(STAGE, PLAIN_PASS, **times(0.5)),
    row(STAGE, ENCODING, **times(0.6)),
    row(STAGE, SAMPLE_STEPS, **times(0.8)),
    row(PEER, "samseg", at="0.5", **times(600), dice=0.7, peak_memory_gb=3),
    row(PEER, "samseg", at="0.4", **times(999)),
    row(START, HELP, scan="-", seconds=0.2),
    *(
        row(SCALING, "steps", at=n, repeat=r, seconds=2 * n, denoise_seconds=n**2)
        for n in (1, 2, 4)
        for r in (0, 1)
    ),
]


@pytest.fixture(scope="module")
def found():
    return summarise(ROWS, [SCAN], [TIERS["fast"], TIERS["auto"], TIERS["diffusion"]], [PEER_TOOL])


def test_medians_of_each_tier_stand_with_their_range(found):
    methods = found["scans"]["demo head"]["methods"]
    assert methods["fast"]["seconds"] == {"median": 2.0, "low": 1.0, "high": 3.0, "n": 3}
    assert methods["fast"]["dice"]["median"] == 0.9
    assert found["scans"]["demo head"]["shape"] == [10, 20, 30]


def test_memory_is_that_of_the_fresh_process_and_its_time_is_not_mixed_in(found):
    assert found["scans"]["demo head"]["methods"]["fast"]["peak_memory_gb"]["median"] == 1.25
    assert "peak_memory_gb" not in found["scans"]["demo head"]["methods"]["diffusion"]


def test_a_tier_without_rows_is_left_out(found):
    assert list(found["scans"]["demo head"]["methods"]) == ["fast", "diffusion", "samseg"]


def test_ratios_are_to_fast_and_to_one_plain_pass(found):
    methods = found["scans"]["demo head"]["methods"]
    assert methods["diffusion"]["over_fast"] == {"seconds": 4.5, "processor_seconds": 4.5}
    assert methods["diffusion"]["over_one_pass"]["seconds"] == 18
    assert methods["fast"]["over_fast"]["seconds"] == 1


def test_other_tools_stand_in_the_same_table_with_the_version_at_hand(found):
    samseg = found["scans"]["demo head"]["methods"]["samseg"]
    assert (samseg["title"], samseg["version"]) == ("SAMSEG", "0.5")
    assert samseg["over_fast"]["seconds"] == 300
    assert samseg["seconds"]["n"] == 1


def test_sampling_counts_the_encoding_too(found):
    together = found["scans"]["demo head"]["sampling_over_one_pass"]
    assert together["seconds"] == pytest.approx((0.6 + 0.8) / 0.5)


def test_scaling_has_exponents_of_medians(found):
    steps = found["scaling"]["steps"]
    assert [point["at"] for point in steps["points"]] == [1, 2, 4]
    assert steps["points"][2]["seconds"]["n"] == 2
    assert steps["exponents"]["seconds"]["exponent"] == pytest.approx(1)
    assert steps["exponents"]["denoise_seconds"]["exponent"] == pytest.approx(2)
    assert "peak_memory_gb" not in steps["exponents"]
    assert list(found["scaling"]) == ["steps"]


def test_start_up_has_no_scan(found):
    assert found["start"][HELP]["seconds"]["median"] == 0.2


def test_nothing_measured_gives_nothing():
    empty = summarise([], [SCAN], [TIERS["fast"]])
    assert empty["scaling"] == {}
    assert empty["scans"]["demo head"]["methods"] == {}
    assert empty["scans"]["demo head"]["sampling_over_one_pass"] == {}
    assert figures_of([row(STAGE, PLAIN_PASS)]) == {}


def test_nothing_is_divided_by_zero():
    some, none = {"seconds": median_range([1.0])}, {"seconds": median_range([0.0])}
    assert ratios(some, none) == {}
    assert ratios(none, some) == {"seconds": 0.0}
    assert ratios(some, {}) == {}
