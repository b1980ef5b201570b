"""Seconds and memory of a scan, and whether synthesis keeps up with training."""

from __future__ import annotations

from collections.abc import Mapping

from ddmseg_lab.page import (
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    machine_words,
    missing,
    table,
    with_interval,
)


def speed(summaries: Summaries) -> Section:
    """Seconds and memory of one scan."""
    title, command = (
        "Speed and memory",
        "python -m ddmseg_lab.speed.segment --data DATA --threads 2",
    )
    found = summaries.get("speed_segment")
    if found is None:
        return missing(title, command, _speed_claims({}))
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
        f"{machine_words(found)} Seconds after loading, median (and range) of several runs; *fast* "
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
            Claim(
                Target(
                    f"{name}, one denoising step over one pass of the encoder, without tiles",
                    0.1,
                    at_least=False,
                ),
                scan.get("step_over_one_pass"),
            ),
        ]
    return claims


def _seconds(what: str, most: float) -> Target:
    return Target(what, most, at_least=False, unit=" s", digits=2)


def synthesis(summaries: Summaries) -> Section:
    """Whether synthesis keeps up with training."""
    title, command = "Synthesis", "python -m ddmseg_lab.speed.synthesis --data DATA --threads 2"
    found = summaries.get("speed_synthesis")
    target = Target("drawing a batch over a training step", 1.0, at_least=False)
    if found is None:
        return missing(title, command, [Claim(target, None)])
    rows = [
        [
            "×".join(map(str, found["patch"])) + f" at {found['spacing_mm']:g} mm",
            _milliseconds(found["patch_seconds"]),
            str(found["batch"]),
            _milliseconds(found["step_seconds"]),
        ]
    ]
    header = ["patch", "ms a synthetic patch", "patches a step", "ms a training step"]
    body = [f"{machine_words(found)} Median (and range).", table(header, rows)]
    return Section(title, command, body, [Claim(target, found["batch_over_step"])])


def _milliseconds(seconds: Summary) -> str:
    scaled = {key: 1000 * seconds[key] for key in ("median", "low", "high")}
    return with_interval(scaled, 0)
