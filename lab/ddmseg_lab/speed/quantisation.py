"""What engines and eight bits gain in time and cost in accuracy, group by group of layers.

    python -m ddmseg_lab.speed.quantisation --data DATA

One scan is encoded tile by tile in every engine, and in OpenVINO with one group of layers
at a time in eight bits, then with all of them. Labels of the coarse head are compared with
those of torch, and with the truth where there is one, which also tells the calibration
(ECE of the largest probability); seconds are processor time of one thread, so that other
work on the machine counts little. The scan is a development scan of MALC2012 unless another
is named. Without data sets it is the demo scan, which has no truth and also calibrates the
ranges. Writes ``results/quantisation.tsv`` and ``results/quantisation.json``, in some ten
minutes; a run that was stopped goes on with the rows it lacks.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.datasets import malc2012
from ddmseg.datasets.case import volume_stem
from ddmseg.errors import UsageError
from ddmseg.imaging.nifti import read_label_map, read_volume
from ddmseg.imaging.preprocess import Prepared
from ddmseg.inference.scan_encoding import prepare_scan
from ddmseg.maths.metrics import dice
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.export.agreement import LEAST_LABELS, MOST_PROBABILITY, Encode
from ddmseg.models.export.graph import export_graph
from ddmseg.models.export.runtimes import FORMATS, load_encoder, require
from ddmseg.models.zoo import model_path
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg_lab import page
from ddmseg_lab.bench.scans import demo_head, development_brain
from ddmseg_lab.bench.summary import median_range
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.scans import calibration_error, mean_dice
from ddmseg_lab.speed.eight_bits import (
    KEPT_IN_FLOAT,
    calibrate,
    calibration_images,
    layer_group,
    quantise,
)
from ddmseg_lab.study import (
    data_at_hand,
    describe_machine,
    describe_model,
    run_command,
    say,
    short_checksum,
)
from ddmseg_lab.table import RawTable, write_summary

SCORES = ("true_dice", "ece")
COLUMNS = (
    *("engine", "eight_bit", "weights", "scan", "labels_as_torch", "dice", "lowest_dice"),
    *("probability_change", "discrepancy_change", *SCORES, "encode_seconds", "load_seconds"),
)
NOTHING, ALL = "none", "all"
SHIPPED = f"all but {', '.join(KEPT_IN_FLOAT)}"
"""What loses least and is therefore put in eight bits together."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    model: str = "anatomy_fast"
    """Name or weights of the model."""
    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA)."""
    scan: Path | None = None
    """Scan to measure on (a development scan of MALC2012)."""
    labels: Path | None = None
    """Label map of that scan, FreeSurfer ids on its grid (without it, no Dice and no ECE against
    a truth)."""
    output: Output = RESULTS
    """Folder for the figures."""
    repeats: int = 3
    """Runs of which the median counts, at least 1."""
    groups: int | None = None
    """Only the first so many groups of layers one by one (all)."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""


@dataclass(frozen=True)
class Truth:
    """What a scan truly shows: FreeSurfer ids of its voxels, and which of them are scored."""

    ids: NDArray[np.int32]
    structures: tuple[int, ...]
    prepared: Prepared

    def scores(self, encoding: Encoding, labels: tuple[int, ...]) -> dict[str, float]:
        """Return Dice and ECE of what the coarse head says; labels are the ids of its classes."""
        on_grid = torch.softmax(encoding.coarse_logits, dim=1)[0]
        p = self.prepared.probabilities_to_input(on_grid)
        named = np.asarray(labels)[p.argmax(-1)]
        return {
            "true_dice": mean_dice(named, self.ids, self.structures),
            "ece": calibration_error(p, labels, self.ids, self.structures),
        }


@dataclass(frozen=True)
class MeasuredScan:
    """A scan on the model's grid (``b c i j k``), with its truth where there is one."""

    name: str
    image: Tensor
    truth: Truth | None = None


def find_scan(
    card: Card, scan: Path | None, labels: Path | None, data: str | None, *, multiple: int
) -> MeasuredScan:
    """Read the scan to measure on and bring it to the model's grid.

    Without one it is a development scan of MALC2012, or the demo scan where no data sets are at
    hand; labels without a scan are refused.
    """
    if labels is not None and scan is None:
        raise UsageError("labels: got a label map without its scan; name the scan with --scan")
    of_set = ""
    if scan is not None:
        ids = None if labels is None else read_label_map(labels).data
    elif data is not None:
        of_set, (scan, ids) = f"{malc2012.NAME} ", development_brain(data)
    else:
        scan, ids = demo_head(), None
    prepared = prepare_scan(card, read_volume(scan), multiple=multiple)
    truth = None if ids is None else truth_of(card, prepared, ids)
    image = torch.from_numpy(prepared.image)[None, None]
    return MeasuredScan(f"{of_set}{volume_stem(scan)}", image, truth)


