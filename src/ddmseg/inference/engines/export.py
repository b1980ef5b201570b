"""An encoder's graph as files for others, with what one must know to use it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from ddmseg.atomic import atomic_write
from ddmseg.imaging.source_file import file_sha256
from ddmseg.inference.engines.agreement import Agreement
from ddmseg.inference.engines.catalogue import KINDS, Precision
from ddmseg.inference.engines.engine import check_graph, make_graph
from ddmseg.inference.engines.graph import INPUT, channels
from ddmseg.inference.engines.graph_cache import GraphCache, graphs_folder
from ddmseg.inference.engines.runtimes import import_openvino
from ddmseg.inference.receipt import NOTICE
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.networks.engine_form import output_names
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

SUFFIXES = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}
"""Files of each format, beside the ``.json`` with the facts."""


def planned_files(name: str, folder: Path, format: str, precision: str) -> list[Path]:
    """Return the files that an export writes."""
    stem = f"{name}_encoder" if precision == "fp32" else f"{name}_encoder_{precision}"
    return [folder / f"{stem}{suffix}" for suffix in (*SUFFIXES[format], ".json")]


def export_files(
    weights: Path, folder: Path, *, format: str = "onnx", precision: Precision = "fp32"
) -> tuple[list[Path], Agreement]:
    """Write the image encoder of a model for other engines.

    The graph is run once in the engine of its format and compared with torch before
    anything is written.

    Args:
        weights: file of the model, its card beside it.
        folder: made when it is missing.
        format: ``onnx`` or ``openvino``.
        precision: of the convolutions.

    Returns:
        The files, and how far the graph agrees with torch.

    Raises:
        UsageError: when packages are missing or the graph does not compute what torch does.
        OutputError: when a file cannot be written.
    """
    KINDS[format].require()
    model, card = load_weights(weights)
    graph = make_graph(model, card, precision, cache=GraphCache(graphs_folder()))
    agreement = check_graph(format, model, graph, precision)
    files = planned_files(weights.stem, folder, format, precision)
    if format == "onnx":
        with atomic_write(files[0]) as partial:
            partial.write_bytes(graph)
    else:
        _write_openvino(graph, _tile_shape(model, card), *files[:2])
    told = facts(model, card, precision, agreement)
    if format == "openvino":
        told["input"]["shape"] = _tile_shape(model, card)
        told["compile_with"] = {"INFERENCE_PRECISION_HINT": "f32"}
    told["files_sha256"] = {path.name: file_sha256(path) for path in files[:-1]}
    with atomic_write(files[-1]) as partial:
        partial.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return files, agreement


def facts(
    model: DiscrepancyDiffusionSegmenter, card: Card, precision: str, agreement: Agreement
) -> dict[str, Any]:
    """Return what one must know to feed the graph and to read its outputs."""
    grid = [f"a multiple of {model.multiple}"] * model.dims
    return {
        "notice": NOTICE,
        "contents": "image encoder and coarse head; no preparation, no denoiser",
        "model": {"name": card.name, "weights_sha256": card.checksum, "licence": card.licence},
        "precision": precision,
        "input": {
            "name": INPUT,
            "axes": ["batch", "contrast", *"ijk"[: model.dims]],
            "shape": ["any", channels(model), *grid],
            "orientation": "RAS",
            "spacing_mm": card.settings["data"]["spacing_mm"],
            "intensities": "low to 0, high to 1, cut to [0, 1.5]; low is the 0.5th percentile of "
            "all voxels, high the 98th of those above the mean",
            "tile": list(card.settings["data"]["patch"]),
        },
        "outputs": {
            "names": list(output_names(len(model.image_encoder.pyramid_widths))),
            "axes": ["batch", *"ijk"[: model.dims], "channel"],
            "coarse_logits": {"classes_freesurfer_id": list(card.labels)},
        },
        "agreement_with_torch": {
            "labels": round(agreement.labels, 6),
            "largest_probability_difference": float(f"{agreement.probability:.2g}"),
        },
    }


def _tile_shape(model: DiscrepancyDiffusionSegmenter, card: Card) -> list[int]:
    return [1, channels(model), *card.settings["data"]["patch"]]


def _write_openvino(graph: bytes, shape: list[int], xml: Path, weights: Path) -> None:
    """Write the pair of files for tiles of one shape; the one that is opened first comes last.

    With shapes left open OpenVINO 2026.4 gave NaN now and then; who needs another shape
    calls ``reshape`` on what was read.
    """
    openvino = import_openvino()
    model = openvino.Core().read_model(io.BytesIO(graph))
    model.reshape(shape)
    with atomic_write(xml) as structure, atomic_write(weights) as numbers:
        openvino.serialize(model, str(structure), str(numbers))
