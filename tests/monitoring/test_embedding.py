"""Mean features of what the coarse head takes for foreground."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from ddmseg.inference.scan_encoding import mean_features
from ddmseg.monitoring.compare import feature_table
from ddmseg.monitoring.statistics import feature_columns
from ddmseg.networks.blocks import unfold
from ddmseg.networks.image_encoder import Encoding
from toys import tiny_model


def encoded(dims: int) -> Encoding:
    image = torch.randn((1, 1) + (16,) * dims, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        return tiny_model(dims=dims).encode(image)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_mean_is_over_the_coarse_foreground(dims: int) -> None:
    encoding = encoded(dims)
    labels = torch.zeros((1,) + (16,) * dims, dtype=torch.int64)
    spot = (0, slice(None), *(5,) * dims)
    labels[(0, *(5,) * dims)] = 2
    found = mean_features(encoding, labels)
    assert found is not None
    np.testing.assert_allclose(found, unfold(encoding.embedding)[spot].numpy(), rtol=1e-6)
    everywhere = mean_features(encoding, labels + 1)
    grid = tuple(range(1, dims + 1))
    np.testing.assert_allclose(
        everywhere, unfold(encoding.embedding)[0].mean(grid).numpy(), rtol=1e-4, atol=1e-6
    )


def test_nothing_found_gives_no_features() -> None:
    assert mean_features(encoded(2), torch.zeros((1, 16, 16), dtype=torch.int64)) is None
    assert feature_columns(None) == {}


def test_columns_and_back() -> None:
    row = feature_columns(np.array([1.0, 2.0], np.float32))
    assert row == {"feature.000": 1.0, "feature.001": 2.0}
    table = feature_table(["time", *row], [{**row}, {"feature.000": 5.0}, {}])
    assert table[0].tolist() == [1.0, 2.0]
    assert table[1, 0] == 5.0
    assert math.isnan(table[1, 1])
    assert np.isnan(table[2]).all()
    assert feature_table(["time"], [{}, {}]).shape == (2, 0)
