"""``ddmseg doctor``: is this installation sound, and what is it made of."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

from ddmseg import __version__
from ddmseg.errors import DdmsegError, install_line
from ddmseg.messages import reason_of

EXTRAS: dict[str, tuple[str, ...]] = {
    "train": ("einops", "matplotlib", "monai"),
    "plot": ("matplotlib",),
    "n4": ("SimpleITK",),
    "dicom": ("highdicom", "pillow", "pydicom"),
    "node": ("highdicom", "pillow", "pydicom", "filelock", "pynetdicom"),
    "review": ("fastapi", "filelock", "h11", "uvicorn"),
    "monitor": ("pyarrow",),
    "snakemake": ("snakemake", "snakemake-executor-plugin-slurm"),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("onnx", "onnxscript", "openvino"),
}
"""Optional packages by the extra that installs them."""
PACKAGES = (
    *("torch", "numpy", "scipy", "nibabel", "safetensors", "jinja2"),
    *("tyro", "jaxtyping", "rich"),
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Check this installation: versions, weights, cache, and a segmentation of a toy head."""

    debug: bool = False
    """Show where an unexpected error came from."""


@dataclass(frozen=True)
class Finding:
    """One line of the report: ``bad`` makes the command fail, ``note`` does not."""

    state: Literal["ok", "note", "bad"]
    what: str
    told: str


def run(arguments: Arguments) -> int:
    """Print every finding; return 1 when something is bad."""
    bad = False
    for check in CHECKS:
        for finding in _safely(check):
            bad |= finding.state == "bad"
            print(f"{finding.state:<5} {finding.what:<12} {finding.told}", flush=True)
    return int(bad)


def _safely(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Let one failing check not hide the others."""
    try:
        yield from check()
    except Exception as error:
        yield Finding("bad", check.__name__.strip("_"), reason_of(error))


def _versions() -> Iterator[Finding]:
    yield Finding("ok", "ddmseg", __version__)
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}")
    for package in PACKAGES:
        found = _version(package)
        missing = f"missing; install it with pip install {package}"
        yield Finding("ok" if found else "bad", package, found or missing)


def _compute() -> Iterator[Finding]:
    import torch

    yield Finding("ok", "threads", f"{torch.get_num_threads()} of {os.cpu_count()} processors")
    if torch.cuda.is_available():
        yield Finding("ok", "gpu", torch.cuda.get_device_name(0))
    elif torch.backends.mps.is_available():
        yield Finding("note", "gpu", "Apple's; --device mps takes it, not tested on such a machine")
    else:
        yield Finding("note", "gpu", "none; everything runs on the CPU")


def _extras() -> Iterator[Finding]:
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if _version(package) is None]
        told = ", ".join(missing or packages)
        if missing:
            told = f"{told} missing; bring it with {install_line(extra)}"
        yield Finding("note" if missing else "ok", f"[{extra}]", told)


def _version(package: str) -> str | None:
    """Return which version is installed; None for none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _weights() -> Iterator[Finding]:
    from ddmseg.models.zoo import SUFFIX, is_intact, model_names, weights_folder

    names = model_names()
    if not names:
        yield Finding("note", "weights", "no model came with this installation")
    for name in names:
        try:
            sound = is_intact(weights_folder() / f"{name}{SUFFIX}")
        except DdmsegError as error:
            yield Finding("bad", name, str(error))
            continue
        checksum = "the checksum of their card"
        told = f"have {checksum}" if sound else f"differ from {checksum}; install ddmseg again"
        yield Finding("ok" if sound else "bad", name, f"weights {told}")


def _cache() -> Iterator[Finding]:
    from ddmseg.inference.cache import CACHE_VARIABLE, FeatureCache, cache_folder, cache_limit

    folder = cache_folder()
    if folder is None:
        yield Finding("note", "cache", f"switched off by {CACHE_VARIABLE}")
        return
    used = FeatureCache(folder).bytes_on_disk / 1e6
    yield Finding("ok", "cache", f"{folder}, {used:.0f} of at most {cache_limit() / 1e6:g} MB")
    nearest = next(path for path in (folder, *folder.absolute().parents) if os.path.exists(path))
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        told = f"cannot write to {nearest}; name another folder with {CACHE_VARIABLE}"
        yield Finding("note", "cache", told)


def _self_test() -> Iterator[Finding]:
    from ddmseg.models.zoo import model_names

    if not (names := model_names()):
        yield Finding("note", "self-test", "left out: there is no model")
        return
    start = time.perf_counter()
    found = f"{names[0]} labelled {segment_toy_head(names[0])} structures of a toy head"
    yield Finding("ok", "self-test", f"{found} in {time.perf_counter() - start:.1f} s")


def segment_toy_head(model: str, *, side: int = 40, spacing_mm: float = 5.0) -> int:
    """Segment a bright ball with a dark middle; return how many structures were found.

    Only that all parts work together is tested: no structure need be found.
    """
    import numpy as np

    from ddmseg.inference.segmenter import Segmenter

    centre = (side - 1) / 2
    radius = np.linalg.norm(np.indices((side,) * 3) - centre, axis=0) * spacing_mm
    head = np.where(radius < 80, 100.0, 0.0) - np.where(radius < 15, 70.0, 0.0)
    head += np.random.default_rng(0).normal(0, 4, head.shape)
    affine = np.diag([spacing_mm] * 3 + [1.0])
    result = Segmenter.load(model, device="cpu")((head, affine), mode="fast")
    return int(np.count_nonzero(np.unique(result.labels.data)))


CHECKS = (_versions, _compute, _extras, _weights, _cache, _self_test)
