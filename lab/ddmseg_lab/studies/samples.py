"""What more samples bring: a better mean, an honest doubt, and how much they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddmseg.datasets.subject import Subject
from ddmseg.evaluation.scores import LEVEL
from ddmseg.imaging.labels import count_voxels
from ddmseg.maths.statistics import Interval
from ddmseg.maths.uncertainty import auroc, entropy
from ddmseg.quality.quantities import structures
from ddmseg.quality.volumes import Measured
from ddmseg_lab.figures import BLUE, GREEN, GREY, ORANGE, RED, line_with_bars, name_ticks
from ddmseg_lab.page import number, table
from ddmseg_lab.page import with_interval as shown
from ddmseg_lab.rows import Row, Rows
from ddmseg_lab.statistics import (
    expected_calibration_error,
    generalised_energy_distance,
    mutual_information,
    pairwise_disagreement,
    risk_coverage_area,
)
from ddmseg_lab.statistics_text import (
    Pairs,
    against_words,
    compare_sets,
    counted,
    difference_words,
    exact_share,
    listed,
)
from ddmseg_lab.studies.encoded import EncodedSubject, weighted_mean
from ddmseg_lab.study import Study, Trained, noise_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COUNTS = (1, 2, 4, 8, 16)
DOUBT, VOLUME = "samples", "volume"  # two kinds of rows: one a number of samples, one a structure
NOMINAL = LEVEL
VOXEL_MM3 = 1000.0
HEADS = {
    "dice": ("Dice", 4),
    "dice_joined": ("Dice with the coarse head", 4),
    "ece": ("ECE", 4),
    "auroc_entropy": ("AUROC of the entropy", 4),
    "auroc_mi": ("AUROC of the mutual information", 4),
    "aurc": ("AURC of voxels", 5),
    "ged": ("energy distance", 4),
    "disagreement": ("disagreement", 4),
}
"""Column, how it is called and with how many digits."""
VOLUMES = ("volume_ml", "low_ml", "high_ml", "truth_ml")
NUMBERS = ("samples", *HEADS, "expected", *VOLUMES)


def measure(trained: Trained, subject: Subject, number: int) -> Iterator[Row]:
    """Draw the samples once and judge the first 1, 2, 4, ... of them; then the volumes."""
    encoded = EncodedSubject(trained, subject)
    drawn = encoded.samples(noise_of(number), COUNTS[-1])
    for count in COUNTS:
        yield _judged(encoded, drawn[:count])
    yield from _volumes(encoded, encoded.answer(drawn[: encoded.own.samples]))


def _judged(encoded: EncodedSubject, drawn: Sequence[Tensor]) -> Row:
    truth = encoded.subject.labels
    mean = weighted_mean(drawn, encoded.weights(drawn, encoded.own.temperature))
    right = mean.argmax(0) == truth
    doubt = entropy(mean[None])[0, 0]
    maps = torch.stack([p.argmax(0) for p in drawn])[:, None]
    several = len(drawn) > 1
    classes = encoded.trained.model.classes
    split = mutual_information(torch.stack(list(drawn))[:, None])[0, 0] if several else None
    apart = float(pairwise_disagreement(maps, classes=classes)[0]) if several else math.nan
    energy = generalised_energy_distance(maps, truth[None, None], classes=classes)
    return _row(
        DOUBT,
        samples=float(len(drawn)),
        dice=encoded.score(mean)["dice"],
        dice_joined=encoded.score(encoded.answer(drawn))["dice"],
        ece=expected_calibration_error(mean.amax(0).clamp(0, 1), right),
        auroc_entropy=auroc(doubt, ~right),
        auroc_mi=math.nan if split is None else auroc(split, ~right),
        aurc=risk_coverage_area(doubt, (~right).float()),
        ged=float(energy[0]),
        disagreement=apart,
        expected=encoded.assess(mean).expected_dice,
    )


def _volumes(encoded: EncodedSubject, p: Tensor) -> Iterator[Row]:
    """Compare each structure's interval, as a user gets it, with its true volume."""
    trained, subject = encoded.trained, encoded.subject
    found = encoded.assess(p)
    ids = torch.tensor(trained.card.labels)[found.labels[0]].numpy()
    voxel_ml = math.prod(subject.spacing_mm) / VOXEL_MM3
    found_ml = {index: n * voxel_ml for index, n in count_voxels(ids).items()}
    measured = Measured(trained.card, found_ml, found.expectation, expected_voxel_ml=voxel_ml)
    for place, one in enumerate(structures(trained.card.labels), start=1):
        row = measured.row(one)
        if place in trained.source.structures:
            yield _row(
                VOLUME,
                structure=trained.source.structures[place],
                samples=float(encoded.own.samples),
                volume_ml=row.volume_ml,
                low_ml=row.interval_low_ml,
                high_ml=row.interval_high_ml,
                truth_ml=float((subject.labels == place).sum()) * voxel_ml,
            )


