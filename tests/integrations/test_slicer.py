"""The module of 3D Slicer: the same labels as the command, in Slicer's axes, names and colours."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from ddmseg.errors import ScanError, SettingsError, UsageError
from ddmseg.imaging.labels import structure
from fake_slicer import FakeSlicer, VolumeNode
from installed import need
from toy_head import head_voxels

FILE = Path(__file__).parents[2] / "integrations" / "slicer" / "DDMSegmentation.py"
OBLIQUE = np.array([[0, 0.6, -5.9, 60], [-6, 0, 0, 75], [0, 5.9, 0.6, -70], [0, 0, 0, 1]])
"""Voxel axes that run to the posterior, superior and left, a little askew."""


def loaded() -> Any:
    """The file as Slicer loads it: by its path."""
    spec = importlib.util.spec_from_file_location("DDMSegmentation", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeSlicer:
    slicer = FakeSlicer()
    slicer.stand_in(monkeypatch)
    return slicer


@pytest.fixture
def module(fake: FakeSlicer, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setitem(sys.modules, "DDMSegmentation", ModuleType("DDMSegmentation"))
    return loaded()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A head in a file whose axes are neither those of RAS nor in their order."""
    path = tmp_path / "head.nii.gz"
    nib.Nifti1Image(head_voxels((30, 22, 26)), OBLIQUE).to_filename(path)
    return path


def opened(fake: FakeSlicer, scan: Path) -> VolumeNode:
    """The scan as Slicer opens it: the first axis of the file is the last one of the array."""
    image = nib.load(scan)
    array = np.asarray(image.dataobj).transpose()
    return fake.add_volume(array, image.affine, "head")


def of_command(segment: Any, scan: Path, out: Path) -> np.ndarray:
    assert segment(scan, "-o", out).code == 0
    return np.asarray(nib.load(out).dataobj)


def test_labels_are_those_of_the_command_byte_for_byte(
    module, fake, segment, scan, tiny_model, tmp_path
) -> None:
    expected = of_command(segment, scan, tmp_path / "labels.nii.gz")
    volume = opened(fake, scan)
    before = volume.array.copy()
    node, *_ = module.DDMSegmentationLogic().process(volume, model=str(tiny_model))
    for axis in range(3):  # no turned or mirrored labels would be the same
        assert (np.flip(expected, axis) != expected).any()
    assert node.labels.shape == expected.shape[::-1] == (26, 22, 30)
    assert node.labels.transpose().astype(expected.dtype).tobytes() == expected.tobytes()
    np.testing.assert_array_equal(node.matrix, volume.matrix)
    np.testing.assert_array_equal(volume.array, before)


