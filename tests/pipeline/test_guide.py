"""What level 1 might have said: like the truth, coarser, and never quite it."""

from __future__ import annotations

import pytest
import torch

from ddmseg.errors import SettingsError
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.pipeline.config import DataSettings, ModelSettings, Settings
from ddmseg.pipeline.sources import guide
from ddmseg.pipeline.sources.guide import simulated_answer
from ddmseg.pipeline.training.batches import seeded

ENCODING = MaskEncoding(33)


def box(side: int = 24) -> torch.Tensor:
    labels = torch.zeros((side,) * 3, dtype=torch.long)
    labels[6:18, 6:18, 4:12] = 9
    labels[6:18, 6:18, 12:20] = 20
    return labels


def decoded(mask: torch.Tensor) -> torch.Tensor:
    """The class whose code is nearest."""
    codes = ENCODING.codebook
    return (mask.movedim(0, -1)[..., None, :] - codes).square().sum(-1).argmin(-1)


@pytest.fixture
def no_gross_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guide, "GROSS_PROBABILITY", 0.0)


@pytest.mark.parametrize("seed", range(5))
def test_it_stays_within_what_masks_may_be(seed):
    answer = simulated_answer(box(), ENCODING, seeded(0, seed))
    assert answer.shape == (6, 24, 24, 24)
    assert answer.abs().max() <= 1 + 1e-5


def test_the_same_seed_says_the_same():
    first, again, other = (simulated_answer(box(), ENCODING, seeded(0, s)) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_one_class_everywhere_stays_that_class(no_gross_errors):
    labels = torch.full((16, 16, 16), 13)
    answer = simulated_answer(labels, ENCODING, seeded(0, 0))
    assert torch.allclose(answer, ENCODING.codebook[13].reshape(-1, 1, 1, 1).expand_as(answer))


@pytest.mark.parametrize("seed", range(8))
def test_errors_lie_at_edges(seed, no_gross_errors):
    wrong = decoded(simulated_answer(box(), ENCODING, seeded(0, seed))) != box()
    assert wrong.any()
    assert wrong.float().mean() < 0.2
    assert not wrong[11:13, 11:13, 7:9].any()  # the middle of a structure is four voxels off
    assert not wrong[:1].any()


def test_gross_errors_are_drawn_as_often_as_said(monkeypatch):
    monkeypatch.setattr(guide, "GROSS_PROBABILITY", 1.0)
    shares = [
        float((decoded(simulated_answer(box(), ENCODING, seeded(0, s))) != box()).float().mean())
        for s in range(12)
    ]
    assert max(shares) > 0.1


def test_a_guide_takes_channels_of_its_own():
    data = DataSettings(guide="level_one")
    with pytest.raises(SettingsError, match=r"model\.contrasts: got 1; .* there are 7"):
        Settings("fine", data=data)
    with pytest.raises(SettingsError, match=r"model\.guided: got False"):
        Settings("fine", data=data, model=ModelSettings(contrasts=7))
    Settings("fine", data=data, model=ModelSettings(contrasts=7, guided=True))


def test_real_scans_have_one_level():
    with pytest.raises(SettingsError, match=r"data\.guide: got level_one; hippocampus"):
        DataSettings(kind="hippocampus", guide="level_one")
