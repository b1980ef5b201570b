"""Each study: measured whole on tiny models, and its findings on rows whose truth is known."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from ddmseg_lab.questions import STUDIES
from ddmseg_lab.results_page import write_page
from ddmseg_lab.rows import Row, Rows
from ddmseg_lab.statistics_text import SIGMA_D, exact_share
from ddmseg_lab.studies import discrepancy, robustness, samples, steps, temperature
from ddmseg_lab.studies.artefacts import ARTEFACTS
from ddmseg_lab.studies.encoded import EncodedSubject
from ddmseg_lab.study import measure_study, noise_of

pytestmark = pytest.mark.usefixtures("quick_intervals")

PATIENTS = [f"s{i}" for i in range(14)]  # with fewer, tests of tied values take seconds


@pytest.fixture(autouse=True, scope="module")
def _short() -> Iterator[None]:
    """Studies with fewer conditions."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "LADDER", (1, 2, 5, 10))
        patch.setattr(steps, "FINE_STEPS", 40)
        patch.setattr(steps, "HALF_STEPS", 20)
        patch.setattr(samples, "COUNTS", (1, 2, 4))
        few = {name: ARTEFACTS[name] for name in ("ghosting", "missing_slices")}
        patch.setattr(robustness, "ARTEFACTS", few)
        yield


@pytest.fixture(scope="module")
def results(tmp_path_factory, trained, _short) -> Path:
    """A folder with the rows of two crops of every study."""
    folder = tmp_path_factory.mktemp("results")
    for study in STUDIES.values():
        assert measure_study(study, trained, folder, cases=2) == []
    return folder


def measured(study, trained, results) -> Rows:
    """The rows of the first crop."""
    rows = study.rows(results, trained.card)
    return rows.where(subject=rows.subjects[0])


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_from_weights_to_page(trained, results, tmp_path, name):
    study = STUDIES[name]
    assert len(study.rows(results, trained.card).subjects) == 2
    path, text = write_page(study, trained.card, results, tmp_path)
    assert "nan" not in text.lower()
    assert path.with_suffix(".png").stat().st_size > 5000
    for line in text.splitlines():
        if line.startswith("|"):
            assert "None" not in line
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert tables
    for table in tables:
        assert len({line.count("|") for line in table}) == 1


def subject_of(trained):
    return next(iter(trained.source.subjects("test")))


# temperature


def test_temperature_limits(trained, results):
    rows = measured(temperature.TEMPERATURE, trained, results)
    weighted = rows.where(part="weights")
    effective = weighted.numbers("effective_samples")
    assert effective[0] == pytest.approx(1)  # sigma_D of 0 keeps one sample
    assert effective[-1] == pytest.approx(temperature.ENSEMBLE)
    assert effective == sorted(effective)
    best = rows.where(part=temperature.BEST).numbers("dice")[0]
    assert best >= rows.where(part=temperature.FIRST).numbers("dice")[0]
    assert best >= weighted.where(temperature=0.0).numbers("dice")[0]


def temperature_rows(gain: float) -> Rows:
    made: list[Row] = []
    for i, name in enumerate(PATIENTS):
        base = 0.8 + 0.01 * i

        def row(part: str, t: float, dice: float, name: str = name) -> Row:
            numbers = {"temperature": t, "dice": dice, "hd95_mm": 1.0, "missed": 0.0}
            return {"subject": name, "part": part, "effective_samples": 1.0, **numbers}

        for part in ("weights", "guidance"):
            made += [row(part, t, base + (gain if t == 0.1 else 0.0)) for t in (0.0, 0.1, math.inf)]
        made += [
            row(temperature.FIRST, math.nan, base - 0.01),
            row(temperature.BEST, math.nan, base + 0.01),
        ]
    return Rows(tuple(made))


def test_temperature_words_follow():
    assert f"mean Dice is higher with {SIGMA_D} = 0.1" in temperature.TEMPERATURE.page(
        temperature_rows(0.02)
    )
    flat = temperature.TEMPERATURE.page(temperature_rows(0.0))
    assert "is higher" not in flat
    assert flat.count("No effect on mean Dice was found") == 2
    assert "brings +0.0100 of that (50%)" in flat