def test_labels_are_those_of_the_command_as_itk_reads_the_scan(
    module, segment, scan, tiny_model, tmp_path
) -> None:
    """ITK, by which Slicer reads NIfTI, has LPS and arrays k j i."""
    need("SimpleITK")
    import SimpleITK as sitk

    image = sitk.ReadImage(str(scan))
    lps = np.eye(4)
    lps[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
    lps[:3, 3] = image.GetOrigin()
    ras = np.diag([-1.0, -1, 1, 1]) @ lps
    np.testing.assert_allclose(ras, OBLIQUE, atol=1e-4)
    found = module.segment_array(sitk.GetArrayFromImage(image), ras, model=str(tiny_model))
    expected = of_command(segment, scan, tmp_path / "labels.nii.gz")
    np.testing.assert_array_equal(found.labels.transpose(), expected)


def test_segments_have_our_names_and_colours(module, fake, make_segmentation) -> None:
    made = make_segmentation()
    volume = fake.add_volume(made.scan.data.transpose(), made.scan.affine, "scan")
    result = module.for_slicer(made)
    node = module.add_segmentation("scan ddmseg", result, made.scan.affine, volume)
    assert [segment.value for segment in node.segments] == [2, 41, 53]
    for segment in node.segments:
        known = structure(segment.value)
        assert segment.name == known.name
        assert tuple(round(255 * part) for part in segment.colour) == known.colour
    assert node.reference is volume
    assert [one.name for one in fake.scene.nodes] == ["scan", "scan ddmseg"]  # no label map stays


def test_the_table_is_that_of_the_result(module, fake, segment, scan, tiny_model, tmp_path) -> None:
    _, table, _, verdict = module.DDMSegmentationLogic().process(
        opened(fake, scan), model=str(tiny_model)
    )
    assert segment(scan, "-o", tmp_path / "out").code == 0
    lines = (tmp_path / "out" / "head_volumes.tsv").read_text().splitlines()
    titles, *rows = [line.split("\t")[:5] for line in lines]
    assert [column.name for column in table.columns] == titles
    shown = [
        [str(index), name, *(f"{number:.4f}" for number in numbers)]
        for index, name, *numbers in zip(*table.columns, strict=True)
    ]
    assert shown == rows
    assert verdict.split(",")[0] in ("pass", "warn", "fail")
    assert "\n" not in verdict


def test_maps_are_those_of_the_command(module, fake, segment, scan, tiny_model, tmp_path) -> None:
    _, _, maps, _ = module.DDMSegmentationLogic().process(
        opened(fake, scan), maps=True, model=str(tiny_model)
    )
    assert segment(scan, "-o", tmp_path).code == 0
    for one, kind in zip(maps, ("uncertainty", "discrepancy"), strict=True):
        image = nib.load(tmp_path / f"head_desc-{kind}_map.nii.gz")
        np.testing.assert_allclose(one.array.transpose(), image.get_fdata(), atol=1e-3)
        assert len(np.unique(one.array)) > 100


def test_maps_and_transform_come_along(module, fake, scan, tiny_model) -> None:
    volume = opened(fake, scan)
    volume.transform = "vtkMRMLTransformNode1"
    logic = module.DDMSegmentationLogic()
    node, _, maps, _ = logic.process(volume, maps=True, model=str(tiny_model))
    assert [one.name for one in maps] == ["head uncertainty", "head discrepancy"]
    for one in maps:
        assert one.array.shape == volume.array.shape
        assert one.array.dtype == np.float32
        np.testing.assert_array_equal(one.matrix, volume.matrix)
    assert {one.transform for one in (node, *maps)} == {"vtkMRMLTransformNode1"}


def test_the_pure_part_needs_no_slicer(scan, tiny_model) -> None:
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("DDMSegmentation", {str(FILE)!r})
module = sys.modules["DDMSegmentation"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
assert not {{"slicer", "qt", "vtk", "torch", "numpy", "ddmseg"}} & set(sys.modules)
import nibabel
image = nibabel.load({str(scan)!r})
found = module.segment_array(
    image.get_fdata().transpose(), image.affine, model={str(tiny_model)!r}
)
print(found.labels.shape)
"""
    told = subprocess.check_output([sys.executable, "-c", code], text=True)
    assert told.strip() == "(26, 22, 30)"


def test_an_older_slicer_can_read_the_file_to_say_what_it_lacks(module, monkeypatch) -> None:
    ast.parse(FILE.read_text(encoding="utf-8"), feature_version=(3, 9))
    monkeypatch.setattr(sys, "version_info", (3, 9, 10))
    with pytest.raises(module.ModuleError, match=r"this Slicer has 3\.9; ddmseg needs 3\.11"):
        module.check_python()


def panel(module: Any) -> Any:
    widget = module.DDMSegmentationWidget()
    widget.setup()
    return widget


def test_the_panel_segments_and_tells_the_verdict(module, fake, scan, tiny_model) -> None:
    widget = panel(module)
    assert widget.model.items == module.known_models()
    assert widget.model.currentText == "anatomy"
    widget.volume.node, widget.model.currentText = opened(fake, scan), str(tiny_model)
    widget.apply.slots["clicked(bool)"](True)
    assert widget.line.text.endswith("Research use, not for diagnosis.")
    assert "expected Dice" in widget.line.text
    assert widget.progress.values == [*sorted(widget.progress.values[:-1]), 0]
    assert max(widget.progress.values) <= 100
    assert widget.apply.enabled is True
    assert not fake.asked
    kinds = [node.kind for node in fake.scene.nodes]
    assert kinds == ["vtkMRMLScalarVolumeNode", "vtkMRMLSegmentationNode", "vtkMRMLTableNode"]


def test_choices_of_the_panel_are_those_of_ddmseg(module) -> None:
    from typing import get_args

    from ddmseg.inference.options import Mode
    from ddmseg.models.device import DeviceName

    widget = panel(module)
    assert widget.mode.items == list(get_args(Mode))
    assert widget.device.items == list(get_args(DeviceName))


def test_errors_become_one_line(module, fake, tiny_model) -> None:
    widget = panel(module)
    widget.on_apply()
    assert widget.line.text == "volume: none is chosen, or it is empty; load a brain MRI first"
    widget.volume.node = fake.add_volume(np.zeros((4, 4, 4), np.float32), None, "flat")
    widget.on_apply()
    assert widget.line.text.startswith("flat: every voxel is 0")
    widget.model.currentText = "anatmy"
    widget.volume.node = fake.add_volume(head_voxels(), np.diag([6.0, 6, 6, 1]), "head")
    widget.on_apply()
    assert widget.line.text.startswith("model: got 'anatmy' (did you mean 'anatomy'?)")
    assert widget.apply.enabled is True
    assert len(fake.scene.nodes) == 2  # nothing half-made


def test_an_unexpected_error_is_one_line_and_in_the_log(module, monkeypatch, caplog) -> None:
    widget = panel(module)

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr(widget.logic, "process", broken)
    widget.on_apply()
    assert widget.line.text.startswith("unexpected ZeroDivisionError: first; the Python console")
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("error", [ScanError, SettingsError, UsageError])
def test_errors_of_ddmseg_are_shown_as_they_are(module, error) -> None:
    assert module.one_line(error("scan: got a; give b")) == "scan: got a; give b"


def missing(module: Any, monkeypatch: pytest.MonkeyPatch, fake: FakeSlicer) -> Any:
    """A panel of a Slicer without ddmseg, which is there once pip has run."""
    monkeypatch.setattr(module, "is_installed", lambda: bool(fake.installed))
    return panel(module)


def test_nothing_is_installed_without_asking(module, fake, monkeypatch) -> None:
    fake.agrees = False
    widget = missing(module, monkeypatch, fake)
    widget.on_apply()
    assert len(fake.asked) == 1
    assert fake.installed == []
    assert widget.line.text == "ddmseg is not installed; press Apply to install it"


def test_it_is_installed_from_the_clone_that_the_module_lies_in(module, fake, monkeypatch) -> None:
    widget = missing(module, monkeypatch, fake)
    assert widget.model.items == ["anatomy"]
    widget.on_apply()
    ((source, *_),) = fake.installed
    assert Path(source) == FILE.parents[2]
    assert source in fake.asked[0]
    assert widget.model.items == module.known_models()
    assert widget.line.text.startswith("volume: none")  # it goes on


def test_elsewhere_a_wheel_is_asked_for_never_a_name_on_an_index(
    module, fake, monkeypatch, tmp_path
) -> None:
    monkeypatch.setattr(module, "__file__", str(tmp_path / "a" / "b" / "DDMSegmentation.py"))
    widget = missing(module, monkeypatch, fake)
    widget.on_apply()
    assert (fake.asked, fake.installed) == ([], [])  # no file was chosen
    fake.file = "/w/ddmseg-0.1.0-py3-none-any.whl"
    widget.on_apply()
    assert fake.installed[0][0] == fake.file


@pytest.mark.parametrize(
    ("platform", "gpu", "extra"),
    [("linux", None, True), ("linux", "/usr/bin/nvidia-smi", False), ("win32", "smi", True)],
)
def test_without_a_gpu_the_small_build_of_torch_comes(
    module, monkeypatch, platform, gpu, extra
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(module.shutil, "which", lambda _: gpu)
    assert (module.CPU_BUILDS in module.pip_words("x")) == extra


def test_a_failure_of_pip_is_one_line(module, fake, monkeypatch, caplog) -> None:
    fake.pip_fails = True
    widget = missing(module, monkeypatch, fake)
    widget.on_apply()
    assert widget.line.text == "pip could not install ddmseg; the Python console says why"
    assert "no space left" in caplog.text


def test_the_module_introduces_itself(module) -> None:
    from types import SimpleNamespace

    parent = SimpleNamespace(path=str(FILE))
    module.DDMSegmentation(parent)
    assert parent.title == "DDM Segmentation"
    assert "not for diagnosis" in parent.helpText
    for end in ("", "Widget", "Logic", "Test"):  # Slicer finds them by the name of the file
        assert hasattr(module, FILE.stem + end)
    assert [path.name for path in FILE.parent.glob("*.py")] == [FILE.name]  # each would be one
