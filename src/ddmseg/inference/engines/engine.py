"""What computes f^I: torch, or a graph in another engine, checked against torch."""

from __future__ import annotations

import platform
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ddmseg.errors import UsageError
from ddmseg.inference.engines.agreement import Agreement, check
from ddmseg.inference.engines.catalogue import KINDS, resolve
from ddmseg.inference.engines.graph import export_graph, graph_key
from ddmseg.inference.engines.graph_cache import GraphCache, graphs_folder
from ddmseg.inference.engines.quantisation import calibrate, calibration_images, quantise
from ddmseg.inference.engines.runtimes import Runtime, make_runtime
from ddmseg.models.checkpoint import Card
from ddmseg.networks.block_encoder import BlockEncoder
from ddmseg.networks.engine_form import encoding_of
from ddmseg.networks.image_encoder import Encoding
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter


class Engine(Protocol):
    """Computes the image encoder; the denoiser stays with torch (docs/performance.md).

    Attributes:
        name: such as ``torch`` or ``openvino``.
    """

    name: str

    @property
    def features_key(self) -> str:
        """What tells its features from those of torch in a cache; empty for torch."""
        ...

    def encode(self, image: Tensor) -> Encoding:
        """Return what f^I makes of images (``b c *grid``)."""
        ...

    def describe(self) -> dict[str, Any]:
        """Return name, version and measured agreement, for the receipt."""
        ...


class TorchEngine:
    """The network itself."""

    name = "torch"
    features_key = ""

    def __init__(self, model: DiscrepancyDiffusionSegmenter) -> None:
        self._model = model

    def encode(self, image: Tensor) -> Encoding:
        """Run the network."""
        return self._model.encode(image)

    def describe(self) -> dict[str, Any]:
        """Return name and version."""
        return {"name": self.name, "version": torch.__version__}


class GraphEngine:
    """An exported graph in ONNX Runtime or OpenVINO.

    Args:
        name: of the engine.
        runtime: that has the graph loaded.
    """

    def __init__(self, name: str, runtime: Runtime) -> None:
        self.name = name
        self.version = KINDS[name].version
        self.agreement: Agreement | None = None
        self._runtime = runtime

    @property
    def features_key(self) -> str:
        """Name and version: another release may round otherwise."""
        return f"{self.name} {self.version}"

    def encode(self, image: Tensor) -> Encoding:
        """Run the graph."""
        outputs = self._runtime(np.ascontiguousarray(image.detach().cpu().numpy()))
        return encoding_of([torch.from_numpy(output) for output in outputs])

    def describe(self) -> dict[str, Any]:
        """Return name, version and what the check against torch found."""
        told: dict[str, Any] = {"name": self.name, "version": self.version}
        if self.agreement is not None:
            told["labels_as_torch"] = round(self.agreement.labels, 6)
            told["probability_difference"] = float(f"{self.agreement.probability:.2g}")
        return told


def make_engine(
    name: str,
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    *,
    device: torch.device | None = None,
    cache: GraphCache | None = None,
) -> Engine:
    """Return the engine of a name, ready to encode.

    A graph is exported once a model and kept. The first time a graph meets an engine its
    result is compared with torch's on a small image.

    Args:
        name: one of ``catalogue.NAMES``.
        model: in eval mode.
        card: of its weights; says what eight bits are calibrated with.
        device: that was chosen; None is the CPU.
        cache: of graphs; None is the one beside the feature cache.

    Raises:
        UsageError: for an unknown engine, one that is not installed or not for this device,
            or one that does not compute what torch does.
    """
    chosen = resolve(name, device=device.type if device is not None else "cpu")
    if chosen not in KINDS:
        return TorchEngine(model)
    if isinstance(model.image_encoder, BlockEncoder):
        # Of a scan it leaves more than a graph can hand over: see scan_encoding.encode_brain.
        raise UsageError(f"engine: got {name}; {card.name} is computed by torch, set it to auto")
    kept = GraphCache(graphs_folder()) if cache is None else cache
    graph = make_graph(model, card, KINDS[chosen].precision, cache=kept)
    engine = _loaded(chosen, graph)
    engine.agreement = _checked(engine, model, graph, kept)
    return engine


def check_graph(
    format: str, model: DiscrepancyDiffusionSegmenter, graph: bytes, precision: str
) -> Agreement:
    """Run a graph in the engine of its format and return how far it agrees with torch.

    Raises:
        UsageError: when that is not enough.
    """
    return _compared(_loaded(format, graph), model, precision)


def make_graph(
    model: DiscrepancyDiffusionSegmenter, card: Card, precision: str, *, cache: GraphCache
) -> bytes:
    """Return the graph of a model, from the cache where it is there.

    Raises:
        UsageError: when this model cannot be exported, or not in this precision.
    """
    key = graph_key(model, precision)
    graph = cache.get(key)
    if graph is not None:
        return graph
    if precision == "int8":
        ranges = calibrate(model, calibration_images(model, card))
        graph = quantise(make_graph(model, card, "fp32", cache=cache), ranges)
    else:
        graph = export_graph(model)
    cache.put(key, graph)
    return graph


def _loaded(name: str, graph: bytes) -> GraphEngine:
    try:
        return GraphEngine(name, make_runtime(name, graph))
    except Exception as error:  # each runtime has errors of its own
        raise _refusal(name, _first_line(error)) from error


def _checked(
    engine: GraphEngine, model: DiscrepancyDiffusionSegmenter, graph: bytes, cache: GraphCache
) -> Agreement:
    """Return how far engine and torch agree, from an earlier check of the same graph if any.

    Raises:
        UsageError: when it is not enough.
    """
    # kernels differ from processor to processor
    where = f"{engine.features_key} {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    found = cache.finding(graph, where)
    if found is not None and set(found) == {"labels", "probability", "features"}:
        return Agreement(**found)
    agreement = _compared(engine, model, KINDS[engine.name].precision)
    cache.note(graph, where, asdict(agreement))
    return agreement


def _compared(
    engine: GraphEngine, model: DiscrepancyDiffusionSegmenter, precision: str
) -> Agreement:
    try:
        agreement = check(model, engine.encode)
    except Exception as error:  # each runtime has errors of its own
        raise _refusal(engine.name, _first_line(error)) from error
    if not agreement.suffices(precision):
        raise _refusal(engine.name, str(agreement))
    return agreement


def _refusal(name: str, reason: str) -> UsageError:
    return UsageError(
        f"engine: '{name}' does not compute this model as torch does ({reason}); use --engine torch"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), repr(error))
