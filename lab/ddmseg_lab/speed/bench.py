"""What ``ddmseg bench`` measures, as one list, and the figures that its rows give."""

from __future__ import annotations

import math
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ddmseg.errors import DdmsegError
from ddmseg.imaging.labels import protocol_rows
from ddmseg.imaging.nifti import read_volume
from ddmseg.inference.budget import Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.models.checkpoint import Card, build_model, save_weights
from ddmseg.models.settings import ModelSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg_lab.comparison.peers.tools import Peer
from ddmseg_lab.provenance import describe_machine, describe_model
from ddmseg_lab.speed.process import measure_command
from ddmseg_lab.speed.runs import PROGRAM, Costs, Runner, timed
from ddmseg_lab.speed.scans import refined, written
from ddmseg_lab.statistics_text import median_range
from ddmseg_lab.studies.tiers import FULL_DRAW, TIERS, TITLES
from ddmseg_lab.table import WEIGHTS, RawTable

KEYS = ("scan", "series", "at")
TIMES = ("seconds", "processor_seconds")
FIGURES = (*TIMES, "denoise_seconds", "peak_memory_gb")
COLUMNS = (WEIGHTS, *KEYS, "repeat", *FIGURES)
START, TIER, STAGE = "start", "tier", "stage"
NO_SCAN = "-"
COMMANDS = {
    "python": (sys.executable, "-c", "pass"),
    "import ddmseg": (sys.executable, "-c", "import ddmseg"),
    "ddmseg --help": (*PROGRAM, "--help"),
}
"""Whose time is start-up alone; that of Python itself is within the others."""
STAGES = PLAIN_PASS, ENCODING, SAMPLE_STEPS = "one plain pass", "encoding", "50 sample-steps"
"""The image encoder over the whole model grid; the same as a scan is encoded, cut to what matters,
logits turned into probabilities; and samples."""
SAMPLE_STEPS_DRAW = Draw(steps=10, samples=5)
GROWTH_REPEATS = 3
"""At most, of one size: exponents rest on all sizes together."""
SIZES: dict[str, Sequence[float]] = {
    "voxels": (0.125, 0.25, 0.5, 1.0, 2.0),
    "steps": (1, 2, 5, 10, 25),
    "samples": (1, 2, 4, 8),
    "structures": (2, 4, 8, 16, 32),
    "scans": (1, 2, 4, 8),
}
"""What grows; voxels by these factors."""

Figures = dict[str, dict[str, float]]
"""Median and range by column."""


Work = Callable[[], Costs]
"""Measures something once and returns figures by column."""


class Measurement(NamedTuple):
    """Figures of a scan, measured so many times.

    ``at`` tells it from others of its series: a command, tier, stage, size, or a tool's version.
    ``peak`` returns more figures, which are measured once. What is warm has run once before the
    first time that counts: that run pays for imports, for what a model loads on first use and for
    kernels that are chosen by shape.
    """

    scan: str
    series: str
    at: str | int
    work: Work
    peak: Work | None = None
    repeats: int = 1
    warm: bool = False

    def __str__(self) -> str:
        return f"{self.series}: {self.at}"


def measurements(
    runner: Runner,
    scans: Mapping[str, Path],
    tiers: Sequence[str],
    peers: Sequence[Peer],
    repeats: int,
    growing: Path | None = None,
) -> list[Measurement]:
    """List start-up, tiers and stages of each scan, other tools, and growth of the first scan.

    Other tools run once: theirs are minutes. Without ``growing``, a folder for larger scans and
    models, growth is left out.
    """
    found = []
    for name, command in COMMANDS.items():
        start = partial(measure_command, command)
        found.append(Measurement(NO_SCAN, START, name, start, repeats=repeats))
    for scan, path in scans.items():
        for tier in tiers:
            works = here_and_fresh(runner, path, TIERS[tier])
            found.append(Measurement(scan, TIER, tier, *works, repeats, warm=True))
        for name in STAGES:
            stage = partial(run_stage, runner, path, name)
            found.append(Measurement(scan, STAGE, name, stage, None, repeats, warm=True))
        for peer in peers:
            other = partial(run_peer, runner, path, peer)
            found.append(Measurement(scan, peer.name, peer.version, other))
    if growing is not None:
        found += growth(runner, *next(iter(scans.items())), repeats, growing)
    return found


def growth(
    runner: Runner, scan: str, path: Path, repeats: int, folder: Path
) -> Iterator[Measurement]:
    """Yield every size of every series; the folder is for larger scans and models."""
    times = min(repeats, GROWTH_REPEATS)
    for series, at, of, grown, options in larger(runner, path, folder):
        works = here_and_fresh(of, grown, options)
        yield Measurement(scan, series, at, *works, times, warm=True)
    ending = "".join(path.suffixes[-2:])
    for n in map(int, SIZES["scans"]):  # one run of the command, with start-up and loading
        copies = [Path(shutil.copy(path, folder / f"copy{i}{ending}")) for i in range(n)]
        yield Measurement(
            scan, "scans", n, partial(runner.fresh, copies, TIERS["fast"]), repeats=times
        )


def larger(
    runner: Runner, path: Path, folder: Path
) -> Iterator[tuple[str, int, Runner, Path, dict[str, Any]]]:
    """Yield series, size, runner, scan and options of all that grows but the number of scans."""
    few = {"mode": "diffusion", "steps": 10, "samples": 1}
    for factor in SIZES["voxels"]:
        scan = refined(read_volume(path), factor)
        yield "voxels", scan.data.size, runner, written(scan, folder), TIERS["fast"]
    for series in ("steps", "samples"):
        for n in map(int, SIZES[series]):
            yield series, n, runner, path, {**few, series: n}
    for n in map(int, SIZES["structures"]):
        model = replace(runner, model=str(untrained(runner.segmenter.card, n, folder)))
        yield "structures", n, model, path, {**few, "steps": 2, "raw": True}


