"""Batches: each example has a number, whatever draws it and wherever a run begins."""

from __future__ import annotations

import threading
from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.datasets.case import Case
from ddmseg.datasets.hippocampus import HippocampusSource
from ddmseg.datasets.source import padded
from ddmseg.datasets.sources import make_source
from ddmseg.datasets.split import read_split
from ddmseg.datasets.subject import read_labelled
from ddmseg.errors import ScanError
from ddmseg.imaging.labels import HIPPOCAMPUS_LABELS
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import VALIDATION_SEED, seeded
from ddmseg.training.batches import batches
from toys import BoxSource


def drawn(source=None, **options):
    """All batches of a run as a list."""
    plan = {"seed": 0, "batch": 2, "start": 0, "stop": 6, "rank": 0, "ranks": 1, "workers": 0}
    return list(batches(source or BoxSource(), **{**plan, **options}))


def equal(a, b) -> bool:
    return len(a) == len(b) and all(
        one[0] == two[0] and torch.equal(one[1], two[1]) and torch.equal(one[2], two[2])
        for one, two in zip(a, b, strict=True)
    )


def test_steps_images_and_labels():
    found = drawn(batch=3)
    assert [step for step, _, _ in found] == [0, 1, 2, 3, 4, 5]
    for _, images, labels in found:
        assert images.shape == (3, 1, 16, 16)
        assert labels.shape == (3, 16, 16)
    pictures = {image.numpy().tobytes() for _, images, _ in found for image in images}
    assert len(pictures) == 18  # no example comes twice


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_threads_draw_the_same_batches_in_the_same_order(workers):
    assert equal(drawn(workers=workers), drawn(workers=0))


