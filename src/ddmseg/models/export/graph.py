"""The image encoder as an ONNX graph, for grids of any size."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import torch

from ddmseg.errors import UsageError
from ddmseg.networks.engine_form import EngineForm, output_names
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter

OPSET = 18
"""Of ONNX; the one that torch's exporter is made for."""
INPUT = "image"


def export_graph(model: DiscrepancyDiffusionSegmenter) -> bytes:
    """Return f^I of a model as an ONNX file, or raise a UsageError.

    Input ``image`` (``b c *grid``, each side a multiple of ``model.multiple``); outputs
    ``stem``, ``embedding``, ``coarse_logits``, ``pyramid0`` ..., channels last. Takes
    some seconds.
    """
    encoder = model.image_encoder
    axes = range(model.dims)
    shape = (2, encoder.channels, *(model.multiple * (2 + axis) for axis in axes))
    sides = {2 + axis: model.multiple * torch.export.Dim(f"side{axis}", min=1) for axis in axes}
    try:
        with torch.no_grad(), _quiet():
            program = torch.onnx.export(
                EngineForm(encoder, model.dims),
                (torch.zeros(shape),),
                input_names=[INPUT],
                output_names=list(output_names(len(encoder.pyramid_widths))),
                opset_version=OPSET,
                dynamo=True,
                external_data=False,
                verbose=False,
                dynamic_shapes=({0: torch.export.Dim("batch"), **sides},),
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise UsageError(
            f"this model cannot be written as a graph ({reason}); use it with ddmseg segment"
        ) from error
    assert program is not None  # only a file name makes it so
    data: bytes = program.model_proto.SerializeToString()
    return data


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