def truth_of(card: Card, prepared: Prepared, ids: NDArray[Any]) -> Truth:
    """Return the truth of a scan; scored is what it shows and the model draws."""
    if ids.shape != prepared.input_grid.shape:
        raise UsageError(
            f"labels: got a label map of shape {ids.shape}; the scan has "
            f"{prepared.input_grid.shape}; give one on the scan's grid"
        )
    shown = set(np.unique(ids).tolist())
    scored = tuple(index for index in card.labels[1:] if index in shown)
    return Truth(ids.astype(np.int32), scored, prepared)


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
        for index in labels.unique().tolist()  # type: ignore[no-untyped-call]
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


@dataclass
class Bench:
    """A model, a scan on its grid, and what torch makes of it."""

    model: DiscrepancyDiffusionSegmenter
    card: Card
    scan: MeasuredScan
    repeats: int
    reference: Encoding | None = None

    @torch.inference_mode()
    def row(self, engine: str, encode: Encode, eight_bit: str, load: float) -> dict[str, Any]:
        """Encode the scan and compare it with the truth and the first engine that was asked."""
        seconds = []
        truth, no_scores = self.scan.truth, dict.fromkeys(SCORES, math.nan)
        model = copy.copy(self.model)
        model.encode = encode  # type: ignore[assignment, method-assign]
        for _ in range(self.repeats + 1):  # the first run compiles
            start = time.process_time()
            encoding = model.encode(self.scan.image)
            seconds.append(time.process_time() - start)
        self.reference = self.reference or encoding
        found = {
            "engine": engine,
            "eight_bit": eight_bit,
            "weights": short_checksum(self.card),
            "scan": self.scan.name,
            **differences(self.model, self.reference, encoding),
            **(truth.scores(encoding, self.card.labels) if truth else no_scores),
            "encode_seconds": median_range(seconds[1:])["median"],
            "load_seconds": load + max(0.0, seconds[0] - min(seconds)),
        }
        say(f"{engine:<10} {eight_bit:<12} {found['dice']:.4f} {found['encode_seconds']:.2f} s")
        return found


def rows(
    bench: Bench, table: RawTable, first_groups: int | None = None
) -> Iterator[dict[str, Any]]:
    """Measure what the table lacks: engines, then groups of layers in eight bits."""

    def lacks(engine: str, eight_bit: str) -> bool:
        return not table.has(engine=engine, eight_bit=eight_bit, scan=bench.scan.name)

    first = bench.row(TORCH, bench.model.encode, NOTHING, 0.0)
    if lacks(TORCH, NOTHING):
        yield first
    graph = export_graph(bench.model)
    for name in FORMATS:
        if lacks(name, NOTHING):
            yield measured(bench, name, graph, NOTHING)
    ranges = calibrate(bench.model, calibration_images(bench.model, bench.card))
    groups = list(dict.fromkeys(map(layer_group, ranges)))
    kept = {group: [other for other in groups if other != group] for group in groups[:first_groups]}
    for told, keep in {**kept, SHIPPED: list(KEPT_IN_FLOAT), ALL: []}.items():
        if lacks("openvino", told):
            yield measured(bench, "openvino", quantise(graph, ranges, keep=keep), told)


def measured(bench: Bench, name: str, graph: bytes, eight_bit: str) -> dict[str, Any]:
    """Load a graph into an engine and measure it."""
    start = time.process_time()
    encode = load_encoder(name, graph)
    return bench.row(name, encode, eight_bit, time.process_time() - start)


def run(arguments: Arguments) -> None:
    """Measure on one thread and write table and summary."""
    torch.set_num_threads(1)
    for name in FORMATS:
        require(name)
    model, card = load_weights(model_path(arguments.model))
    model.views = None  # an engine computes one straight look, and is held against that
    data = data_at_hand(arguments.data)
    scan = find_scan(card, arguments.scan, arguments.labels, data, multiple=model.multiple)
    bench = Bench(model, card, scan, arguments.repeats)
    path, weights = arguments.output / "quantisation.tsv", [short_checksum(card)]
    table = RawTable(path, COLUMNS, weights, fresh=arguments.fresh)
    for row in rows(bench, table, arguments.groups):
        table.add([row])
    summary = summarise(bench, table.select(scan=scan.name))
    write_summary(arguments.output / "quantisation.json", summary)


