"""What engines and eight bits gain in time and cost in accuracy, group by group of layers.

    python -m ddmseg_lab.speed.quantisation --data DATA

One scan is encoded in every engine, and in OpenVINO with one group of layers at a time in eight
bits, then with all of them. Only what enters a convolution, and its weights, are rounded: residual
paths, normalisations and all outputs stay in 32 bits. Labels of the coarse head are compared with
those of torch and with the truth, which also tells the calibration (ECE of the largest
probability); seconds are processor time of one thread, so that other
work on the machine counts little. The scan is a development scan of MALC2012; the demo head tells
the ranges. Writes ``results/quantisation.tsv`` and ``results/quantisation.json``; a run that was
stopped goes on with the rows it lacks.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ddmseg.datasets.case import volume_stem
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.preprocess import Prepared
from ddmseg.inference.scan_encoding import prepare_scan
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.export.agreement import LEAST_LABELS, MOST_PROBABILITY, Encode
from ddmseg.models.export.graph import INPUT, export_graph
from ddmseg.models.export.runtimes import FORMATS, load_encoder, require
from ddmseg.models.zoo import model_path
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg_lab import page
from ddmseg_lab.folders import RESULTS, Output
from ddmseg_lab.scans import HEADS, Ids, calibration_error, mean_dice, structure_dice
from ddmseg_lab.speed.scans import demo_head
from ddmseg_lab.statistics_text import counted, median_range
from ddmseg_lab.study import describe_machine, describe_model, run_command, say, short_checksum
from ddmseg_lab.table import RawTable, write_summary

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

COLUMNS = (
    *("engine", "eight_bit", "weights", "scan", "labels_as_torch", "dice", "lowest_dice"),
    *("probability_change", "discrepancy_change", "true_dice", "ece"),
    "encode_seconds",
)
TORCH, NOTHING, ALL = "torch", "none", "all"
KEPT_IN_FLOAT = ("stem", "up", "joined", "head")
"""Groups of layers that lose most, and stay in 32 bits."""
SHIPPED = f"all but {', '.join(KEPT_IN_FLOAT)}"
"""What loses least and is therefore put in eight bits together."""
PERCENTILE = 99.98
"""Of what enters a convolution, the share its range holds: a few outliers must not coarsen the
rest."""
CONVOLUTIONS = ["Conv", "ConvTranspose"]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Options of this command."""

    model: str = "anatomy_fast"
    """Name or weights of the model."""
    data: str | None = None
    """Folder that holds the data sets (else the variable DDMSEG_DATA)."""
    output: Output = RESULTS
    """Folder for the figures."""
    repeats: int = 3
    """Runs of which the median counts, at least 1."""
    fresh: bool = False
    """Measure everything anew instead of going on where an earlier run stopped."""


@dataclass(frozen=True)
class MeasuredScan:
    """A scan on the model's grid, and what it truly shows.

    Attributes:
        ids: FreeSurfer ids of its voxels, 0 for what only one of both protocols draws.
        structures: that are scored: what it shows and the model draws.
    """

    name: str
    prepared: Prepared
    ids: Ids
    structures: Sequence[int]

    @property
    def image(self) -> Tensor:
        """What the network sees, ``b c i j k``."""
        return torch.from_numpy(self.prepared.image)[None, None]

    def scores(self, encoding: Encoding, labels: Sequence[int]) -> dict[str, float]:
        """Return Dice and ECE of what the coarse head says; labels are the ids of its classes."""
        on_grid = torch.softmax(encoding.coarse_logits, dim=1)[0]
        p = self.prepared.probabilities_to_input(on_grid)
        named = np.asarray(labels)[p.argmax(-1)]
        return {
            "true_dice": mean_dice(named, self.ids, self.structures),
            "ece": calibration_error(p, labels, self.ids, self.structures),
        }


def development_scan(card: Card, data: str | None, multiple: int) -> MeasuredScan:
    """Return the first development scan of MALC2012."""
    (case,) = HEADS.cases("validation", data, 1)
    drawn, (path, *_) = HEADS.truth(case), case.images
    ids = np.where(np.isin(drawn, HEADS.structures), drawn, 0)
    prepared = prepare_scan(card, read_volume(path), multiple=multiple)
    structures = [index for index in card.labels[1:] if index in ids]
    return MeasuredScan(f"{HEADS.name} {volume_stem(path)}", prepared, ids, structures)


