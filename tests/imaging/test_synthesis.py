"""Synthesis: labels land where geometry says, contrasts keep their order, draws repeat."""

from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch

from ddmseg.errors import ScanError, SettingsError
from ddmseg.imaging.labels import ANATOMY_LABELS, mirror_index
from ddmseg.imaging.synthesis.settings import SynthesisSettings
from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser

STILL = SynthesisSettings(
    contrast_weights=(1.0, 0.0, 0.0, 0.0),
    rotation_deg=0.0,
    scaling=0.0,
    shear=0.0,
    translation_mm=0.0,
    elastic_std_mm=0.0,
    flip_probability=0.0,
    brain_centred_probability=1.0,
    bias_std=0.0,
    log_gamma=0.0,
    gain=0.0,
    noise_std=0.0,
    blur_mm=(0.0, 0.0),
    thick_slice_probability=0.0,
    motion_probability=0.0,
    ghost_probability=0.0,
    clean_background_probability=1.0,
    lesion_probability=0.0,
    skull_strip_probability=0.0,
    cut_probability=0.0,
)
"""Nothing moves and nothing is spoilt."""

CLASS_OF = {index: place for place, index in enumerate(ANATOMY_LABELS)}


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def head_map(size: int = 64) -> torch.Tensor:
    """Nested ellipsoids: scalp, bone, CSF, cortex, white matter, ventricles, left and right."""
    steps = torch.linspace(-1, 1, size)
    x, y, z = torch.meshgrid(steps, steps, steps, indexing="ij")
    radius = (x**2 + y**2 + z**2).sqrt()
    labels = torch.zeros(size, size, size, dtype=torch.int16)
    for limit, left, right in [
        (0.95, 511, 511),
        (0.87, 515, 515),
        (0.80, 24, 24),
        (0.74, 3, 42),
        (0.55, 2, 41),
        (0.22, 4, 43),
    ]:
        inside = radius < limit
        labels[inside & (x < 0)] = left
        labels[inside & (x >= 0)] = right
    labels[((x + 0.4) ** 2 + y**2 + z**2).sqrt() < 0.12] = 17  # a left side without its right
    return labels


@pytest.fixture(scope="module")
def maps() -> list[torch.Tensor]:
    return [head_map()]


def still(maps: list[torch.Tensor], **changes: object) -> LabelMapSynthesiser:
    return LabelMapSynthesiser(
        maps,
        replace(STILL, **changes),  # type: ignore[arg-type]
        spacing_mm=1.0,
        patch_shape=(48, 48, 48),
    )


# --- contract ---------------------------------------------------------------


@pytest.mark.parametrize("shape", [(24, 28, 20), (20, 20)])
def test_shapes_types_and_ranges(maps: list[torch.Tensor], shape: tuple[int, ...]) -> None:
    synthesiser = LabelMapSynthesiser(maps, spacing_mm=2.0, patch_shape=shape)
    generator = rng()
    for _ in range(6):
        image, classes = synthesiser(generator)
        assert image.shape == (1, *shape)
        assert image.dtype == torch.float32
        assert classes.shape == shape
        assert classes.dtype == torch.int64
        assert torch.isfinite(image).all()
        assert image.min() >= 0
        assert image.max() <= 1.5 * 1.12 + 1e-6
        assert classes.min() >= 0
        assert classes.max() < len(ANATOMY_LABELS)


def test_same_seed_same_pair_and_other_seed_another(maps: list[torch.Tensor]) -> None:
    synthesiser = LabelMapSynthesiser(maps, spacing_mm=2.0, patch_shape=(24, 24, 24))
    first, again, other = synthesiser(rng(3)), synthesiser(rng(3)), synthesiser(rng(4))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])


def test_global_generator_is_left_alone(maps: list[torch.Tensor]) -> None:
    state = torch.get_rng_state()
    LabelMapSynthesiser(maps, patch_shape=(16, 16, 16))(rng())
    assert torch.equal(torch.get_rng_state(), state)


def test_still_patch_shows_the_map_itself(maps: list[torch.Tensor]) -> None:
    _, classes = still(maps)(rng())
    ids = torch.tensor(ANATOMY_LABELS)[classes]
    window = maps[0][8:56, 8:56, 8:56].long()
    want = torch.where(window > 500, 0, window)
    assert torch.equal(ids, want)


