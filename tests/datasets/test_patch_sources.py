"""LPBA40 and BraTS to train on: splits, classes, patches, and the way back to the file."""

from __future__ import annotations

import threading
from dataclasses import replace
from itertools import chain
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.datasets import brats, lpba40
from ddmseg.datasets.lpba40 import CLASSES, LABELS, MIRRORED
from ddmseg.datasets.patches import PatchSource, Shelf, cut, draw_middle
from ddmseg.datasets.sources import labelled_source, make_source
from ddmseg.errors import ScanError, SettingsError, UsageError
from ddmseg.imaging.labels import mirror_index, structure
from ddmseg.models.settings import DataSettings, ModelSettings, RowSettings, Settings
from ddmseg.randomness import seeded
from real_sets import write_brats, write_brats_case, write_lpba40

PATCH = (16, 16, 16)


def lpba(fold: str = "fold-1", **changes: object) -> DataSettings:
    return DataSettings(kind="lpba40", patch=PATCH, fold=fold, **changes)  # type: ignore[arg-type]


def glioma(**changes: object) -> DataSettings:
    return DataSettings(kind="brats", patch=PATCH, spacing_mm=1.0, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def brains(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    root = tmp_path_factory.mktemp("brains")
    return root, write_lpba40(root)


@pytest.fixture(scope="module")
def tumours(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, list[str]]]:
    root = tmp_path_factory.mktemp("tumours")
    return root, write_brats(root, bare=2)


# Who is in which split


def test_folds_of_lpba40_share_nobody(brains):
    root, folds = brains
    everyone = sorted(chain(*folds.values()))
    tested = []
    for fold, following in zip(lpba40.FOLDS, (*lpba40.FOLDS[1:], lpba40.FOLDS[0]), strict=True):
        split = labelled_source(lpba(fold), str(root)).split()
        assert split["test"] == folds[fold]
        assert split["validation"] == folds[following]  # two of the four that a whole set gives
        assert sorted(chain(*split.values())) == everyone
        tested += split["test"]
    assert sorted(tested) == everyone


def test_the_whole_set_gives_26_4_and_10(tmp_path, monkeypatch):
    from ddmseg.datasets import lpba40 as module
    from ddmseg.datasets.case import Case

    everyone = [Case(f"S{n:02d}", (), Path("x"), f"S{n:02d}") for n in range(1, 41)]
    monkeypatch.setattr(module, "list_cases", lambda root: everyone)
    split = labelled_source(lpba()).split()
    assert {name: len(some) for name, some in split.items()} == {
        "train": 26,
        "validation": 4,
        "test": 10,
    }


def test_cases_of_brats_without_labels_are_left_out_and_told(tumours):
    root, names = tumours
    told: list[str] = []
    source = make_source(glioma(), str(root), tell=told.append)
    assert isinstance(source, PatchSource)
    assert source.split() == {kind: names[kind] for kind in ("train", "validation", "test")}
    assert source.left_out == dict.fromkeys(names["unlabelled"], "no label map")
    assert told == [
        "brats: 2 left out of all splits: BraTS2021_90000 (no label map), "
        "BraTS2021_90001 (no label map)"
    ]


def test_many_left_out_are_told_in_one_line(tmp_path):
    write_brats(tmp_path, 1, bare=5)
    told: list[str] = []
    make_source(glioma(), str(tmp_path), tell=told.append)
    (line,) = told
    assert line.startswith("brats: 5 left out")
    assert line.endswith("BraTS2021_90002 (no label map) and others")


def test_nothing_is_told_where_nobody_is_left_out(brains):
    told: list[str] = []
    make_source(lpba(), str(brains[0]), tell=told.append)
    assert told == []


def test_a_split_without_a_subject_is_refused(tmp_path):
    write_brats_case(tmp_path, "BraTS2021_00001", labelled=False)
    with pytest.raises(UsageError) as caught:
        labelled_source(glioma(), str(tmp_path))
    assert str(caught.value) == (
        "data.kind: brats has no train subject here (1 left out: no label map); unpack more of "
        "the set"
    )


# Classes


def test_classes_of_lpba40_are_structures_with_partners():
    assert len(LABELS) == 57
    assert len(set(LABELS)) == 57
    for place, index in enumerate(LABELS):
        assert LABELS[MIRRORED[place]] == mirror_index(index)
        assert MIRRORED[MIRRORED[place]] == place
    on_the_midline = [i for i in LABELS if mirror_index(i) == i]
    assert on_the_midline == [0, 40181, 16]
    assert structure(LABELS[CLASSES[165]]).name == "Left-Hippocampus"
    assert structure(LABELS[CLASSES[22]]).name == "Right-Superior-Frontal-Gyrus"


def test_parts_of_a_tumour_are_the_same_classes_in_both_protocols(tumours):
    source = labelled_source(glioma(), str(tumours[0]))
    everyone = [s for name in ("train", "validation", "test") for s in source.subjects(name)]
    assert {"-" in subject.identifier for subject in everyone} == {True, False}
    for subject in everyone:
        truth = subject.truth[0]
        parts = [int((truth == k).sum()) for k in (1, 2, 3)]
        assert parts[1] > parts[2] > parts[0] > 0  # as the balls were written
        assert set(truth.unique().tolist()) == {0, 1, 2, 3}  # no cavity


def test_strange_ids_are_refused(tmp_path):
    write_brats_case(tmp_path, "BraTS2021_00001")
    path = tmp_path / "brats/BraTS2021_Training_Data/BraTS2021_00001/BraTS2021_00001_seg.nii.gz"
    image = nibabel.load(path)
    data = np.asarray(image.dataobj).copy()
    data[0, 0, 0] = 3
    nibabel.save(nibabel.Nifti1Image(data, image.affine), path)
    write_brats(tmp_path, 1)
    source = labelled_source(glioma(), str(tmp_path))
    (case,) = [c for c in brats.list_cases(tmp_path) if c.identifier == "BraTS2021_00001"]
    with pytest.raises(ScanError, match=r"labels hold the id 3; allowed are 0 and 1, 2, 4: check"):
        source.read(case)  # type: ignore[attr-defined]


def test_contrasts_on_different_grids_are_refused(tumours, tmp_path):
    write_brats_case(tmp_path, "BraTS2021_00001")
    path = tmp_path / "brats/BraTS2021_Training_Data/BraTS2021_00001/BraTS2021_00001_t2.nii.gz"
    image = nibabel.load(path)
    moved = image.affine + 5 * np.eye(4)[:, :1] * np.eye(4)[3]
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), moved), path)
    source = labelled_source(glioma(), str(tumours[0]))
    (case,) = brats.list_cases(tmp_path)
    with pytest.raises(ScanError, match=r"BraTS2021_00001_t2 .* lie on different grids; bring"):
        source.read(case)  # type: ignore[attr-defined]


