"""Images made as bad as clinical scans are."""

from __future__ import annotations

import pytest
import torch

from ddmseg.datasets.source import training_view
from ddmseg.errors import SettingsError
from ddmseg.imaging.synthesis.degrade import DEGRADATIONS, degrade
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import seeded


def picture() -> torch.Tensor:
    """A sharp checkerboard of blocks, 0 and 1."""
    i, j, k = torch.meshgrid(*(torch.arange(n) // 4 for n in (16, 20, 24)), indexing="ij")
    return ((i + j + k) % 2).float()


@pytest.mark.parametrize("kind", DEGRADATIONS)
def test_each_kind_changes_the_image_by_its_generator_alone(kind):
    image = picture()
    bad = degrade(image, kind, (1.0, 1.0, 1.0), seeded(0, 1))
    assert bad.shape == image.shape
    assert torch.isfinite(bad).all()
    assert (bad - image).abs().mean() > 0.01
    assert torch.equal(bad, degrade(image, kind, (1.0, 1.0, 1.0), seeded(0, 1)))
    assert not torch.equal(bad, degrade(image, kind, (1.0, 1.0, 1.0), seeded(0, 2)))
    assert torch.equal(image, picture())  # what came in is left as it is


@pytest.mark.parametrize("kind", ["thick", "low"])
def test_what_blurs_takes_contrast_away(kind):
    assert degrade(picture(), kind, (1.0, 1.0, 1.0), seeded(0, 3)).std() < 0.95 * picture().std()


def test_slices_thicker_than_drawn_are_left():
    image = picture()
    assert torch.allclose(degrade(image, "thick", (9.0, 9.0, 9.0), seeded(0, 1)), image, atol=1e-6)


def settings(share: float, kind: str = "hippocampus") -> DataSettings:
    return DataSettings(kind=kind, patch=(16, 16, 16), augment=False, degraded_share=share)


def view(share: float, number: int) -> torch.Tensor:
    labels = torch.zeros(16, 16, 16, dtype=torch.int64)
    options = {"tissues": (0, 1), "stripped": False}
    image = picture()[None, :16, :16, :16]
    return training_view(image, labels, settings(share), seeded(1, number), **options)[0]


def test_a_share_of_the_training_examples_is_degraded():
    clean = view(0.0, 0)
    assert all(torch.equal(view(0.0, n), clean) for n in range(5))
    changed = [not torch.allclose(view(0.5, n), clean, atol=1e-3) for n in range(60)]
    assert 0.25 < sum(changed) / len(changed) < 0.75
    assert all(0 <= float(view(1.0, n).max()) < 3 for n in range(8))  # normalised anew


def test_sets_that_are_not_whole_crops_take_no_share():
    with pytest.raises(SettingsError, match=r"data\.degraded_share.*label_maps is not cut"):
        settings(0.5, "label_maps")
    with pytest.raises(SettingsError, match=r"data\.degraded_share: got 1\.5"):
        settings(1.5)
