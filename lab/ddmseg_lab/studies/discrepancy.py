"""What the discrepancy D knows: where a mask is wrong, how good it is, and of what use that is.

Letters: D_v at voxel v; exp(-D_v / sigma_D^2) is meant as the probability that v is right.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.datasets.subject import Subject
from ddmseg.maths.uncertainty import auroc, entropy
from ddmseg.randomness import seeded
from ddmseg.training.calibration import CORRUPTIONS_PER_CASE
from ddmseg.training.corruption import corrupt
from ddmseg_lab.figures import BLUE, GREEN, GREY, ORANGE, RED
from ddmseg_lab.page import number, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.rows import Row, Rows
from ddmseg_lab.statistics import expected_calibration_error
from ddmseg_lab.statistics_text import (
    SIGMA_D,
    against_words,
    compare_sets,
    difference_words,
    interval,
    r_of,
)
from ddmseg_lab.studies.encoded import EncodedSubject
from ddmseg_lab.study import SEED, Study, Trained, noise_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COARSE, SAMPLED, CORRUPTED, WITHHELD = "coarse", "sampled", "corrupted", "D withheld"
INTACT = (COARSE, SAMPLED)
JUDGED = (COARSE, SAMPLED, CORRUPTED)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LOWEST, HIGHEST, BINS = -5.0, 1.5, 26
"""Powers of ten between which D is counted, and in how many bins; the ends take what is beyond."""
CONFIDENCE_BINS = 10
FEW_VOXELS = 100  # a bin of fewer is left out of the picture
CORRUPTION_SEED = SEED + 1
SIDES = ("right", "wrong")


def measure(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
    """Judge the coarse, the sampled and corrupted masks; sample once more without D."""
    encoded = EncodedSubject(trained, subject)
    coarse = encoded.coarse()
    yield _judged(encoded, COARSE, coarse.argmax(0), coarse)
    sampled = encoded.own_answer(noise_of(number))
    labels = sampled.argmax(0)
    yield _judged(encoded, SAMPLED, labels, sampled)
    generator = seeded(CORRUPTION_SEED, number)
    for _ in range(CORRUPTIONS_PER_CASE):
        wrong = corrupt(labels[None], trained.model.classes, generator)[0]
        yield _judged(encoded, CORRUPTED, wrong, sampled)
    assert trained.model.denoiser is not None
    if trained.model.denoiser.sees_discrepancy:
        noise = noise_of(number)
        drawn = [encoded.sample(noise, sees_discrepancy=False) for _ in range(encoded.own.samples)]
        blind = encoded.answer(drawn)
        yield _judged(encoded, WITHHELD, blind.argmax(0), blind)


def _judged(encoded: EncodedSubject, mask: str, labels: Tensor, p: Tensor) -> Row:
    assessment = encoded.assess(p, labels)
    D = assessment.discrepancy[0, 0]
    wrong = labels != encoded.subject.labels
    right = encoded.right(D).clamp(0, 1)
    row: Row = {
        "mask": mask,
        "dice": encoded.trained.score(encoded.subject, labels.numpy())["dice"],
        "expected_raw": assessment.expectation.mean_dice,
        "expected": assessment.expected_dice,
        "auroc": auroc(D, wrong),
        "auroc_entropy": auroc(entropy(p[None])[0, 0], wrong),
        "ece": expected_calibration_error(right, ~wrong),
        "wrong_share": float(wrong.float().mean()),
        "reliability": _packed(_reliability(right, ~wrong)),
    }
    for side, inside in zip(SIDES, (~wrong, wrong), strict=True):
        values = D[inside].double().numpy()
        row[f"{side}_counts"] = _packed(_histogram(values))
        for q in QUANTILES:
            row[_quantile(side, q)] = float(np.quantile(values, q)) if len(values) else math.nan
    return row


def _quantile(side: str, q: float) -> str:
    return f"{side}_q{100 * q:02.0f}"


def _histogram(values: NDArray[np.float64]) -> NDArray[np.int64]:
    powers = np.log10(np.maximum(values, 10.0**LOWEST))
    index = ((powers - LOWEST) / (HIGHEST - LOWEST) * BINS).astype(np.int64)
    return np.bincount(index.clip(0, BINS - 1), minlength=BINS)


def _reliability(confidence: Tensor, correct: Tensor) -> NDArray[np.float64]:
    """Return for each bin of confidence the voxels, their confidence and how many are right."""
    index = (confidence * CONFIDENCE_BINS).long().clamp(max=CONFIDENCE_BINS - 1).flatten().numpy()
    of = (torch.ones_like(confidence), confidence, correct)
    weights = [values.flatten().double().numpy() for values in of]
    return np.concatenate([np.bincount(index, one, CONFIDENCE_BINS) for one in weights])


def _packed(values: NDArray[np.float64] | NDArray[np.int64]) -> str:
    return " ".join(f"{value:.6g}" for value in values.tolist())


def _unpacked(cells: Sequence[str]) -> NDArray[np.float64]:
    table = np.array([cell.split() for cell in cells], dtype=np.float64)
    return np.asarray(table.sum(axis=0))


def _distribution(rows: Rows) -> Iterator[str]:
    yield "## Right and wrong voxels"
    yield (
        "Quantiles of D, each the mean over masks of the mask's own quantile. Corrupted masks are "
        f"made of the sampled one, {CORRUPTIONS_PER_CASE} a patient: moved, another's, classes "
        "swapped, grown, shrunk or torn."
    )
    body = []
    for mask in JUDGED:
        some = rows.where(mask=mask)
        for side in SIDES:
            cells = [_small(some.mean(_quantile(side, q)).mean) for q in QUANTILES]
            body.append([f"{mask}, {side}", *cells])
    yield table(["mask, voxels", *(f"{100 * q:.0f}%" for q in QUANTILES)], body)
    for mask in JUDGED:
        some = rows.where(mask=mask).known("wrong_q25", "right_q95")
        share = some.mean("wrong_share").mean
        apart = [
            a > b for a, b in zip(some.numbers("wrong_q25"), some.numbers("right_q95"), strict=True)
        ]
        if apart:
            yield (
                f"Of {mask} masks {number(100 * share, 2)}% of the voxels are wrong; in "
                f"{sum(apart)} of {len(apart)} masks three quarters of the wrong voxels have a "
                "larger D than 95% of the right ones."
            )


def _small(value: float) -> str:
    return number(value, 2) if math.isnan(value) or value >= 1 else f"{value:.2g}"


def _detection(rows: Rows) -> Iterator[str]:
    yield "## Finding wrong voxels"
    body, words = [], []
    for name, masks in (*((m, (m,)) for m in JUDGED), ("intact", INTACT), ("all", JUDGED)):
        some = rows.among("mask", masks)
        test = compare_sets(some.by_subject("auroc_entropy"), {"D": some.by_subject("auroc")})
        cells = [shown(some.mean(c), 3) for c in ("auroc", "auroc_entropy")]
        body.append([name, *cells, difference_words(test["D"], 3)])
        if name in ("intact", "all"):
            words.append(
                f"On {name} masks: "
                + against_words({"D": test["D"]}, what="AUROC", reference="the entropy", digits=3)
            )
    yield table(["masks", "AUROC of D", "AUROC of the entropy", "difference"], body)
    yield (
        "AUROC over all voxels of a mask for being wrong; the entropy is that of the softmax "
        "probabilities that the mask was made from, which a corruption does not change."
    )
    yield " ".join(words)


def _calibration(rows: Rows) -> Iterator[str]:
    yield f"## Is exp(−D/{SIGMA_D}²) a probability?"
    body = []
    for mask in JUDGED:
        some = rows.where(mask=mask)
        voxels, confidence, right = _sums(some).sum(1)
        bias = number((confidence - right) / voxels, 4, sign=True)
        body.append([mask, shown(some.mean("ece"), 4), bias])
    yield table(["mask", "ECE", "mean confidence less share of right voxels"], body)
    sums = _sums(rows.among("mask", JUDGED))
    lines = []
    for low, (n, c, a) in enumerate(zip(sums[0], *_shares(sums), strict=True)):
        between = f"{low / CONFIDENCE_BINS:.1f} to {(low + 1) / CONFIDENCE_BINS:.1f}"
        lines.append([between, f"{n:.0f}", number(c), number(a)])
    yield table([f"exp(−D/{SIGMA_D}²)", "voxels", "mean", "share right"], lines)
    voxels, confidence, right = sums[:, :-1].sum(1)
    if voxels:
        gap = (right - confidence) / voxels
        word = "more" if gap > 0 else "fewer"
        yield (
            f"Of the voxels below {1 - 1 / CONFIDENCE_BINS:g}, where something is at stake, "
            f"{number(100 * abs(gap), 1)} percentage points {word} are right than D says."
        )


def _sums(some: Rows) -> NDArray[np.float64]:
    """Voxels in each bin of confidence, the sum of it, and how many are right."""
    return _unpacked(some.words("reliability")).reshape(3, -1)


def _shares(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean confidence and share of right voxels in each bin, NaN in an empty one."""
    return sums[1:] / np.where(sums[0] > 0, sums[0], np.nan)