# Subjects


def test_lpba40_lies_nearest_to_ras_on_its_model_grid(brains):
    subject = next(labelled_source(lpba(spacing_mm=3.0), str(brains[0])).subjects("test"))
    assert subject.spacing_mm == pytest.approx((3.0, 3.0, 3.0))
    left, right = ((subject.labels == CLASSES[i]).nonzero().float().mean(0) for i in (165, 166))
    assert right[0] - left[0] > 3
    assert abs(right[1] - left[1]) < 1 > abs(right[2] - left[2])


def test_the_truth_lies_on_the_grid_of_the_file(brains, tumours):
    for source, shape, spacing in (
        (labelled_source(lpba(), str(brains[0])), (24, 28, 20), (2.0, 2.0, 3.0)),
        (labelled_source(glioma(), str(tumours[0])), (24, 28, 20), (1.0, 1.0, 1.0)),
    ):
        truth, spacing_mm = next(source.subjects("test")).truth
        assert truth.shape == shape
        assert spacing_mm == pytest.approx(spacing)


def test_a_true_answer_scores_one(brains, tumours):
    for settings_, root in ((lpba(spacing_mm=1.0), brains[0]), (glioma(), tumours[0])):
        source = labelled_source(settings_, str(root))
        subject = next(source.subjects("test"))
        p = torch.nn.functional.one_hot(subject.labels, len(source.labels)).movedim(-1, 0).float()
        scores = [one for one in source.score(subject, subject.answer(p)) if one.truth_ml]
        assert scores
        assert all(score.dice > 0.97 for score in scores)