def summarise(bench: Bench, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Return the rows with what they were measured on."""
    truth = bench.scan.truth
    return {
        "machine": describe_machine(),
        "models": {"ddm": describe_model(bench.card)},
        "scan": bench.scan.name,
        "grid": list(bench.scan.image.shape[2:]),
        "structures": 0 if truth is None else len(truth.structures),
        "versions": {name: kind.version for name, kind in FORMATS.items()},
        "kept_in_float": list(KEPT_IN_FLOAT),
        "repeats": bench.repeats,
        "rows": rows,
    }


COMMAND = "python -m ddmseg_lab.speed.quantisation --data DATA"
TORCH = "torch"
ENGINES, OFFERED = "other engines, 32 bits", "eight bits as offered"
LEAST_DICE = 0.99
"""Of torch's labels, in eight bits as they are offered: what was expected of them."""
MOST_ECE = 0.01
SHOWN = {
    "labels_as_torch": ("labels as torch", 5),
    "dice": ("Dice with torch", 4),
    "lowest_dice": ("lowest", 3),
    "true_dice": ("Dice with the truth", 4),
    "probability_change": ("change of probability", 4),
    "ece": ("ECE", 4),
    "discrepancy_change": ("change of D", 3),
    "encode_seconds": ("s", 2),
}
"""Figures of a row: heading and digits."""
WORDS = (
    "Labels are those of the coarse head; *Dice with torch* is the mean over the structures that "
    "torch draws, *lowest* that of the structure that suffers most. The changes are of the winning "
    "class's probability and, relative to its mean, of D, both over the structures. *Dice with "
    "the truth* and ECE, of the largest probability, are against manual labels on the scan's own "
    "grid, in the structures that both draw. Seconds are processor time to encode the scan."
)

Row = Mapping[str, str]


def body(found: page.Summary) -> list[str]:
    """Every engine, every group of layers in eight bits, and all together."""
    cells = [
        [row["engine"], row["eight_bit"], *(_cell(row, n, d) for n, (_, d) in SHOWN.items())]
        for row in found["rows"]
    ]
    head = ["engine", "in eight bits", *(heading for heading, _ in SHOWN.values())]
    return [f"{_words(found)} {WORDS}", page.table(head, cells)]


def _words(found: page.Summary) -> str:
    grid = "×".join(map(str, found["grid"]))
    runs, older = found["repeats"], any(map(page.is_older, page.models_of(found)))
    labelled = any(not math.isnan(_number(row, "ece")) for row in found["rows"])
    return (
        f"{page.machine_words(found)} {page.weights_words(found)} "
        + "**These are not the weights that ship now.** " * older
        + f"Scan: {found['scan']}, {grid} voxels for the model"
        + (". " if labelled else ", without manual labels. ")
        + f"Median of {runs} run{'s' * (runs != 1)}. What was offered had in eight bits "
        f"{_offered(found)}."
    )


def _offered(found: page.Summary) -> str:
    return f"all but {', '.join(found['kept_in_float'])}"


def _number(row: Row, name: str) -> float:
    """Return a figure; NaN where a record has none, as older ones have no ECE."""
    return float(row.get(name) or math.nan)


def _cell(row: Row, name: str, digits: int) -> str:
    value = _number(row, name)
    return page.NO_FIGURE if math.isnan(value) else f"{value:.{digits}f}"


def claims(found: page.Summary) -> list[page.Claim]:
    """Engines in 32 bits by the worst of them, eight bits as they are offered."""
    rows: Sequence[Row] = found.get("rows", [])
    offered = _offered(found) if found else ""
    engines = [r for r in rows if r["eight_bit"] == NOTHING and r["engine"] != TORCH]
    torch = next((r for r in rows if r["eight_bit"] == NOTHING and r["engine"] == TORCH), {})
    eight = next((r for r in rows if r["eight_bit"] == offered), {})
    least = min((_number(row, "labels_as_torch") for row in engines), default=math.nan)
    change = max((_number(row, "probability_change") for row in engines), default=math.nan)
    more = _number(eight, "ece") - _number(torch, "ece")
    over = _number(eight, "encode_seconds") / _number(torch, "encode_seconds")
    found_of = {
        page.Target(f"{ENGINES}: labels as torch, the least", LEAST_LABELS): least,
        page.at_most(f"{ENGINES}: change of probability, mean", MOST_PROBABILITY, digits=4): change,
        page.Target(f"{OFFERED}: Dice with torch's labels", LEAST_DICE): _number(eight, "dice"),
        page.at_most(f"{OFFERED}: ECE more than torch's", MOST_ECE, digits=4): more,
        page.at_most(f"{OFFERED}: seconds over torch's", 1.0): over,
    }
    return [page.Claim(t, None if math.isnan(value) else value) for t, value in found_of.items()]


CHAPTER = page.Chapter("Engines and eight bits", COMMAND, "quantisation", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