def _expected(rows: Rows) -> Iterator[str]:
    yield "## Expected Dice"
    body = []
    for name, masks in (("all masks", JUDGED), ("intact masks", INTACT)):
        some = rows.among("mask", masks).known("dice")
        r = some.pooled(r_of, "expected", "dice")
        gaps = (interval(list(_errors(some, c).values())) for c in ("expected_raw", "expected"))
        body.append([name, shown(r), *(shown(gap, 4) for gap in gaps)])
    yield table(["", "r of expected and true", "mean error, raw", "mean error, calibrated"], body)
    some = rows.among("mask", JUDGED).known("dice")
    errors = {c: _errors(some, c) for c in ("expected_raw", "expected")}
    test = compare_sets(errors["expected_raw"], {"the card's map": errors["expected"]})
    same = all(a == b for a, b in zip(*(some.numbers(c) for c in errors), strict=True))
    if same:
        yield "The card has no calibration map, so that both are the same."
        return
    yield (
        "The map in the card was fitted on validation subjects; these are test subjects. "
        + against_words(test, what="the mean absolute error", reference="the raw expected Dice")
    )


def _errors(some: Rows, column: str) -> dict[str, float]:
    """Mean absolute error of each patient's masks."""
    gaps = [{**row, "gap": abs(float(row[column]) - float(row["dice"]))} for row in some.rows]
    return Rows(tuple(gaps)).by_subject("gap")


