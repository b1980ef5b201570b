"""A toy model and its graph, exported once for all tests."""

from __future__ import annotations

import pytest

from ddmseg.inference.cache import CACHE_VARIABLE
from ddmseg.inference.engines.graph import export_graph
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from toys import tiny_model


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache of the user or of another test."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def model() -> DiscrepancyDiffusionSegmenter:
    """A network in 3-D, too small to know anything."""
    return tiny_model(dims=3, classes=4)


@pytest.fixture(scope="session")
def graph(model: DiscrepancyDiffusionSegmenter) -> bytes:
    """The graph of that network."""
    pytest.importorskip("onnx", reason="the extra onnx or openvino is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx or openvino is not installed")
    return export_graph(model)