def test_two_millimetres_read_every_other_voxel(maps: list[torch.Tensor]) -> None:
    fine = still(maps)(rng())[1]
    coarse = LabelMapSynthesiser(maps, STILL, spacing_mm=2.0, patch_shape=(24, 24, 24))
    got = coarse(rng())[1]
    # Its centres lie half way between two voxels of the map, and rounding takes one of them.
    assert any(torch.equal(got, fine[s::2, s::2, s::2]) for s in (0, 1))


def test_flip_swaps_sides(maps: list[torch.Tensor]) -> None:
    _, plain = still(maps)(rng())
    _, flipped = still(maps, flip_probability=1.0)(rng())
    mirror = torch.tensor([CLASS_OF[mirror_index(index)] for index in ANATOMY_LABELS])
    assert torch.equal(flipped, mirror[plain].flip(0))
    assert (flipped == CLASS_OF[53]).any()
    assert not (flipped == CLASS_OF[17]).any()


def test_t1_tissues_are_ordered_in_the_image(maps: list[torch.Tensor]) -> None:
    synthesiser = still(maps)
    for seed in range(6):
        image, classes = synthesiser(rng(seed))
        white, cortex, fluid = (image[0][classes == CLASS_OF[i]].median() for i in (2, 3, 4))
        assert fluid < cortex < white


def test_left_and_right_look_alike(maps: list[torch.Tensor]) -> None:
    image, classes = still(maps)(rng(1))
    for left, right in ((2, 41), (3, 42), (4, 43)):
        gap = (
            image[0][classes == CLASS_OF[left]].mean() - image[0][classes == CLASS_OF[right]].mean()
        )
        assert abs(gap) < 0.08


def test_partial_volume_at_boundaries(maps: list[torch.Tensor]) -> None:
    """With 2 mm voxels the number of intensities exceeds the number of labels."""
    coarse = LabelMapSynthesiser(maps, STILL, spacing_mm=2.0, patch_shape=(24, 24, 24))
    image, classes = coarse(rng(2))
    fluid = classes == CLASS_OF[4]
    core = image[0][fluid].min()
    edge = image[0][fluid].max()
    assert edge > core + 0.1


def test_skull_stripping_leaves_nothing_outside_and_no_label_there(
    maps: list[torch.Tensor],
) -> None:
    synthesiser = still(maps, skull_strip_probability=1.0, strip_edge_mm=(-1.0, 1.0))
    skull = maps[0][8:56, 8:56, 8:56] > 500
    for seed in range(4):
        image, classes = synthesiser(rng(seed))
        assert (image[0][skull] == 0).float().mean() > 0.95
        assert (image[0] == 0)[classes == CLASS_OF[2]].float().mean() < 0.01


def test_eroding_cuts_labels_and_dilating_keeps_them(maps: list[torch.Tensor]) -> None:
    def cortex(edge_mm: float) -> int:
        stripped = still(maps, skull_strip_probability=1.0, strip_edge_mm=(edge_mm, edge_mm))
        return int((stripped(rng(1))[1] == CLASS_OF[3]).sum())

    whole = int((still(maps)(rng(1))[1] == CLASS_OF[3]).sum())
    assert cortex(-4.0) < cortex(0.0) < cortex(5.0) <= whole


def test_cut_removes_the_lower_part_from_image_and_labels(maps: list[torch.Tensor]) -> None:
    image, classes = still(maps, cut_probability=1.0, cut_fraction=0.5)(rng(5))
    gone = image[0] == 0
    assert (classes[gone] == 0).float().mean() > 0.99
    assert gone[:, :, 0].sum() > gone[:, :, -1].sum()


def test_lesions_change_white_matter_and_not_its_label(maps: list[torch.Tensor]) -> None:
    weights = (0.0, 0.0, 1.0, 0.0)  # FLAIR: lesions shine
    plain = still(maps, contrast_weights=weights)
    ill = still(maps, contrast_weights=weights, lesion_probability=1.0)
    classes, ill_classes = plain(rng(1))[1], ill(rng(1))[1]
    assert torch.equal(classes, ill_classes)
    white = (classes == CLASS_OF[2]) | (classes == CLASS_OF[41])
    assert ill(rng(1))[0][0][white].std() > 1.5 * plain(rng(1))[0][0][white].std()