def _conditioning(rows: Rows) -> Iterator[str]:
    yield "## What that says of conditioning"
    if WITHHELD not in rows.kinds("mask"):
        yield "This model is not conditioned on the discrepancy."
        return
    some = rows.among("mask", (SAMPLED, WITHHELD, COARSE))
    tests = some.compare("dice", "mask", WITHHELD)
    yield (
        "The same samples once more, from the same noise, with the discrepancy map hidden from "
        "the denoiser (zeros in its place) at every step; nothing was trained anew."
    )
    body = []
    for mask in (SAMPLED, WITHHELD, COARSE):
        mean = shown(rows.where(mask=mask).mean("dice"), 4)
        body.append([mask, mean, difference_words(tests.get(mask))])
    yield table(["mask", "Dice", "Dice less that without D"], body)
    test = {"D": tests[SAMPLED]}
    yield against_words(test, what="mean Dice", reference="sampling without D")
    found = rows.where(mask=SAMPLED).mean("auroc").mean
    helped = tests[SAMPLED].found and tests[SAMPLED].difference.mean > 0
    use = (
        "the denoiser makes use of it."
        if helped
        else "the denoiser makes no use of it that is seen in the Dice: knowing where a mask "
        "is doubtful does not say what is right there."
    )
    words = "D tells a wrong voxel of the sampled mask from a right one with AUROC"
    yield f"{words} {number(found)}; {use}"


def draw(rows: Rows, figure: Figure) -> None:
    """Draw the distribution of D, the reliability curve, and expected against true Dice."""
    left, middle, right = figure.subplots(1, 3)
    _draw_histogram(left, rows)
    middle.plot([0, 1], [0, 1], color="black", linewidth=0.7)
    for mask, colour in zip(JUDGED, (ORANGE, BLUE, GREY), strict=True):
        some = rows.where(mask=mask)
        sums = _sums(some)
        x, y = _shares(sums)[:, sums[0] >= FEW_VOXELS]
        middle.plot(x, y, color=colour, marker="o", markersize=3, label=mask)
        right.scatter(some.numbers("expected"), some.numbers("dice"), s=9, color=colour, alpha=0.7)
    middle.set(xlabel=r"exp(−D/$\sigma_D^2$)", ylabel="share of right voxels")
    middle.legend(fontsize=8, frameon=False)
    right.plot([0, 1], [0, 1], color="black", linewidth=0.7)
    right.set(xlabel="expected Dice, calibrated", ylabel="true Dice")


def _draw_histogram(axes: Axes, rows: Rows) -> None:
    edges = np.logspace(LOWEST, HIGHEST, BINS + 1)
    for mask, style in ((SAMPLED, "-"), (CORRUPTED, ":")):
        for side, colour in zip(SIDES, (GREEN, RED), strict=True):
            counts = _unpacked(rows.where(mask=mask).words(f"{side}_counts"))
            share = counts / max(counts.sum(), 1.0)
            axes.stairs(share, edges, color=colour, linestyle=style, label=f"{mask}, {side}")
    axes.set(xscale="log", xlabel="D", ylabel="share of the voxels")
    axes.legend(fontsize=8, frameon=False)


DISCREPANCY = Study(
    name="discrepancy",
    question=(
        f"Is the discrepancy large where a mask is wrong, is exp(−D/{SIGMA_D}²) an honest "
        "probability, and does conditioning on it help?"
    ),
    words=("mask", "right_counts", "wrong_counts", "reliability"),
    numbers=(
        *("dice", "expected_raw", "expected", "auroc", "auroc_entropy", "ece", "wrong_share"),
        *(_quantile(side, q) for side in SIDES for q in QUANTILES),
    ),
    measure=measure,
    parts=(_distribution, _detection, _calibration, _expected, _conditioning),
    draw=draw,
    caption=(
        "Left: D in right and wrong voxels; middle: how often voxels of a confidence are right, "
        f"where there are {FEW_VOXELS} or more; right: expected against true Dice, one dot a mask"
    ),
    inches=(12.5, 4.0),
    settings={
        "corruptions": CORRUPTIONS_PER_CASE,
        "corruption_seed": CORRUPTION_SEED,
        "bins": [LOWEST, HIGHEST, BINS, CONFIDENCE_BINS],
    },
)
