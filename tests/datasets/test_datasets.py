"""Data sets: which files a reader finds, which split a case is in, what is refused."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ddmseg.datasets import bids, hippocampus, ibsr18, label_maps, malc2012
from ddmseg.datasets.case import Case, data_folder, volume_stem
from ddmseg.datasets.split import read_split, split_cases
from ddmseg.errors import ScanError, UsageError
from ddmseg.imaging.labels import ANATOMY_LABELS

SHIPPED = ("hippocampus", "ibsr18", "malc2012", "label_maps")
READERS = (hippocampus, ibsr18, malc2012, label_maps)


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"")
    return path


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder laid out as the sets are distributed, with empty files."""
    tmp_path = tmp_path_factory.mktemp("sets")
    for name in ("hippocampus_001", "hippocampus_003"):
        touch(tmp_path / "hippocampus/imagesTr" / f"{name}.nii.gz")
    touch(tmp_path / "hippocampus/imagesTr/._hippocampus_001.nii.gz")
    touch(tmp_path / "hippocampus/labelsTr/hippocampus_001.nii.gz")
    for name in ("IBSR_01", "IBSR_01_seg", "IBSR_02"):
        touch(tmp_path / "ibsr18" / f"{name}.nii.gz")
    for name in ("1003", "1023", "1000"):
        touch(tmp_path / "malc2012" / f"{name}_SS.nii.gz")
        touch(tmp_path / "malc2012" / f"{name}_glm.nii.gz")
    touch(tmp_path / "malc2012/table.csv")
    touch(tmp_path / "label_maps/training_seg_01.nii.gz")
    return tmp_path


def test_hippocampus_pairs_images_with_labels(root: Path) -> None:
    first, second = hippocampus.list_cases(root)
    folder = root / "hippocampus"
    assert first == Case(
        "hippocampus_001",
        (folder / "imagesTr/hippocampus_001.nii.gz",),
        folder / "labelsTr/hippocampus_001.nii.gz",
        "hippocampus_001",
    )
    assert second.labels is None


def test_ibsr_keeps_scans_without_labels(root: Path) -> None:
    cases = ibsr18.list_cases(root)
    assert [(case.identifier, case.labels is None) for case in cases] == [
        ("IBSR_01", False),
        ("IBSR_02", True),
    ]


def test_malc_groups_scans_by_person(root: Path) -> None:
    cases = {case.identifier: case for case in malc2012.list_cases(root)}
    assert cases["1003"].group == cases["1023"].group == "1003"
    assert cases["1000"].group == "1000"
    assert cases["1023"].labels == root / "malc2012/1023_glm.nii.gz"


def test_label_maps_have_no_images(root: Path) -> None:
    (case,) = label_maps.list_cases(root)
    assert case.images == ()
    assert case.labels == root / "label_maps/training_seg_01.nii.gz"