# steps


def test_errors_vanish_where_paths_meet(trained, results):
    rows = measured(steps.STEPS, trained, results).where(answer=steps.SINGLE)
    for sampler in steps.PATHWISE:
        assert rows.where(sampler=sampler, steps=1).numbers("path_error") == [0.0]
        errors = rows.where(sampler=sampler).among("steps", (2.0, 5.0, 10.0))
        assert all(error > 0 for error in errors.numbers("path_error"))
    assert len(rows.where(sampler="ddpm").known("error")) == 0
    one = {rows.where(sampler=s, steps=1).numbers("dice")[0] for s in steps.ALGORITHMS}
    assert len(one) == 1  # one step is the same for every sampler


def test_own_settings_begin_with_the_sample_alone(trained):
    with torch.inference_mode():
        encoded = EncodedSubject(trained, subject_of(trained))
        (second,) = steps._others(encoded, 0, 5)
        both = encoded.samples(noise_of(0), 2, algorithm="ddim", steps=5)
    assert torch.equal(second, both[1])


def step_rows(orders: dict[str, float], drop: Sequence[float] = (0.02, 0.004, 0.0, 0.0)) -> Rows:
    made: list[Row] = []
    for i, name in enumerate(PATIENTS):
        for sampler in steps.ALGORITHMS:
            for n, lost in zip(steps.LADDER, drop, strict=True):
                q = orders.get(sampler, math.nan)
                row: Row = {"subject": name, "sampler": sampler, "steps": float(n)}
                row |= {"dice": 0.8 + 0.01 * i - lost, "path_error": 2.0 * n**-q}
                row |= {"answer": steps.SINGLE, "error": n**-q * (1 + 0.1 * i)}
                made.append(row)
                if sampler == "ddim":
                    made.append(
                        {**row, "answer": steps.OWN, "error": math.nan, "path_error": math.nan}
                    )
        half: Row = {"subject": name, "sampler": "dpm", "answer": steps.SINGLE, "dice": 0.8}
        made.append({**half, "steps": 20.0, "error": 1e-9, "path_error": math.nan})
    return Rows(tuple(made))


@pytest.mark.parametrize("order", [0.5, 1.0, 2.0])
def test_the_fitted_order_is_the_order(order):
    found = steps.fitted_order(step_rows({"ddim": order, "dpm": order}), "ddim", "error")
    assert found.mean == pytest.approx(order)
    assert found.n == len(PATIENTS)


def test_step_words_follow():
    fast = steps.STEPS.page(step_rows({"ddim": 1.0, "dpm": 2.0}))
    assert fast.count("The error of `dpm` falls faster.") == 2
    assert "Order 2 is not reached" not in fast
    assert "fine enough for every error here" in fast
    slow = steps.STEPS.page(step_rows({"ddim": 0.8, "dpm": 0.8}))
    assert "falls faster" not in slow
    assert "Order 2 is not reached" in slow
    assert "Order 1 is not reached" in slow


@pytest.mark.parametrize(
    ("drop", "enough", "words"),
    [
        ((0.02, 0.004, 0.0, 0.0), 2, "2 steps and more stay within 0.5 Dice points of 10, interv"),
        ((0.0, 0.02, 0.0, 0.0), 5, "5 steps and more stay"),  # one good value below does not count
        ((0.0, 0.0, 0.0, 0.0), 1, "1 step and more stay"),
        ((0.02, 0.02, 0.006, 0.0), 10, "No number of steps below 10 stays"),
    ],
)
def test_how_many_steps_are_enough(drop, enough, words):
    rows = step_rows({"ddim": 1.0, "dpm": 2.0}, drop)
    found = rows.where(sampler="ddpm").compare("dice", "steps", 10.0)
    assert steps.smallest_enough(found) == enough
    assert words in steps._enough_words(found)


# discrepancy


