"""Which engines there are, what they need, and which of them a name means."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata, util
from typing import Literal

from ddmseg.errors import MissingExtraError, UsageError, did_you_mean

EngineName = Literal["auto", "torch", "onnx", "openvino", "openvino-int8"]
Precision = Literal["fp32", "int8"]

AUTO = "torch"
"""What ``auto`` means: of the engines in the core install the one that was measured
fastest (docs/performance.md, Engines)."""


@dataclass(frozen=True)
class EngineKind:
    """What one engine is made of.

    Attributes:
        package: that computes; its version is that of the engine.
        extra: that installs all it needs.
        needs: modules that must be there.
        precision: of its convolutions.
    """

    package: str
    extra: str
    needs: tuple[str, ...]
    precision: Precision = "fp32"

    @property
    def version(self) -> str:
        """Version of the package that computes."""
        return metadata.version(self.package)

    def require(self) -> None:
        """Make sure that all it needs is installed.

        Raises:
            MissingExtraError: with the install line, for the first package that is not.
        """
        for module in self.needs:
            if util.find_spec(module) is None:
                raise MissingExtraError(module, self.extra)


KINDS: dict[str, EngineKind] = {
    "onnx": EngineKind("onnxruntime", "onnx", ("onnx", "onnxscript", "onnxruntime")),
    "openvino": EngineKind("openvino", "openvino", ("onnx", "onnxscript", "openvino")),
    "openvino-int8": EngineKind(
        "openvino", "openvino", ("onnx", "onnxscript", "openvino"), precision="int8"
    ),
}
"""Engines beside torch."""
NAMES = ("auto", "torch", *KINDS)


def resolve(name: str, *, device: str = "cpu") -> str:
    """Return the engine that a name means, ``auto`` resolved.

    Args:
        name: one of ``NAMES``.
        device: kind of device that was chosen, ``cpu`` or ``cuda``.

    Raises:
        UsageError: for an unknown name, or an engine that does not run on the device.
        MissingExtraError: when it is not installed.
    """
    if name not in NAMES:
        raise UsageError(
            f"engine: got '{name}'; allowed are {', '.join(NAMES)}{did_you_mean(name, NAMES)}"
        )
    if name == "auto":
        return AUTO
    if name in KINDS:
        if device != "cpu":
            raise UsageError(
                f"engine: '{name}' computes on the CPU and the device is {device}; "
                "pass --device cpu, or --engine torch"
            )
        KINDS[name].require()
    return name