@pytest.mark.parametrize("reader", READERS)
def test_readers_list_unique_sorted_cases_of_the_folder_or_the_variable(
    reader: Any, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cases = reader.list_cases(root)
    names = [case.identifier for case in cases]
    assert names == sorted(set(names))
    monkeypatch.setenv("DDMSEG_DATA", str(root))
    assert reader.list_cases() == cases


@pytest.mark.parametrize("reader", READERS)
def test_absent_and_empty_folders_are_named(reader: Any, tmp_path: Path) -> None:
    with pytest.raises(ScanError) as caught:
        reader.list_cases(tmp_path)
    assert str(tmp_path / reader.NAME) in str(caught.value)
    assert "DDMSEG_DATA" in str(caught.value)
    (tmp_path / reader.NAME).mkdir()
    with pytest.raises(ScanError, match=r"found no case; expected files named like .*nii\.gz"):
        reader.list_cases(tmp_path)


def test_no_folder_at_all_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DDMSEG_DATA", raising=False)
    with pytest.raises(ScanError, match=r"no data folder was given.*DDMSEG_DATA"):
        data_folder("ibsr18")


def test_stems_lose_only_the_nifti_ending() -> None:
    assert volume_stem(Path("a.b.nii.gz")) == "a.b"
    assert volume_stem(Path("a.nii")) == "a"


# --- splits -----------------------------------------------------------------


def test_hippocampus_split_is_large_enough() -> None:
    assert Counter(read_split("hippocampus").values()) == {
        "train": 150,
        "validation": 20,
        "test": 47,
    }


def test_label_maps_split() -> None:
    assert Counter(read_split("label_maps").values()) == {"train": 18, "validation": 2}


def test_malc_is_never_for_training_and_keeps_persons_together() -> None:
    table = read_split("malc2012")
    assert Counter(table.values()) == {"validation": 5, "test": 20}
    for second, first in malc2012.SAME_PERSON.items():
        assert table[second] == table[first]


def test_ibsr_folds_hold_every_labelled_scan_once() -> None:
    table = read_split("ibsr18")
    assert Counter(table[name] for name in table if table[name] in ibsr18.FOLDS) == dict.fromkeys(
        ibsr18.FOLDS, 3
    )
    assert {name for name in table if table[name] == "unlabelled"} == {
        "IBSR_02",
        "IBSR_10",
        "IBSR_15",
    }


def test_ibsr_folds_mix_the_spacing_groups() -> None:
    groups = {"01 03 05 06 13 14": "a", "07 08 09 12": "b", "16 18": "c"}
    group_of = {f"IBSR_{n}": letter for text, letter in groups.items() for n in text.split()}
    table = read_split("ibsr18")
    for fold in ibsr18.FOLDS:
        assert len({group_of[name] for name in table if table[name] == fold}) >= 2


def test_unnamed_cases_are_never_used() -> None:
    known = Case("1000", (), None, "1000")
    stranger = Case("2000", (), None, "2000")
    split = split_cases([known, stranger], "malc2012")
    assert split.cases("validation", "test") == [known]


def test_a_split_without_a_case_at_hand_is_refused_where_some_are_needed() -> None:
    listed = split_cases([Case("1004", (), None, "1004")], "malc2012")
    (split,) = (name for name, cases in listed.by_split.items() if cases)
    assert listed.require(split) == listed.cases(split)
    empty = next(name for name, cases in listed.by_split.items() if not cases)
    with pytest.raises(UsageError, match=f"malc2012: no case of {empty} is at hand"):
        listed.require(empty)


def test_unknown_split_and_table_are_refused() -> None:
    split = split_cases([], "hippocampus")
    assert split.cases("train") == []
    with pytest.raises(UsageError, match=r"got 'tests'.*test, train.*did you mean 'test'"):
        split.cases("tests")
    with pytest.raises(UsageError, match="no table is shipped for the data set 'adni'"):
        split_cases([], "adni")


# --- MALC labels ------------------------------------------------------------


def test_malc_labels_become_freesurfer_ids() -> None:
    labels = np.array([[[0, 44, 45, 47, 100, 101, 35, 69, 46]]])
    want = [0, 41, 2, 53, 42, 3, 16, 0, 24]
    assert malc2012.freesurfer_ids(labels).flatten().tolist() == want


def test_malc_vermis_goes_to_the_nearer_side() -> None:
    labels = np.zeros((9, 3, 3), dtype=np.int32)
    labels[0], labels[8] = 39, 38
    labels[2:4], labels[5:7] = 71, 73
    got = malc2012.freesurfer_ids(labels)[:, 1, 1].tolist()
    assert got == [8, 0, 8, 8, 0, 47, 47, 0, 47]


def test_malc_evaluation_leaves_out_csf_only() -> None:
    assert set(ANATOMY_LABELS) - set(malc2012.EVALUATION_LABELS) == {0, 24}


# --- label maps -------------------------------------------------------------


def write_map(path: Path, data: np.ndarray, affine: np.ndarray) -> Path:
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def test_label_map_is_turned_to_ras(tmp_path: Path) -> None:
    lia = np.array([[-1, 0, 0, 3], [0, 0, 1, 0], [0, -1, 0, 4], [0, 0, 0, 1.0]])
    data = np.zeros((4, 5, 6), dtype=np.uint16)
    data[0, 0, 5] = 530  # rightmost, uppermost, foremost voxel
    got = label_maps.read_label_map(write_map(tmp_path / "a.nii.gz", data, lia))
    assert got.shape == (4, 6, 5)
    assert got[3, 5, 4] == 530
    assert int((got > 0).sum()) == 1


def test_label_map_of_other_spacing_is_refused(tmp_path: Path) -> None:
    path = write_map(tmp_path / "a.nii.gz", np.zeros((4, 4, 4), np.int16), np.diag([2, 2, 2, 1.0]))
    with pytest.raises(
        ScanError, match=r"4 × 4 × 4 voxels of 2 × 2 × 2 mm; .* must have voxels of 1 mm"
    ):
        label_maps.read_label_map(path)


def test_label_map_that_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="the file is empty"):
        label_maps.read_label_map(touch(tmp_path / "a.nii.gz"))
    with pytest.raises(ScanError, match="no such file"):
        label_maps.read_label_map(tmp_path / "absent.nii.gz")


