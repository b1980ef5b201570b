"""Chapters of the page of results, each made of one summary in ``results/``.

A summary that is missing gives a chapter that says so; no figure stands here in words.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.page import (
    NOT_MEASURED,
    Claim,
    Section,
    Target,
    p_value,
    picture,
    table,
    with_interval,
)

Summary = Mapping[str, Any]
Summaries = Mapping[str, Summary | None]
"""By file name without ending."""

STEPS = (1, 5, 10, 50)
WORSE_BY = 0.003
"""How much worse more steps may be than one: 0.3 points of Dice."""
METHOD_NAMES = {
    "plain": "plain network, no diffusion, equal training",
    "fast": "`--mode fast`: coarse head of the DDM",
    **{f"ddm_{n}x4": f"`--mode diffusion`: {n} steps, 4 samples" for n in STEPS},
    **{f"sample_{n}": f"one sample alone, {n} steps" for n in STEPS},
}
INTERVALS = "Intervals are 95% bootstrap intervals over patients."


def hippocampus(summaries: Summaries) -> Section:
    """Dice on the test crops, and whether more steps are ever worse."""
    command = (
        "python -m benchmarks.accuracy.hippocampus --data DATA --plain runs/plain/best.safetensors"
    )
    found = summaries.get("hippocampus")
    if found is None:
        return _missing("Hippocampus: test crops", command, _hippocampus_claims({}))
    rows = [
        [
            METHOD_NAMES[name],
            *(with_interval(scores[m]) for m in ("anterior_dice", "posterior_dice", "dice")),
            with_interval(scores["hd95_mm"], 2),
        ]
        for name, scores in _ordered(found["methods"])
    ]
    header = ["method", "Dice, anterior", "Dice, posterior", "mean Dice", "HD95 in mm"]
    against = found["against_ddm_10x4"]
    body = [
        f"{found['cases']} crops that no training has seen, each a patient, file to labels on "
        f"the file's own grid. {_trained(found)} {INTERVALS}",
        table(header, rows),
        "Mean Dice less that of 10 steps and 4 samples, on the same crops; two-sided Wilcoxon, "
        "Holm-corrected:",
        _tests(against),
        "Mean Dice less that of one step, joined (4 samples) and single (1 sample alone):",
        _tests({**found["joined_against_one_step"], **found["single_against_one_step"]}),
        picture("dice_by_steps.png", "Dice on the hippocampus test crops against sampling steps"),
    ]
    return Section("Hippocampus: test crops", command, body, _hippocampus_claims(found))


def _hippocampus_claims(found: Summary) -> list[Claim]:
    dice = Target("hippocampus, mean Dice (10 steps, 4 samples)", 0.89)
    better = Target("hippocampus, DDM less the plain network", 0.0)
    joined = Target("more steps less one step, joined: the worst of 5, 10, 50", -WORSE_BY, digits=4)
    single = Target("more steps less one step, single: the worst of 5, 10, 50", -WORSE_BY, digits=4)
    methods = found.get("methods", {})
    plain = found.get("against_ddm_10x4", {}).get("plain")
    return [
        Claim(dice, methods.get("ddm_10x4", {}).get("dice")),
        Claim(better, _reversed(plain)),
        Claim(joined, _worst(found.get("joined_against_one_step"))),
        Claim(single, _worst(found.get("single_against_one_step"))),
    ]


def _reversed(test: Summary | None) -> dict[str, float] | None:
    """Turn "plain less DDM" into "DDM less plain"."""
    if test is None:
        return None
    return {"mean": -test["difference"], "low": -test["high"], "high": -test["low"]}


def _worst(tests: Summary | None) -> dict[str, float] | None:
    if not tests:
        return None
    test = min(tests.values(), key=lambda one: float(one["difference"]))
    return {"mean": test["difference"], "low": test["low"], "high": test["high"]}


def _ordered(methods: Summary) -> list[tuple[str, Summary]]:
    return [(name, methods[name]) for name in METHOD_NAMES if name in methods]


def _tests(tests: Summary) -> str:
    rows = [
        [
            METHOD_NAMES[name],
            with_interval({**test, "mean": test["difference"]}, 4),
            p_value(test["p_holm"]),
        ]
        for name, test in _ordered(tests)
    ]
    return table(["method", "difference", "p"], rows) if rows else NOT_MEASURED


def anatomy(summaries: Summaries) -> Section:
    """Dice on MALC2012, development and test scans apart."""
    title, command = "Anatomy: MALC2012", "python -m benchmarks.accuracy.anatomy --data DATA"
    found = summaries.get("anatomy")
    if found is None:
        return _missing(title, command, _anatomy_claims({}))
    splits = found["splits"]
    columns = [(split, mode) for split in splits for mode in splits[split]]
    groups = list(splits["test"]["fast"]["groups"])
    rows = [
        [group, *(with_interval(splits[s][m]["groups"][group]) for s, m in columns)]
        for group in groups
    ]
    rows.append(
        [
            "seconds a scan, median",
            *(f"{splits[s][m]['seconds']['median']:.1f}" for s, m in columns),
        ]
    )
    counts = " and ".join(
        f"{splits[s]['fast']['scans']} {s} scans of "
        f"{splits[s]['fast']['groups'][groups[0]]['n']} persons"
        for s in splits
    )
    body = [
        f"{counts}, none seen in any training; images were never used, only looked at through "
        f"these scores. {_trained(found)} Mean Dice of the structures that both protocols "
        f"draw, on each scan's own grid; two scans of one person count as one. {INTERVALS}",
        table(["structures", *(f"{split}, {mode}" for split, mode in columns)], rows),
        picture("anatomy_dice.png", "Dice of each structure on the MALC2012 test scans"),
        "Scans: OASIS (Marcus et al. 2007). Labels: Neuromorphometrics, Inc., of the MICCAI "
        "2012 challenge, CC BY-NC.",
    ]
    return Section(title, command, body, _anatomy_claims(found))


def _anatomy_claims(found: Summary) -> list[Claim]:
    groups = found.get("splits", {}).get("test", {}).get("diffusion", {}).get("groups", {})
    return [
        Claim(
            Target("anatomy, MALC2012 test scans, mean Dice (trained on CPU)", 0.75),
            groups.get("all structures in common"),
        ),
        Claim(
            Target("anatomy, MALC2012 test scans, cerebral white matter", 0.85),
            groups.get("cerebral white matter"),
        ),
    ]


SETS = {
    "test": "test crops",
    "synthetic": "synthetic scans",
    "malc2012": "MALC2012 development scans",
}


def discrepancy(summaries: Summaries, model: str, least_r: float) -> Section:
    """Expected against true Dice, and error detection, for one model."""
    title = f"Discrepancy as a judge: {model}"
    command = f"python -m benchmarks.accuracy.discrepancy --model {model} --data DATA"
    found = summaries.get(f"discrepancy_{model}")
    names = ("test",) if model == "hippocampus" else ("synthetic", "malc2012")
    sets = found["sets"] if found is not None else {}
    claims = [
        claim for one in names for claim in _discrepancy_claims(model, one, sets.get(one), least_r)
    ]
    if found is None:
        return _missing(title, command, claims)
    fitted = "in the card" if found["calibration"]["from_card"] else "fitted for this run"
    body = [
        "Masks: of the coarse head, sampled, and three corruptions of the sampled one (moved, "
        "another's, classes swapped, grown, shrunk, torn). The calibration is the one "
        f"{fitted}, of validation subjects that are not among these. {_trained(found)} "
        f"{INTERVALS}",
        table(
            ["", *(SETS[one] for one in sets)],
            [[label, *(cell(sets[one]) for one in sets)] for label, cell in DISCREPANCY_ROWS],
        ),
        picture(
            f"expected_dice_{model}.png", f"Expected against true Dice of the {model} model's masks"
        ),
    ]
    return Section(title, command, body, claims)


def _discrepancy_claims(
    model: str, name: str, found: Summary | None, least_r: float
) -> list[Claim]:
    where, one = f"{model}, {SETS[name]}", found or {}
    every, intact = one.get("detection_all", {}), one.get("detection_intact", {})
    return [
        Claim(Target(f"{where}: r of expected and true Dice", least_r), one.get("pearson_r")),
        Claim(
            Target(f"{where}: error of the expected Dice", 0.05, at_least=False),
            one.get("mae_calibrated"),
        ),
        Claim(Target(f"{where}: AUROC of D, all masks", 0.97), every.get("auroc")),
        Claim(Target(f"{where}: AUROC of D, intact masks", 0.97), intact.get("auroc")),
        Claim(
            Target(f"{where}: AUROC of D less the entropy's, all masks", 0.0),
            _difference(every),
        ),
        Claim(
            Target(f"{where}: AUROC of D less the entropy's, intact masks", 0.0),
            _difference(intact),
        ),
    ]


def _difference(detection: Summary) -> dict[str, float] | None:
    test = detection.get("difference")
    return None if test is None else {**test, "mean": test["difference"]}


DISCREPANCY_ROWS: list[tuple[str, Any]] = [
    ("subjects", lambda s: str(s["subjects"])),
    ("masks", lambda s: str(s["masks"])),
    ("Pearson r, all masks", lambda s: with_interval(s["pearson_r"])),
    ("Pearson r, intact masks alone", lambda s: with_interval(s["pearson_r_intact"])),
    ("mean absolute error, raw", lambda s: with_interval(s["mae_raw"])),
    ("mean absolute error, calibrated", lambda s: with_interval(s["mae_calibrated"])),
    ("AUROC of D, all masks", lambda s: with_interval(s["detection_all"]["auroc"])),
    (
        "AUROC of the softmax entropy, all masks",
        lambda s: with_interval(s["detection_all"]["auroc_entropy"]),
    ),
    ("AUROC of D, intact masks", lambda s: with_interval(s["detection_intact"]["auroc"])),
    (
        "AUROC of the softmax entropy, intact masks",
        lambda s: with_interval(s["detection_intact"]["auroc_entropy"]),
    ),
    (
        "ECE of exp(−D/σ²), sampled masks",
        lambda s: with_interval(s["detection"]["sampled"]["ece"], 4),
    ),
    (
        "ECE of exp(−D/σ²), corrupted masks",
        lambda s: with_interval(s["detection"]["corrupted"]["ece"], 4),
    ),
    (
        "ECE of the largest probability, sampled masks",
        lambda s: with_interval(s["detection"]["sampled"]["ece_softmax"], 4),
    ),
]


def speed(summaries: Summaries) -> Section:
    """Seconds and memory of one scan."""
    title, command = "Speed and memory", "python -m benchmarks.speed.segment --data DATA"
    found = summaries.get("speed_segment")
    if found is None:
        return _missing(title, command, _speed_claims({}))
    scans = found["scans"]
    stages = list(dict.fromkeys(stage for scan in scans.values() for stage in scan["seconds"]))

    def cell(scan: Summary, stage: str) -> str:
        return with_interval(scan["seconds"][stage]) if stage in scan["seconds"] else "–"

    rows = [
        ["voxels", *("×".join(map(str, scan["shape"])) for scan in scans.values())],
        ["model's grid", *("×".join(map(str, scan["model_grid"])) for scan in scans.values())],
        ["cut to", *("×".join(map(str, scan["cropped_grid"])) for scan in scans.values())],
        *([f"{stage}, s", *(cell(scan, stage) for scan in scans.values())] for stage in stages),
        *(
            [
                f"peak memory, {mode}, GB",
                *(f"{scan['peak_memory_gb'][mode]:.2f}" for scan in scans.values()),
            ]
            for mode in ("fast", "diffusion")
        ),
    ]
    body = [
        f"{_machine(found)} Seconds after loading, median (and range) of several runs; *fast* "
        f"and *diffusion* ({found['steps']} steps, {found['samples']} samples) are from reading "
        "the file to the last file written, report included. Memory is the peak resident memory "
        "of the command line in a process of its own.",
        table(["", *scans], rows),
    ]
    return Section(title, command, body, _speed_claims(scans))


def _speed_claims(scans: Mapping[str, Summary]) -> list[Claim]:
    claims = []
    for name in ("whole head", "whole head padded to 256^3"):
        scan = scans.get(name, {})
        seconds, memory = scan.get("seconds", {}), scan.get("peak_memory_gb", {})
        claims += [
            Claim(_seconds(f"{name}, `--mode fast`", 5.0), seconds.get("fast")),
            Claim(_seconds(f"{name}, `--mode diffusion`", 20.0), seconds.get("diffusion")),
            Claim(
                Target(f"{name}, peak memory", 3.0, at_least=False, unit=" GB", digits=2),
                max(memory.values(), default=None),
            ),
            Claim(
                Target(f"{name}, one denoising step over one encoding", 0.1, at_least=False),
                scan.get("step_over_encode"),
            ),
        ]
    return claims


def _seconds(what: str, most: float) -> Target:
    return Target(what, most, at_least=False, unit=" s", digits=2)


def synthesis(summaries: Summaries) -> Section:
    """Whether synthesis keeps up with training."""
    title, command = "Synthesis", "python -m benchmarks.speed.synthesis --data DATA"
    found = summaries.get("speed_synthesis")
    target = Target("drawing a batch over a training step", 1.0, at_least=False)
    if found is None:
        return _missing(title, command, [Claim(target, None)])
    rows = [
        [
            "×".join(map(str, found["patch"])) + f" at {found['spacing_mm']:g} mm",
            _milliseconds(found["patch_seconds"]),
            str(found["batch"]),
            _milliseconds(found["step_seconds"]),
        ]
    ]
    header = ["patch", "ms a synthetic patch", "patches a step", "ms a training step"]
    body = [f"{_machine(found)} Median (and range).", table(header, rows)]
    return Section(title, command, body, [Claim(target, found["batch_over_step"])])


def _milliseconds(seconds: Summary) -> str:
    scaled = {key: 1000 * seconds[key] for key in ("median", "low", "high")}
    return with_interval(scaled, 0)


def _missing(title: str, command: str, claims: list[Claim]) -> Section:
    return Section(title, command, [f"{NOT_MEASURED.capitalize()} yet."], claims)


def _machine(found: Summary) -> str:
    machine = found["machine"]
    threads = machine["threads"]
    return (
        f"{machine['processor']} ({machine['instructions']}), {threads} "
        f"thread{'s' * (threads != 1)}, torch {machine['torch']}."
    )


def _trained(found: Summary) -> str:
    """Name the weights."""
    named = [
        f"`{model['name']}` {model['weights']} ({model['trained_steps']} steps of {model['batch']})"
        for model in found["models"].values()
    ]
    return f"Weights: {', '.join(named)}."


def all_sections(summaries: Summaries) -> list[Section]:
    """Return every chapter in order."""
    return [
        hippocampus(summaries),
        anatomy(summaries),
        discrepancy(summaries, "hippocampus", least_r=0.95),
        discrepancy(summaries, "anatomy", least_r=0.85),
        speed(summaries),
        synthesis(summaries),
    ]
