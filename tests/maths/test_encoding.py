"""Label maps as vectors: one-hot up to 16 classes, bits above."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.errors import SettingsError
from ddmseg.maths.encoding import ONE_HOT_LIMIT, MaskEncoding

ENCODINGS = st.builds(
    MaskEncoding, classes=st.integers(2, 70), scale=st.sampled_from([0.1, 0.5, 1.0, 2.0])
)


def random_labels(classes: int, *shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(0, classes, shape, generator=torch.Generator().manual_seed(seed))


def nearest(encoding: MaskEncoding, mask: torch.Tensor) -> torch.Tensor:
    """Class whose code lies nearest."""
    difference = mask.movedim(1, -1)[..., None, :] - encoding.codebook
    return difference.square().sum(-1).argmin(-1)


@given(ENCODINGS)
def test_every_class_has_a_code_of_its_own(encoding):
    codes = encoding.codebook
    assert codes.shape == (encoding.classes, encoding.channels)
    assert len(torch.unique(codes, dim=0)) == encoding.classes
    assert torch.equal(codes.abs(), torch.full_like(codes, encoding.scale))


@pytest.mark.parametrize(
    ("classes", "channels"), [(2, 2), (3, 3), (16, 16), (17, 5), (32, 5), (33, 6), (64, 6), (65, 7)]
)
def test_channels(classes, channels):
    assert MaskEncoding(classes).channels == channels
    if classes > ONE_HOT_LIMIT:
        assert channels == math.ceil(math.log2(classes))


def test_codes_by_hand():
    assert MaskEncoding(2, 0.5).codebook.tolist() == [[0.5, -0.5], [-0.5, 0.5]]
    bits = MaskEncoding(20).codebook
    assert bits[0].tolist() == [-1, -1, -1, -1, -1]
    assert bits[19].tolist() == [1, 1, -1, -1, 1]  # 19 = 1 + 2 + 16


@given(ENCODINGS, st.lists(st.integers(1, 4), min_size=2, max_size=3))
def test_labels_come_back(encoding, grid):
    labels = random_labels(encoding.classes, 2, *grid)
    mask = encoding.of_labels(labels)
    assert mask.shape == (2, encoding.channels, *grid)
    assert torch.equal(nearest(encoding, mask), labels)


@given(ENCODINGS, st.integers(0, 1000))
def test_sure_probabilities_are_labels(encoding, seed):
    labels = random_labels(encoding.classes, 1, 4, 3, seed=seed)
    p = torch.nn.functional.one_hot(labels, encoding.classes).movedim(-1, 1).float()
    torch.testing.assert_close(encoding.of_probabilities(p), encoding.of_labels(labels))


@given(ENCODINGS, st.integers(0, 1000))
def test_probabilities_give_the_expected_code(encoding, seed):
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(2, encoding.classes, 3, 2, generator=generator)
    p = p / p.sum(1, keepdim=True)
    mask = encoding.of_probabilities(p)
    by_hand = torch.einsum("bkij,km->bmij", p, encoding.codebook)
    torch.testing.assert_close(mask, by_hand)
    assert mask.abs().max() <= encoding.scale * (1 + 1e-5)


@pytest.mark.parametrize("classes", [3, 40])
def test_the_mean_of_many_draws_is_the_expected_code(classes):
    encoding = MaskEncoding(classes)
    generator = torch.Generator().manual_seed(0)
    p = torch.softmax(2 * torch.randn(classes, generator=generator), 0)
    draws = torch.multinomial(p, 20000, replacement=True, generator=generator)
    mean = encoding.of_labels(draws.reshape(1, 100, 200)).mean((0, 2, 3))
    expected = encoding.of_probabilities(p.reshape(1, classes, 1, 1))[0, :, 0, 0]
    torch.testing.assert_close(mean, expected, atol=0.03, rtol=0)


def test_the_precision_of_the_probabilities_is_kept():
    p = torch.full((1, 20, 2, 2), 1 / 20, dtype=torch.float64)
    assert MaskEncoding(20).of_probabilities(p).dtype == torch.float64


@pytest.mark.parametrize("classes", [1, 0, -3])
def test_fewer_than_two_classes_are_refused(classes):
    with pytest.raises(SettingsError, match=f"classes: got {classes}; at least 2 are needed"):
        MaskEncoding(classes)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan")])
def test_a_scale_not_above_0_is_refused(scale):
    with pytest.raises(SettingsError, match=f"input_scale: got {scale}; it must be above 0"):
        MaskEncoding(3, scale)


@given(ENCODINGS)
def test_logits_of_a_mask_stand_for_that_mask(encoding):
    shares = torch.rand(2, encoding.channels, 3, generator=torch.Generator().manual_seed(0))
    mask = encoding.scale * (2 * (0.01 + 0.98 * shares) - 1)
    torch.testing.assert_close(encoding.of_logits(encoding.logits_of(mask)), mask)
    sure = encoding.of_labels(random_labels(encoding.classes, 2, 5))
    assert encoding.logits_of(sure).isfinite().all()
    torch.testing.assert_close(
        encoding.of_logits(encoding.logits_of(sure)), sure, atol=3e-3 * encoding.scale, rtol=0
    )


@given(ENCODINGS)
def test_the_likeliest_class_is_the_one_whose_bits_are(encoding):
    labels = random_labels(encoding.classes, 2, 4, 3)
    logits = encoding.logits_of(encoding.of_labels(labels))
    assert torch.equal(encoding.class_logits(logits).argmax(1), labels)


def test_class_probabilities_are_products_over_the_bits():
    encoding = MaskEncoding(20, 0.5)
    logits = torch.randn(1, 5, 1, generator=torch.Generator().manual_seed(0))
    bit = torch.sigmoid(logits[0, :, 0])
    ones = (encoding.codebook + 0.5).round()
    products = (bit * ones + (1 - bit) * (1 - ones)).prod(1)
    found = encoding.class_logits(logits).softmax(1)[0, :, 0]
    torch.testing.assert_close(found, products / products.sum())