# --- BIDS -------------------------------------------------------------------


def test_bids_finds_contrasts_sessions_and_labels(tmp_path: Path) -> None:
    one = touch(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    flair = touch(tmp_path / "sub-01/anat/sub-01_FLAIR.nii.gz")
    touch(tmp_path / "sub-02/ses-a/anat/sub-02_ses-a_T1w.nii.gz")
    touch(tmp_path / "sub-02/ses-b/anat/sub-02_ses-b_T1w.nii")
    labels = touch(tmp_path / "derivatives/x/sub-02/anat/sub-02_ses-b_dseg.nii.gz")
    cases = bids.list_cases(tmp_path)
    assert [case.identifier for case in cases] == ["sub-01", "sub-02_ses-a", "sub-02_ses-b"]
    assert [case.group for case in cases] == ["sub-01", "sub-02", "sub-02"]
    assert [case.labels for case in cases] == [None, None, labels]
    (both,) = bids.list_cases(tmp_path, contrasts=("FLAIR", "T1w"))
    assert both.images == (flair, one)


def test_bids_refuses_two_label_maps(tmp_path: Path) -> None:
    touch(tmp_path / "sub-01/anat/sub-01_T1w.nii.gz")
    for tool in ("a", "b"):
        touch(tmp_path / f"derivatives/{tool}/sub-01/anat/sub-01_dseg.nii.gz")
    with pytest.raises(ScanError, match="sub-01: found 2 label maps"):
        bids.list_cases(tmp_path)


def test_bids_refuses_absent_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="the folder does not exist"):
        bids.list_cases(tmp_path / "nowhere")
    with pytest.raises(ScanError, match="found no case; expected files named like sub-01/anat"):
        bids.list_cases(tmp_path)


# --- the real folder, where there is one -------------------------------------

real = pytest.mark.skipif(
    "DDMSEG_DATA" not in os.environ, reason="DDMSEG_DATA does not name a data folder"
)


@real
@pytest.mark.parametrize("reader", READERS)
def test_real_files_exist_and_no_person_is_in_two_splits(reader: object) -> None:
    try:
        cases = reader.list_cases()  # type: ignore[attr-defined]
    except ScanError as absent:
        pytest.skip(str(absent))
    split = split_cases(cases, reader.NAME)  # type: ignore[attr-defined]
    splits_of: dict[str, set[str]] = {}
    for name, members in split.by_split.items():
        for case in members:
            splits_of.setdefault(case.group, set()).add(name)
            assert all(path.is_file() for path in case.images)
    assert splits_of
    assert all(len(names) == 1 for names in splits_of.values())


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_tables_name_cases_once(name: str) -> None:
    table = Path(hippocampus.__file__).parent / "splits" / f"{name}.tsv"
    lines = table.read_text().splitlines()
    assert lines[0] == "case\tgroup\tsplit"
    assert len(read_split(name)) == len(lines) - 1