def test_patch_beside_everything_is_black_and_background() -> None:
    labels = torch.zeros(40, 40, 40, dtype=torch.int16)
    labels[18:20, 18:20, 18:20] = 2
    synthesiser = LabelMapSynthesiser(
        [labels], replace(STILL, translation_mm=400.0), spacing_mm=1.0, patch_shape=(8, 8, 8)
    )
    image, classes = synthesiser(rng(2))
    assert not image.any()
    assert not classes.any()


@pytest.mark.parametrize("labels", [(0, 17, 53), (0, 2)])
def test_other_class_lists(maps: list[torch.Tensor], labels: tuple[int, ...]) -> None:
    synthesiser = LabelMapSynthesiser(
        maps, STILL, spacing_mm=1.0, patch_shape=(48, 48, 48), labels=labels
    )
    _, classes = synthesiser(rng())
    count = int((maps[0][8:56, 8:56, 8:56] == labels[1]).sum())
    assert int((classes == 1).sum()) == count
    assert int(classes.max()) == 1


# --- refusals ---------------------------------------------------------------


def test_no_maps_are_refused() -> None:
    with pytest.raises(ScanError, match="label maps: got none; synthesis needs at least one"):
        LabelMapSynthesiser([])


@pytest.mark.parametrize("bad", [-3, 9, 531, 32000])
def test_unknown_labels_are_refused(bad: int) -> None:
    labels = head_map(32)
    labels[16, 16, 16] = bad
    with pytest.raises(ScanError, match=rf"label map: got labels \[{bad}\]; the allowed ones"):
        LabelMapSynthesiser([labels])


def test_maps_without_head_or_brain_are_refused() -> None:
    empty = torch.zeros(8, 8, 8, dtype=torch.int16)
    with pytest.raises(ScanError, match=r"shape \(8, 8, 8\): it must have 3 axes and show a head"):
        LabelMapSynthesiser([empty])
    with pytest.raises(ScanError, match="it holds no structure of the brain"):
        LabelMapSynthesiser([empty + 511])


@pytest.mark.parametrize("shape", [(8,), (8, 8, 8, 8), (8, 0, 8)])
def test_bad_patch_shapes_are_refused(maps: list[torch.Tensor], shape: tuple[int, ...]) -> None:
    with pytest.raises(SettingsError, match=r"patch_shape: got .*give two or three numbers"):
        LabelMapSynthesiser(maps, patch_shape=shape)


def test_bad_spacing_is_refused(maps: list[torch.Tensor]) -> None:
    with pytest.raises(SettingsError, match=r"spacing_mm: got 0\.0; it must be above 0"):
        LabelMapSynthesiser(maps, spacing_mm=0.0)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"flip_probability": 1.5}, "flip_probability: got 1.5; it must be within 0 and 1"),
        ({"noise_std": -0.1}, "noise_std: got -0.1; it must be at least 0"),
        ({"blur_mm": (2.0, 1.0)}, "blur_mm: got .* in order, in mm"),
        ({"slice_thickness_mm": (-1.0, 1.0)}, "slice_thickness_mm: got .* in order"),
        ({"contrast_weights": (0.0, 0.0, 0.0, 0.0)}, "contrast_weights: got .*four numbers"),
        ({"contrast_weights": (1.0, 1.0, 1.0, -1.0)}, "contrast_weights: got .*four numbers"),
        ({"scaling": 1.0}, "scaling, gain, elastic_spacing_mm: got 1.0"),
    ],
)
def test_bad_settings_are_refused(change: dict[str, object], text: str) -> None:
    with pytest.raises(SettingsError, match=text):
        SynthesisSettings(**change)  # type: ignore[arg-type]


# --- the real maps, where there are some -------------------------------------


@pytest.mark.skipif("DDMSEG_DATA" not in os.environ, reason="DDMSEG_DATA names no data folder")
def test_real_map_gives_every_structure() -> None:
    from ddmseg.datasets import label_maps

    case = label_maps.list_cases()[0]
    assert case.labels is not None
    synthesiser = LabelMapSynthesiser([label_maps.read_label_map(case.labels)], STILL)
    image, classes = synthesiser(rng())
    assert set(classes.unique().tolist()) == set(range(len(ANATOMY_LABELS)))
    right_x, left_x = ((classes == CLASS_OF[i]).nonzero()[:, 0].float().mean() for i in (53, 17))
    assert right_x > left_x  # RAS: the first axis grows to the right
    assert image[0][classes == CLASS_OF[2]].median() > image[0][classes == CLASS_OF[3]].median()
