"""Seconds and memory of segmenting, stage by stage.

    python -m ddmseg_lab.speed.segment

Measured with the default and the fast model on the whole head that comes with the package, with
the latter also on that head padded to 256^3 voxels of 1 mm, and (where there are data sets) on a
hippocampus crop. Stages are timed one by one,
``--mode fast`` and ``--mode diffusion`` from reading the file to the last file written,
after loading; memory is that of the command line in a process of its own. Writes
``results/speed_segment.json``.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ddmseg.imaging.nifti import read_volume, write_map
from ddmseg.imaging.preprocess import Prepared, within
from ddmseg.inference.scan_encoding import encode_image, prepare_scan
from ddmseg.inference.segmenter import Segmenter
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.sampling import MaskSampler
from ddmseg.outputs.write import write_outputs
from ddmseg_lab.bench.scans import demo_head, padded_head
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.bench.tiers import FAST, FULL, FULL_DRAW, TIERS
from ddmseg_lab.bench.workbench import Workbench
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.page import Chapter, Claim, Summary, at_most, machine_words, table, with_interval
from ddmseg_lab.scans import CROPS
from ddmseg_lab.study import (
    SAMPLING_SEED,
    data_at_hand,
    describe_machine,
    describe_model,
    run_command,
    say,
)
from ddmseg_lab.table import write_summary

MODES = {name: TIERS[name].options for name in (FAST, FULL)}
PADDED_SIDE = 256
DEFAULT, HEAD = "whole head, default model", "whole head"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA; without either the crop
    is left out)."""
    output: Output = RESULTS
    """Folder for the figures."""
    anatomy: str = "anatomy"
    """Name or weights of the model for whole heads."""
    fast: str = "anatomy_fast"
    """Name or weights of the fast one."""
    hippocampus: str = "hippocampus"
    """Name or weights of the model for the crop."""
    repeats: int = 5
    """Runs of which the median counts, at least 1."""
    threads: int | None = None
    """CPU threads (torch's choice when left out)."""