def test_every_voxel_is_counted_once(trained, results):
    rows = measured(discrepancy.DISCREPANCY, trained, results)
    voxels = subject_of(trained).labels.numel()
    assert rows.words("mask").count(discrepancy.CORRUPTED) == 3
    for row in rows.rows:
        right, wrong = (sum(map(int, str(row[f"{s}_counts"]).split())) for s in discrepancy.SIDES)
        assert right + wrong == voxels
        assert wrong / voxels == pytest.approx(float(row["wrong_share"]), rel=1e-5)
        n, confidence, hits = np.array(str(row["reliability"]).split(), float).reshape(3, -1)
        assert n.sum() == voxels
        assert hits.sum() == right
        assert (confidence <= n + 1e-3).all()
        gap = np.abs(confidence - hits).sum() / voxels  # ECE with these bins
        assert gap <= 1


def test_quantiles_are_of_the_voxels_of_one_side():
    counts = discrepancy._histogram(np.array([0.0, 1e-9, 1e-3, 1.0, 1e9]))
    assert counts.sum() == 5
    assert counts[0] == 2  # what is below the lowest bin joins it
    assert counts[-1] == 1


def discrepancy_rows(*, withheld: float, auroc: float, calibrated: float) -> Rows:
    made: list[Row] = []
    bins = " ".join(["0"] * (discrepancy.BINS - 1) + ["10"])
    # eight of ten voxels of confidence 0.95 are right
    curve = " ".join([*["0"] * 9, "10", *["0"] * 9, "9.5", *["0"] * 9, "8"])
    for i, name in enumerate(PATIENTS):
        for mask in (*discrepancy.JUDGED, discrepancy.WITHHELD):
            dice = 0.5 + 0.03 * i + (withheld if mask == discrepancy.WITHHELD else 0.0)
            row: Row = {"subject": name, "mask": mask, "dice": dice, "reliability": curve}
            row |= {f"{side}_counts": bins for side in discrepancy.SIDES}
            row |= {"expected_raw": dice + 0.1, "expected": dice + calibrated + 0.001 * (i % 2)}
            row |= {
                "auroc": auroc + 0.001 * i,
                "auroc_entropy": 0.9,
                "ece": 0.1,
                "wrong_share": 0.2,
            }
            for side, low in zip(discrepancy.SIDES, (0.0, 1.0), strict=True):
                row |= {discrepancy._quantile(side, q): low + q for q in discrepancy.QUANTILES}
            made.append(row)
    return Rows(tuple(made))


def test_discrepancy_words_follow():
    good = discrepancy.DISCREPANCY.page(
        discrepancy_rows(withheld=-0.02, auroc=0.95, calibrated=0.01)
    )
    assert "On intact masks: Against the entropy, AUROC is higher with D" in good
    assert "the denoiser makes use of it." in good
    assert "the mean absolute error is lower with the card's map" in good
    assert "in 14 of 14 masks three quarters of the wrong voxels" in good
    assert "+0.1500" in good  # confidence above the share of right voxels
    poor = discrepancy.DISCREPANCY.page(discrepancy_rows(withheld=0.0, auroc=0.8, calibrated=0.1))
    assert "AUROC is lower with D" in poor
    assert "the denoiser makes no use of it" in poor
    assert "No effect on mean Dice was found" in poor


def test_without_conditioning_it_is_said():
    rows = discrepancy_rows(withheld=0.0, auroc=0.9, calibrated=0.0)
    rows = rows.among("mask", discrepancy.JUDGED)
    assert "This model is not conditioned on the discrepancy." in discrepancy.DISCREPANCY.page(rows)


# samples


def test_samples_are_judged_and_volumes_bounded(trained, results):
    rows = measured(samples.SAMPLES, trained, results)
    counted = rows.where(part=samples.DOUBT)
    assert counted.numbers("samples") == [1.0, 2.0, 4.0]
    assert math.isnan(counted.numbers("auroc_mi")[0])  # one sample disagrees with none
    assert all(0 <= value <= 1 for value in counted.numbers("ece"))
    assert all(value >= 0 for value in counted.numbers("ged"))
    volumes = rows.where(part=samples.VOLUME)
    assert volumes.words("structure") == ["anterior", "posterior"]
    assert volumes.numbers("truth_ml") == [0.18, 0.18]  # 6 x 6 x 5 voxels of 1 mm
    for row in volumes.rows:
        assert float(row["low_ml"]) <= float(row["volume_ml"]) <= float(row["high_ml"])


