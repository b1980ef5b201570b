"""ADNI laid out as the Image and Data Archive unpacks, with DICOM, NIfTI and the CSV."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from ddmseg.datasets import adni
from ddmseg.datasets.split import split_by_person
from ddmseg.errors import ScanError
from dicom_files import affine_of, assert_same_world, rotation, scan, write_series

SCALED = "MPR__GradWarp__B1_Correction__N3__Scaled"
AFFINE = affine_of(rotation(0.1, 0.2, -0.1))


def stem(subject: str, kind: str, series: str, image: str) -> str:
    return f"ADNI_{subject}_MR_{kind}_Br_20070219173850420_{series}_{image}"


def add_nifti(root: Path, subject: str, date: str, series: str, image: str) -> Path:
    leaf = root / "adni/ADNI" / subject / SCALED / date / series
    leaf.mkdir(parents=True)
    path = leaf / f"{stem(subject, SCALED, series, image)}.nii"
    nib.save(nib.Nifti1Image(scan(), AFFINE), path)
    return path


def add_dicom(root: Path, subject: str, date: str, image: str) -> Path:
    leaf = root / "adni/ADNI" / subject / "MP-RAGE" / date / image
    for number, path in enumerate(write_series(leaf, scan(), AFFINE)):
        path.rename(leaf / f"ADNI_{subject}_MR_MP-RAGE_br_raw_2006_{number}_S13408_{image}.dcm")
    return leaf


@pytest.fixture
def root(tmp_path: Path) -> Path:
    add_nifti(tmp_path, "002_S_0295", "2006-11-02_08_16_44.0", "S21856", "I40966")
    add_nifti(tmp_path, "002_S_0413", "2006-05-19_16_17_47.0", "S14782", "I45117")
    add_dicom(tmp_path, "002_S_0295", "2006-04-18_08_20_30.0", "I13722")
    xml = stem("002_S_0295", SCALED, "S21856", "I40966")
    (tmp_path / f"adni/ADNI/{xml}.xml").write_text("<idaxs/>")
    (tmp_path / "adni/ADNI/002_S_0295" / f"{xml}.xml").write_text("<idaxs/>")
    (tmp_path / "adni/ADNI_T1_4_20_2023.csv").write_text(
        '"Image Data ID","Subject","Group","Sex","Age","Visit","Modality","Description",'
        '"Type","Acq Date","Format","Downloaded"\n'
        '"I40966","002_S_0295","CN","M","85","m06","MRI","MPR; GradWarp; N3; Scaled",'
        '"Processed","11/02/2006","NiFTI","4/20/2023"\n'
        '"13722","002_S_0295","CN","M","84","sc","MRI","MP-RAGE","Original","4/18/2006","DCM",""\n'
    )
    (tmp_path / "adni/other.csv").write_text("RID,VISCODE\n295,bl\n")
    return tmp_path


def test_one_case_an_image_and_one_group_a_person(root: Path) -> None:
    cases = adni.list_cases(root)
    assert [case.identifier for case in cases] == [
        "002_S_0295_I13722",
        "002_S_0295_I40966",
        "002_S_0413_I45117",
    ]
    assert [case.group for case in cases] == ["002_S_0295", "002_S_0295", "002_S_0413"]
    assert all(case.labels is None for case in cases)
    assert cases[0].images[0].is_dir()
    assert cases[1].images[0].suffix == ".nii"
    assert [adni.image_id(case) for case in cases] == ["I13722", "I40966", "I45117"]


def test_descriptions_choose(root: Path) -> None:
    assert [c.identifier for c in adni.list_cases(root, description="MP-RAGE*")] == [
        "002_S_0295_I13722"
    ]
    assert len(adni.list_cases(root, description="*N3*")) == 2
    with pytest.raises(ScanError, match="found no case; expected files named like ADNI/002_S"):
        adni.list_cases(root, description="PET*")


def test_both_kinds_of_files_are_read(root: Path) -> None:
    for case in adni.list_cases(root):
        assert_same_world(adni.read_scan(case), scan(), AFFINE)


def test_visits_of_one_person_stay_in_one_split(tmp_path: Path) -> None:
    for person in range(30):
        for visit in range(2):
            add_nifti(tmp_path, f"002_S_{person:04d}", f"2006-0{visit + 1}-01", "S1",
                      f"I{person}{visit}")  # fmt: skip
    split = split_by_person(adni.list_cases(tmp_path), "adni")
    groups = {name: {case.group for case in cases} for name, cases in split.by_split.items()}
    assert sum(map(len, groups.values())) == 30
    assert all(len(split.by_split[name]) == 2 * len(groups[name]) for name in groups)
    assert len(groups["train"]) > len(groups["test"]) > 0


def test_the_collection_table_gives_the_diagnosis(root: Path) -> None:
    records = adni.read_collection(root)
    assert set(records) == {"I40966", "I13722"}
    assert records["I40966"].diagnosis == "CN"
    assert (records["I13722"].visit, records["I13722"].age) == ("sc", "84")


def test_without_a_table_there_are_no_records(tmp_path: Path) -> None:
    add_nifti(tmp_path, "002_S_0295", "2006-11-02", "S1", "I1")
    assert adni.read_collection(tmp_path) == {}
    (tmp_path / "adni/bad.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ScanError, match=r"bad\.csv: cannot be read as a table"):
        adni.read_collection(tmp_path)


def test_subjects_may_lie_without_the_upper_folder(root: Path) -> None:
    for subject in sorted((root / "adni/ADNI").glob("*_S_*")):
        subject.rename(root / "adni" / subject.name)
    assert len(adni.list_cases(root)) == 3


def test_an_image_found_twice_is_refused(root: Path) -> None:
    add_nifti(root, "002_S_0295", "2007-01-01", "S9", "I40966")
    with pytest.raises(ScanError, match=r"002_S_0295_I40966: found twice .*; leave only one"):
        adni.list_cases(root)


def test_two_series_in_a_folder_are_refused(root: Path) -> None:
    leaf = root / "adni/ADNI/002_S_0295/MP-RAGE/2006-04-18_08_20_30.0/I13722"
    write_series(leaf / "more", scan(), AFFINE)
    case = adni.list_cases(root, description="MP-RAGE")[0]
    with pytest.raises(ScanError, match="2 DICOM series; leave one in the folder"):
        adni.read_scan(case)


def test_names_without_an_image_id_use_the_folder(tmp_path: Path) -> None:
    leaf = tmp_path / "adni/002_S_0001/T1/2010-01-01/I77"
    leaf.mkdir(parents=True)
    for name in ("a.nii", "b.nii.gz"):
        nib.save(nib.Nifti1Image(np.zeros((2, 2, 2)), AFFINE), leaf / name)
    names = [case.identifier for case in adni.list_cases(tmp_path)]
    assert names == ["002_S_0001_I77_a", "002_S_0001_I77_b"]
    (leaf / "b.nii.gz").unlink()
    assert adni.list_cases(tmp_path)[0].identifier == "002_S_0001_I77"
    (leaf / "a.nii").rename(leaf / "notes.txt")
    with pytest.raises(ScanError, match="found no case"):
        adni.list_cases(tmp_path)


def test_absent_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"data set adni: the folder .* does not exist"):
        adni.list_cases(tmp_path)
