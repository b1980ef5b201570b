"""What all tests share: one thread each, a tiny segmentation, the folder of real data."""

from __future__ import annotations

from session import data_folder, hosts_asked_for, nothing_leaves_the_machine  # isort: split

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddmseg.imaging.labels import structure
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.checkpoint import load_weights
from ddmseg.models.export.graph import export_graph
from ddmseg.quality.segmentation import Quality, Segmentation, StructureVolume
from installed import need
from real_command import _own_cache, ddmseg, segment, tiny_model

__all__ = [
    "_own_cache",
    "data_folder",
    "ddmseg",
    "hosts_asked_for",
    "nothing_leaves_the_machine",
    "segment",
    "tiny_model",
]

MakeSegmentation = Callable[..., Segmentation]


@pytest.fixture(autouse=True)
def _own_account(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes what the user's account keeps of reviews."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(scope="session")
def tiny_graph(tiny_model: Path) -> bytes:
    """The exported encoder of the tiny model: exporting takes seconds."""
    need("onnx", "onnxscript")
    return export_graph(load_weights(tiny_model)[0])


@pytest.fixture(scope="session")
def make_segmentation() -> MakeSegmentation:
    """Build a small made-up result: a bright ball that holds three structures."""
    return _make_segmentation


def _make_segmentation(
    *,
    shape: tuple[int, int, int] = (24, 30, 20),
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0),
    name: str = "scan",
    seed: int = 0,
    probabilities: bool = False,
    quality: Quality | None = None,
) -> Segmentation:
    generator = np.random.default_rng(seed)
    centre = (np.array(shape) - 1) / 2
    offset = (np.indices(shape).T - centre).T * np.array(spacing_mm)[:, None, None, None]
    radius = np.linalg.norm(offset, axis=0)
    size = min(np.array(shape) * spacing_mm) / 2
    labels = np.zeros(shape, dtype=np.int32)
    # left and right white matter, and a hippocampus on the patient's right
    labels[(radius < 0.8 * size) & (offset[0] < 0)] = 2
    labels[(radius < 0.8 * size) & (offset[0] >= 0)] = 41
    labels[
        np.linalg.norm(offset - np.array([0.3, 0, 0])[:, None, None, None] * size, axis=0) < 9
    ] = 53
    scan = np.where(radius < size, 100.0, 0.0) + generator.normal(0, 3, shape)
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -centre * spacing_mm
    ids = [int(index) for index in np.unique(labels) if index]
    voxel_ml = float(np.prod(spacing_mm)) / 1000
    volumes = []
    for index in ids:
        volume_ml = float((labels == index).sum()) * voxel_ml
        row = StructureVolume(
            index, structure(index).name, volume_ml, 0.9 * volume_ml, 1.1 * volume_ml
        )
        volumes.append(row)
    default = Quality("pass", 0.91, {row.name: 0.9 for row in volumes}, [], 10, 4)
    classes = (0, *ids)
    one_hot = np.stack([labels == index for index in classes], axis=-1).astype(np.float32)
    return Segmentation(
        scan=Volume(scan.astype(np.float32), affine, name),
        labels=LabelMap(labels, affine, name),
        uncertainty=generator.random(shape, dtype=np.float32) * (labels > 0),
        discrepancy=generator.random(shape, dtype=np.float32) * 5 * (labels > 0),
        volumes=volumes,
        quality=quality or default,
        receipt={"model": "anatomy", "settings": {"mode": "auto", "steps": 10}, "seconds": 1.5},
        probabilities=one_hot if probabilities else None,
        probability_labels=classes if probabilities else (),
    )
