"""Made-up summaries of every benchmark, most through the code that makes the real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ddmseg.datasets.malc2012 import EVALUATION_LABELS
from ddmseg.imaging.labels import structure
from ddmseg.maths.calibration import DiceCalibration
from ddmseg.models.checkpoint import read_card
from ddmseg.models.zoo import model_path
from ddmseg_lab.comparison.peers import summary as peers
from ddmseg_lab.questions import NAMES
from ddmseg_lab.speed import bench, quantisation
from ddmseg_lab.statistics_text import median_range
from ddmseg_lab.studies import (
    anatomy,
    anomalies,
    crop_intervals,
    expected_dice,
    hippocampus,
    ibsr18,
    monitor_alarms,
    robustness_anatomy,
    tiers,
    volume_contest,
)
from ddmseg_lab.studies.hippocampus import METHOD_NAMES
from ddmseg_lab.studies.interval_scores import CONDITIONS
from ddmseg_lab.studies.painted_heads import KINDS
from ddmseg_lab.study import short_checksum
from ddmseg_lab.table import RawTable, read_summary, write_summary

MODELS = {"models": {"ddm": {"name": "toy", "weights": "aaa", "trained_steps": 7, "batch": 2}}}
MACHINE = {"processor": "Some CPU", "instructions": "AVX2", "threads": 2, "torch": "2.13.0"}
CASES = [f"case_{i}" for i in range(6)]
METHODS = list(METHOD_NAMES)


def hippocampus_summary(folder: Path) -> dict[str, object]:
    """Made-up scores through the real summary: one step is best by 0.01."""
    table = RawTable(folder / "raw.tsv", hippocampus.COLUMNS, ["aaa"])
    generator = np.random.default_rng(0)
    for case in CASES:
        level = float(generator.uniform(0.85, 0.93))
        for method in METHODS:
            dice = level + 0.01 * method.endswith(("_1", "_1x8")) - 0.005 * (method == "plain")
            scores = dict.fromkeys(hippocampus.METRICS, dice)
            row = {"weights": "aaa", "case": case, "method": method, **scores}
            expected = float("nan") if method == "plain" else dice
            table.add([{**row, "dice": dice, "hd95_mm": 1.5, "expected_dice": expected}])
    return {**MODELS, **hippocampus.summarise(table, CASES, METHODS)}


def anatomy_summary() -> dict[str, object]:
    generator = np.random.default_rng(1)
    values = {"covered": "1", "expected_dice": "0.8", "seconds": "4"}

    def rows() -> list[dict[str, str]]:
        return [
            {"case": case, "person": case, "index": str(index), "name": structure(index).name}
            | {"dice": str(generator.uniform(0.7, 0.9)), **values}
            for case in CASES
            for index in EVALUATION_LABELS
        ]

    splits = {s: {m: anatomy.summarise(rows()) for m in anatomy.MODES} for s in anatomy.SPLITS}
    return {**MODELS, "machine": MACHINE, "splits": splits}


def peers_summary(*left_out: str, scans: int = 6) -> dict[str, object]:
    """Made-up scores: SAMSEG has done fewer scans, Atropos has no structures."""
    rows = []
    levels = {"ddmseg_fast": 0.88, "ddmseg_auto": 0.9, "atropos": 0.7, "samseg": 0.8}
    for method, level in levels.items():
        for number, case in enumerate(CASES[:scans] if method == "samseg" else CASES):
            values = dict.fromkeys(peers.METRICS, str(level + 0.01 * number))
            if method == "atropos":
                values["structures"] = "nan"
            cost = {**dict.fromkeys(peers.TIMES, "7.25"), "peak_memory_gb": "1.5", "threads": "1"}
            named = {"weights": "v", "method": method, "case": case, "person": case}
            rows.append({**named, **values, **cost})
    packages = {"atropos": {"antspyx": "0.6.3"}, "samseg": {"samseg": "0.4a0"}}
    summed = peers.summarise([row for row in rows if row["method"] not in left_out])
    return {**MODELS, "machine": MACHINE, "packages": packages, "scans": len(CASES), **summed}


def discrepancy_summary(*sets: str) -> dict[str, object]:
    def rows() -> list[dict[str, str]]:
        generator = np.random.default_rng(2)
        found = []
        for case in CASES:
            for kind in ("coarse", "sampled", "corrupted"):
                true = generator.uniform(0.2, 0.9)
                figures = {"expected": true, "true": true, "auroc": 0.99, "auroc_entropy": 0.9}
                figures |= {"ece": 0.01, "ece_softmax": 0.02, "covered": 0.95}
                named = {"person": case, "kind": kind}
                found.append(named | {name: str(value) for name, value in figures.items()})
        return found

    calibration = DiceCalibration()
    summed = {one: expected_dice.summarise(rows(), calibration) for one in sets}
    return {**MODELS, "calibration": {}, "sets": summed}


def robustness_summary() -> dict[str, object]:
    """Made-up scans, of which noise at the highest level is noticed."""

    def row(case: str, artefact: str, level: int, dice: float, verdict: str) -> dict[str, str]:
        values = {"case": case, "person": case, "artefact": artefact, "level": level}
        found = {**values, "dice": dice, "expected_dice": dice, "verdict": verdict}
        return {name: str(value) for name, value in found.items()}

    rows = [
        row(case, *condition)
        for case in CASES
        for condition in (("intact", 0, 0.8, "pass"), ("noise", 5, 0.5, "fail"))
    ]
    return {**MODELS, **robustness_anatomy.summarise(rows)}


def speed_summary() -> dict[str, object]:
    seconds = {
        name: median_range([value])
        for name, value in {"encode": 1.0, "fast": 3.0, "diffusion": 25.0}.items()
    }
    scan = {
        "shape": [181, 217, 181],
        "model_grid": [96, 112, 96],
        "cropped_grid": [80, 96, 80],
        "seconds": seconds,
        "step_over_encode": 0.08,
        "step_over_one_pass": 0.08,
        "peak_memory_gb": {"fast": 1.5, "diffusion": 2.0},
    }
    heads = ("whole head, default model", "whole head", "whole head padded to 256^3")
    scans = dict.fromkeys(heads, scan)
    return {"machine": MACHINE, "steps": 10, "samples": 4, "scans": scans}


def bench_summary() -> dict[str, object]:
    """Made-up figures: two processors are busy all the time."""

    def one(seconds: float, **more: object) -> dict[str, object]:
        times = {name: median_range([n * seconds]) for n, name in enumerate(bench.TIMES, start=1)}
        return {**times, "peak_memory_gb": median_range([1.75]), **more}

    methods = {
        "fast": one(1.5, title="fast"),
        "auto": one(12.0, title="auto"),
        "diffusion": one(14.0, title="diffusion"),
        "samseg": one(600.0, title="SAMSEG", version="0.5"),
    }
    stages = {name: one(s) for name, s in zip(bench.STAGES, (0.5, 0.6, 0.7), strict=True)}
    scan = {"shape": [181, 217, 181], "methods": methods, "stages": stages}
    points = [{"at": n, **one(2.0 * n)} for n in (1, 2, 4)]
    return {
        **{**MODELS, "machine": MACHINE, "scans": {"demo head": scan}},
        "start": {name: one(0.25) for name in bench.COMMANDS},
        "scaling": {"steps": {"points": points}},
    }


def tiers_summary() -> dict[str, object]:
    """Made-up rows through the real summary: fast loses 0.02 against full."""

    def row(tier: str, case: str, dice: float) -> dict[str, str]:
        samples = 0 if tier == "fast" else 4
        values = {"case": case, "person": case, "condition": "intact 0", "tier": tier}
        figures = {"dice": dice, "samples": samples, "seconds": 1 + samples}
        return {name: str(value) for name, value in {**values, **figures}.items()}

    dice = {"fast": 0.7, "full": 0.73, "unoptimised": 0.72}
    rows = [row(tier, case, d) for tier, d in dice.items() for case in "ab"]
    return {
        **MODELS,
        **{"tiers": dict(zip(dice, dice, strict=True))},
        **{"degraded": ["noise 5"], "sets": {"heads": tiers.summarise(rows)}},
    }


def memory_summary() -> dict[str, object]:
    """One head within the target, estimated too low once; three heads above it."""
    peaks = {"whole head, fast": (1, 1.2, 1.0), "padded": (1, 1.5, 1.6), "three": (3, 1.5, 2.5)}
    runs = {
        name: {"heads": heads, "estimated_gb": gb, "peak_gb": peak, "estimate_over_peak": gb / peak}
        for name, (heads, gb, peak) in peaks.items()
    }
    return {**MODELS, "machine": MACHINE, "runs": runs}


def quantisation_summary() -> dict[str, object]:
    """Made-up rows: eight bits lose Dice and calibration and save half the time."""
    same = dict.fromkeys(quantisation.COLUMNS, "0") | {"labels_as_torch": "1", "dice": "1"}
    same |= {"true_dice": "0.77", "ece": "0.09", "encode_seconds": "2", "eight_bit": "none"}
    lossy = {"labels_as_torch": "0.998", "dice": "0.98", "ece": "0.095", "encode_seconds": "1"}
    rows = [
        {**same, "engine": "torch"},
        {**same, "engine": "onnx", "labels_as_torch": "0.9995", "probability_change": "0.0002"},
        {**same, "engine": "openvino", **lossy, "eight_bit": "all but stem, head"},
    ]
    told = {"scan": "some scan", "grid": [8, 16, 8], "kept_in_float": ["stem", "head"]}
    return {**MODELS, "machine": MACHINE, **told, "repeats": 3, "rows": rows}


def synthesis_summary() -> dict[str, object]:
    times = {"patch_seconds": median_range([0.05]), "step_seconds": median_range([1.2])}
    shape = {"patch": [64, 80, 64], "spacing_mm": 2.0, "batch": 2}
    return {"machine": MACHINE, **shape, **times, "batch_over_step": 0.08}


def monitor_summary() -> dict[str, object]:
    """Alarms in 3 of 100 windows without shift, in 80 of 100 with one."""
    still, moved, alone = (monitor_alarms.rate(hits, 100) for hits in (3, 80, 70))
    return {
        **{"reference": 50, "permutations": 99, "moved": 4},
        "without_shift": {
            **{"all": still, "by_window": {"20": still, "100": still}},
            **{"each_p_by_itself": alone, "statistics": 28},
        },
        "with_shift_sd": {"0.5": {n: {"power": moved} for n in ("20", "100")}},
    }


def ibsr18_summary() -> dict[str, object]:
    rows = [{"csf": "0.8", "grey": "0.9", "white": f"0.8{n}"} for n in range(6)]
    return {**MODELS, "machine": MACHINE, **ibsr18.summarise(rows)}


def volumes_summary() -> dict[str, object]:
    """Scaling by the discrepancy saves a fifth of the score, and nothing on intact heads."""
    rule = {"score": 0.5, "coverage": 0.95, "width": 0.3}

    def of(saved: float, *rules: str) -> dict[str, object]:
        gained = {"mean": saved, "low": saved, "high": saved, "n": 4}
        return {**dict.fromkeys(rules, rule), "gained": gained}

    both, sampled = ("constant", "scaled"), ("scaled", "samples")
    asked = {"heads": 12, "intact": of(0.0, *sampled), "degraded": of(0.1, *sampled)}
    found = {"intact": of(0.0, *both), "degraded": of(0.2, *both)}
    return {**MODELS, "heads": 24, **found, "sampled": asked}


def contest_summary() -> dict[str, object]:
    """Samples save a fifth against constant width, on made-up heads and on real ones."""
    rivals = ("constant", "shipped", "samples")

    def of(saved: float) -> dict[str, object]:
        inside = {"mean": 0.95, "low": 0.94, "high": 0.96, "n": 4}
        gained = {"mean": saved, "low": saved, "high": saved, "n": 4}
        saved_on = {"gained": gained, "gained_on_shipped": {**gained, "low": saved - 0.1}}
        return {"score": 1 - saved, "crps": 0.1, "width": 0.5, "coverage": inside, **saved_on}

    scored = dict(zip(rivals, (of(0.0), of(0.1), of(0.2)), strict=True))
    sets = {name: dict.fromkeys(CONDITIONS, scored) for name in volume_contest.SETS}
    counts = {"scans": 8, "subjects": 4}
    structures = {"Left-Thalamus": {"score": 0.4, "coverage": 0.95, "width": 0.3}}
    return {
        **MODELS,
        "scans": dict.fromkeys(("made-up", "development", "test"), counts),
        "rivals": {rival: {"seconds": 1.0, "effective": 4.0} for rival in rivals},
        "widened": dict.fromkeys(rivals, 1.2),
        "sets": sets,
        "winner": "samples",
        "structures": dict.fromkeys(rivals, structures),
    }


def crop_summary() -> dict[str, object]:
    """Samples save a fifth against constant width."""
    return {
        **MODELS,
        "crops": {"validation": 20, "test": 47},
        "validation": dict.fromkeys(crop_intervals.TITLES, 0.5),
        "winner": "samples",
        "conditions": contest_summary()["sets"][volume_contest.TEST],  # type: ignore[index]
        "spread": {name: {"spread": 0.04, "error": 0.07} for name in CONDITIONS},
        "seconds": 1.5,
        "effective": 8.0,
    }


def anomalies_summary() -> dict[str, object]:
    """Made-up heads: what is painted is always seen; one intact head is told of, too."""
    card = read_card(model_path(anomalies.MODELS[0]).with_suffix(".json"))

    def row(of: str, head: str, kind: str, ml: int, unlike: float) -> dict[str, str]:
        named = {"weights": short_checksum(card), "set": of, "head": head, "person": head}
        seen = {"unlike_ml": unlike, "structure": "CSF", "missing_ml": 0.0, "reasons": ""}
        return {
            name: str(value) for name, value in {**named, "kind": kind, "ml": ml, **seen}.items()
        }

    rows = [row("painted", head, "intact", 0, 1.6 * (head == "b")) for head in "ab"]
    rows += [row("painted", head, kind, 10, 9) for head in "ab" for kind in KINDS]
    rows += [row("test", "c", "intact", 0, 0.1), row("real", "d", "schwannoma", 0, 0.2)]
    cards = dict.fromkeys(anomalies.MODELS, card)
    return {**MODELS, **anomalies.summarise(rows, cards)}


def all_summaries(folder: Path) -> dict[str, dict[str, object] | None]:
    """Return every summary, as it comes back from its file in a folder."""
    made = {
        "hippocampus": hippocampus_summary(folder),
        "anatomy": anatomy_summary(),
        "peers_malc2012": peers_summary(),
        "discrepancy_hippocampus": discrepancy_summary("test"),
        "discrepancy_anatomy": discrepancy_summary("synthetic", "malc2012"),
        "ibsr18": ibsr18_summary(),
        "volumes": volumes_summary(),
        "volume_contest": contest_summary(),
        "crop_intervals": crop_summary(),
        "robustness_anatomy": robustness_summary(),
        "anomalies": anomalies_summary(),
        "tiers": tiers_summary(),
        "speed_segment": speed_summary(),
        "speed_synthesis": synthesis_summary(),
        "bench": bench_summary(),
        "memory": memory_summary(),
        "quantisation": quantisation_summary(),
        "monitor_alarms": monitor_summary(),
    }
    assert set(made) == set(NAMES)
    for name, summary in made.items():
        write_summary(folder / f"{name}.json", summary)
    return {name: read_summary(folder / f"{name}.json") for name in NAMES}
