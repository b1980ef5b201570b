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
from ddmseg_lab.figures import BLUE, ORANGE, interval_bars, name_places, new_figure
from ddmseg_lab.page import (
    Chapter,
    Claim,
    Summary,
    basis,
    claim,
    command_of,
    picture,
    table,
    with_interval,
)
from ddmseg_lab.scans import HEADS, Ids, structure_dice
from ddmseg_lab.statistics_text import mean_by_group, median_range, over_persons
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
        **{"weights": short_checksum(segmenter.card), "case": case.identifier},
        **{"person": case.group, "split": split, "mode": mode},
        **{"expected_dice": result.quality.expected_dice, "seconds": seconds},
    }
    scores = structure_dice(result.labels.data, truth, HEADS.structures)
    inside = covered(result.volumes, truth, drawn.voxel_ml)
    say(f"{case.identifier}  {mode:<9}  {np.nanmean(list(scores.values())):.3f}  {seconds:.1f} s")
    return [
        {**shared, "index": index, "name": structure(index).name}
        | {"dice": value, "covered": int(inside[index])}
        for index, value in scores.items()
    ]


Rows = list[dict[str, str]]


def summarise(rows: Rows) -> dict[str, Any]:
    """Return intervals over persons for each group and structure, from rows of one mode."""
    scans = list({row["case"]: row for row in sorted(rows, key=lambda row: row["case"])}.values())
    promised, true = numbers(scans, "expected_dice"), _by_scan(rows, "dice")
    error = [abs(a - b) for a, b in zip(promised, true, strict=True)]
    return {
        "scans": len(scans),
        "groups": {name: _of_structures(rows, ids) for name, ids in GROUPS.items()},
        "structures": {
            structure(index).name: _of_structures(rows, (index,)) for index in EVALUATION_LABELS
        },
        "expected_dice_error": over_persons(scans, error),
        "covered": _of_structures(rows, EVALUATION_LABELS, "covered"),
        "seconds": median_range(numbers(scans, "seconds")),
    }


def _by_scan(rows: Rows, column: str) -> list[float]:
    """Return the mean over structures of each scan, in order of names."""
    return mean_by_group(numbers(rows, column), [row["case"] for row in rows])


def _of_structures(rows: Rows, ids: tuple[int, ...], column: str = "dice") -> dict[str, Any]:
    """Average the structures of each scan, then the scans of each person."""
    of = [row for row in rows if int(row["index"]) in ids]
    scans = {row["case"]: row for row in sorted(of, key=lambda row: row["case"])}
    return over_persons(list(scans.values()), _by_scan(of, column))


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
        splits[split] = {m: summarise([row for row in rows if row["mode"] == m]) for m in MODES}
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
    columns = {f"{split}, {mode}": of[mode] for split, of in splits.items() for mode in of}
    groups = list(splits["test"]["fast"]["groups"])
    rows = [
        [group, *(with_interval(one["groups"][group]) for one in columns.values())]
        for group in groups
    ]
    for title, key in (
        ("error of the expected Dice", "expected_dice_error"),
        ("share of volumes drawn by hand in their 95% intervals", "covered"),
    ):
        rows.append([title, *(with_interval(one.get(key)) for one in columns.values())])
    medians = [f"{one['seconds']['median']:.1f}" for one in columns.values()]
    rows.append(["seconds a scan, median", *medians])
    counts = "; ".join(
        f"{split}: {of['fast']['scans']} scans, {of['fast']['groups'][groups[0]]['n']} persons"
        for split, of in splits.items()
    )
    words = (
        "Mean Dice of the structures that both protocols draw, on each scan's own grid; two scans "
        "of one person count as one."
    )
    return [
        f"Scans that no training has seen ({counts}). {basis(found, words)}",
        table(["structures", *columns], rows),
        picture(PICTURE, "Dice of each structure on the MALC2012 test scans"),
        "Scans: OASIS (Marcus et al. 2007). Labels: Neuromorphometrics, Inc., of the MICCAI "
        "2012 challenge, CC BY-NC.",
    ]


def claims(found: Summary) -> list[Claim]:
    """Mean Dice of all structures and of groups of them on the test scans, mode fast."""
    path = ("splits", "test", "fast", "groups")
    return [
        claim(f"anatomy, MALC2012 test scans, {group}", bound, found, *path, group)
        for group, bound in ASKED.items()
    ]


def anatomy_dice(found: Summary) -> Figure:
    """Dice of each structure on the test scans, in both modes."""
    modes = found["splits"]["test"]
    colours = {"diffusion": BLUE, "fast": ORANGE}
    shown = {mode: (colour, modes[mode]["structures"]) for mode, colour in colours.items()}
    return dice_bars(shown, (6.8, 8.0))


def dice_bars(shown: Mapping[str, tuple[str, Summary]], inches: tuple[float, float]) -> Figure:
    """Draw the Dice of the same structures for two things, each with its colour and intervals."""
    figure, axes = new_figure(*inches)
    for offset, (label, (colour, measured)) in zip((0.2, -0.2), shown.items(), strict=True):
        places = [place + offset for place in name_places(axes, list(measured), fontsize=8)]
        rows = list(measured.values())
        axes.barh(
            places, [row["mean"] or 0.0 for row in rows], height=0.38, color=colour, label=label,
            xerr=interval_bars(rows), error_kw={"elinewidth": 0.8},
        )  # fmt: skip
    axes.set_ylim(0.3, len(places) + 0.7)
    axes.set_xlim(0, 1)
    axes.set_xlabel("Dice, with 95% interval")
    axes.legend(fontsize=8, loc="lower left")
    return figure


CHAPTER = Chapter(
    "Anatomy: MALC2012", command_of(__name__), "anatomy", body, claims, {PICTURE: anatomy_dice}
)


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