@dataclass
class Stopwatch:
    """Seconds of each stage, run after run."""

    seconds: dict[str, list[float]] = field(default_factory=dict)

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Time what happens inside."""
        start = time.perf_counter()
        yield
        self.seconds.setdefault(stage, []).append(time.perf_counter() - start)

    def medians(self) -> dict[str, dict[str, float]]:
        """Return median and range of each stage."""
        return {stage: median_range(seconds) for stage, seconds in self.seconds.items()}


@torch.inference_mode()
def time_stages(segmenter: Segmenter, path: Path, watch: Stopwatch) -> dict[str, list[int]]:
    """Time each stage once; return the grids that the model worked on."""
    model, card = segmenter.model_stages.model, segmenter.card
    with watch("read"):
        scan = read_volume(path)
    with watch("prepare"):
        prepared = prepare_scan(card, scan, multiple=model.multiple)
    image = torch.from_numpy(prepared.image)[None, None]
    with watch("encode"):
        encoding, box = encode_image(model, image)
    prepared = within(prepared, box)
    _time_denoiser(segmenter, encoding, watch)
    _time_restoring(segmenter, prepared, encoding, watch)
    return {"model_grid": list(image.shape[2:]), "cropped_grid": list(prepared.image.shape)}


def _time_denoiser(segmenter: Segmenter, encoding: Encoding, watch: Stopwatch) -> None:
    """Time what is done once a scan, at each step, and at the end of each sample."""
    model, loss = segmenter.model_stages.model, segmenter.card.settings["loss"]
    schedule = make_schedule(loss["schedule"], loss["schedule_shift"])
    with watch("conditions"):
        sampler = MaskSampler(model, encoding, schedule)
    estimate = sampler.first_estimate
    log_snr = schedule.log_snr(torch.tensor(0.5)).reshape(1)
    x_t = torch.randn(estimate.shape)
    with watch("denoising step"):
        _, hidden = model.denoise(x_t, log_snr, sampler.conditions, encoding, estimate)
    if model.mask_stride > 1:
        with watch("decode"):
            model.decode(hidden, sampler.conditions)


def _time_restoring(
    segmenter: Segmenter, prepared: Prepared, encoding: Encoding, watch: Stopwatch
) -> None:
    p = encoding.coarse_probabilities
    with watch("discrepancy"):
        D = segmenter.model_stages.model.discrepancy_map(encoding, p.argmax(1))[0, 0].numpy()
    with watch("restore"):
        prepared.labels_to_input(p[0], segmenter.card.labels)
        for _ in ("uncertainty", "discrepancy"):
            prepared.map_to_input(D)


def time_modes(segmenter: Segmenter, path: Path, folder: Path, watch: Stopwatch) -> None:
    """Time each mode from the file to the files, the result alone, and the writing alone."""
    for mode, options in MODES.items():
        with watch(mode):
            with watch(f"{mode}, before writing"):
                result = segmenter(path, **options)
            with watch("write"):
                write_outputs(result, folder, stem="scan", overwrite=True)


def measure_scan(name: str, path: Path, model: str, arguments: Arguments) -> dict[str, Any]:
    """Return the figures of one scan."""
    stages, modes = Stopwatch(), Stopwatch()
    grids: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Workbench(model, Path(folder), device="cpu", threads=arguments.threads)
        segmenter = bench.segmenter()
        time_modes(segmenter, path, Path(folder), Stopwatch())  # the first run pays for imports
        for _ in range(arguments.repeats):
            grids = time_stages(segmenter, path, stages)
            time_modes(segmenter, path, Path(folder), modes)
    figures = {**stages.medians(), **modes.medians()}
    say(f"{name}: " + ", ".join(f"{mode} {figures[mode]['median']:.2f} s" for mode in MODES))
    return {
        "shape": list(read_volume(path).shape),
        "model": describe_model(segmenter.card),
        **grids,
        "seconds": figures,
        "step_over_encode": figures["denoising step"]["median"] / figures["encode"]["median"],
        "peak_memory_gb": {
            mode: bench.run_fresh([path], MODES[mode])["peak_memory_gb"] for mode in MODES
        },
    }


def find_scans(arguments: Arguments, folder: Path) -> dict[str, tuple[Path, str]]:
    """Return file and model of each scan to measure; what is made goes into the folder."""
    head = demo_head()
    wide = padded_head(read_volume(head), PADDED_SIDE)
    padded = folder / f"{wide.name}.nii.gz"
    write_map(padded, wide.data, wide, description="padded head")
    scans = {
        DEFAULT: (head, arguments.anatomy),
        HEAD: (head, arguments.fast),
        f"{HEAD} padded to {PADDED_SIDE}^3": (padded, arguments.fast),
    }
    data = data_at_hand(arguments.data)
    if data is None:
        say("hippocampus crop: left out, since neither --data nor DDMSEG_DATA names a folder")
    else:
        crop = CROPS.cases("test", data, 1)[0].images[0]
        scans["hippocampus crop"] = (crop, arguments.hippocampus)
    return scans


def run(arguments: Arguments) -> None:
    """Measure every scan at hand."""
    if arguments.threads is not None:
        torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        scans = {
            name: measure_scan(name, path, model, arguments)
            for name, (path, model) in find_scans(arguments, Path(folder)).items()
        }
    drawn = {"steps": FULL_DRAW.steps, "samples": FULL_DRAW.samples}
    summary = {"machine": describe_machine(), **drawn, "scans": scans}
    write_summary(arguments.output / "speed_segment.json", summary, seed=SAMPLING_SEED)


def body(found: Summary) -> list[str]:
    """Seconds and memory of one scan."""
    scans = found["scans"]
    stages = list(dict.fromkeys(stage for scan in scans.values() for stage in scan["seconds"]))

    def cell(scan: Summary, stage: str) -> str:
        return with_interval(scan["seconds"][stage]) if stage in scan["seconds"] else "–"

    sizes = {"voxels": "shape", "model's grid": "model_grid", "cut to": "cropped_grid"}
    rows = [
        [words, *("×".join(map(str, scan[name])) for scan in scans.values())]
        for words, name in sizes.items()
    ]
    rows += [[f"{stage}, s", *(cell(scan, stage) for scan in scans.values())] for stage in stages]
    for mode in ("fast", "diffusion"):
        peaks = [f"{scan['peak_memory_gb'][mode]:.2f}" for scan in scans.values()]
        rows.append([f"peak memory, {mode}, GB", *peaks])
    return [
        f"{machine_words(found)} Seconds after loading, median (and range) of several runs; *fast* "
        f"and *diffusion* ({found['steps']} steps, {found['samples']} samples) are from reading "
        "the file to the last file written, report included. Memory is the peak resident memory "
        "of the command line in a process of its own.",
        table(["", *scans], rows),
    ]


def claims(found: Summary) -> list[Claim]:
    """Seconds, memory and the cost of a step, of a whole head as it is and padded."""
    wanted: list[Claim] = []
    for name in (DEFAULT, HEAD, f"{HEAD} padded to {PADDED_SIDE}^3"):
        scan = found.get("scans", {}).get(name, {})
        seconds, memory = scan.get("seconds", {}), scan.get("peak_memory_gb", {})
        wanted += [
            Claim(at_most(f"{name}, `--mode fast`", 5.0, " s"), seconds.get("fast")),
            Claim(at_most(f"{name}, `--mode diffusion`", 20.0, " s"), seconds.get("diffusion")),
            Claim(at_most(f"{name}, peak memory", 3.0, " GB"), max(memory.values(), default=None)),
            Claim(
                at_most(f"{name}, one denoising step over one encoding", 0.1, digits=3),
                scan.get("step_over_encode"),
            ),
        ]
    return wanted


COMMAND = "python -m ddmseg_lab.speed.segment --data DATA --threads 2"
CHAPTER = Chapter("Speed and memory", COMMAND, "speed_segment", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
