"""Does the discrepancy know how good a mask is? Expected against true Dice, and errors found.

    python -m ddmseg_lab.studies.expected_dice --model hippocampus
    python -m ddmseg_lab.studies.expected_dice --model anatomy

Masks are the coarse one, the sampled one and corruptions of it, on subjects that the
calibration in the model's card has not seen: the hippocampus test crops; for anatomy
other synthetic draws of the validation label maps, and the MALC2012 development scans.
Writes ``results/discrepancy_MODEL.tsv`` (one row a mask) and ``.json``; a stopped run goes
on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ddmseg.datasets import malc2012
from ddmseg.datasets.case import Case
from ddmseg.datasets.source import padded
from ddmseg.datasets.sources import make_source
from ddmseg.datasets.subject import read_labelled
from ddmseg.errors import CheckpointError
from ddmseg.imaging.labels import classes_of
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.preprocess import prepare
from ddmseg.maths.calibration import DiceCalibration
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.settings import DataSettings, Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.training.calibration import CORRUPTIONS_PER_CASE
from ddmseg_lab import page
from ddmseg_lab.figures import BLUE, GREY, ORANGE, new_figure
from ddmseg_lab.page import Chapter, Claim, Summary, claim, inner, with_interval
from ddmseg_lab.scans import CROPS, HEADS
from ddmseg_lab.statistics_text import (
    group_interval,
    mean_by_group,
    mean_interval,
    over_persons,
    paired_tests,
    r_of,
)
from ddmseg_lab.studies.judged_masks import SCORES, Subject, measure_masks
from ddmseg_lab.study import ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import RawTable, numbers

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTACT = ("coarse", "sampled")
FITTED_CASES = 60  # validation examples that the calibration was fitted on at most
SYNTHETIC_CASES = 30  # synthetic draws to report on, after those
COLUMNS = ("weights", "set", "case", "person", *SCORES)
Rows = Sequence[dict[str, str]]


Job = tuple[str, str, str, int, Callable[[], Subject]]
"""Set, case, person and number of a subject, and what makes it when it is its turn."""


def hippocampus_jobs(data: str | None, cases: int | None) -> Iterator[Job]:
    """Yield the test crops."""
    for number, case in enumerate(CROPS.cases("test", data, cases)):
        yield "test", case.identifier, case.group, number, partial(_crop, case)


def _crop(case: Case) -> Subject:
    crop = read_labelled(case, DataSettings(kind="hippocampus"))
    return Subject.whole(*padded(crop.image, crop.labels))


def head_jobs(
    model: DiscrepancyDiffusionSegmenter, card: Card, data: str | None, cases: int | None
) -> Iterator[Job]:
    """Yield draws of the validation label maps after those of the calibration, then MALC2012."""
    settings = settings_from_dict(Settings, card.settings)
    first = max(FITTED_CASES, card.calibration.get("masks", 0) // (2 + CORRUPTIONS_PER_CASE))
    count = SYNTHETIC_CASES if cases is None else cases
    examples = make_source(settings.data, data).validation_examples(first + count)[first:]
    for i, example in enumerate(examples, first):
        name = f"draw_{i:03d}"
        yield "synthetic", name, name, i, partial(Subject.whole, *example)
    for i, case in enumerate(HEADS.cases("validation", data, cases)):
        yield "malc2012", case.identifier, case.group, i, partial(malc_subject, model, card, case)


def malc_subject(model: DiscrepancyDiffusionSegmenter, card: Card, case: Case) -> Subject:
    """Bring scan and manual labels to the model's grid, and say which voxels can be judged.

    Not judged: what MALC2012 draws and FreeSurfer does not, and CSF, drawn in few places
    there; where a mask says CSF is left out with that mask.
    """
    spacing_mm = card.settings["data"]["spacing_mm"]
    scan = read_volume(case.images[0])
    prepared = prepare(scan, spacing_mm=spacing_mm, multiple=model.multiple)
    drawn = HEADS.drawn(case).data
    ids = prepared.labels_from_input(malc2012.freesurfer_ids(drawn))
    unknown = (prepared.labels_from_input(drawn) > 0) & (ids == 0)
    evaluated = [place for place, index in enumerate(card.labels) if index in HEADS.structures]
    known = ~unknown & np.isin(ids, (0, *HEADS.structures))
    truth = torch.from_numpy(classes_of(ids, card.labels).astype(np.int64))
    image = torch.from_numpy(prepared.image)[None]
    return Subject(image, truth, torch.from_numpy(known), tuple(evaluated))


def measure(
    model: DiscrepancyDiffusionSegmenter, card: Card, jobs: Iterable[Job], table: RawTable
) -> None:
    """Measure the subjects that have not been measured."""
    for of, case, person, number, load in jobs:
        if table.has(set=of, case=case):
            continue
        shared = {"weights": short_checksum(card), "set": of, "case": case, "person": person}
        table.add({**shared, **row} for row in measure_masks(model, card, load(), number=number))
        say(f"{of}  {case}")


def summarise(rows: Rows, calibration: DiceCalibration) -> dict[str, Any]:
    """Return what the masks of one set add up to."""
    raw, true = np.array(numbers(rows, "expected")), np.array(numbers(rows, "true"))
    pairs = np.stack([calibration(raw), true], axis=1)
    intact = [row for row in rows if row["kind"] in INTACT]
    is_intact = [row["kind"] in INTACT for row in rows]
    points = zip(rows, pairs.tolist(), raw, strict=True)
    return {
        "subjects": len({row["person"] for row in rows}),
        "masks": len(rows),
        "pearson_r": group_interval(r_of, pairs, [row["person"] for row in rows]),
        "pearson_r_intact": group_interval(r_of, pairs[is_intact], [r["person"] for r in intact]),
        "mae_raw": over_persons(rows, np.abs(raw - true).tolist()),
        "mae_calibrated": over_persons(rows, np.abs(pairs[:, 0] - true).tolist()),
        "true_dice": over_persons(rows, "true"),
        "detection": {kind: _detection(rows, kind) for kind in (*INTACT, "corrupted")},
        "detection_intact": _compared(intact),
        "detection_all": _compared(rows),
        "points": [[row["kind"], *pair, float(x)] for row, pair, x in points],
    }


def _detection(rows: Rows, kind: str) -> dict[str, Any]:
    of = [row for row in rows if row["kind"] == kind]
    names = ["auroc", "auroc_entropy", "ece"] + ["ece_softmax", "covered"] * (kind in INTACT)
    return {name: over_persons(of, name) for name in names}


def _compared(rows: Rows) -> dict[str, Any]:
    """D against the softmax entropy on the same masks, paired by person."""
    persons = [row["person"] for row in rows]
    D, entropy = (mean_by_group(numbers(rows, c), persons) for c in ("auroc", "auroc_entropy"))
    return {
        "auroc": mean_interval(D),
        "auroc_entropy": mean_interval(entropy),
        "difference": paired_tests(entropy, {"auroc": D}).get("auroc"),
    }


def run(options: ModelOptions) -> None:
    """Measure, then sum up; weights of one's own take the record of their kind."""
    model, card = load_weights(model_path(options.model))
    if not card.calibration:
        raise CheckpointError(f"{options.model}: without a calibration; give weights with one")
    data, cases = options.data, options.cases
    crops = card.settings["data"]["kind"] == "hippocampus"
    heads = "anatomy_fast" if card.name == "anatomy_fast" else "anatomy"
    record = f"discrepancy_{'hippocampus' if crops else heads}"
    table = options.raw_table(record, COLUMNS, [card])
    jobs = list(hippocampus_jobs(data, cases) if crops else head_jobs(model, card, data, cases))
    measure(model, card, jobs, table)
    calibration = DiceCalibration.from_dict(card.calibration["expected_dice"])
    sets: dict[str, Any] = {}
    for name in dict.fromkeys(of for of, *_ in jobs):
        wanted = {case for of, case, *_ in jobs if of == name}
        rows = [row for row in table.select(set=name) if row["case"] in wanted]
        sets[name] = summarise(rows, calibration)
    summary = {"calibration": calibration.as_dict(), "sets": sets}
    options.write_summary(record, {"ddm": card}, summary)


