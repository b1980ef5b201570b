"""Shipped weights on a part of the demo head: their exported graph gives the labels of torch.

Toy weights are random and small; whether real ones survive export, layout and rounding shows
only on these.
"""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import pytest
import torch

from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.preprocess import prepare
from ddmseg.imaging.volume import Volume
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.export.agreement import LEAST_LABELS, compare
from ddmseg.models.export.graph import export_graph
from ddmseg.models.export.runtimes import FORMATS, load_encoder
from ddmseg.models.zoo import model_path
from installed import need

MIDDLE = (92, 114, 88)
"""Of the part, in voxels of 1 mm: the middle of the brain."""
SIDES = {"anatomy_fast": (96, 128, 96), "anatomy": (48, 64, 48)}
"""Of the part, by model: 48 x 64 x 48 voxels for each of them."""


@pytest.fixture(scope="module", params=SIDES)
def shipped(request):
    """A model, its graph, which takes seconds to export, and the part on its grid."""
    need("onnx", "onnxscript")
    model, card = load_weights(model_path(request.param))
    image = part_of_the_head(SIDES[request.param], card.settings["data"]["spacing_mm"], model)
    with torch.inference_mode():
        return export_graph(model), image, model.image_encoder(image)


def part_of_the_head(shape, spacing_mm: float, model) -> torch.Tensor:
    head = read_volume(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz"))
    starts = [middle - n // 2 for middle, n in zip(MIDDLE, shape, strict=True)]
    box = tuple(slice(start, start + n) for start, n in zip(starts, shape, strict=True))
    part = Volume(head.data[box], head.affine, "part of a head")
    ready = prepare(part, spacing_mm=spacing_mm, multiple=model.multiple, crop_to_head=False)
    return torch.from_numpy(ready.image)[None, None]


@pytest.mark.parametrize("format", list(FORMATS))
@torch.inference_mode()
def test_labels_are_those_of_torch(format, shipped) -> None:
    need(*FORMATS[format].needs)
    graph, image, ours = shipped
    found = compare(ours, load_encoder(format, graph)(image))
    assert found.suffices
    assert found.labels > LEAST_LABELS


def test_the_part_shows_much_of_what_the_model_knows(shipped) -> None:
    """Else air would agree with air."""
    labels = shipped[2].coarse.argmax(1)
    assert (labels > 0).double().mean() > 0.5
    assert len(np.unique(labels.numpy())) > 15
