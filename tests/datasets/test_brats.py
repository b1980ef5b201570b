"""BraTS as the challenges of 2018, 2020, 2021 and 2023 hand it out, and splits by person."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ddmseg.datasets import brats
from ddmseg.datasets.case import Case
from ddmseg.datasets.split import split_by_person
from ddmseg.errors import ScanError
from ddmseg.imaging.labels import protocol_map, structure

OLD = ("flair", "seg", "t1", "t1ce", "t2")
NEW = ("seg", "t1c", "t1n", "t2f", "t2w")
Y2020 = "brats/MICCAI_BraTS2020_TrainingData"
Y2021 = "brats/BraTS2021_Training_Data"
Y2023 = "brats/ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData"


def add(root: Path, upper: str, name: str, *, ending: str = ".nii.gz", but: str = "") -> Path:
    folder = root / upper / name
    folder.mkdir(parents=True)
    kinds, joint = (NEW, "-") if "-" in name else (OLD, "_")
    for kind in kinds:
        if kind != but:
            (folder / f"{name}{joint}{kind}{ending}").touch()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add(tmp_path, Y2020, "BraTS20_Training_001", ending=".nii")
    (tmp_path / Y2020 / "name_mapping.csv").write_text("Grade\nHGG\n")
    add(tmp_path, Y2021, "BraTS2021_00000")
    add(tmp_path, Y2023, "BraTS-GLI-00002-000")
    add(tmp_path, Y2023, "BraTS-GLI-00002-001")
    return tmp_path


def test_cases_of_all_years_in_one_order_of_modalities(root: Path) -> None:
    cases = {case.identifier: case for case in brats.list_cases(root)}
    assert list(cases) == [
        "BraTS-GLI-00002-000",
        "BraTS-GLI-00002-001",
        "BraTS2021_00000",
        "BraTS20_Training_001",
    ]
    assert [path.name for path in cases["BraTS20_Training_001"].images] == [
        f"BraTS20_Training_001_{kind}.nii" for kind in ("t1", "t1ce", "t2", "flair")
    ]
    assert [path.name for path in cases["BraTS-GLI-00002-001"].images] == [
        f"BraTS-GLI-00002-001-{kind}.nii.gz" for kind in ("t1n", "t1c", "t2w", "t2f")
    ]
    folder = root / Y2021 / "BraTS2021_00000"
    assert cases["BraTS2021_00000"].labels == folder / "BraTS2021_00000_seg.nii.gz"


def test_visits_of_one_patient_are_one_group(root: Path) -> None:
    groups = {case.identifier: case.group for case in brats.list_cases(root)}
    assert groups["BraTS-GLI-00002-000"] == groups["BraTS-GLI-00002-001"] == "BraTS-GLI-00002"
    assert groups["BraTS2021_00000"] == "BraTS2021_00000"


def test_one_modality_can_be_asked_for(root: Path) -> None:
    for case in brats.list_cases(root, modalities=("flair", "t1")):
        assert [path.name.split(".")[0][-3:] for path in case.images] in (
            ["air", "_t1"],
            ["t2f", "t1n"],
        )
    with pytest.raises(ScanError, match="modality: got 'pd'; BraTS has t1, t1ce, t2, flair"):
        brats.list_cases(root, modalities=("pd",))


def test_hgg_and_lgg_folders_of_2018(tmp_path: Path) -> None:
    add(tmp_path, "brats/MICCAI_BraTS_2018_Data_Training/HGG", "Brats18_2013_10_1")
    add(tmp_path, "brats/MICCAI_BraTS_2018_Data_Training/LGG", "Brats18_TCIA09_462_1")
    assert [case.identifier for case in brats.list_cases(tmp_path)] == [
        "Brats18_2013_10_1",
        "Brats18_TCIA09_462_1",
    ]


@pytest.mark.parametrize(
    ("name", "but", "told"),
    [
        ("BraTS2021_00005", "t1ce", "no t1ce image; expected BraTS2021_00005_t1ce.nii.gz"),
        (
            "BraTS-GLI-00005-000",
            "t2f",
            "no flair image; expected BraTS-GLI-00005-000-t2f.nii.gz",
        ),
    ],
)
def test_a_missing_modality_is_named(tmp_path: Path, name: str, but: str, told: str) -> None:
    add(tmp_path, "brats", name, but=but)
    with pytest.raises(ScanError) as caught:
        brats.list_cases(tmp_path)
    assert str(caught.value) == f"{name}: {told} or .nii; add it or move the case away"


def test_validation_sets_have_no_labels(tmp_path: Path) -> None:
    add(tmp_path, "brats", "BraTS2021_00001", but="seg")
    assert brats.list_cases(tmp_path)[0].labels is None


def test_the_one_label_map_of_2020_with_another_name(tmp_path: Path) -> None:
    folder = add(tmp_path, Y2020, "BraTS20_Training_355", ending=".nii", but="seg")
    stray = folder / "W39_1998.09.19_Segm.nii"
    stray.touch()
    assert brats.list_cases(tmp_path)[0].labels == stray


def test_ids_of_both_protocols(root: Path) -> None:
    protocols = {c.identifier: brats.protocol_of(c) for c in brats.list_cases(root)}
    assert protocols["BraTS-GLI-00002-000"] == "brats2023"
    assert protocols["BraTS2021_00000"] == protocols["BraTS20_Training_001"] == "brats"
    assert set(protocol_map("brats")) == {1, 2, 4}
    assert protocol_map("brats2023") == {1: 99, 2: 99, 3: 99, 4: 0}
    assert structure(99).name == "Lesion"
    for name, regions in brats.REGIONS.items():
        whole, core, enhancing = (set(ids) for ids in regions.values())
        assert whole > core > enhancing
        assert whole <= set(protocol_map(name))


@pytest.mark.parametrize("name", ["lpba40", "brats", "brats2023"])
def test_label_tables_of_the_documentation_name_known_ids(name: str) -> None:
    table = Path(__file__).parents[2] / "docs/labels" / f"{name}.tsv"
    rows = list(csv.DictReader(table.read_text().splitlines(), delimiter="\t"))
    truths = [{int(index) for index in row["truth"].split(",")} for row in rows]
    assert all(truth <= set(protocol_map(name)) for truth in truths)
    if name == "lpba40":
        for row, truth in zip(rows, truths, strict=True):
            targets = {protocol_map(name)[index] for index in truth}
            assert targets in ({0}, {int(i) for i in row["prediction"].split(",")})
    else:
        assert truths == [set(ids) for ids in brats.REGIONS[name].values()]  # type: ignore[index]


def test_absent_and_empty_folders(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"data set brats: the folder .* does not exist"):
        brats.list_cases(tmp_path)
    (tmp_path / "brats").mkdir()
    with pytest.raises(ScanError, match=r"found no case; expected .*t2f\.nii\.gz"):
        brats.list_cases(tmp_path)


# --- splits by person ---------------------------------------------------------


def persons(count: int) -> list[Case]:
    return [Case(f"{n}-{visit}", (), None, str(n)) for n in range(count) for visit in (0, 1)]


def test_shares_are_met_on_average() -> None:
    split = split_by_person(persons(2000), "brats")
    sizes = {name: len(cases) / 4000 for name, cases in split.by_split.items()}
    assert sizes == pytest.approx({"train": 0.7, "validation": 0.1, "test": 0.2}, abs=0.03)


@given(kept=st.sets(st.integers(0, 39), min_size=1))
def test_a_person_s_split_depends_on_nobody_else(kept: set[int]) -> None:
    everyone = split_by_person(persons(40), "brats")
    some = split_by_person([c for c in persons(40) if int(c.group) in kept], "brats")
    for name, cases in some.by_split.items():
        assert set(cases) <= set(everyone.by_split[name])


def test_sets_matter() -> None:
    one, other = split_by_person(persons(40), "brats"), split_by_person(persons(40), "adni")
    assert one.by_split != other.by_split