def test_regions_of_brats_are_nested_unions(tumours):
    source = labelled_source(glioma(), str(tumours[0]))
    subject = next(source.subjects("test"))
    truth = subject.truth[0]
    found = torch.where(truth == 1, 3, truth)  # necrosis taken for enhancing: the core stays
    whole, core, enhancing = source.score(subject, found)
    assert (whole.structure, core.structure, enhancing.structure) == (
        "whole-tumour",
        "tumour-core",
        "enhancing-tumour",
    )
    assert whole.dice == core.dice == 1
    assert enhancing.dice < 1
    assert whole.truth_ml > core.truth_ml > enhancing.truth_ml > 0


def test_four_contrasts_are_normalised_each_by_itself(tumours):
    subject = next(labelled_source(glioma(), str(tumours[0])).subjects("train"))
    assert subject.image.shape[0] == 4
    assert subject.image.shape[1:] == subject.labels.shape
    assert subject.image.flatten(1).amax(1).tolist() == pytest.approx([1.1] * 4, abs=0.4)
    for channel, part in enumerate((1, 2, 3, 1)):  # where each was written brightest
        bright = subject.image[channel][subject.labels == part].mean()
        assert (
            bright > subject.image[channel][(subject.labels == 0) & (subject.image[0] > 0)].mean()
        )


# Patches


def test_examples_repeat_and_have_the_patch_s_shape(brains, tumours):
    for settings_, root, channels in ((lpba(), brains[0], 1), (glioma(), tumours[0], 4)):
        for augment in (True, False):
            source = labelled_source(
                DataSettings(**{**vars(settings_), "augment": augment}), str(root)
            )
            image, labels = source.training_example(seeded(0, 3))
            again = labelled_source(settings_, str(root)).training_example(seeded(0, 3))
            assert image.shape == (channels, *PATCH)
            assert labels.shape == PATCH
            assert labels.dtype == torch.int64
            assert torch.equal(again[0], image) == augment
        poor = labelled_source(replace(settings_, degraded_share=1.0), str(root))
        assert not torch.equal(poor.training_example(seeded(0, 3))[0], again[0])


def test_validation_examples_are_a_fixed_list(brains):
    source = labelled_source(lpba(), str(brains[0]))
    five, nine = source.validation_examples(5), source.validation_examples(9)
    for mine, theirs in zip(five, nine, strict=False):
        assert torch.equal(mine[0], theirs[0])
    assert len(nine) == 9
    assert not torch.equal(nine[0][0], nine[2][0])  # one subject, another place
    assert all(image.shape == (1, *PATCH) for image, _ in nine)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(*[st.integers(3, 30)] * 3),
    patch=st.tuples(*[st.sampled_from([8, 16])] * 3),
    seed=st.integers(0, 10**6),
)
def test_patches_reach_no_further_than_they_must(shape, patch, seed):
    generator = seeded(seed, 0)
    image = torch.rand((1, *shape), generator=generator) + 0.1
    labels = torch.randint(0, 5, shape, generator=generator)
    middle = draw_middle(image, labels, patch, generator)
    found, classes = cut(image, labels, patch, middle)
    assert found.shape == (1, *patch)
    inside = [min(n, size) for n, size in zip(shape, patch, strict=True)]
    assert int((found > 0).sum()) == int(np.prod(inside))  # as much of the scan as fits
    assert classes.shape == patch


