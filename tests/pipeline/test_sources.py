"""Sources of real scans: folds that never share a subject, slices that lie as the scan does."""

from __future__ import annotations

import pytest
import torch

from ddmseg.errors import UsageError
from ddmseg.imaging.datasets.ibsr18 import FOLDS
from ddmseg.pipeline.batches import seeded
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.sources import labelled_source
from real_sets import write_hippocampus, write_ibsr18


def ibsr18(fold: str = "fold-1", **changes: object) -> DataSettings:
    return DataSettings(kind="ibsr18", patch=(16, 24), fold=fold, **changes)  # type: ignore[arg-type]


@pytest.fixture
def scans(tmp_path):
    return tmp_path, write_ibsr18(tmp_path)


def test_folds_partition_the_labelled_subjects(scans):
    root, labelled = scans
    tested = []
    for fold in FOLDS:
        split = labelled_source(ibsr18(fold), str(root)).split()
        everyone = split["train"] + split["validation"] + split["test"]
        assert sorted(everyone) == labelled
        assert [len(split[name]) for name in ("train", "validation", "test")] == [7, 2, 3]
        tested += split["test"]
    assert sorted(tested) == labelled


def test_a_slice_shows_its_subject(scans):
    source = labelled_source(ibsr18(augment=False), str(scans[0]))
    image, labels = source.training_example(seeded(0, 0))
    assert image.shape == (1, 16, 24)
    means = [float(image[0][labels == k].mean()) for k in range(4)]
    assert means == sorted(means)  # dark outside, then CSF, GM and WM, as written


def test_augmented_slices_keep_their_shape_and_seed(scans):
    source = labelled_source(ibsr18(), str(scans[0]))
    image, labels = source.training_example(seeded(0, 1))
    again, _ = source.training_example(seeded(0, 1))
    assert image.shape == (1, 16, 24)
    assert labels.shape == (16, 24)
    assert torch.equal(image, again)
    assert not torch.equal(image, source.training_example(seeded(0, 2))[0])


def test_validation_slices_are_spread_over_both_subjects(scans):
    source = labelled_source(ibsr18(), str(scans[0]))
    examples = source.validation_examples(4)
    assert len(examples) == 4
    assert all(image.shape[1] % 8 == 0 == image.shape[2] % 8 for image, _ in examples)
    everything = source.validation_examples(100)
    assert any(
        torch.equal(examples[0][0], image) for image, _ in everything[: len(everything) // 2]
    )
    assert any(
        torch.equal(examples[3][0], image) for image, _ in everything[len(everything) // 2 :]
    )


def test_test_subjects_lie_on_the_grid_of_their_file(scans):
    subjects = list(labelled_source(ibsr18(), str(scans[0])).test_subjects())
    assert len(subjects) == 3
    for subject in subjects:
        assert subject.image.shape == (1, 20, 6, 18)
        assert subject.labels.unique().tolist() == [0, 1, 2, 3]
        assert subject.spacing_mm == pytest.approx((0.94, 1.5, 0.94))


def test_fewer_training_subjects(scans, tmp_path):
    assert len(labelled_source(ibsr18(subjects=2), str(scans[0])).split()["train"]) == 2
    names = write_hippocampus(tmp_path, {"train": 3, "validation": 1, "test": 2})
    settings = DataSettings(kind="hippocampus", patch=(16, 16, 16), subjects=1)
    split = labelled_source(settings, str(tmp_path)).split()
    assert split == {**names, "train": names["train"][:1]}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (ibsr18("fold-9"), "data.fold: got 'fold-9'; allowed are fold-1"),
        (DataSettings(kind="ibsr18", fold="fold-1"), "cut in slices"),
        (DataSettings(), "label_maps has no test scans"),
    ],
)
def test_refusals(scans, settings, message, monkeypatch):
    if settings.kind == "label_maps":
        monkeypatch.setattr(
            "ddmseg.pipeline.sources.label_maps.LabelMapSource.__init__", lambda *_: None
        )
    with pytest.raises(UsageError, match=message):
        labelled_source(settings, str(scans[0]))