def test_slow_and_quick_examples_keep_their_order():
    class Uneven(BoxSource):
        def training_example(self, generator):
            example = super().training_example(generator)
            # every other draw waits
            threading.Event().wait(0.01 * int(torch.randint(2, (), generator=generator)))
            return example

    assert equal(drawn(Uneven(), workers=3), drawn(Uneven(), workers=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_later_start_sees_what_would_have_come(workers):
    assert equal(drawn(start=4, workers=workers), drawn()[4:])


def test_nothing_is_left_at_the_end():
    assert drawn(start=6) == []
    assert drawn(start=6, workers=2) == []


def test_seeds_differ():
    assert not equal(drawn(seed=0), drawn(seed=1))


def test_two_processes_share_the_examples_of_one():
    one = drawn(batch=2)
    two = [drawn(batch=1, rank=rank, ranks=2) for rank in (0, 1)]
    for (_, images, _), *parts in zip(one, *two, strict=True):
        assert torch.equal(images, torch.cat([part[1] for part in parts]))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_the_source_reaches_the_caller(workers):
    class Broken(BoxSource):
        def training_example(self, generator):
            raise ScanError("scan_7: cannot be read")

    with pytest.raises(ScanError, match="scan_7"):
        drawn(Broken(), workers=workers)


def test_closing_early_stops_the_threads():
    before = threading.active_count()
    loader = batches(BoxSource(), seed=0, batch=1, start=0, stop=10**9, rank=0, ranks=1, workers=2)
    next(loader)
    loader.close()
    assert threading.active_count() == before


# Seeds


@given(st.integers(0, 2**20), st.integers(0, 2**20), st.integers(1, 1000))
def test_neighbours_have_generators_of_their_own(seed, number, apart):
    first = torch.rand(4, generator=seeded(seed, number))
    assert torch.equal(first, torch.rand(4, generator=seeded(seed, number)))
    assert not torch.equal(first, torch.rand(4, generator=seeded(seed, number + apart)))
    assert not torch.equal(first, torch.rand(4, generator=seeded(seed + apart, number)))


def first_draw(seed: int, number: int) -> int:
    """62 random bits: two generators that share them are the same."""
    return int(torch.randint(2**62, (), generator=seeded(seed, number)))


def test_validation_never_meets_training():
    # Draws, not seeds: torch's generator uses 32 bits of its seed alone.
    validation = {first_draw(VALIDATION_SEED, i) for i in range(100)}
    training = {first_draw(s, n) for s in range(4) for n in range(2000)}
    assert len(validation) == 100
    assert len(training) == 8000
    assert not validation & training


# Padding


@given(
    st.tuples(*[st.integers(1, 20)] * 3),
    st.sampled_from([1, 4, 8]),
)
def test_padding_reaches_the_next_multiple_and_loses_nothing(shape, multiple):
    labels = torch.ones(shape, dtype=torch.int64)
    image, padded_labels = padded(torch.ones(1, *shape), labels, multiple)
    for n, m in zip(shape, padded_labels.shape, strict=True):
        assert n <= m < n + multiple
        assert m % multiple == 0
    assert image.sum() == padded_labels.sum() == labels.sum()


# Hippocampus, laid out as the data set is distributed


@pytest.fixture
def hippocampus(tmp_path: Path) -> Path:
    """A folder with two training cases and two validation cases of the shipped split."""
    split = read_split("hippocampus")
    generator = np.random.default_rng(0)
    for kind in ("train", "validation"):
        names = sorted(name for name, where in split.items() if where == kind)[:2]
        for name in names:
            labels = np.zeros((21, 30, 19), np.uint8)
            labels[6:14, 5:15, 5:14], labels[6:14, 15:25, 5:14] = 1, 2
            scan = 60.0 * (labels > 0) + 20 + generator.normal(0, 2, labels.shape)
            for folder, data in (("imagesTr", scan.astype(np.float32)), ("labelsTr", labels)):
                path = tmp_path / "hippocampus" / folder / f"{name}.nii.gz"
                path.parent.mkdir(parents=True, exist_ok=True)
                nibabel.save(nibabel.Nifti1Image(data, np.eye(4)), path)
    return tmp_path


SETTINGS = DataSettings(kind="hippocampus", spacing_mm=1.0, patch=(24, 32, 24))


def test_training_examples_are_augmented_patches(hippocampus):
    source = make_source(SETTINGS, str(hippocampus))
    assert isinstance(source, HippocampusSource)
    assert source.labels == HIPPOCAMPUS_LABELS
    image, labels = source.training_example(seeded(0, 0))
    assert image.shape == (1, 24, 32, 24)
    assert labels.shape == (24, 32, 24)
    assert set(torch.unique(labels).tolist()) == {0, 1, 2}
    again = source.training_example(seeded(0, 0))
    assert torch.equal(image, again[0])
    assert not torch.equal(image, source.training_example(seeded(0, 1))[0])


def test_without_augmentation_examples_are_the_crops_themselves(hippocampus):
    plain = DataSettings(kind="hippocampus", patch=(24, 32, 24), augment=False)
    source = make_source(plain, str(hippocampus))
    seen = {source.training_example(seeded(0, i))[0].numpy().tobytes() for i in range(12)}
    assert len(seen) == 2
    _, labels = source.training_example(seeded(0, 0))
    assert labels.flatten().bincount()[1:].tolist() == [8 * 10 * 9, 8 * 10 * 9]


def test_validation_examples_are_whole_padded_and_fixed(hippocampus):
    source = make_source(SETTINGS, str(hippocampus))
    first, again = source.validation_examples(2), source.validation_examples(2)
    assert len(first) == 2
    assert len(source.validation_examples(1)) == 1
    for (image, labels), (same, _) in zip(first, again, strict=True):
        assert image.shape == (1, 24, 32, 24)
        assert labels.flatten().bincount()[1:].tolist() == [720, 720]
        assert torch.equal(image, same)
        assert 0 <= image.min() <= image.max() <= 1.5


def test_a_case_without_labels_is_refused(hippocampus):
    with pytest.raises(ScanError, match="case_9: has no label map; training needs one"):
        read_labelled(Case("case_9", (), None, "case_9"), DataSettings(kind="hippocampus"))


def test_missing_data_are_refused(tmp_path):
    with pytest.raises(ScanError, match="hippocampus"):
        make_source(SETTINGS, str(tmp_path))


def test_the_real_hippocampus_crops_make_examples(data_folder):
    source = make_source(SETTINGS, str(data_folder))
    image, labels = source.training_example(seeded(0, 0))
    assert image.isfinite().all()
    assert (labels > 0).any()
    assert len(source.validation_examples(3)) == 3