def here_and_fresh(runner: Runner, path: Path, options: Mapping[str, Any]) -> tuple[Work, Work]:
    """Return what times a run here, after loading, and the peak memory of a process of its own."""

    def peak() -> Costs:
        return {"peak_memory_gb": runner.fresh([path], options)["peak_memory_gb"]}

    return lambda: runner.once(path, options)[0], peak


def untrained(card: Card, structures: int, folder: Path) -> Path:
    """Write the model's architecture with random weights for so many structures.

    Its labels say nothing; its seconds and its memory do, as far as they depend on sizes.
    """
    settings = settings_from_dict(ModelSettings, card.settings["model"])
    known = sorted(int(row["index"]) for row in protocol_rows("freesurfer") if row["index"] != "0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(settings, structures + 1)
    path = folder / f"untrained{structures}.safetensors"
    save_weights(model, Card(path.stem, (0, *known[:structures]), card.settings), path)
    return path


def run_peer(runner: Runner, path: Path, peer: Peer) -> Costs:
    """Segment a scan with another tool."""
    with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
        return peer.segment(path, Path(folder), runner.threads or torch.get_num_threads())


def run_stage(runner: Runner, path: Path, name: str) -> Costs:
    """Time one stage of the network; nothing where the scan as a whole does not pass it."""
    work = network_stages(runner, path).get(name)
    return {} if work is None else timed(work)[0]


@cache
def network_stages(runner: Runner, path: Path) -> dict[str, Callable[[], object]]:
    """Return what to time of the network; nothing for a scan that is searched before it is cut."""
    segmenter = runner.segmenter
    own, options = segmenter.model_stages, SegmentOptions(mode="fast")
    begun = segmenter.prepare(read_volume(path), options, lambda stage, fraction: None)
    if begun.prepared is None:
        return {}
    image = torch.from_numpy(begun.prepared.image)[None, None].to(own.device)

    def encode() -> Any:
        return own.encode(own.plan_memory(begun), cached=False)

    encoded = cache(encode)
    works: dict[str, Callable[[], object]] = {
        PLAIN_PASS: lambda: own.model.encode(image),
        ENCODING: encode,
        SAMPLE_STEPS: lambda: own.answering.draw(encoded(), SAMPLE_STEPS_DRAW),
    }
    return {name: torch.inference_mode()(work) for name, work in works.items()}


def measure(
    measurements: Sequence[Measurement],
    table: RawTable,
    identity: str,
    report: Callable[[float, str], None],
) -> list[str]:
    """Add the rows that the table lacks; return a line for each that failed, which is left out.

    All measurements take turns, so that a machine which slows down does so for all of them.
    ``report`` gets the share that is done, and what comes next.
    """
    most = max(one.repeats for one in measurements)
    turns = [(n, one) for n in range(most) for one in measurements if n < one.repeats]
    problems, warm = [], set()
    for done, (repeat, one) in enumerate(turns):
        key = {**dict(zip(KEYS, one, strict=False)), "repeat": repeat}
        if table.has(**key):
            continue
        report(done / len(turns), str(one))
        try:
            if one.warm and one not in warm:
                one.work()
                warm.add(one)
            figures = one.work() | (one.peak() if one.peak and repeat == 0 else {})
        except DdmsegError as error:
            problems.append(f"{one}: {error}")
            continue
        table.add([{WEIGHTS: identity, **key, **dict.fromkeys(FIGURES, math.nan), **figures}])
    return problems


def summarise(
    table: RawTable, scans: Mapping[str, Path], peers: Sequence[Peer], runner: Runner
) -> dict[str, Any]:
    """Return the figures of start-up, of each scan, and of the first scan's growth."""

    def of(scan: str, series: str) -> dict[str, Figures]:
        found: dict[str, list[dict[str, str]]] = {}
        for row in table.select(scan=scan, series=series):
            found.setdefault(row["at"], []).append(row)
        return {at: f for at, rows in found.items() if (f := figures_of(rows))}

    def methods(scan: str) -> dict[str, Any]:
        found = {tier: {"title": TITLES[tier], **f} for tier, f in of(scan, TIER).items()}
        for peer in peers:
            told = {"title": peer.title, "version": peer.version}
            found[peer.name] = {**told, **of(scan, peer.name).get(peer.version, {})}
        return found

    def points(series: str) -> list[dict[str, Any]]:
        return [{"at": int(at), **f} for at, f in of(next(iter(scans)), series).items()]

    return {
        "machine": {**describe_machine(), "device": runner.device},
        "models": {"ddm": describe_model(runner.segmenter.card)},
        "full": {"steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples},
        "start": of(NO_SCAN, START),
        "scans": {
            scan: {
                "shape": list(read_volume(path).shape),
                "methods": methods(scan),
                "stages": of(scan, STAGE),
            }
            for scan, path in scans.items()
        },
        "scaling": {name: {"points": found} for name in SIZES if (found := points(name))},
    }


def figures_of(rows: Sequence[Mapping[str, str]]) -> Figures:
    """Return median and range of each figure that the rows have, NaN left out."""
    values = {name: [float(row[name]) for row in rows] for name in FIGURES}
    known = {name: [v for v in found if not math.isnan(v)] for name, found in values.items()}
    return {name: median_range(found) for name, found in known.items() if found}
