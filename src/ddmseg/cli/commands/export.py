"""``ddmseg export``: the image encoder of a model as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Write the image encoder of a model as ONNX or OpenVINO, with a page of facts in JSON.

    What the file computes is compared with torch before anything is written. The encoder is
    the heavy part, and its coarse logits are a whole segmentation. What comes before and after
    it (orientation, spacing, normalisation, denoising) stays with ddmseg.
    Research software: not a medical device and not for diagnosis.
    """

    model: Annotated[Positional[str], arg(metavar="NAME", help_behavior_hint="")]
    """Name of a shipped model (see ddmseg models), or a .safetensors file with its card."""
    output: Annotated[Path, arg(aliases=("-o",), metavar="OUT")]
    """Folder for the files."""
    format: Literal["onnx", "openvino"] = "onnx"
    """ONNX: one .onnx file; OpenVINO: an .xml and a .bin file."""
    overwrite: bool = False
    """Replace files of an earlier export."""
    debug: bool = False
    """Show where an unexpected error came from."""


def run(arguments: Arguments) -> int:
    """Export, compare with torch, write, and print a line for each file."""
    from ddmseg.models.export.files import export_files, planned_files
    from ddmseg.models.zoo import model_path
    from ddmseg.outputs.names import check_unused

    weights = model_path(arguments.model)
    planned = planned_files(weights.stem, arguments.output, arguments.format)
    check_unused(planned, overwrite=arguments.overwrite)
    written, agreement = export_files(weights, arguments.output, format=arguments.format)
    for path in written:
        print(f"{path}  {path.stat().st_size / 2**20:.1f} MB")
    print(agreement)
    return 0
