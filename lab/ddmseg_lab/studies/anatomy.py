"""Dice of the anatomy model on MALC2012, which no training has seen.

    python -m ddmseg_lab.studies.anatomy --model anatomy

Each skull-stripped scan goes through the real ``Segmenter`` and is compared on its own
grid, structure by structure, where both protocols draw one. Development and test scans
are kept apart; two scans of one person count as one. Writes ``results/anatomy.tsv`` (one
row a scan, mode and structure) and ``results/anatomy.json``; a stopped run goes on.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ddmseg.datasets.case import Case
from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.imaging.labels import count_voxels, structure
from ddmseg.inference.segmenter import Segmenter
from ddmseg.quality.segmentation import StructureVolume
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.figures import BLUE, ORANGE, error_bars, new_figure
from ddmseg_lab.page import (
    INTERVALS,
    Chapter,
    Claim,
    Summary,
    Target,
    picture,
    table,
    weights_words,
    with_interval,
)
from ddmseg_lab.scans import HEADS, Ids, structure_dice
from ddmseg_lab.statistics_text import mean_by_group, mean_interval
from ddmseg_lab.study import SAMPLING_SEED, ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, SAMPLES = 10, 4
MODES: dict[str, dict[str, Any]] = {
    "fast": {"mode": "fast"},
    "diffusion": {"mode": "diffusion", "steps": STEPS, "samples": SAMPLES},
}
"""Options by what the table calls them."""
SPLITS = {"development": "validation", "test": "test"}
"""How the page calls a split, and how the split file does."""
ALL = "all structures in common"
GROUPS: dict[str, tuple[int, ...]] = {
    ALL: EVALUATION_LABELS,
    "cerebral white matter": (2, 41),
    "cerebral cortex": (3, 42),
    "deep grey matter": (10, 11, 12, 13, 26, 49, 50, 51, 52, 58),
    "hippocampus and amygdala": (17, 18, 53, 54),
    "ventricles": (4, 5, 14, 15, 43, 44),
    "cerebellum": (7, 8, 46, 47),
    "brain-stem and ventral DC": (16, 28, 60),
}
"""FreeSurfer ids whose Dice is averaged."""
COLUMNS = (
    *("weights", "case", "person", "split", "mode", "index", "name"),
    *("dice", "covered", "expected_dice", "seconds"),
)


def covered(volumes: Sequence[StructureVolume], truth: Ids, voxel_ml: float) -> dict[int, bool]:
    """Return for each structure whether its interval holds the volume that was drawn by hand."""
    drawn = count_voxels(truth)
    return {
        row.index: row.interval_low_ml <= drawn.get(row.index, 0) * voxel_ml <= row.interval_high_ml
        for row in volumes
        if row.index in EVALUATION_LABELS
    }


def measure(segmenter: Segmenter, case: Case, split: str, mode: str) -> list[dict[str, Any]]:
    """Segment one scan and return a row for each structure."""
    drawn = HEADS.drawn(case)
    truth = HEADS.freesurfer_ids(drawn.data)
    start = time.perf_counter()
    result = segmenter(case.images[0], **MODES[mode])
    seconds = time.perf_counter() - start
    shared = {
        "weights": short_checksum(segmenter.card),
        "case": case.identifier,
        "person": case.group,
        "split": split,
        "mode": mode,
        "expected_dice": result.quality.expected_dice,
        "seconds": seconds,
    }
    scores = structure_dice(result.labels.data, truth, HEADS.structures)
    inside = covered(result.volumes, truth, drawn.voxel_ml)
    say(f"{case.identifier}  {mode:<9}  {np.nanmean(list(scores.values())):.3f}  {seconds:.1f} s")
    return [
        {**shared, "index": index, "name": structure(index).name}
        | {"dice": value, "covered": int(inside[index])}
        for index, value in scores.items()
    ]


def summarise(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return intervals over persons for each group and structure, from rows of one mode."""
    structures = {}
    for index in EVALUATION_LABELS:
        of = [row for row in rows if row["index"] == str(index)]
        means = mean_by_group(numbers(of, "dice"), [row["person"] for row in of])
        structures[structure(index).name] = mean_interval(means)
    scans = {row["case"]: row for row in rows}
    return {
        "scans": len(scans),
        "groups": {name: _group_interval(rows, ids) for name, ids in GROUPS.items()},
        "structures": structures,
        "expected_dice_error": _promise_error(rows),
        "covered": _group_interval(rows, EVALUATION_LABELS, "covered"),
        "seconds": median_range(numbers(scans.values(), "seconds")),
    }


def _group_interval(
    rows: list[dict[str, str]], ids: tuple[int, ...], column: str = "dice"
) -> dict[str, Any]:
    """Average the structures of each scan, then the scans of each person."""
    known = {str(index) for index in ids}
    of = [row for row in rows if row["index"] in known]
    cases = sorted({row["case"] for row in of})
    person = {row["case"]: row["person"] for row in of}
    each = mean_by_group(numbers(of, column), [row["case"] for row in of])
    return mean_interval(mean_by_group(each, [person[case] for case in cases]))


