"""Measures what a machine needs for each kind of work, once, and remembers it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from ddmseg import __version__
from ddmseg.errors import OutputError
from ddmseg.imaging.atomic import atomic_write
from ddmseg.imaging.volume import Volume
from ddmseg.pipeline.budget.costs import Draw, Rates, Size
from ddmseg.pipeline.budget.prediction import size_of
from ddmseg.pipeline.cache import cache_folder
from ddmseg.pipeline.json_reader import read_json
from ddmseg.pipeline.options import SegmentOptions

if TYPE_CHECKING:
    from ddmseg.pipeline.inference import Segmenter
    from ddmseg.pipeline.segmentation import Segmentation

VERSION = "1"
"""Of the way to measure; to be raised when it or the work changes."""
PROBE_SIDE = 32
"""Voxels along the edge of the made-up head that is segmented to see how busy a machine is."""
SLOWEST_PROBE = 3.0
"""A probe tells of no more slowness than this: it is short, and chance plays a part."""


def rates_of(segmenter: Segmenter) -> tuple[Rates, float]:
    """Return the rates of this machine, and how many times as slow it seems just now.

    They are measured on first use, in about the time of one scan, and kept in the folder
    of the cache. The factor, at least 1, comes from a small segmentation, which also
    imports what the first scan would otherwise wait for.

    Args:
        segmenter: with its model, device and threads.
    """
    path = rates_file(segmenter)
    rates = _read(path)
    if rates is None:
        rates = measure(segmenter)
        _write(path, rates)
        return rates, 1.0
    probe(segmenter)  # the first run pays for imports
    slowdown = probe(segmenter) / rates.probe
    return rates, min(max(1.0, slowdown), SLOWEST_PROBE)


def demo_head() -> Volume:
    """Read the whole head that comes with the package."""
    from ddmseg.imaging.nifti import read_volume

    return read_volume(Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz")))


@torch.inference_mode()
def measure(segmenter: Segmenter) -> Rates:
    """Segment a typical scan part by part and return the seconds of each part a voxel."""
    probe(segmenter)  # the first run pays for imports
    probed = probe(segmenter)
    options = SegmentOptions(mode="fast")
    watch = _Stopwatch()
    with watch("prepare"):
        begun = segmenter.prepare(segmenter.calibration_scan(), options, _silent)
    memory = segmenter.plan_memory(begun)
    with watch("encode"):
        encoded = segmenter.encode(begun, memory, cached=False)
        segmenter.answering.coarse(encoded)
    segmenter.answering.draw(
        encoded, options, _silent, _DRAWS[0]
    )  # kernels are chosen by shape, once
    for draw in _DRAWS:
        with watch(str(draw)):
            outcome = segmenter.answering.draw(encoded, options, _silent, draw)
    solved = segmenter.solved(begun, encoded, *outcome, memory)
    with watch("restore"):
        result = segmenter.restore(solved)
    with watch("write"):
        _write_away(result)
    assert begun.prepared is not None
    whole, cropped = begun.prepared.image.shape, encoded.prepared.image.shape
    multiple = segmenter.model.multiple
    size = size_of(segmenter.card, begun.scan.data.size, whole, cropped, multiple=multiple)
    return _with_fixed(_rates(watch.seconds, size, probed))


_DRAWS = (Draw(1, 1), Draw(1, 3), Draw(6, 1))
"""Enough to tell apart what is paid once, for each sample and for each step."""


def _rates(seconds: dict[str, float], size: Size, probed: float) -> Rates:
    one, samples, steps = (seconds[str(draw)] for draw in _DRAWS)
    step = max(steps - one, 0.0) / 5
    sample = max((samples - one) / 2 - step, 0.0)
    return Rates(
        prepare=seconds["prepare"] / size.scan,
        encode=seconds["encode"] / size.tiles,
        restore=seconds["restore"] / size.scan,
        write=seconds["write"] / size.scan,
        answer=max(one - sample - step, 0.0) / size.grid,
        sample=sample / size.grid,
        step=step / size.grid,
        fixed=0.0,
        probe=probed,
    )


def _with_fixed(rates: Rates) -> Rates:
    """Take for what any scan costs what the small one took beyond its voxels' share."""
    voxels = PROBE_SIDE**3
    costs = rates.costs(Size(voxels, voxels, voxels), writes=True)
    return replace(rates, fixed=max(rates.probe - costs.fast - costs.of(Draw(1, 1)), 0.0))