def _row(part: str, *, structure: str = "", **numbers: float) -> Row:
    return {"part": part, "structure": structure, **dict.fromkeys(NUMBERS, math.nan), **numbers}


def _counts(rows: Rows) -> Iterator[str]:
    rows = rows.where(part=DOUBT)
    yield "## Number of samples"
    yield (
        "The first K of the same samples, joined by the card's weights. ECE of the largest "
        "probability, AUROC of voxelwise doubt for wrong voxels, area under the risk-coverage "
        "curve of voxels by entropy (share of wrong voxels, lower is better), generalised energy "
        "distance to the truth, and mean 1 − IoU of two samples."
    )
    by_count = {count: rows.where(samples=float(count)) for count in COUNTS}
    body = [
        [f"{count}", *(shown(some.mean(c), digits) for c, (_, digits) in HEADS.items())]
        for count, some in by_count.items()
    ]
    yield table(["K", *(head for head, _ in HEADS.values())], body)
    yield f"Less K = {COUNTS[0]} on the same patients:"
    told = [c for c in HEADS if c not in ("auroc_mi", "disagreement")]
    tests = {c: rows.compare(c, "samples", float(COUNTS[0])) for c in told}
    body = [
        [f"{count}", *(difference_words(tests[c].get(float(count)), HEADS[c][1]) for c in told)]
        for count in COUNTS[1:]
    ]
    yield table(["K", *(HEADS[c][0] for c in told)], body)
    for c in told:
        name, digits = HEADS[c]
        named = {f"K = {float(k):g}": test for k, test in tests[c].items()}
        yield f"**{name}.** " + against_words(
            named, what=name, reference=f"K = {COUNTS[0]}", digits=digits
        )
    most = by_count[COUNTS[-1]]
    values = {"the mutual information": most.by_subject("auroc_mi")}
    test = compare_sets(most.by_subject("auroc_entropy"), values)
    words = against_words(test, what="AUROC", reference="the entropy of the mean")
    yield f"**Which doubt, at K = {COUNTS[-1]}.** {words}"


def _cases(rows: Rows) -> Iterator[str]:
    yield "## Risk and coverage of patients"
    yield (
        "Patients are kept in the order of their expected Dice; the risk is the mean of 1 − Dice "
        "of those kept. By chance the area under that curve (AURC) is the mean loss; the best "
        "order is that of the true Dice."
    )
    body, better = [], []
    for count in COUNTS:
        some = rows.where(part=DOUBT, samples=float(count)).known("dice")
        area = some.pooled(_area, "expected", "dice")
        gain = some.pooled(_gain, "expected", "dice")
        most = some.pooled(_gain, "dice", "dice")
        body.append([f"{count}", *(shown(one, 4) for one in (area, gain)), number(most.mean, 4)])
        better.append(gain.low > 0)
    yield table(["K", "AURC", "chance less that", "chance less the best order's"], body)
    if all(better):
        yield "At every K the order is better than chance."
    elif any(better):
        named = [str(k) for k, yes in zip(COUNTS, better, strict=True) if yes]
        yield f"The order is better than chance at K = {listed(named)} and not told from it else."
    else:
        yield "At no K is the order told from chance."


