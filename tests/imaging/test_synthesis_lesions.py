"""Painted lesions: in white matter alone, by the ventricles, of any load that is wished for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from ddmseg.imaging.labels import ANATOMY_LABELS, LESION, generation_labels
from ddmseg.imaging.synthesis.lesions import LARGEST_SHARE, VOLUME_ML, draw_lesions
from ddmseg.imaging.synthesis.settings import SynthesisSettings
from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser


def brain(side: int = 64) -> tuple[Tensor, Tensor]:
    """A ball of white matter around a ball of ventricle."""
    axis = torch.arange(side) - side / 2
    radius = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2).sqrt()
    ventricle = radius < side / 8
    return (radius < side / 2.2) & ~ventricle, ventricle


def drawn(seed: int, side: int = 64) -> Tensor:
    return draw_lesions(*brain(side), torch.Generator().manual_seed(seed), spacing_mm=1.0)


@pytest.mark.parametrize("seed", range(8))
def test_lesions_lie_in_white_matter_and_have_the_load_of_their_range(seed):
    white, _ = brain()
    lesion = drawn(seed)
    assert not lesion[~white].any()
    ml = int(lesion.sum()) / 1000
    assert VOLUME_ML[0] * 0.9 <= ml <= min(VOLUME_ML[1], LARGEST_SHARE * int(white.sum()) / 1000)


def test_loads_differ_by_orders_of_magnitude():
    loads = [int(drawn(seed).sum()) for seed in range(30)]
    assert max(loads) > 50 * min(loads)


def test_the_walls_of_the_ventricles_are_favoured():
    white, ventricle = brain()
    near = torch.nn.functional.max_pool3d(ventricle[None].float(), 9, 1, 4)[0].bool() & white
    shares = [float(drawn(seed)[near].sum() / drawn(seed).sum()) for seed in range(20)]
    assert sum(shares) / len(shares) > 2 * float(near.sum() / white.sum())


def test_lesions_are_pieces_and_not_dust():
    from scipy.ndimage import label

    voxels = pieces = 0
    for seed in range(10):
        lesion = drawn(seed)
        voxels += int(lesion.sum())
        pieces += label(lesion.numpy())[1]
    assert voxels > 20 * pieces


def test_without_white_matter_there_are_none():
    nothing = torch.zeros(8, 8, 8, dtype=torch.bool)
    found = draw_lesions(nothing, nothing, torch.Generator().manual_seed(0), spacing_mm=1.0)
    assert not found.any()


def head() -> Tensor:
    """Ids of a training label map: white matter around a ventricle."""
    white, ventricle = brain(48)
    known = {label.index for label in generation_labels()}
    assert {2, 4} <= known
    return (2 * white + 4 * ventricle).to(torch.int16)


def synthesised(labels: tuple[int, ...], seed: int) -> tuple[Tensor, Tensor]:
    settings = SynthesisSettings(
        contrast_weights=(0, 0, 1, 0),
        lesion_probability=1.0,
        skull_strip_probability=0.0,
        cut_probability=0.0,
        brain_centred_probability=1.0,
        flip_probability=0.0,
        noise_std=0.0,
        thick_slice_probability=0.0,
        motion_probability=0.0,
        ghost_probability=0.0,
        bias_std=0.0,
    )
    maker = LabelMapSynthesiser(
        [head()], settings, spacing_mm=1.0, patch_shape=(40, 40, 40), labels=labels
    )
    return maker(torch.Generator().manual_seed(seed))


def test_a_lesion_has_its_class_where_the_classes_hold_one():
    with_class = (*ANATOMY_LABELS, LESION)
    (image, classes), (same, without) = (
        synthesised(labels, 4) for labels in (with_class, ANATOMY_LABELS)
    )
    lesion = classes == len(ANATOMY_LABELS)
    assert torch.equal(image, same)
    assert lesion.any()
    white = ANATOMY_LABELS.index(2)
    assert (without[lesion] == white).all()
    assert torch.equal(classes[~lesion], without[~lesion])
    assert image[0][lesion].mean() > image[0][classes == white].mean()  # a FLAIR