def test_small_structures_are_drawn_as_often_as_large_ones():
    labels = torch.zeros(40, 40, 40, dtype=torch.int64)
    labels[2:20, 2:38, 2:38] = 1
    labels[30, 20, 20] = 2
    image = (labels > 0).float()[None]
    drawn = [draw_middle(image, labels, (8, 8, 8), seeded(0, i)) for i in range(300)]
    small = sum(middle == [30, 20, 20] for middle in drawn) / len(drawn)
    assert 0.18 < small < 0.33  # half of the patches, shared by two structures


def test_a_mirrored_brain_keeps_its_sides(brains, monkeypatch):
    from ddmseg.imaging import augmentation

    for name in ("ROTATION_DEG", "SCALING", "SHIFT_VOXELS", "WARP_VOXELS"):
        monkeypatch.setattr(augmentation, name, 0.0)
    data = DataSettings(kind="lpba40", patch=(32, 32, 32), fold="fold-1")
    source = labelled_source(data, str(brains[0]))

    def left_lies_left(number: int) -> bool:
        _, labels = source.training_example(seeded(0, number))
        left, right = ((labels == CLASSES[i]).nonzero().float().mean(0)[0] for i in (165, 166))
        return bool(left < right)

    assert all(left_lies_left(number) for number in range(8))
    monkeypatch.setattr(type(source), "mirrored", None)
    assert {left_lies_left(number) for number in range(8)} == {True, False}


# The shelf


def test_the_shelf_keeps_who_came_first_and_reads_each_once(brains, monkeypatch):
    source = labelled_source(lpba(), str(brains[0]))
    assert isinstance(source, PatchSource)
    read: list[int] = []
    original = source.training_subject

    def counted(number):
        read.append(number)
        return original(number)

    monkeypatch.setattr(source, "training_subject", counted)
    one = original(0)
    size = one.image.nbytes + one.labels.nbytes
    shelf = Shelf(source, 3, room=size)
    threads = [threading.Thread(target=shelf, args=(0,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read == [0]
    assert torch.equal(shelf(1).image, shelf(1).image)
    assert read == [0, 1, 1]  # there was no room left
    assert shelf(0).file is None
    assert shelf(0).labels.dtype == torch.uint8


# Settings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "lpba40", "fold": "fold-9"}, "data.fold: got fold-9; allowed are fold-1, "),
        ({"kind": "brats", "fold": "fold-1"}, "brats has one split; leave it out"),
        ({"kind": "lpba40", "patch": (16, 16)}, "lpba40 is cut in patches of three axes"),
        ({"kind": "brats", "maps": "inter_intra"}, "brats is prepared as ddmseg segment prepares"),
        ({"kind": "lpba40", "bias_field": True}, "data.bias_field: got True; lpba40 is prepared"),
        ({"kind": "lpba40", "synthetic_share": 0.5}, "data.synthetic_share: got 0.5; lpba40"),
    ],
)
def test_settings_that_a_set_has_no_use_for_are_refused(changes, message):
    with pytest.raises(SettingsError) as caught:
        DataSettings(**changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "model", "message"),
    [
        ("brats", {}, "model.contrasts: got 1; with data.kind brats set it to 4"),
        ("lpba40", {"contrasts": 4}, "model.contrasts: got 4; with data.kind lpba40 set it to 1"),
        ("lpba40", {"dims": 2}, "model.dims: got 2; with data.kind lpba40 set it to 3"),
    ],
)
def test_networks_that_do_not_take_the_patches_are_refused(kind, model, message):
    with pytest.raises(SettingsError) as caught:
        Settings("x", ModelSettings(**model), DataSettings(kind=kind))
    assert str(caught.value) == message


def test_nnunet_is_refused_for_them():
    row = RowSettings(adapter="nnunet", configuration="3d_fullres")
    with pytest.raises(SettingsError, match=r"data.kind: got lpba40; row.adapter nnunet needs"):
        Settings("x", data=DataSettings(kind="lpba40"), row=row)


def test_a_fold_must_be_named(brains):
    with pytest.raises(UsageError, match=r"data.fold: got ''; allowed are fold-1"):
        labelled_source(lpba(""), str(brains[0]))
