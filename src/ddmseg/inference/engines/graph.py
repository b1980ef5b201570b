"""The image encoder as an ONNX graph, for grids of any size."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import warnings
from collections.abc import Iterator
from importlib import metadata

import torch

from ddmseg.errors import UsageError
from ddmseg.networks.engine_form import EngineForm, output_names
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

OPSET = 18
"""Of ONNX; the one that torch's exporter is made for."""
GRAPH_VERSION = "1"
"""Part of a graph's key; to be raised when the way it is written changes."""
INPUT = "image"


def export_graph(model: DiscrepancyDiffusionSegmenter) -> bytes:
    """Return f^I of a model as an ONNX file.

    Input ``image`` (``b c *grid``, each side a multiple of ``model.multiple``); outputs
    ``stem``, ``embedding``, ``coarse_logits``, ``pyramid0`` ..., channels last. Takes
    some seconds.

    Raises:
        UsageError: when the network cannot be written as a graph.
    """
    form = EngineForm(model.image_encoder, model.dims)
    shape = (2, channels(model), *(model.multiple * (2 + axis) for axis in range(model.dims)))
    batch = torch.export.Dim("batch")
    sides = {
        2 + axis: model.multiple * torch.export.Dim(f"side{axis}", min=1)
        for axis in range(model.dims)
    }
    levels = len(model.image_encoder.pyramid_widths)
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                form,
                (torch.zeros(shape),),
                input_names=[INPUT],
                output_names=list(output_names(levels)),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                dynamic_shapes=({0: batch, **sides},),
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"this model cannot be written as a graph ({reason}); use --engine torch"
        ) from error
    assert program is not None  # only a file name makes it so
    data: bytes = program.model_proto.SerializeToString()
    return data


def channels(model: DiscrepancyDiffusionSegmenter) -> int:
    """Return how many channels an image of this model has."""
    return model.image_encoder.channels


def graph_key(model: DiscrepancyDiffusionSegmenter, precision: str) -> str:
    """Return a hash of all that a graph depends on: weights, layers, precision, exporter."""
    encoder = model.image_encoder
    digest = hashlib.sha256(f"{GRAPH_VERSION} {OPSET} {precision} {encoder!r}".encode())
    for package in ("torch", "onnx", "onnxscript"):
        digest.update(f"{package} {metadata.version(package)}".encode())
    for name, weight in encoder.state_dict().items():
        digest.update(f"{name} {tuple(weight.shape)}".encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on its own insides from the user."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
