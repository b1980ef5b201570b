"""Other programs that compute a graph: ONNX Runtime and OpenVINO, both on the CPU.

Neither is given a folder to write to nor asked to report anything to anybody.
"""

from __future__ import annotations

import io
import sys
import threading
from collections import OrderedDict
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from ddmseg.inference.engines.graph import INPUT

Array = NDArray[np.float32]

SHAPES_KEPT = 4
"""Grids for which OpenVINO keeps a compiled graph: tiles have one, crops a few."""


def import_openvino() -> Any:
    """Return the module ``openvino``, imported without its telemetry.

    Of itself it would ask for an analytics host as it is imported, and write an identity of
    the user into the home folder. Without the package for that it goes on in silence.
    """
    name = "openvino_telemetry"
    before = sys.modules.get(name, ...)
    sys.modules[name] = None  # type: ignore[assignment]  # importing it fails
    try:
        import openvino
    finally:
        del sys.modules[name]
        if before is not ...:
            sys.modules[name] = before
    return openvino


class Runtime(Protocol):
    """Computes one graph."""

    def __call__(self, image: Array) -> list[Array]:
        """Return all outputs, in arrays of their own."""
        ...


class OnnxRuntime:
    """ONNX Runtime with as many threads as torch.

    Args:
        graph: an ONNX file.
    """

    def __init__(self, graph: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors alone
        # threads that wait sleep, as torch's do: see ddmseg/__init__.py
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, image: Array) -> list[Array]:
        """Compute the graph; safe from several threads."""
        return list(self._session.run(None, {INPUT: image}))


class OpenVino:
    """OpenVINO with as many threads as torch; it compiles once for each shape it meets.

    Args:
        graph: an ONNX file.
    """

    def __init__(self, graph: bytes) -> None:
        self._core = import_openvino().Core()
        self._graph = self._core.read_model(io.BytesIO(graph))
        self._requests: OrderedDict[tuple[int, ...], Any] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, image: Array) -> list[Array]:
        """Compute the graph; from several threads one after the other."""
        with self._lock:
            outputs = self._request(image.shape).infer({INPUT: image}, share_inputs=True)
            return [outputs[place] for place in range(len(outputs))]

    def _request(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._requests:
            # with shapes left open it is slower, and version 2026.4 gave NaN now and then
            fixed = self._graph.clone()
            fixed.reshape(list(shape))
            settings = {
                # of itself it would compute in bfloat16 where the processor can
                "INFERENCE_PRECISION_HINT": "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                "NUM_STREAMS": 1,
            }
            compiled = self._core.compile_model(fixed, "CPU", settings)
            self._requests[shape] = compiled.create_infer_request()
            if len(self._requests) > SHAPES_KEPT:
                self._requests.popitem(last=False)
        self._requests.move_to_end(shape)
        return self._requests[shape]


def make_runtime(engine: str, graph: bytes) -> Runtime:
    """Return the runtime of an engine, loaded with a graph."""
    return OnnxRuntime(graph) if engine == "onnx" else OpenVino(graph)