def _area(pairs: Pairs) -> float:
    """AURC of cases: columns are the confidence and the Dice."""
    values = torch.from_numpy(np.ascontiguousarray(pairs))
    return risk_coverage_area(-values[:, 0], 1 - values[:, 1])


def _gain(pairs: Pairs) -> float:
    """How far the AURC lies below the mean loss, which a random order has on average."""
    return float(np.mean(1 - pairs[:, 1])) - _area(pairs)


def _coverage(rows: Rows) -> Iterator[str]:
    some = rows.where(part=VOLUME)
    yield "## Volume intervals"
    yield (
        "How often the true volume lies in the 95% interval that a user gets with the card's own "
        "settings; exact binomial intervals."
    )
    body, words = [], []
    for structure in some.kinds("structure"):
        rows_here = some.where(structure=structure)
        found_ml, low, high, truth = (np.array(rows_here.numbers(name)) for name in VOLUMES)
        inside = (low <= truth) & (truth <= high)
        found = exact_share(int(inside.sum()), len(inside))
        there = found_ml > 0
        width = 100 * (high - low)[there] / found_ml[there]
        median = float(np.median(width)) if there.any() else math.nan
        body.append([str(structure), str(found.n), shown(found), number(median, 1)])
        words.append(_coverage_words(str(structure), found))
    heads = ["structure", "patients", "coverage", "median width, % of the volume"]
    yield table(heads, body)
    yield " ".join(words)


def _coverage_words(structure: str, found: Interval) -> str:
    share = f"{number(100 * found.mean, 1)}% of {counted(found.n, 'patient')}"
    if found.high < NOMINAL:
        return f"The intervals of {structure} are too narrow: they cover {share}."
    if found.low > NOMINAL:
        return f"The intervals of {structure} are wider than needed: they cover {share}."
    return f"The coverage of {structure}, {share}, agrees with 95%."


def draw(rows: Rows, figure: Figure) -> None:
    """Draw Dice, calibration, error detection and diversity over the number of samples."""
    some = rows.where(part=DOUBT)
    panels = figure.subplots(1, 4)
    shown_here = (
        ("Dice", (("dice", BLUE), ("dice_joined", ORANGE))),
        ("ECE", (("ece", BLUE),)),
        ("AUROC for wrong voxels", (("auroc_entropy", BLUE), ("auroc_mi", GREEN))),
        ("distance", (("ged", RED), ("disagreement", GREY))),
    )
    for axes, (title, columns) in zip(panels, shown_here, strict=True):
        for column, colour in columns:
            _draw_line(axes, some, column, colour)
        axes.set_title(title, fontsize=10)
        axes.set_xscale("log")
        name_ticks(axes, COUNTS, [str(k) for k in COUNTS])
        axes.set_xlabel("samples K")
        axes.legend(fontsize=8, frameon=False)


def _draw_line(axes: Axes, rows: Rows, column: str, colour: str) -> None:
    found = {k: rows.where(samples=float(k)).mean(column) for k in COUNTS}
    known = {k: one for k, one in found.items() if not math.isnan(one.mean)}
    label = HEADS[column][0]
    line_with_bars(axes, list(known), list(known.values()), colour=colour, label=label)


SAMPLES = Study(
    name="samples",
    question=(
        "What do more samples bring, does their doubt point at errors, and do the volume "
        "intervals cover?"
    ),
    words=("part", "structure"),
    numbers=NUMBERS,
    measure=measure,
    parts=(_counts, _cases, _coverage),
    draw=draw,
    caption="Means over patients by number of samples, with 95% intervals",
    inches=(13.0, 3.8),
    settings={"counts": list(COUNTS)},
)
