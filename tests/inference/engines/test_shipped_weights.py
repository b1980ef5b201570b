"""Engines with the weights that ship, on a part of the demo head: the labels of torch.

Toy weights are random and small; whether real ones survive export, layout and rounding shows
only on these.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.volume import Volume
from ddmseg.inference.engines.catalogue import KINDS
from ddmseg.inference.engines.engine import Engine, make_engine
from ddmseg.inference.engines.graph_cache import GraphCache
from ddmseg.inference.segmenter import Segmenter
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.zoo import model_path
from ddmseg.quality.segmentation import Segmentation
from installed import need

START, SHAPE = (44, 50, 40), (96, 128, 96)
"""Of the part, in voxels of 1 mm: 48 x 64 x 48 for the model, the middle of the brain."""
LEAST_LABELS = {"fp32": 0.999, "int8": 0.99}
"""Share of voxels with torch's label. Eight bits lose 0.0014 of a whole head, air included."""


@pytest.fixture(scope="module")
def shipped():
    return load_weights(model_path("anatomy"))


@pytest.fixture(scope="module")
def part() -> Volume:
    head = read_volume(Path(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz")))
    box = tuple(slice(start, start + n) for start, n in zip(START, SHAPE, strict=True))
    affine = head.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ np.array(START)
    return Volume(head.data[box], affine, "part of a head")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory) -> GraphCache:
    """Exporting takes seconds: the engines share one graph."""
    return GraphCache(tmp_path_factory.mktemp("graphs"))


def answer(shipped, part: Volume, engine: Engine | None) -> Segmentation:
    model, card = shipped
    return Segmenter(model, card, engine=engine)(part, mode="fast")


@pytest.fixture(scope="module")
def ours(shipped, part) -> Segmentation:
    return answer(shipped, part, None)


@pytest.mark.parametrize("name", list(KINDS))
def test_labels_are_those_of_torch_on_the_same_grid(name, shipped, part, graphs, ours) -> None:
    need(*KINDS[name].needs)
    theirs = answer(shipped, part, make_engine(name, *shipped, cache=graphs))
    assert theirs.receipt["spent"]["engine"]["name"] == name
    assert theirs.labels.data.shape == part.shape
    np.testing.assert_array_equal(theirs.labels.affine, part.affine)
    same = (theirs.labels.data == ours.labels.data).mean()
    assert same >= LEAST_LABELS[KINDS[name].precision]


def test_the_part_shows_most_of_what_the_model_knows(ours) -> None:
    """Else air would agree with air."""
    assert (ours.labels.data > 0).mean() > 0.5
    assert len(np.unique(ours.labels.data)) > 25