def _promise_error(rows: list[dict[str, str]]) -> dict[str, Any]:
    """How far the expected Dice of each scan is from its true mean."""
    cases = sorted({row["case"] for row in rows})
    each = mean_by_group(numbers(rows, "dice"), [row["case"] for row in rows])
    scans = {row["case"]: row for row in rows}
    promised = numbers([scans[case] for case in cases], "expected_dice")
    error = [abs(a - b) for a, b in zip(promised, each, strict=True)]
    return mean_interval(mean_by_group(error, [scans[case]["person"] for case in cases]))


def run(options: ModelOptions) -> None:
    """Measure one scan after the other, then sum up; ``--cases`` counts in each split."""
    segmenter = Segmenter.load(options.model, device="cpu")
    record = "anatomy_fast" if segmenter.card.name == "anatomy_fast" else "anatomy"
    table = options.raw_table(record, COLUMNS, [segmenter.card])
    splits: dict[str, Any] = {}
    for split, name in SPLITS.items():
        cases = HEADS.cases(name, options.data, options.cases)
        for case in cases:
            for mode in MODES:
                if not table.has(case=case.identifier, mode=mode):
                    table.add(measure(segmenter, case, split, mode))
        wanted = {case.identifier for case in cases}
        rows = [row for row in table.select(split=split) if row["case"] in wanted]
        splits[split] = {
            mode: summarise([row for row in rows if row["mode"] == mode]) for mode in MODES
        }
    summary = {"steps": STEPS, "samples": SAMPLES, "splits": splits}
    options.write_summary(record, {"ddm": segmenter.card}, summary, seed=SAMPLING_SEED)


PICTURE = "anatomy_dice.png"
ASKED = {
    ALL: 0.805,
    "hippocampus and amygdala": 0.73,
    "ventricles": 0.75,
    "deep grey matter": 0.785,
    "cerebral white matter": 0.85,
}
"""Least Dice of groups of structures that was asked of the model at 1 mm."""


def body(found: Summary) -> list[str]:
    """Dice on MALC2012, development and test scans apart."""
    splits = found["splits"]
    columns = [(split, mode) for split in splits for mode in splits[split]]
    groups = list(splits["test"]["fast"]["groups"])
    rows = [
        [group, *(with_interval(splits[s][m]["groups"][group]) for s, m in columns)]
        for group in groups
    ]
    for title, key in (
        ("error of the expected Dice", "expected_dice_error"),
        ("share of volumes drawn by hand in their 95% intervals", "covered"),
    ):
        rows.append([title, *(with_interval(splits[s][m].get(key)) for s, m in columns)])
    medians = [f"{splits[s][m]['seconds']['median']:.1f}" for s, m in columns]
    rows.append(["seconds a scan, median", *medians])
    persons = {s: splits[s]["fast"]["groups"][groups[0]]["n"] for s in splits}
    counts = "; ".join(
        f"{split}: {splits[split]['fast']['scans']} scans, {persons[split]} persons"
        for split in splits
    )
    return [
        f"Scans that no training has seen ({counts}). {weights_words(found)} Mean Dice of the "
        "structures that both protocols draw, on each scan's own grid; two scans of one person "
        f"count as one. {INTERVALS}",
        table(["structures", *(f"{split}, {mode}" for split, mode in columns)], rows),
        picture(PICTURE, "Dice of each structure on the MALC2012 test scans"),
        "Scans: OASIS (Marcus et al. 2007). Labels: Neuromorphometrics, Inc., of the MICCAI "
        "2012 challenge, CC BY-NC.",
    ]


def claims(found: Summary) -> list[Claim]:
    """Mean Dice of all structures and of groups of them on the test scans, mode fast."""
    groups = found.get("splits", {}).get("test", {}).get("fast", {}).get("groups", {})
    return [
        Claim(Target(f"anatomy, MALC2012 test scans, {group}", bound), groups.get(group))
        for group, bound in ASKED.items()
    ]


def anatomy_dice(found: Summary) -> Figure:
    """Dice of each structure on the test scans, in both modes."""
    modes = found["splits"]["test"]
    colours = {"diffusion": BLUE, "fast": ORANGE}
    return dice_bars(
        {mode: (colour, modes[mode]["structures"]) for mode, colour in colours.items()}, (6.8, 8.0)
    )


def dice_bars(shown: Mapping[str, tuple[str, Summary]], inches: tuple[float, float]) -> Figure:
    """Draw the Dice of the same structures for two things, with intervals.

    Args:
        shown: colour, and measured Dice by structure, of each of the two.
        inches: width and height.
    """
    figure, axes = new_figure(*inches)
    for offset, (label, (colour, measured)) in zip((0.2, -0.2), shown.items(), strict=True):
        names, rows = list(measured), list(measured.values())
        places = [len(names) - i + offset for i in range(len(names))]
        axes.barh(
            places, [row["mean"] or 0.0 for row in rows], height=0.38, color=colour, label=label,
            xerr=error_bars(rows), error_kw={"elinewidth": 0.8},
        )  # fmt: skip
    axes.set_yticks([len(names) - i for i in range(len(names))], names, fontsize=8)
    axes.set_ylim(0.3, len(names) + 0.7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice, with 95% interval")
    axes.legend(fontsize=8, loc="lower left")
    return figure


CHAPTER = Chapter(
    "Anatomy: MALC2012",
    "python -m ddmseg_lab.studies.anatomy --data DATA",
    "anatomy",
    body,
    claims,
    {PICTURE: anatomy_dice},
)


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