def differences(
    model: DiscrepancyDiffusionSegmenter, ours: Encoding, theirs: Encoding
) -> dict[str, float]:
    """Return how two encodings of one scan differ in what is made of them.

    ``probability_change`` is the mean change of the winning class's probability over the
    structures; ``discrepancy_change`` the mean change of D there over its mean.
    """
    p, q = (torch.softmax(encoding.coarse_logits, dim=1) for encoding in (ours, theirs))
    labels, others = p.argmax(1), q.argmax(1)
    drawn = [index for index in labels.unique().tolist() if index]  # type: ignore[no-untyped-call]
    scores = list(structure_dice(others.numpy(), labels.numpy(), drawn).values())
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


def in_eight_bits(graph: bytes, image: Tensor, keep: Sequence[str]) -> bytes:
    """Return a graph whose convolutions compute in eight bits.

    Inputs get 256 even steps over their range, weights 255 steps symmetric about 0 for each output
    channel. Source: Jacob et al. 2018, arXiv 1712.05877.

    Args:
        image: that tells the ranges (``b c *grid``).
        keep: groups of layers that stay in 32 bits; ``up`` stands for ``up.0``, ``up.1`` ...
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static

    model, groups = with_own_inputs(graph)
    kept = [name for name, g in groups.items() if {g, g.partition(".")[0]} & set(keep)]
    images = iter([{INPUT: image.numpy()}, None])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        quantize_static(
            model,
            path,
            SimpleNamespace(get_next=lambda: next(images)),
            op_types_to_quantize=CONVOLUTIONS,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={
                "CalibPercentile": PERCENTILE,
                "OpTypesToExcludeOutputQuantization": CONVOLUTIONS,
                "QuantizeBias": False,
            },
        )
        return path.read_bytes()


def with_own_inputs(graph: bytes) -> tuple[ModelProto, dict[str, str]]:
    """Give each convolution an input of its own, and return the group of each.

    Rounding it leaves residual paths that begin at the same place as they are.
    """
    import onnx

    model = onnx.load_from_string(graph)
    nodes: list[NodeProto] = []
    groups = {}
    for node in model.graph.node:
        if node.op_type in CONVOLUTIONS:
            groups[node.name] = layer_group(node.input[1])
            own = f"{node.name}_input"
            nodes.append(onnx.helper.make_node("Identity", [node.input[0]], [own]))
            node.input[0] = own
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model, groups


def layer_group(name: str) -> str:
    """Return the part of the network that a layer belongs to.

    >>> layer_group("encoder.levels.1.0.first.convolution"), layer_group("encoder.head.logits")
    ('levels.1', 'head')
    """
    _, part, number, *_ = name.split(".")
    return f"{part}.{number}" if number.isdigit() else part


def variants(
    model: DiscrepancyDiffusionSegmenter, card: Card
) -> Iterator[tuple[str, str, Callable[[], Encode]]]:
    """Yield engine, what is in eight bits, and what loads the encoder: engines, then groups."""
    yield TORCH, NOTHING, lambda: model.encode
    graph = export_graph(model)
    for name in FORMATS:
        yield name, NOTHING, partial(load_encoder, name, graph)
    head = prepare_scan(card, read_volume(demo_head()), multiple=model.multiple).image
    image = torch.from_numpy(head)[None, None]
    groups = list(dict.fromkeys(with_own_inputs(graph)[1].values()))
    kept = {group: [other for other in groups if other != group] for group in groups}
    for told, keep in {**kept, SHIPPED: list(KEPT_IN_FLOAT), ALL: []}.items():
        yield "openvino", told, partial(load_eight_bits, graph, image, keep)


def load_eight_bits(graph: bytes, image: Tensor, keep: Sequence[str]) -> Encode:
    """Return what computes a graph in eight bits, see :func:`in_eight_bits`."""
    return load_encoder("openvino", in_eight_bits(graph, image, keep))


def encode_seconds(encode: Encode, image: Tensor, repeats: int) -> float:
    """Return the median processor seconds of so many runs, after one that compiles."""
    encode(image)
    stamps = [time.process_time()]
    for _ in range(repeats):
        encode(image)
        stamps.append(time.process_time())
    return median_range([after - before for before, after in pairwise(stamps)])["median"]


@torch.inference_mode()
def run(arguments: Arguments) -> None:
    """Measure on one thread and write table and summary."""
    torch.set_num_threads(1)
    for name in FORMATS:
        require(name)
    model, card = load_weights(model_path(arguments.model))
    model.views = None  # an engine computes one straight look, and is held against that
    scan = development_scan(card, arguments.data, model.multiple)
    path, weights = arguments.output / "quantisation.tsv", short_checksum(card)
    table = RawTable(path, COLUMNS, [weights], fresh=arguments.fresh)
    ours = model.encode(scan.image)
    for engine, eight_bit, load in variants(model, card):
        key = {"engine": engine, "eight_bit": eight_bit, "weights": weights, "scan": scan.name}
        if table.has(**key):
            continue
        encode = load()
        seconds, theirs = encode_seconds(encode, scan.image, arguments.repeats), encode(scan.image)
        scores = {**differences(model, ours, theirs), **scan.scores(theirs, card.labels)}
        table.add([{**key, **scores, "encode_seconds": seconds}])
        say(f"{engine:<10} {eight_bit:<12} {scores['dice']:.4f}")
    summary = {
        "machine": describe_machine(),
        "models": {"ddm": describe_model(card)},
        "scan": scan.name,
        "grid": list(scan.image.shape[2:]),
        "structures": len(scan.structures),
        "versions": {name: kind.version for name, kind in FORMATS.items()},
        "kept_in_float": list(KEPT_IN_FLOAT),
        "repeats": arguments.repeats,
        "rows": table.select(scan=scan.name),
    }
    write_summary(arguments.output / "quantisation.json", summary)


COMMAND = "python -m ddmseg_lab.speed.quantisation --data DATA"
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


def body(found: page.Summary) -> list[str]:
    """Every engine, every group of layers in eight bits, and all together."""
    cells = [
        [row["engine"], row["eight_bit"]]
        + [page.number(float(row[name]), digits) for name, (_, digits) in SHOWN.items()]
        for row in found["rows"]
    ]
    head = ["engine", "in eight bits", *(heading for heading, _ in SHOWN.values())]
    grid = "×".join(map(str, found["grid"]))
    words = (
        f"{page.machine_words(found)} {page.weights_words(found)} Scan: {found['scan']}, {grid} "
        f"voxels for the model. Median of {counted(found['repeats'], 'run')}. What was offered "
        f"had in eight bits {_offered(found)}. {WORDS}"
    )
    return [words, page.table(head, cells)]


def _offered(found: page.Summary) -> str:
    return f"all but {', '.join(found['kept_in_float'])}"


def claims(found: page.Summary) -> list[page.Claim]:
    """Engines in 32 bits by the worst of them, eight bits as they are offered."""
    rows = {(row["engine"], row["eight_bit"]): row for row in found.get("rows", [])}
    engines = [row for (name, bits), row in rows.items() if bits == NOTHING and name != TORCH]
    torch = rows.get((TORCH, NOTHING), {})
    eight = rows.get(("openvino", _offered(found)), {}) if found else {}

    def of(row: Mapping[str, str], name: str) -> float:
        return float(row.get(name, math.nan))

    least = min((of(row, "labels_as_torch") for row in engines), default=math.nan)
    change = max((of(row, "probability_change") for row in engines), default=math.nan)
    more = of(eight, "ece") - of(torch, "ece")
    over = of(eight, "encode_seconds") / of(torch, "encode_seconds")
    found_of = {
        page.Target(f"{ENGINES}: labels as torch, the least", LEAST_LABELS): least,
        page.at_most(f"{ENGINES}: change of probability, mean", MOST_PROBABILITY, digits=4): change,
        page.Target(f"{OFFERED}: Dice with torch's labels", LEAST_DICE): of(eight, "dice"),
        page.at_most(f"{OFFERED}: ECE more than torch's", MOST_ECE, digits=4): more,
        page.at_most(f"{OFFERED}: seconds over torch's", 1.0): over,
    }
    return [page.Claim(t, None if math.isnan(value) else value) for t, value in found_of.items()]


CHAPTER = page.Chapter("Engines and eight bits", COMMAND, "quantisation", body, claims)


if __name__ == "__main__":
    run_command(Arguments, run, description=__doc__ or "")