LEAST_R = {"hippocampus": 0.95, "anatomy": 0.85}
"""Least correlation of expected and true Dice that is aimed at."""
PICTURE = "expected_dice_{model}.png"
KINDS = {"coarse": ORANGE, "sampled": BLUE, "corrupted": GREY}  # colours of the dots
SETS = {
    "test": "test crops",
    "synthetic": "synthetic scans",
    "malc2012": "MALC2012 development scans",
}


def body(model: str, found: Summary) -> list[str]:
    """Expected against true Dice, and error detection, for one model."""
    sets = found["sets"]
    words = f"Expected against true Dice of the {model} model's masks"
    return [
        "Masks: of the coarse head, sampled, and three corruptions of the sampled one (moved, "
        "another's, classes swapped, grown, shrunk, torn). The calibration is the one in the card, "
        f"of validation subjects that are not among these. {page.basis(found)}",
        page.table(["", *(SETS[one] for one in sets)], _rows(sets)),
        page.picture(PICTURE.format(model=model), words),
    ]


def claims(model: str, found: Summary) -> list[Claim]:
    """Expected Dice follows the true one, and D finds errors, on each set of a model."""
    made = []
    for name in ("test",) if model == "hippocampus" else ("synthetic", "malc2012"):
        one, where = inner(found, "sets", name), f"{model}, {SETS[name]}"
        r, error = f"{where}: r of expected and true Dice", f"{where}: error of the expected Dice"
        made.append(claim(r, LEAST_R[model], one, "pearson_r"))
        made.append(claim(error, 0.05, one, "mae_calibrated", at_least=False))
        for masks in ("all", "intact"):
            what = f"{where}: AUROC of D, {masks} masks"
            made.append(claim(what, 0.97, one, f"detection_{masks}", "auroc"))
        for masks in ("all", "intact"):
            what = f"{where}: AUROC of D less the entropy's, {masks} masks"
            made.append(claim(what, 0.0, one, f"detection_{masks}", "difference"))
    return made


