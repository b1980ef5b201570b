"""What bad scans cost the anatomy model, and whether its own check notices.

    python -m ddmseg_lab.studies.robustness_anatomy --model anatomy

Each test scan of MALC2012 is degraded on its own grid, in eight ways, written to a file and
segmented by the real ``Segmenter``, so that every reason of a verdict counts. The protocols
of truth and model differ, and with them every Dice; so a scan is called bad when it lost
more than ``LOSS`` against the same scan intact. Writes ``results/robustness_anatomy.tsv``
(one row a scan and condition) and ``.json``; a stopped run goes on. ``ddmseg study
robustness`` asks the same of the hippocampus model.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.datasets.case import Case
from ddmseg.imaging.intensity import normalise
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.nifti_write import write_map
from ddmseg.inference.segmenter import Segmenter
from ddmseg.quality.reasons import reason_code
from ddmseg.randomness import seeded
from ddmseg_lab.page import Chapter, Claim, Summary, basis, claim, command_of, table, with_interval
from ddmseg_lab.scans import HEADS, Ids, mean_dice
from ddmseg_lab.statistics_text import auroc_of, group_interval, mean_by_group, mean_interval
from ddmseg_lab.studies.artefacts import ARTEFACTS, degrade
from ddmseg_lab.study import ModelOptions, run_command, say, short_checksum
from ddmseg_lab.table import numbers

RECORD = "robustness_anatomy"
INTACT = "intact"
LEVELS = (1, 3, 5)
LOSS = 0.05  # Dice lost against the intact scan from which on a scan is one to notice
PATTERN_SEED = 11
BAD_RANKED = partial(auroc_of, threshold=LOSS)
VERDICTS = ("pass", "warn", "fail")
COLUMNS = (
    *("weights", "case", "person", "artefact", "level"),
    *("dice", "expected_dice", "verdict", "reasons", "seconds"),
)


def conditions() -> Iterator[tuple[str, int]]:
    """Yield the intact scan, then each artefact at each level."""
    yield INTACT, 0
    for name in ARTEFACTS:
        for level in LEVELS:
            yield name, level


def write_degraded(case: Case, number: int, artefact: str, level: int, folder: Path) -> Path:
    """Write the scan with one artefact, normalised to about 0 to 1, and return the file."""
    volume = read_volume(case.images[0])
    image = normalise(torch.from_numpy(volume.data.astype(np.float32)))[None]
    if artefact != INTACT:
        place = number * len(ARTEFACTS) + list(ARTEFACTS).index(artefact)
        image = degrade(image, artefact, level, seeded(PATTERN_SEED, place))
    path = folder / "scan.nii"
    write_map(path, image[0].numpy(), volume, description="degraded scan")
    return path


def measure(
    segmenter: Segmenter, case: Case, number: int, artefact: str, level: int, truth: Ids
) -> dict[str, Any]:
    """Segment one scan in one condition and return its row."""
    with tempfile.TemporaryDirectory() as folder:
        path = write_degraded(case, number, artefact, level, Path(folder))
        start = time.perf_counter()
        result = segmenter(path, mode="fast")
        seconds = time.perf_counter() - start
    dice = mean_dice(result.labels.data, truth, HEADS.structures)
    say(f"{case.identifier}  {artefact:<14} {level}  {dice:.3f}  {result.quality.verdict}")
    return {
        **{"weights": short_checksum(segmenter.card), "case": case.identifier},
        **{"person": case.group, "artefact": artefact, "level": level, "dice": dice},
        "expected_dice": result.quality.expected_dice,
        "verdict": result.quality.verdict,
        "reasons": " ".join(_codes(result.quality.reasons)),
        "seconds": seconds,
    }


def _codes(reasons: Sequence[str]) -> Iterator[str]:
    for reason in reasons:
        found = reason_code(reason)
        yield str(found["code"]) if found else "other"


def losses(rows: list[dict[str, str]]) -> list[float]:
    """Return the Dice that each row lost against the same scan intact."""
    intact = {row["case"]: float(row["dice"]) for row in rows if row["artefact"] == INTACT}
    return [intact[row["case"]] - float(row["dice"]) for row in rows]


def summarise(rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return losses by condition, verdicts by loss, and how well expected Dice ranks them."""
    lost = np.array(losses(rows))
    persons = [row["person"] for row in rows]
    by_condition: dict[str, dict[str, Any]] = {}
    for artefact, level in list(conditions())[1:]:
        named = (artefact, str(level))
        if of := [i for i, r in enumerate(rows) if (r["artefact"], r["level"]) == named]:
            means = mean_by_group(lost[of].tolist(), [persons[i] for i in of])
            by_condition.setdefault(artefact, {})[str(level)] = mean_interval(means)
    scores = {
        "auroc_expected_dice": 1 - np.array(numbers(rows, "expected_dice")),
        "auroc_verdict": np.array([float(row["verdict"] != "pass") for row in rows]),
    }
    return {
        "scans": len({row["case"] for row in rows}),
        "rows": len(rows),
        "loss": LOSS,
        "bad": int((lost > LOSS).sum()),
        "lost": by_condition,
        "verdicts": _verdicts(rows, lost),
        **{
            name: group_interval(BAD_RANKED, np.stack([score, lost], axis=1), persons)
            for name, score in scores.items()
        },
    }


