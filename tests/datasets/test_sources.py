"""Sources of real scans: folds that never share a subject, slices that lie as the scan does."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch

from ddmseg.datasets.ibsr18 import FOLDS
from ddmseg.datasets.source import LabelledSource
from ddmseg.datasets.sources import labelled_source, make_source
from ddmseg.errors import UsageError
from ddmseg.models.settings import DataSettings
from ddmseg.randomness import seeded
from real_sets import write_hippocampus, write_ibsr18


def ibsr18(fold: str = "fold-1", **changes: object) -> DataSettings:
    return DataSettings(kind="ibsr18", patch=(16, 24), fold=fold, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Both sets in one folder, and the labelled subjects of IBSR18."""
    root = tmp_path_factory.mktemp("scans")
    write_hippocampus(root, {"train": 2, "validation": 1, "test": 2})
    return root, write_ibsr18(root)


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
    subjects = list(labelled_source(ibsr18(), str(scans[0])).subjects("test"))
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


def both_kinds(**changes: object) -> list[DataSettings]:
    crops = DataSettings(kind="hippocampus", patch=(16, 24, 16), **changes)  # type: ignore[arg-type]
    return [crops, ibsr18(**changes)]


def middle(source: LabelledSource) -> torch.Tensor:
    """An image to validate on that is not blank, as the first slice of a scan may be."""
    examples = source.validation_examples(9)
    return examples[len(examples) // 4][0]


def test_synthetic_images_replace_training_images_alone(scans):
    root = scans[0]
    plain, painted = (both_kinds(augment=False, synthetic_share=s) for s in (0.0, 1.0))
    for settings, other in zip(plain, painted, strict=True):
        real, synthetic = (labelled_source(one, str(root)) for one in (settings, other))
        pairs = [
            (real.training_example(seeded(0, i)), synthetic.training_example(seeded(0, i)))
            for i in range(6)
        ]
        assert all(torch.equal(a[1], b[1]) for a, b in pairs)  # labels are the subject's own
        assert all(a[0].shape == b[0].shape and b[0].isfinite().all() for a, b in pairs)
        changed = [not torch.allclose(a[0], b[0], atol=0.05) for a, b in pairs if a[0].any()]
        assert changed
        assert all(changed)
        for name in ("validation_examples", "subjects"):
            argument = (2,) if name == "validation_examples" else ("test",)
            theirs = list(getattr(real, name)(*argument))
            mine = list(getattr(synthetic, name)(*argument))
            for a, b in zip(theirs, mine, strict=True):
                shown = (a[0], b[0]) if isinstance(a, tuple) else (a.image, b.image)
                assert torch.equal(*shown)


def test_the_share_of_poor_images_reaches_every_set_of_scans(scans):
    for settings in both_kinds(degraded_share=1.0):
        intact, poor = (
            labelled_source(one, str(scans[0])).training_example(seeded(0, 0))
            for one in (replace(settings, degraded_share=0.0), settings)
        )
        assert torch.equal(intact[1], poor[1])
        assert not torch.equal(intact[0], poor[0])


def test_about_the_share_asked_for_is_synthetic(tmp_path):
    write_hippocampus(tmp_path, {"train": 1, "validation": 1, "test": 1})
    base = DataSettings(kind="hippocampus", patch=(16, 24, 16), augment=False)
    (real, _) = labelled_source(base, str(tmp_path)).training_example(seeded(0, 0))
    source = labelled_source(replace(base, synthetic_share=0.25), str(tmp_path))
    same = [torch.equal(source.training_example(seeded(0, i))[0], real) for i in range(200)]
    assert 0.68 < sum(same) / len(same) < 0.82


@pytest.mark.parametrize(
    "changes", [{"normalisation": "min_max"}, {"normalisation": "z_score"}, {"resample_mm": 2.0}]
)
def test_preprocessing_is_the_same_in_training_validation_and_test(scans, changes):
    for settings in both_kinds(augment=False, **changes):
        plain = replace(settings, normalisation="robust", resample_mm=0.0)
        source, other = (labelled_source(one, str(scans[0])) for one in (settings, plain))
        for mine, theirs in (
            (next(source.subjects("train")).image, next(other.subjects("train")).image),
            (middle(source), middle(other)),
            (next(source.subjects("test")).image, next(other.subjects("test")).image),
        ):
            assert mine.shape == theirs.shape
            assert not torch.allclose(mine, theirs, atol=1e-3)
        mine, theirs = next(source.subjects("test")), next(other.subjects("test"))
        assert torch.equal(mine.labels, theirs.labels)


def test_training_subjects_are_read_once_by_many_threads(scans, monkeypatch):
    source = labelled_source(ibsr18(), str(scans[0]))
    read: list[str] = []
    original = type(source).subjects

    def counted(self, split):
        for subject in original(self, split):
            read.append(subject.identifier)
            yield subject

    monkeypatch.setattr(type(source), "subjects", counted)
    assert source.split()["train"]
    assert not read  # nothing is read before it is wanted
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: source.training_example(seeded(0, i)), range(8)))
    assert read == source.split()["train"]


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
        monkeypatch.setattr("ddmseg.datasets.label_maps.LabelMapSource.__init__", lambda *_: None)
    with pytest.raises(UsageError, match=message):
        labelled_source(settings, str(scans[0]))


def test_maps_are_refused_where_nothing_makes_them(tmp_path):
    data = DataSettings(kind="hippocampus", patch=(16, 16, 16), maps="inter_intra")
    with pytest.raises(UsageError, match=r"data\.maps: got inter_intra, whose channels the labora"):
        make_source(data, str(tmp_path))
