"""nnU-Net's data set: every file where nnU-Net looks for it, with the voxels of the source."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from ddmseg.datasets.sources import labelled_source
from ddmseg.errors import TrainingError
from ddmseg.models.settings import DataSettings
from ddmseg_lab.comparison.nnunet.raw_data import NnunetFolder, read_predictions, write_raw_data
from real_sets import write_hippocampus, write_ibsr18


@pytest.fixture
def crops(tmp_path):
    names = write_hippocampus(tmp_path, {"train": 2, "validation": 1, "test": 2})
    settings = DataSettings(kind="hippocampus", patch=(16, 16, 16))
    folder = NnunetFolder(tmp_path / "work", "Dataset001_hippocampus")
    return labelled_source(settings, str(tmp_path)), folder, names


def read_json(path):
    return json.loads(path.read_text())


def test_files_lie_where_nnunet_looks(crops):
    source, folder, names = crops
    write_raw_data(source, folder)
    trained = names["train"] + names["validation"]
    raw = folder.path / "raw" / "Dataset001_hippocampus"
    found = {
        place: sorted(path.name for path in (raw / place).iterdir())
        for place in ("imagesTr", "labelsTr", "imagesTs")
    }
    assert found == {
        "imagesTr": sorted(f"{name}_0000.nii.gz" for name in trained),
        "labelsTr": sorted(f"{name}.nii.gz" for name in trained),
        "imagesTs": sorted(f"{name}_0000.nii.gz" for name in names["test"]),
    }
    assert not (raw / "labelsTs").exists()  # nobody can look at the truth of the test


def test_the_description_and_the_split(crops):
    source, folder, names = crops
    write_raw_data(source, folder)
    assert read_json(folder.raw / "dataset.json") == {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "anterior": 1, "posterior": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    split = folder.path / "preprocessed" / "Dataset001_hippocampus" / "splits_final.json"
    assert read_json(split) == [{"train": names["train"], "val": names["validation"]}]


def test_voxels_and_labels_are_those_of_the_source(crops):
    source, folder, _ = crops
    write_raw_data(source, folder)
    for place, split in (("imagesTr", "train"), ("imagesTs", "test")):
        for subject in source.subjects(split):
            image = nibabel.load(folder.raw / place / f"{subject.identifier}_0000.nii.gz")
            assert np.array_equal(image.get_fdata(dtype=np.float32), subject.image[0].numpy())
    for subject in source.subjects("validation"):
        labels = nibabel.load(folder.raw / "labelsTr" / f"{subject.identifier}.nii.gz")
        assert labels.get_data_dtype() == np.uint8
        assert np.array_equal(np.asarray(labels.dataobj), subject.labels.numpy())


def test_spacing_is_in_the_affine(tmp_path):
    write_ibsr18(tmp_path)
    settings = DataSettings(kind="ibsr18", patch=(16, 16), fold="fold-1")
    source = labelled_source(settings, str(tmp_path))
    folder = NnunetFolder(tmp_path / "work", "Dataset001_ibsr18")
    write_raw_data(source, folder)
    name = source.split()["test"][0]
    scan = nibabel.load(folder.raw / "imagesTs" / f"{name}_0000.nii.gz")
    assert np.allclose(scan.affine, np.diag([0.94, 1.5, 0.94, 1]))
    assert scan.header.get_zooms() == pytest.approx((0.94, 1.5, 0.94))
    # scanner coordinates, which SimpleITK reads as they are
    assert (int(scan.header["sform_code"]), int(scan.header["qform_code"])) == (1, 1)
    assert read_json(folder.raw / "dataset.json")["labels"] == {
        "background": 0, "CSF": 1, "GM": 2, "WM": 3,
    }  # fmt: skip
    assert [len(part) for part in read_json(folder.split)[0].values()] == [7, 2]


def test_nnunet_finds_its_folders(tmp_path):
    folder = NnunetFolder(tmp_path, "Dataset001_x")
    variables = folder.variables()
    assert set(variables) == {"nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"}
    assert folder.raw.parent == tmp_path / "raw"
    assert variables["nnUNet_raw"] == str(tmp_path / "raw")
    assert str(folder.split).startswith(variables["nnUNet_preprocessed"])
    assert str(folder.predictions).startswith(variables["nnUNet_results"])


def predict(folder, name, labels):
    folder.predictions.mkdir(parents=True, exist_ok=True)
    path = folder.predictions / f"{name}.nii.gz"
    nibabel.save(nibabel.Nifti1Image(labels.astype(np.uint8), np.eye(4)), path)


def test_predictions_come_back_beside_their_subjects(crops):
    source, folder, names = crops
    for number, name in enumerate(names["test"]):
        predict(folder, name, np.full((14, 17, 13), number + 1))
    found = [(subject.identifier, labels) for subject, labels in read_predictions(source, folder)]
    assert [name for name, _ in found] == names["test"]
    assert [np.unique(labels).tolist() for _, labels in found] == [[1], [2]]


def test_predictions_that_do_not_fit_are_refused(crops):
    source, folder, names = crops
    with pytest.raises(TrainingError, match="left no prediction; run the row again"):
        list(read_predictions(source, folder))
    predict(folder, names["test"][0], np.ones((13, 17, 14)))
    with pytest.raises(TrainingError, match=r"predicted \(13, 17, 14\) voxels .* \(14, 17, 13\)"):
        list(read_predictions(source, folder))