def _verdicts(rows: list[dict[str, str]], lost: NDArray[np.float64]) -> dict[str, dict[str, int]]:
    groups: dict[str, list[str]] = {"intact": [], "at most": [], "more": []}
    for row, loss in zip(rows, lost, strict=True):
        name = "intact" if row["artefact"] == INTACT else "more" if loss > LOSS else "at most"
        groups[name].append(row["verdict"])
    return {name: {v: found.count(v) for v in VERDICTS} for name, found in groups.items()}


def run(options: ModelOptions) -> None:
    """Measure one scan after the other, then sum up."""
    segmenter = Segmenter.load(options.model, device="cpu")
    table = options.raw_table(RECORD, COLUMNS, [segmenter.card])
    cases = HEADS.cases("test", options.data, options.cases)
    for number, case in enumerate(cases):
        truth = HEADS.truth(case)
        for artefact, level in conditions():
            if not table.has(case=case.identifier, artefact=artefact, level=level):
                table.add([measure(segmenter, case, number, artefact, level, truth)])
    wanted = {case.identifier for case in cases}
    summary = summarise([row for row in table.select() if row["case"] in wanted])
    options.write_summary(RECORD, {"ddm": segmenter.card}, summary, seed=PATTERN_SEED)


GROUPS = {"intact": "intact", "at most": "lost at most {loss:g}", "more": "lost more"}


def body(found: Summary) -> list[str]:
    """Loss by artefact and level, verdicts, and how expected Dice ranks bad scans."""
    words = (
        f"{found['scans']} MALC2012 test scans, intact and degraded ({found['rows']} runs of "
        "`--mode fast`), Dice over the structures in common. The protocols of truth and model "
        f"differ; a scan is called bad when it lost more than {found['loss']:g} against the same "
        f"scan intact: {found['bad']} are. AUROC for these: expected Dice "
        f"{with_interval(found['auroc_expected_dice'])}, a verdict other than pass "
        f"{with_interval(found['auroc_verdict'])}. {basis(found)}"
    )
    return [words, _loss_table(found), _verdict_table(found)]


def claims(found: Summary) -> list[Claim]:
    """Expected Dice ranks scans that lost clearly before the others."""
    what = "anatomy on bad scans: AUROC of the expected Dice for a clear loss"
    return [claim(what, 0.9, found, "auroc_expected_dice")]


def _loss_table(found: Summary) -> str:
    levels = sorted({level for by_level in found["lost"].values() for level in by_level})
    rows = [
        [name.replace("_", " "), *(with_interval(by_level[level]) for level in levels)]
        for name, by_level in found["lost"].items()
    ]
    return table(["Dice lost", *(f"level {level}" for level in levels)], rows)


def _verdict_table(found: Summary) -> str:
    rows = []
    for name, counts in found["verdicts"].items():
        total = sum(counts.values())
        shares = [f"{count / total:.1%} ({count})" if total else "–" for count in counts.values()]
        rows.append([GROUPS[name].format(**found), *shares])
    return table(["scans", *next(iter(found["verdicts"].values()))], rows)


COMMAND = command_of(__name__, "--model anatomy --data DATA")
CHAPTER = Chapter("Bad scans: anatomy", COMMAND, RECORD, body, claims)


if __name__ == "__main__":
    run_command(ModelOptions, run, description=__doc__ or "")
