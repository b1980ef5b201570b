"""Inter and intra maps: which slices are normal, what is kept, and that it comes back."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from ddmseg.datasets.subject import Subject
from ddmseg.errors import CheckpointError, ScanError, SettingsError, UsageError
from ddmseg.models.settings import DataSettings, ModelSettings, Settings
from ddmseg.randomness import seeded
from ddmseg_lab.comparison import inter_intra
from ddmseg_lab.comparison.inter_intra import (
    FILE,
    Recipe,
    WithMaps,
    keep_maps,
    load_maps,
    row_source,
    signal_box,
    subject_maps,
    train_maps,
    training_slices,
)
from real_sets import write_hippocampus, write_ibsr18

QUICK = Recipe(steps=6, batch=4)
CROPS = DataSettings(kind="hippocampus", patch=(16, 16, 16), maps="inter_intra")


def subject(seed: int = 0, *, sought: int = 1) -> Subject:
    """A noisy cube of 12 slices; the sought class is in slices 4 to 7 alone."""
    generator = torch.Generator().manual_seed(seed)
    image = 0.5 + 0.1 * torch.rand(1, 14, 12, 13, generator=generator)
    labels = torch.zeros(14, 12, 13, dtype=torch.int64)
    labels[3:10, 4:8, 3:10] = sought
    image[0][labels > 0] += 0.4
    return Subject("s", image, labels, (1.0, 1.0, 1.0))


@pytest.fixture
def quick(monkeypatch):
    """Few steps wherever the recipe is the default one."""
    monkeypatch.setattr(inter_intra, "Recipe", lambda: QUICK)


# Slices


def test_normal_slices_hold_nothing_sought():
    slices, normal = training_slices([subject()], (1,), (16, 16))
    assert slices.shape == (12, 1, 16, 16)
    assert normal.tolist() == [True] * 4 + [False] * 4 + [True] * 4
    assert training_slices([subject(sought=2)], (1,), (16, 16))[1].all()


def test_blank_slices_are_left_out_and_slices_keep_their_middle():
    one = subject()
    one.image[:, :, :2] = 0
    one.image[:, :, 10] = 0
    slices, normal = training_slices([one, subject(1)], (1,), (8, 8))
    assert slices.shape == (9 + 12, 1, 8, 8)
    assert len(normal) == len(slices)
    torch.testing.assert_close(slices[0, 0], one.image[0, 3:11, 2, 3:11])


@pytest.mark.parametrize(("labels", "counted"), [(1, "0 of 12"), (0, "12 of 12")])
def test_two_kinds_of_slices_are_needed(labels, counted):
    one = subject()
    one.labels[:] = labels
    with pytest.raises(ScanError, match=f"{counted} training slices"):
        train_maps([one], (1,), (16, 16), QUICK)


def test_subjects_without_signal_are_refused():
    one = subject()
    one.image[:] = 0
    with pytest.raises(ScanError, match="no signal"):
        training_slices([one], (1,), (16, 16))


def test_the_box_of_signal():
    image = torch.zeros(1, 6, 7, 8)
    assert signal_box(image) == (slice(None),) * 3
    image[0, 2:4, 1:6, 7] = 1
    assert signal_box(image) == (slice(2, 4), slice(1, 6), slice(7, 8))


# Training


@pytest.fixture(scope="module")
def trained():
    return train_maps([subject(0), subject(1)], (1,), (16, 16), QUICK)


def test_training_again_gives_the_same_and_another_seed_does_not(trained):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    again = train_maps([subject(0), subject(1)], (1,), (16, 16), QUICK)
    assert torch.equal(torch.rand(3), expected)  # other random numbers are left alone
    for name, value in trained.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
    other = train_maps([subject(0), subject(1)], (1,), (16, 16), replace(QUICK, seed=1))
    assert not torch.equal(other.scale, trained.scale)


def test_maps_are_of_size_1_on_what_they_were_scaled_by(trained):
    slices, _ = training_slices([subject(0), subject(1)], (1,), (16, 16))
    size = trained(slices).square().mean(dim=(0, 2, 3)).sqrt()
    torch.testing.assert_close(size, torch.ones(2), rtol=1e-4, atol=1e-4)


def test_only_normal_slices_teach_the_second_ensemble():
    one, other = subject(), subject()
    other.image[:, :, 4:8] *= 3  # what is not normal changes
    a, b = (train_maps([s], (1,), (16, 16), QUICK) for s in (one, other))
    assert torch.equal(a.of_normal[0].squeeze.weight, b.of_normal[0].squeeze.weight)
    assert not torch.equal(a.of_all[0].squeeze.weight, b.of_all[0].squeeze.weight)


def test_what_normal_slices_lack_stands_out():
    many = [subject(seed) for seed in range(3)]
    maps = train_maps(many, (1,), (16, 16), Recipe(steps=60, batch=8))
    fresh = subject(9)
    inter, _ = subject_maps(maps, fresh)
    inside = fresh.labels > 0
    assert inter[inside].mean() > 1.5 * inter[~inside].mean()


# Maps of a subject


@pytest.mark.parametrize("axis", [0, 2])
def test_maps_lie_on_the_subject_s_grid_slice_by_slice(trained, axis):
    one = replace(subject(), slice_axis=axis)
    found = subject_maps(trained, one)
    assert found.shape == (2, 14, 12, 13)
    assert not found.requires_grad
    kept = one.image.movedim(1 + axis, 0)[5:6]
    alone = replace(
        one, image=kept.movedim(0, 1 + axis).contiguous(), labels=one.labels.narrow(axis, 5, 1)
    )
    here = found.narrow(1 + axis, 5, 1)
    torch.testing.assert_close(subject_maps(trained, alone), here, rtol=1e-4, atol=1e-5)


def test_maps_are_0_outside_the_signal(trained):
    one = subject()
    one.image[:, :3] = 0
    found = subject_maps(trained, one)
    assert found[:, :3].abs().max() == 0
    assert found[:, 3:].abs().max() > 0


# Kept beside the weights


def test_kept_ensembles_come_back(tmp_path, quick):
    kept = keep_maps(tmp_path, CROPS, [subject()], (1,))
    assert (tmp_path / FILE).is_file()
    assert kept.seconds > 0
    back = load_maps(tmp_path, CROPS)
    assert back.seconds == kept.seconds
    assert torch.equal(subject_maps(back.maps, subject()), subject_maps(kept.maps, subject()))


def test_kept_ensembles_are_not_trained_again_unless_settings_change(tmp_path, quick):
    keep_maps(tmp_path, CROPS, [subject()], (1,))
    before = (tmp_path / FILE).read_bytes()
    keep_maps(tmp_path, CROPS, [], (1,))  # nothing to train on is needed
    assert (tmp_path / FILE).read_bytes() == before
    changed = replace(CROPS, normalisation="min_max")
    with pytest.raises(CheckpointError, match="other data settings; train this row again"):
        load_maps(tmp_path, changed)
    keep_maps(tmp_path, changed, [subject(4)], (1,))
    assert (tmp_path / FILE).read_bytes() != before


def test_missing_and_damaged_files_are_named(tmp_path, quick):
    with pytest.raises(CheckpointError, match=f"{FILE}: no such file"):
        load_maps(tmp_path, CROPS)
    (tmp_path / FILE).write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="damaged"):
        load_maps(tmp_path, CROPS)


def test_a_file_of_other_auto_encoders_is_refused(tmp_path, quick):
    keep_maps(tmp_path, CROPS, [subject()], (1,))
    tensors, numbers = inter_intra.load_state(tmp_path / FILE)
    tensors.pop("scale")
    inter_intra.save_state(tmp_path / FILE, tensors, numbers)
    with pytest.raises(CheckpointError, match="does not fit the auto-encoders"):
        load_maps(tmp_path, CROPS)


# In the sources


@pytest.mark.parametrize("kind", ["hippocampus", "ibsr18"])
def test_sources_show_the_maps_everywhere(tmp_path, quick, kind):
    if kind == "ibsr18":
        write_ibsr18(tmp_path)
        settings = replace(CROPS, kind="ibsr18", patch=(16, 24), fold="fold-1")
    else:
        write_hippocampus(tmp_path, {"train": 3, "validation": 1, "test": 2})
        settings = CROPS
    plain = row_source(replace(settings, maps="none"), str(tmp_path))
    run = tmp_path / "run"
    training = row_source(settings, str(tmp_path), run_folder=run, training=True)
    image, labels = training.training_example(seeded(0, 0))
    bare, same = plain.training_example(seeded(0, 0))
    assert image.shape == (3, *settings.patch)
    assert torch.equal(labels, same)
    assert torch.equal(image[:1], bare)  # relit as without maps
    assert image[1:].abs().sum() > 0
    assert all(i.shape[0] == 3 for i, _ in training.validation_examples(2))
    testing = row_source(settings, str(tmp_path), run_folder=run)
    for mine, theirs in zip(testing.subjects("test"), training.subjects("test"), strict=True):
        assert mine.image.shape == (3, *mine.labels.shape)
        assert mine.channel_seconds > 0
        assert torch.equal(mine.image, theirs.image)  # another process, the same maps
    assert testing.finish.parameters == 6 * sum(
        p.numel() for p in load_maps(run, settings).maps.of_all[0].parameters()
    )
    assert testing.finish.train_seconds == load_maps(run, settings).seconds


def test_only_training_subjects_teach(tmp_path, quick):
    names = write_hippocampus(tmp_path, {"train": 2, "validation": 1, "test": 1})
    run = tmp_path / "run"
    next(row_source(CROPS, str(tmp_path), run_folder=run, training=True).subjects("test"))
    before = (tmp_path / "run" / FILE).read_bytes()
    for name in names["validation"] + names["test"]:
        for folder in ("imagesTr", "labelsTr"):
            (tmp_path / "hippocampus" / folder / f"{name}.nii.gz").unlink()
    other = tmp_path / "other"
    source = row_source(CROPS, str(tmp_path), run_folder=other, training=True)
    source.training_example(seeded(0, 0))
    kept = [inter_intra.load_state(folder / FILE)[0] for folder in (run, other)]
    assert before
    for name, value in kept[0].items():
        assert torch.equal(value, kept[1][name]), name


def test_split_needs_no_folder_but_examples_do(tmp_path):
    write_hippocampus(tmp_path, {"train": 2, "validation": 1, "test": 1})
    source = row_source(CROPS, str(tmp_path))
    assert isinstance(source.finish, WithMaps)
    assert len(source.split()["train"]) == 2
    with pytest.raises(UsageError, match=r"data\.maps: inter_intra needs the auto-encoders"):
        source.training_example(seeded(0, 0))


# Settings


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        ({}, {"maps": "inter_intra"}, "model.contrasts: got 1; with data.maps inter_intra"),
        ({"contrasts": 2}, {"maps": "inter_intra"}, "there are 3"),
        ({"contrasts": 3}, {"maps": "inter_intra", "synthetic_share": 0.5}, "leave it out"),
        ({"contrasts": 3}, {"maps": "inter_intra", "degraded_share": 0.5}, "leave it out"),
    ],
)
def test_settings_that_do_not_fit(model, data, message):
    with pytest.raises(SettingsError, match=message):
        Settings(
            name="x", model=ModelSettings(**model), data=DataSettings(kind="hippocampus", **data)
        )


def test_settings_that_fit():
    data = replace(CROPS, patch=(64,) * 3)
    assert Settings(name="x", model=ModelSettings(contrasts=3), data=data)
