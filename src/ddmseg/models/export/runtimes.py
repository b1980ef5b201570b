"""Programs that compute an exported graph: ONNX Runtime and OpenVINO, both on the CPU.

Neither is given a folder to write to nor asked to report anything to anybody.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ddmseg.errors import MissingExtraError
from ddmseg.models.export.agreement import Encode
from ddmseg.models.export.graph import INPUT
from ddmseg.networks.engine_form import encoding_of
from ddmseg.networks.image_encoder import Encoding

Array = NDArray[np.float32]
Runtime = Callable[[Array], list[Array]]
"""Returns all outputs of a graph."""


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


def _onnx_runtime(graph: bytes) -> Runtime:
    """ONNX Runtime with as many threads as torch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors alone
    # threads that wait sleep, as torch's do: see ddmseg/__init__.py
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(graph, options, providers=providers)
    return lambda image: list(session.run(None, {INPUT: image}))


def _openvino(graph: bytes) -> Runtime:
    """OpenVINO with as many threads as torch; it compiles anew when the shape changes."""
    core = import_openvino().Core()
    model = core.read_model(io.BytesIO(graph))
    settings = {
        # of itself it would compute in bfloat16 where the processor can
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "NUM_STREAMS": 1,
    }

    @functools.lru_cache(maxsize=1)
    def request(shape: tuple[int, ...]) -> Any:
        # with shapes left open it is slower, and version 2026.4 gave NaN now and then
        fixed = model.clone()
        fixed.reshape(list(shape))
        return core.compile_model(fixed, "CPU", settings).create_infer_request()

    def run(image: Array) -> list[Array]:
        outputs = request(image.shape).infer({INPUT: image}, share_inputs=True)
        return [outputs[place] for place in range(len(outputs))]

    return run


@dataclass(frozen=True)
class ExportFormat:
    """What a graph is written as, and what computes it.

    Attributes:
        package: that computes; its version is that of the runtime.
        needs: modules that must be there to export.
        load: makes the runtime of a graph.
    """

    package: str
    needs: tuple[str, ...]
    suffixes: tuple[str, ...]
    load: Callable[[bytes], Runtime]

    @property
    def version(self) -> str:
        """Version of the package that computes."""
        return metadata.version(self.package)


_GRAPH = ("onnx", "onnxscript")
FORMATS = {
    "onnx": ExportFormat("onnxruntime", (*_GRAPH, "onnxruntime"), (".onnx",), _onnx_runtime),
    "openvino": ExportFormat("openvino", (*_GRAPH, "openvino"), (".xml", ".bin"), _openvino),
}
"""By name, which is that of the extra with all it needs, too."""


def require(format: str) -> None:
    """Make sure that all that a format needs is installed, or name what to install."""
    for module in FORMATS[format].needs:
        if util.find_spec(module) is None:
            raise MissingExtraError(module, format)


def load_encoder(format: str, graph: bytes) -> Encode:
    """Return what computes f^I by an exported graph in the runtime of a format."""
    runtime = FORMATS[format].load(graph)

    def encode(image: Tensor) -> Encoding:
        outputs = runtime(np.ascontiguousarray(image.detach().cpu().numpy()))
        return encoding_of([torch.from_numpy(output) for output in outputs])

    return encode
