"""A walk is what the sampler does, position by position."""

from __future__ import annotations

import pytest
import torch

from ddmseg.maths.distillation import walk_times
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.sampling import MaskSampler
from ddmseg.training.distillation.steps import EncodedDenoiser
from toys import SIZE, tiny_model

SCHEDULE = make_schedule()


def encoded(model, items: int = 2):
    shape = (items, 1, *(SIZE,) * model.dims)
    return model.encode(torch.randn(shape, generator=torch.Generator().manual_seed(3)))


def seed() -> torch.Generator:
    return torch.Generator().manual_seed(5)


SHAPES = [
    *(
        {"conditioning": conditioning, "mask_stride": stride}
        for conditioning in ("discrepancy", "cross_attention")
        for stride in (1, 2)
    ),
    {"mask_stride": 2, "denoiser_form": "light"},
]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("prior", "classes"), [(True, 3), (False, 20)])
@torch.no_grad()
def test_it_ends_where_the_sampler_does(shape, prior, classes):
    model = tiny_model(classes=classes, coarse_prior=prior, **shape)
    encoding = encoded(model)
    expected = MaskSampler(model, encoding, SCHEDULE)(steps=4, generator=seed())
    guide = EncodedDenoiser(model, encoding, SCHEDULE)
    last = guide.walk(guide.begin(seed()), walk_times(4)[1:-1])
    said = guide.probabilities(last)
    assert len(said) == model.mask_stride
    torch.testing.assert_close(said[-1], expected)


@torch.no_grad()
def test_a_step_to_time_0_keeps_the_clean_mask_that_was_said():
    model = tiny_model()
    guide = EncodedDenoiser(model, encoded(model), SCHEDULE)
    start = guide.begin(seed())
    said = guide.probabilities(start)
    end = guide.step(start, said, torch.tensor(0.0))
    assert torch.equal(end.x_t, model.mask_encoding.of_probabilities(said[0]))
    assert torch.equal(end.estimate, end.x_t)


@torch.no_grad()
def test_no_step_leaves_the_start():
    model = tiny_model(dims=3)
    guide = EncodedDenoiser(model, encoded(model, items=1), SCHEDULE)
    start = guide.begin(seed())
    assert start.t == 1
    assert guide.walk(start, torch.zeros(0)) is start
