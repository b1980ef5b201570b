"""Where to compute: what is chosen, what is refused, how much memory a GPU has."""

from __future__ import annotations

import pytest
import torch

from ddmseg.errors import UsageError
from ddmseg.models.device import find_device, free_gpu_bytes
from ddmseg.models.settings import TrainingSettings
from ddmseg.training.trainer import _device


def gpus(monkeypatch: pytest.MonkeyPatch, *there: str) -> None:
    """Pretend that these GPUs are there, and no others."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: "cuda" in there)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: "mps" in there)


@pytest.mark.parametrize(
    ("there", "named", "chosen"),
    [
        ([], "auto", "cpu"),
        (["cuda"], "auto", "cuda"),
        (["mps"], "auto", "cpu"),  # nobody has tried: it must be asked for
        (["mps"], "mps", "mps"),
        (["cuda", "mps"], "mps", "mps"),
        (["cuda", "mps"], "cpu", "cpu"),
        (["cuda"], "cuda", "cuda"),
    ],
)
def test_the_device_is_what_was_named_and_is_there(monkeypatch, there, named, chosen) -> None:
    gpus(monkeypatch, *there)
    assert find_device(named).type == chosen
    assert _device(named).type == chosen
    assert TrainingSettings(device=named).device == named


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("cuda", "device: no CUDA device is here; use cpu or auto"),
        ("mps", "device: no GPU of Apple is here; use cpu or auto"),
        ("mpz", r"device: got 'mpz'; allowed are auto, cpu, cuda, mps \(did you mean 'mps'\?\)"),
    ],
)
def test_what_is_not_there_is_refused_in_one_line(monkeypatch, named, told) -> None:
    gpus(monkeypatch)
    with pytest.raises(UsageError, match=f"^{told}$"):
        find_device(named)
    with pytest.raises(UsageError, match=f"^training.{told}$"):
        _device(named)


def test_the_command_takes_apples_gpu_by_name_alone(segment, tmp_path, monkeypatch) -> None:
    gpus(monkeypatch)
    (tmp_path / "scan.nii.gz").write_bytes(b"")
    outcome = segment(tmp_path / "scan.nii.gz", "-o", tmp_path / "out", "--device", "mps")
    assert outcome.code == 2
    assert outcome.error == "device: no GPU of Apple is here; use cpu or auto"


def test_free_memory_is_that_of_the_gpu(monkeypatch) -> None:
    assert free_gpu_bytes(torch.device("cpu")) is None
    for name, value in {
        "mem_get_info": (10, 99),
        "memory_reserved": 7,
        "memory_allocated": 4,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=value: value)
    assert free_gpu_bytes(torch.device("cuda")) == 10 + 7 - 4
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 100)
    for used, free in ((30, 70), (130, 0)):
        monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda used=used: used)
        assert free_gpu_bytes(torch.device("mps")) == free
