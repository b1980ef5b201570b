"""Masks of whole made-up heads: what is expected of them, and what is true outside the box too."""

from __future__ import annotations

import pytest
import torch

from ddmseg.inference import brain_looks, scan_encoding
from ddmseg.maths.calibration import fit_calibration
from ddmseg.models.card import Card
from ddmseg_lab.limits.expected_dice import CORRUPTIONS, judged_masks
from ddmseg_lab.made_up_heads import Head
from toys import tiny_model

CARD = Card("toy", (0, 17, 53), {"loss": {"temperature": 1.0}})
GRID = (32, 32, 32)


@pytest.fixture(scope="module")
def model():
    return tiny_model(dims=3, encoder_form="block", denoiser_form="light", mask_stride=2)


def test_the_intact_mask_comes_first_and_has_the_dice_of_the_coarse_head(model) -> None:
    image = torch.randn((1, *GRID), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        encoding, box, _ = scan_encoding.encode_image(model, image[None])
    truth = torch.zeros(GRID, dtype=torch.int64)
    truth[box] = encoding.coarse_probabilities.argmax(1)[0]
    judged = judged_masks(model, CARD, Head(3, "a", "intact", lambda: (image, truth)))
    assert len(judged) == 1 + CORRUPTIONS
    assert judged[0].true == 1.0
    assert all(true == 1.0 for _, true in judged[0].structures)
    assert min(one.true for one in judged[1:]) < 1.0
    assert all(0 <= one.expected <= 1 for one in judged)


def test_what_a_head_holds_outside_the_box_is_missed(model, monkeypatch) -> None:
    image = torch.randn((1, *GRID), generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(brain_looks, "box_around", lambda *_: (slice(0, 16),) * 3)
    truth = torch.ones(GRID, dtype=torch.int64)
    (intact, *_) = judged_masks(model, CARD, Head(0, "a", "intact", lambda: (image, truth)))
    of_ones = dict(enumerate(intact.structures)).get(0, (0.0, 0.0))[1]
    assert of_ones <= 2 * 16**3 / (16**3 + 32**3)


def test_the_pull_towards_the_identity_fades_with_data() -> None:
    """A steep truth that a hundred masks show is not flattened."""
    expected = [0.4, 0.45, 0.65, 0.68, 0.71, 0.72] * 20
    true = [0.05, 0.1, 0.55, 0.72, 0.8, 0.82] * 20
    found = fit_calibration(expected, true)
    assert found.of(0.72) == pytest.approx(0.82, abs=0.03)
    few = fit_calibration(expected[:6], true[:6])
    assert abs(few.of(0.42) - 0.42) < abs(found.of(0.42) - 0.42)
