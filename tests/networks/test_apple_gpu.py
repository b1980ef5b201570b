"""What runs on Apple's GPU, checked on machines without one.

The device ``meta``, which has shapes and no values, stands in for it: torch refuses operations
that mix devices there too, and any float64 is refused here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ddmseg.maths.double import double
from ddmseg.maths.expected_dice import expectation
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.blocks import channels_last
from ddmseg.networks.sampling import MaskSampler
from toys import tiny_model

GPU = torch.device("meta")


class NoDoubleThere(TorchDispatchMode):
    """Refuses float64 on the GPU, as Apple's has none."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = operation(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, Tensor) and x.device == GPU:
                assert x.dtype != torch.float64, f"{operation}: float64 on Apple's GPU"
        return result


@pytest.fixture
def apple(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take ``meta`` for Apple's GPU; what is copied from there is 0."""
    for module in ("maths.double", "networks.blocks"):
        monkeypatch.setattr(f"ddmseg.{module}.on_apple_gpu", lambda x: x.device == GPU)
    real, truth = Tensor.to, Tensor.__bool__

    def to(x: Tensor, *wanted: Any, **named: Any) -> Tensor:
        back = bool(wanted) and x.device == GPU and wanted[0] == torch.device("cpu")
        return torch.zeros(x.shape, dtype=x.dtype) if back else real(x, *wanted, **named)

    monkeypatch.setattr(Tensor, "to", to)
    monkeypatch.setattr(Tensor, "__bool__", lambda x: x.device != GPU and truth(x))
    monkeypatch.setattr(Tensor, "cpu", lambda x: to(x, torch.device("cpu")))
    with NoDoubleThere(), torch.no_grad():
        yield


def there(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.zeros(shape, dtype=dtype, device=GPU)


def test_float64_there_is_noticed(apple) -> None:
    with pytest.raises(AssertionError, match="float64 on Apple"):
        there(2).double()


def test_mixing_devices_is_noticed(apple) -> None:
    with pytest.raises(RuntimeError, match="device"):
        there(2) + torch.zeros(2)


def test_sums_in_double_precision_are_taken_on_the_cpu(apple) -> None:
    assert double(there(2)).device.type == "cpu"
    assert double(torch.zeros(2)).dtype == torch.float64
    found = expectation(there(4, 4, dtype=torch.int64), there(4, 4), there(3, 4, 4))
    for sums in (found.size, found.hits, found.missed):
        assert (sums.device.type, sums.dtype, sums.shape) == ("cpu", torch.float64, (3,))


FORMS: list[dict[str, Any]] = [
    {},
    {"encoder_form": "block", "denoiser_form": "light", "mask_stride": 2},
]


@pytest.mark.parametrize("form", FORMS, ids=["full", "light"])
@pytest.mark.parametrize("algorithm", ["ddim", "ddpm", "dpm", "one-step"])
def test_a_mask_is_drawn_there(apple, monkeypatch, form, algorithm) -> None:
    model = tiny_model(dims=3, **form).to(GPU)
    encoding = model.encode(there(1, 1, 16, 16, 16))
    assert encoding.coarse.device == GPU
    monkeypatch.setattr(MaskSampler, "uncertain", None)  # it asks for values
    drawn = MaskSampler(model, encoding, make_schedule())
    p = drawn.decide(sampler=algorithm, steps=2)
    assert (p.device, p.shape[1]) == (GPU, 3)
    assert drawn.discrepancy(p.argmax(1)).device == GPU
    assert model.discrepancy_map(encoding, p.argmax(1)).device == GPU


def test_the_layout_there_is_torchs_own(apple) -> None:
    x = torch.zeros(1, 2, 3, 4, 5)
    assert channels_last(x).is_contiguous(memory_format=torch.channels_last_3d)
    assert channels_last(channels_last(x).to(GPU)).is_contiguous()