@torch.inference_mode()
def probe(segmenter: Segmenter) -> float:
    """Segment a small made-up head with one step, write it away, and return the seconds."""
    places = np.indices((PROBE_SIDE,) * 3) - (PROBE_SIDE - 1) / 2
    radius = np.linalg.norm(places, axis=0) / PROBE_SIDE
    head = np.where(radius < 0.4, 100.0, 0.0) - np.where(radius < 0.1, 70.0, 0.0)
    head += np.random.default_rng(0).normal(0, 4, head.shape)
    spacing_mm = float(segmenter.card.settings["data"]["spacing_mm"])
    scan = Volume(head.astype(np.float32), np.diag([spacing_mm] * 3 + [1.0]), "probe")
    options = SegmentOptions(mode="fast")
    start = time.perf_counter()
    begun = segmenter.prepare(scan, options, _silent)
    memory = segmenter.plan_memory(begun)
    encoded = segmenter.encode(begun, memory, cached=False)
    outcome = segmenter.answering.draw(encoded, options, _silent, Draw(1, 1))
    _write_away(segmenter.restore(segmenter.solved(begun, encoded, *outcome, memory)))
    return time.perf_counter() - start


def rates_file(segmenter: Segmenter) -> Path | None:
    """Return where the rates are kept; None where nothing is to be kept.

    Its name is a hash of all that they depend on: version, weights, device, engine,
    threads and processor.
    """
    folder = cache_folder()
    if folder is None:
        return None
    depends = (
        VERSION,
        __version__,
        torch.__version__,
        segmenter.card.checksum,
        _device_name(segmenter.device),
        segmenter.engine.describe()["name"],
        segmenter.engine.describe()["version"],
        torch.get_num_threads(),
        processor(),
    )
    return folder / f"rates-{hashlib.sha256(repr(depends).encode()).hexdigest()[:16]}.json"


def processor() -> str:
    """Return what tells this processor from others, and how many there are of it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(errors="replace").splitlines() if table.is_file() else []
    named = [line for line in lines if line.startswith("model name")]
    name = named[0].partition(":")[2].strip() if named else platform.processor()
    return f"{platform.machine()} {name} {os.cpu_count()}"


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def _read(path: Path | None) -> Rates | None:
    """Return the rates in a file, or None: it may be missing, damaged or of another version."""
    if path is None:
        return None
    try:
        numbers = read_json(path)
        rates = Rates(**{name: float(value) for name, value in numbers.items()})
    except (OSError, ValueError, TypeError, AttributeError):
        return None
    return rates if rates.probe > 0 and min(asdict(rates).values()) >= 0 else None


def _write(path: Path | None, rates: Rates) -> None:
    if path is None:
        return
    # what cannot be kept is measured again the next time
    with contextlib.suppress(OutputError), atomic_write(path) as partial:
        partial.write_text(json.dumps(asdict(rates), indent=1) + "\n", encoding="utf-8")


def _write_away(result: Segmentation) -> None:
    """Write all files of a result where they are removed at once."""
    from ddmseg.pipeline.outputs.write import write_outputs

    with tempfile.TemporaryDirectory(prefix="ddmseg-") as folder:
        write_outputs(result, Path(folder), stem="scan")


def _silent(stage: str, fraction: float) -> None:
    """Show nothing."""


class _Stopwatch:
    """Seconds of each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[part] = time.perf_counter() - start
