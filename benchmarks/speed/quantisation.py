"""What engines and eight bits gain in time and cost in accuracy, group by group of layers.

    python -m benchmarks.speed.quantisation

One scan is encoded tile by tile in every engine, and in OpenVINO with one group of layers
at a time in eight bits, then with all of them. Labels of the coarse head are compared with
those of torch; seconds are processor time of one thread, so that other work on the machine
counts little. Ranges are calibrated on the demo scan: name another scan to measure on.
Writes ``results/quantisation.tsv`` and ``results/quantisation.json``; a run that was stopped
goes on with the rows it lacks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from torch import Tensor
from tyro.conf import arg

from benchmarks.commands import describe_machine, describe_model, run_command, say, short_checksum
from ddmseg.imaging.nifti import read_volume
from ddmseg.maths.metrics import dice
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.tiling import encode_tiled
from ddmseg.pipeline.bench.summary import median_range
from ddmseg.pipeline.checkpoint import Card, load_weights
from ddmseg.pipeline.engines.catalogue import KINDS
from ddmseg.pipeline.engines.engine import GraphEngine, TorchEngine, make_graph
from ddmseg.pipeline.engines.graph_cache import GraphCache, graphs_folder
from ddmseg.pipeline.engines.quantisation import (
    KEPT_IN_FLOAT,
    calibrate,
    calibration_images,
    layer_group,
    quantise,
)
from ddmseg.pipeline.engines.runtimes import make_runtime
from ddmseg.pipeline.evidence.records import RawTable, write_summary
from ddmseg.pipeline.scan_encoding import prepare_scan
from ddmseg.pipeline.zoo import model_path

COLUMNS = (
    *("engine", "eight_bit", "weights", "scan", "labels_as_torch", "dice", "lowest_dice"),
    *("probability_change", "discrepancy_change", "encode_seconds", "load_seconds"),
)
NOTHING, ALL = "none", "all"
SHIPPED = f"all but {', '.join(KEPT_IN_FLOAT)}"
"""What ``--engine openvino-int8`` has in eight bits."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    model: str = "anatomy"
    """Name or weights of the model."""
    scan: Path | None = None
    """Scan to measure on (the demo scan, which also calibrates)."""
    output: Annotated[Path, arg(aliases=("-o",))] = Path("results")
    """Folder for the figures."""
    repeats: int = 3
    """Runs of which the median counts, at least 1."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""


@dataclass
class Bench:
    """A model, a scan on its grid, and what torch makes of it."""

    model: DiscrepancyDiffusionSegmenter
    card: Card
    image: Tensor
    scan: str
    repeats: int
    truth: Encoding | None = field(default=None)

    @torch.inference_mode()
    def row(self, engine: TorchEngine | GraphEngine, eight_bit: str, load: float) -> dict[str, Any]:
        """Encode the scan and compare it with the first engine that was asked."""
        seconds = []
        for _ in range(self.repeats + 1):  # the first run compiles
            start = time.process_time()
            encoding = encode_tiled(
                self.model, self.image, self.card.settings["data"]["patch"], encode=engine.encode
            )
            seconds.append(time.process_time() - start)
        self.truth = self.truth or encoding
        found = {
            "engine": engine.name,
            "eight_bit": eight_bit,
            "weights": short_checksum(self.card),
            "scan": self.scan,
            **differences(self.model, self.truth, encoding),
            "encode_seconds": median_range(seconds[1:])["median"],
            "load_seconds": load + max(0.0, seconds[0] - min(seconds)),
        }
        say(
            f"{engine.name:<10} {eight_bit:<12} {found['dice']:.4f} {found['encode_seconds']:.2f} s"
        )
        return found


def differences(
    model: DiscrepancyDiffusionSegmenter, ours: Encoding, theirs: Encoding
) -> dict[str, float]:
    """Return how two encodings of one scan differ in what is made of them.

    ``probability_change`` is the mean change of the winning class's probability over the
    structures; ``discrepancy_change`` the mean change of D there over its mean.
    """
    p, q = (torch.softmax(encoding.coarse_logits, dim=1) for encoding in (ours, theirs))
    labels, others = p.argmax(1), q.argmax(1)
    scores = [
        dice((labels == index).numpy(), (others == index).numpy())
        for index in labels.unique().tolist()
        if index
    ]
    inside = labels > 0
    won = p.gather(1, labels[:, None])[:, 0]
    change = (won - q.gather(1, labels[:, None])[:, 0]).abs()[inside]
    D, E = (model.discrepancy_map(encoding, labels)[:, 0][inside] for encoding in (ours, theirs))
    return {
        "labels_as_torch": float((labels == others).double().mean()),
        "dice": float(np.mean(scores)) if scores else 1.0,
        "lowest_dice": min(scores, default=1.0),
        "probability_change": float(change.mean()) if inside.any() else 0.0,
        "discrepancy_change": float((D - E).abs().mean() / D.mean()) if inside.any() else 0.0,
    }


def rows(bench: Bench, table: RawTable) -> Iterator[dict[str, Any]]:
    """Measure what the table lacks: engines, then groups of layers in eight bits."""

    def lacks(engine: str, eight_bit: str) -> bool:
        return not table.has(engine=engine, eight_bit=eight_bit, scan=bench.scan)

    first = bench.row(TorchEngine(bench.model), NOTHING, 0.0)
    if lacks("torch", NOTHING):
        yield first
    graph = make_graph(bench.model, bench.card, "fp32", cache=GraphCache(graphs_folder()))
    for name, kind in KINDS.items():
        if kind.precision == "fp32" and lacks(name, NOTHING):
            yield measured(bench, name, graph, NOTHING)
    ranges = calibrate(bench.model, calibration_images(bench.model, bench.card))
    groups = list(dict.fromkeys(map(layer_group, ranges)))
    kept = {group: [other for other in groups if other != group] for group in groups}
    for told, keep in {**kept, SHIPPED: list(KEPT_IN_FLOAT), ALL: []}.items():
        if lacks("openvino", told):
            yield measured(bench, "openvino", quantise(graph, ranges, keep=keep), told)


def measured(bench: Bench, name: str, graph: bytes, eight_bit: str) -> dict[str, Any]:
    """Load a graph into an engine and measure it."""
    start = time.process_time()
    engine = GraphEngine(name, make_runtime(name, graph))
    return bench.row(engine, eight_bit, time.process_time() - start)


def run(arguments: Arguments) -> None:
    """Measure on one thread and write table and summary."""
    torch.set_num_threads(1)
    for kind in KINDS.values():
        kind.require()
    model, card = load_weights(model_path(arguments.model))
    scan = arguments.scan or Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz"))
    prepared = prepare_scan(card, read_volume(scan), multiple=model.multiple)
    image = torch.from_numpy(prepared.image)[None, None]
    bench = Bench(model, card, image, scan.name.removesuffix(".nii.gz"), arguments.repeats)
    table = RawTable(
        arguments.output / "quantisation.tsv",
        COLUMNS,
        [short_checksum(card)],
        fresh=arguments.fresh,
    )
    for row in rows(bench, table):
        table.add([row])
    summary = {
        "machine": describe_machine(),
        "model": describe_model(card),
        "scan": bench.scan,
        "grid": list(prepared.image.shape),
        "versions": {name: kind.version for name, kind in KINDS.items()},
        "kept_in_float": list(KEPT_IN_FLOAT),
        "repeats": arguments.repeats,
        "rows": table.select(scan=bench.scan),
    }
    write_summary(arguments.output / "quantisation.json", summary)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
