"""Joining samples one by one gives what joining them all at once would."""

from __future__ import annotations

import math

import pytest
import torch

from ddmseg.maths.discrepancy import ensemble_weights
from ddmseg.maths.schedule import make_schedule
from ddmseg.networks.ensemble import sampled_answer
from ddmseg.networks.sampling import MaskSampler
from ddmseg.randomness import seeded
from toys import tiny_model

SAMPLES = 5


@pytest.fixture(scope="module")
def sampler() -> MaskSampler:
    model = tiny_model(dims=3, classes=3).eval()
    with torch.no_grad():
        encoding = model.encode(torch.randn(1, 1, 16, 16, 16, generator=seeded(0, 0)))
        return MaskSampler(model, encoding, make_schedule("cosine", 0.0))


def answer(sampler: MaskSampler, temperature: float = 1.0, **how):
    with torch.no_grad():
        return sampled_answer(
            sampler,
            algorithm="ddpm",
            steps=2,
            samples=SAMPLES,
            temperature=temperature,
            coarse_share=0.25,
            generator=seeded(3, 0),
            **how,
        )


@pytest.mark.parametrize("temperature", [0.0, 0.3, 1.0, math.inf])
def test_the_running_mean_is_the_weighted_mean(sampler, temperature) -> None:
    generator = seeded(3, 0)
    with torch.no_grad():
        drawn = [sampler(sampler="ddpm", steps=2, generator=generator) for _ in range(SAMPLES)]
        D = [sampler.model.discrepancy_map(sampler.encoding, p.argmax(1)).mean() for p in drawn]
    weights = ensemble_weights(torch.stack(D), temperature=temperature)
    mean = sum(float(w) * p for w, p in zip(weights, drawn, strict=True))
    coarse = torch.softmax(sampler.encoding.coarse_logits, dim=1)
    found = answer(sampler, temperature)
    torch.testing.assert_close(found.weights, weights)
    torch.testing.assert_close(found.probabilities, 0.25 * coarse + 0.75 * mean)
    assert found.samples == SAMPLES


def test_it_can_be_stopped_between_samples_but_not_before_the_first(sampler) -> None:
    asked: list[int] = []

    def until(limit: int):
        def go_on(done: int) -> bool:
            asked.append(done)
            return done < limit

        return go_on

    assert answer(sampler, go_on=until(3)).samples == 3
    assert asked == [1, 2, 3]
    few = answer(sampler, go_on=until(0))
    assert (few.samples, len(few.sample_labels), len(few.sample_volumes)) == (1, 1, 1)
    # what was drawn before is what would have been drawn anyway
    torch.testing.assert_close(few.sample_volumes[0], answer(sampler).sample_volumes[0])