@pytest.mark.parametrize(
    ("inside", "n", "low", "high", "words"),
    [
        (38, 40, 0.831, 0.994, "agrees with 95%"),
        (20, 40, 0.338, 0.662, "are too narrow"),
        (200, 200, 0.982, 1.0, "are wider than needed"),
    ],
)
def test_coverage(inside, n, low, high, words):
    """Clopper and Pearson's limits, from their published tables for 38 of 40."""
    found = exact_share(inside, n)
    assert (found.low, found.high) == pytest.approx((low, high), abs=1e-3)
    assert words in samples._coverage_words("x", found)


def test_risk_falls_when_confidence_is_right():
    dice = np.linspace(0.5, 0.9, 20)
    right, wrong = np.stack([dice, dice], 1), np.stack([-dice, dice], 1)
    assert samples._gain(right) > 0 > samples._gain(wrong)
    assert samples._gain(np.stack([np.ones(20), dice], 1)) == pytest.approx(0)


# robustness


def robustness_rows(loss: Sequence[float], expected: float) -> Rows:
    """``loss`` by level for one artefact; the other loses nothing."""
    made: list[Row] = []
    generator = np.random.default_rng(0)
    for name in PATIENTS:
        base = 0.85 + float(generator.normal(0, 0.01))
        levels = [("intact", 0, 0.0)]
        levels += [("ghosting", n, lost) for n, lost in enumerate(loss, start=1)]
        levels += [("missing_slices", n, 0.0) for n in range(1, 6)]
        for artefact, level, lost in levels:
            dice = base * (1 - lost) + (float(generator.normal(0, 1e-3)) if level else 0.0)
            told = dice if expected else 0.9
            row: Row = {"subject": name, "artefact": artefact, "level": float(level)}
            verdict = "pass" if told >= 0.8 else "fail"
            made.append({**row, "verdict": verdict, "dice": dice, "expected": told, "limit": 0.8})
    return Rows(tuple(made))


LOSS = (0.0, 0.0, 0.1, 0.2, 0.5)


def test_relative_loss():
    found = robustness.relative_loss(robustness_rows(LOSS, 1), ("ghosting", 4))
    assert np.mean(list(found.values())) == pytest.approx(0.2, abs=2e-3)
    assert list(found) == PATIENTS


def test_robustness_words_follow():
    sharp = robustness.ROBUSTNESS.page(robustness_rows(LOSS, 1))
    assert "- ghosting: Dice is lower at levels 3, 4 and 5 (−0.0" in sharp
    assert "- missing slices: no effect was found at any level" in sharp
    assert "The largest change is that of ghosting at level 5" in sharp
    assert "42 scans with a Dice below 0.8, 0 pass unnoticed" in sharp
    assert "ranks bad scans below good ones better than chance: 1.000" in sharp
    blind = robustness.ROBUSTNESS.page(robustness_rows(LOSS, 0))
    assert "42 scans with a Dice below 0.8, 42 pass unnoticed (100.0%)" in blind
    assert "does not rank bad scans below good ones beyond chance: 0.500" in blind
    fine = robustness.ROBUSTNESS.page(robustness_rows((0.0,) * 5, 1))
    assert "All scans lie above 0.8, so that there is nothing to tell apart." in fine


def test_the_same_pattern_at_every_level(trained, results):
    rows = measured(robustness.ROBUSTNESS, trained, results)
    assert len(rows) == 1 + 2 * 5
    assert set(rows.words("verdict")) <= set(robustness.VERDICTS)
    with torch.inference_mode():
        again = list(robustness.measure(trained, subject_of(trained), 0))
    assert [row["dice"] for row in again] == pytest.approx(rows.numbers("dice"), rel=1e-5)


def test_pictures_are_drawn_of_one_patient():
    one = Rows(tuple(r for r in robustness_rows(LOSS, 1).rows if r["subject"] == "s0"))
    figure = Figure()
    robustness.draw(one, figure)
    assert len(figure.axes) == 2