_SHOWN = {
    "Pearson r, all masks": "pearson_r",
    "Pearson r, intact masks alone": "pearson_r_intact",
    "mean absolute error, raw": "mae_raw",
    "mean absolute error, calibrated": "mae_calibrated",
    "AUROC of D, all masks": "detection_all auroc",
    "AUROC of the softmax entropy, all masks": "detection_all auroc_entropy",
    "AUROC of D, intact masks": "detection_intact auroc",
    "AUROC of the softmax entropy, intact masks": "detection_intact auroc_entropy",
    "ECE of exp(−D/σ²), sampled masks": "detection sampled ece",
    "ECE of exp(−D/σ²), corrupted masks": "detection corrupted ece",
    "ECE of the largest probability, sampled masks": "detection sampled ece_softmax",
    "share of true volumes in their 95% intervals, coarse masks": "detection coarse covered",
    "share of true volumes in their 95% intervals, sampled masks": "detection sampled covered",
}
"""Where the summary of a set has what is shown."""


def _rows(sets: Summary) -> list[list[str]]:
    rows = [[name, *(str(one[name]) for one in sets.values())] for name in ("subjects", "masks")]
    for title, path in _SHOWN.items():
        digits = 4 if title.startswith("ECE") else 3
        cells = (with_interval(inner(one, *path.split()), digits) for one in sets.values())
        rows.append([title, *cells])
    return rows


def expected_dice(found: Summary) -> Figure:
    """Calibrated expected Dice against true Dice, one dot a mask."""
    sets = found["sets"]
    figure, _ = new_figure(4.4 * len(sets), 4.4, panels=len(sets))
    for axes, (name, one) in zip(figure.axes, sets.items(), strict=True):
        axes.plot([0, 1], [0, 1], color="black", linewidth=0.7)
        for kind, colour in KINDS.items():
            dots = [point for point in one["points"] if point[0] == kind]
            x, y = [dot[1] for dot in dots], [dot[2] for dot in dots]
            axes.scatter(x, y, s=9, color=colour, alpha=0.7, label=kind)
        axes.set(xlabel="expected Dice, calibrated", ylabel="true Dice")
        axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
        r = one["pearson_r"]["mean"]
        axes.set_title(f"{name}, r = {r:.3f}" if r is not None else name, fontsize=10)
        axes.legend(fontsize=8)
    return figure


CHAPTERS = tuple(
    Chapter(
        f"Discrepancy as a judge: {model}",
        page.command_of(__name__, f"--model {model} --data DATA"),
        f"discrepancy_{model}",
        partial(body, model),
        partial(claims, model),
        {PICTURE.format(model=model): expected_dice},
    )
    for model in LEAST_R
)


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
