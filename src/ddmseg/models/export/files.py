"""An encoder's graph as files for others, with what one must know to use it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

from ddmseg.atomic import atomic_write
from ddmseg.errors import UsageError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.messages import NOTICE
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.export.agreement import Agreement, check
from ddmseg.models.export.graph import INPUT, export_graph
from ddmseg.models.export.runtimes import FORMATS, import_openvino, load_encoder, require
from ddmseg.networks.engine_form import output_names
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter


def planned_files(name: str, folder: Path, format: str) -> list[Path]:
    """Return the files that an export writes, the facts last."""
    suffixes = (*FORMATS[format].suffixes, ".json")
    return [folder / f"{name}_encoder{suffix}" for suffix in suffixes]


def export_files(
    weights: Path, folder: Path, *, format: str = "onnx"
) -> tuple[list[Path], Agreement]:
    """Write the image encoder of a model for other programs.

    The graph is computed once by the runtime of its format and compared with torch before
    anything is written.

    Args:
        weights: file of the model, its card beside it.
        folder: made when it is missing.

    Returns:
        The files, and how far the graph agrees with torch.

    Raises:
        UsageError: when packages are missing or the graph does not compute what torch does.
    """
    require(format)
    model, card = load_weights(weights)
    graph = export_graph(model)
    agreement = check_graph(format, model, graph)
    files = planned_files(weights.stem, folder, format)
    told = facts(model, card, agreement)
    if format == "openvino":
        shape = [1, model.image_encoder.channels, *card.settings["data"]["patch"]]
        _write_openvino(graph, shape, *files[:2])
        told["input"]["shape"] = shape
        told["compile_with"] = {"INFERENCE_PRECISION_HINT": "f32"}
    else:
        with atomic_write(files[0]) as partial:
            partial.write_bytes(graph)
    told["files_sha256"] = {path.name: file_sha256(path) for path in files[:-1]}
    with atomic_write(files[-1]) as partial:
        partial.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    return files, agreement


def check_graph(format: str, model: DiscrepancyDiffusionSegmenter, graph: bytes) -> Agreement:
    """Compute a graph in the runtime of its format; refuse one that is far from torch."""
    try:
        agreement = check(model, load_encoder(format, graph))
    except Exception as error:  # each runtime has errors of its own
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
        raise _refusal(format, told or repr(error)) from error
    if not agreement.suffices:
        raise _refusal(format, str(agreement))
    return agreement


def facts(model: DiscrepancyDiffusionSegmenter, card: Card, agreement: Agreement) -> dict[str, Any]:
    """Return what one must know to feed the graph and to read its outputs."""
    encoder = model.image_encoder
    grid = [f"a multiple of {model.multiple}"] * model.dims
    return {
        "notice": NOTICE,
        "contents": "image encoder and coarse head; no preparation, no denoiser, no views",
        "views": f"beside this look ddmseg takes: {card.views}" if card.views else "none",
        "model": {"name": card.name, "weights_sha256": card.checksum, "licence": card.licence},
        "precision": "fp32",
        "input": {
            "name": INPUT,
            "axes": ["batch", "contrast", *"ijk"[: model.dims]],
            "shape": ["any", encoder.channels, *grid],
            "orientation": "RAS",
            "spacing_mm": card.settings["data"]["spacing_mm"],
            "intensities": "low to 0, high to 1, cut to [0, 1.5]; low is the 0.5th percentile of "
            "all voxels, high the 98th of those above the mean",
            "tile": list(card.settings["data"]["patch"]),
        },
        "outputs": {
            "names": list(output_names(len(encoder.pyramid_widths))),
            "axes": ["batch", *"ijk"[: model.dims], "channel"],
            "coarse_logits": {"classes_freesurfer_id": list(card.labels)},
        },
        "agreement_with_torch": {
            "labels": round(agreement.labels, 6),
            "largest_probability_difference": float(f"{agreement.probability:.2g}"),
        },
    }


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


def _refusal(format: str, reason: str) -> UsageError:
    others = " or ".join(f"--format {name}" for name in FORMATS if name != format)
    return UsageError(
        f"format: the {format} graph does not compute this model as torch does ({reason}), so "
        f"nothing was written; try {others}"
    )
