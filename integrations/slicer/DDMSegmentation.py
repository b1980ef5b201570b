"""Module of 3D Slicer that labels the volume that is open there with ddmseg.

One file, which Slicer loads by its path before ddmseg is installed: it offers to install it.
Slicer's arrays have the axes k j i, those of ddmseg i j k. Both begin at the same corner, and
Slicer's matrix from i j k to RAS mm is the affine of ddmseg. Outside Slicer the file can be
imported as well, and ``segment_array`` works.
"""

from __future__ import annotations

import importlib
import logging
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

try:
    import qt
    import slicer
    import vtk
    from slicer.ScriptedLoadableModule import (
        ScriptedLoadableModule,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
        ScriptedLoadableModuleWidget,
    )
except ImportError:  # outside Slicer
    ScriptedLoadableModule = ScriptedLoadableModuleWidget = object
    ScriptedLoadableModuleLogic = ScriptedLoadableModuleTest = object

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import Float32, Float64, Int32, Real

    Progress = Callable[[str, float], None]

NOTICE = "Research use, not for diagnosis."
MODES = ("auto", "fast", "diffusion")
DEVICES = ("auto", "cpu", "cuda", "mps")
STAGES = ("read", "prepare", "encode", "denoise", "restore")
LOWEST_PYTHON = (3, 11)
"""What ddmseg needs; Slicer has 3.12 since its version 5.10."""
CPU_BUILDS = "https://download.pytorch.org/whl/cpu"
"""Index of PyTorch without CUDA."""


class ModuleError(Exception):
    """What the user can mend, in one line."""


@dataclass(frozen=True)
class Segmented:
    """Result of one volume, with arrays as Slicer has them.

    Attributes:
        labels: FreeSurfer ids.
        maps: uncertainty and discrepancy by name.
        segments: name and colour (red, green, blue; 0 to 1) of each id that occurs.
        table: by column: index, name, volume and its 95% interval in ml.
        verdict: of the quality check, with its reasons, in one line.
    """

    labels: Int32[np.ndarray, "k j i"]
    maps: dict[str, Float32[np.ndarray, "k j i"]]
    segments: dict[int, tuple[str, tuple[float, float, float]]]
    table: dict[str, list[Any]]
    verdict: str


def segment_array(
    voxels: Real[np.ndarray, "k j i"],
    ijk_to_ras: Float64[np.ndarray, "4 4"],
    *,
    name: str = "volume",
    model: str = "anatomy",
    mode: str = "auto",
    device: str = "auto",
    progress: Progress | None = None,
) -> Segmented:
    """Segment voxels as Slicer has them; the labels are those of ``ddmseg segment``.

    Args:
        voxels: as ``slicer.util.arrayFromVolume`` gives them; they stay as they are.
        ijk_to_ras: voxel index (i, j, k) to RAS in millimetres.
        name: of the volume, for messages.
        model: name of a shipped model, or path of a ``.safetensors`` file.
        mode: one of ``MODES``.
        device: one of ``DEVICES``.
        progress: gets the stage and the fraction of it done.

    Raises:
        DdmsegError: one line with what came, what is allowed and what to do.
    """
    from ddmseg import Segmenter
    from ddmseg.imaging.nifti import volume_from_array
    from ddmseg.inference.memory import require_room

    scan = volume_from_array(voxels.transpose(), ijk_to_ras, name=name)
    segmenter = Segmenter.load(model, device=device)
    require_room(segmenter, scan.data.size)  # Slicer would end with all that is not saved
    return for_slicer(segmenter(scan, mode=mode, progress=progress))


def for_slicer(result: Any) -> Segmented:
    """Return a ``Segmentation`` of ddmseg as Slicer has it."""
    from ddmseg.imaging.labels import count_voxels, structure

    quality = result.quality
    rows = [*result.volumes, *result.totals]
    columns = ("index", "name", "volume_ml", "interval_low_ml", "interval_high_ml")
    found = [structure(index) for index in count_voxels(result.labels.data) if index]
    reasons = "".join(f"; {reason}" for reason in quality.reasons)
    return Segmented(
        labels=result.labels.data.astype("int32").transpose(),
        maps={
            "uncertainty": result.uncertainty.transpose(),
            "discrepancy": result.discrepancy.transpose(),
        },
        segments={
            one.index: (one.name, (one.colour[0] / 255, one.colour[1] / 255, one.colour[2] / 255))
            for one in found
        },
        table={column: [getattr(row, column) for row in rows] for column in columns},
        verdict=f"{quality.verdict}, expected Dice {quality.expected_dice:.2f}{reasons}",
    )


def is_installed() -> bool:
    """Return whether ddmseg can be imported."""
    return find_spec("ddmseg") is not None


def known_models() -> list[str]:
    """Return the names of the models that came with ddmseg, the default first."""
    if not is_installed():
        return ["anatomy"]
    from ddmseg.models.zoo import model_names

    return model_names()


def check_python() -> None:
    """Refuse a Slicer that is too old.

    Raises:
        ModuleError: says which one would do.
    """
    if sys.version_info < LOWEST_PYTHON:
        lowest, own = (".".join(map(str, v[:2])) for v in (LOWEST_PYTHON, sys.version_info))
        raise ModuleError(
            f"Python: this Slicer has {own}; ddmseg needs {lowest} or newer: take Slicer 5.10 or "
            "newer"
        )


def pip_words(source: str) -> list[str]:
    """Return what pip is given to install ddmseg from a clone or a wheel.

    Without a GPU the CPU's build of PyTorch saves gigabytes; only Linux has CUDA in the usual one.
    """
    with_cuda = sys.platform == "linux" and shutil.which("nvidia-smi") is not None
    return [source] if with_cuda else [source, "--extra-index-url", CPU_BUILDS]


def clone() -> Path | None:
    """Return the clone of ddmseg that this file lies in; None where it was copied out of it."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "src" / "ddmseg" / "__init__.py").is_file() else None


def one_line(error: BaseException) -> str:
    """Return what a person needs to know of an error; what nobody expected goes to the log, too."""
    known = isinstance(error, ModuleError)
    if is_installed() and not known:
        from ddmseg.errors import DdmsegError

        known = isinstance(error, DdmsegError)
    if known:
        return " ".join(str(error).split())
    logging.error("ddmseg: unexpected error", exc_info=error)
    what = (str(error).splitlines() or [""])[0]
    return f"unexpected {type(error).__name__}: {what}; the Python console has the whole of it"


class DDMSegmentation(ScriptedLoadableModule):
    """What Slicer's list of modules shows."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "DDM Segmentation"
        parent.categories = ["Segmentation"]
        parent.dependencies = ["Segmentations"]
        parent.contributors = ["The ddmseg developers"]
        parent.helpText = (
            "Labels a brain MRI with ddmseg: structures, their volumes with 95% intervals, and a "
            f"verdict on the result. {NOTICE}"
        )
        parent.acknowledgementText = "Apache-2.0; the hippocampus model is CC-BY-SA 4.0."


class DDMSegmentationLogic(ScriptedLoadableModuleLogic):
    """From a volume node to nodes with the result."""

    def process(
        self, volume: Any, *, maps: bool = False, **options: Any
    ) -> tuple[Any, Any, list[Any], str]:
        """Segment a volume node and add the result to the scene.

        Args:
            volume: a scalar volume node; it stays as it is.
            maps: whether the uncertainty and discrepancy maps become volumes.
            **options: of :func:`segment_array`.

        Returns:
            The nodes of segmentation, table and maps, and the verdict.

        Raises:
            DdmsegError: when the volume or an option is not usable.
            ModuleError: when there is no volume.
        """
        if volume is None or volume.GetImageData() is None:
            raise ModuleError("volume: none is chosen, or it is empty; load a brain MRI first")
        matrix = vtk.vtkMatrix4x4()
        volume.GetIJKToRASMatrix(matrix)
        affine = slicer.util.arrayFromVTKMatrix(matrix)
        name, voxels = volume.GetName(), slicer.util.arrayFromVolume(volume)
        result = segment_array(voxels, affine, name=name, **options)
        segmentation = add_segmentation(f"{name} ddmseg", result, affine, volume)
        added = [
            slicer.util.addVolumeFromArray(one, affine, f"{name} {kind}")
            for kind, one in (result.maps.items() if maps else ())
        ]
        for node in (segmentation, *added):  # a transform of the scan is one of its result
            node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
        return segmentation, add_table(f"{name} volumes", result.table), added, result.verdict


def add_segmentation(
    name: str, result: Segmented, affine: Float64[np.ndarray, "4 4"], volume: Any
) -> Any:
    """Return a new segmentation node with names and colours of the structures."""
    kind = "vtkMRMLLabelMapVolumeNode"
    labels = slicer.util.addVolumeFromArray(result.labels, affine, f"{name} labels", kind)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.modules.segmentations.logic().ImportLabelmapToSegmentationNode(labels, node)
    slicer.mrmlScene.RemoveNode(labels)
    segmentation = node.GetSegmentation()
    for place in range(segmentation.GetNumberOfSegments()):
        segment = segmentation.GetNthSegment(place)
        title, colour = result.segments[segment.GetLabelValue()]
        segment.SetName(title)
        segment.SetColor(*colour)
    return node


def add_table(name: str, columns: dict[str, list[Any]]) -> Any:
    """Return a new table node."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", name)
    kinds = {"index": vtk.vtkIntArray, "name": vtk.vtkStringArray}
    for title, values in columns.items():
        column = kinds.get(title, vtk.vtkDoubleArray)()
        column.SetName(title)
        for value in values:
            column.InsertNextValue(value)
        node.AddColumn(column)
    return node


class DDMSegmentationWidget(ScriptedLoadableModuleWidget):
    """The panel: what to segment, how, a button, and a line on what came of it."""

    def setup(self) -> None:
        """Build the panel; Slicer calls this when the module is opened first."""
        super().setup()
        self.logic = DDMSegmentationLogic()
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.showChildNodeTypes = False  # no label maps
        self.volume.addEnabled = self.volume.removeEnabled = False
        self.volume.setMRMLScene(slicer.mrmlScene)
        self.model, self.mode, self.device = (qt.QComboBox() for _ in range(3))
        self.model.editable = True  # for the path of a model of one's own
        self.model.addItems(known_models())
        self.mode.addItems(list(MODES))
        self.device.addItems(list(DEVICES))
        self.maps = qt.QCheckBox("Uncertainty and discrepancy as volumes")
        self.apply = qt.QPushButton("Apply")
        self.progress = qt.QProgressBar()
        self.line = qt.QLabel(NOTICE)
        self.line.wordWrap = True
        form = qt.QFormLayout()
        for title in ("volume", "model", "mode", "device"):
            form.addRow(f"{title.capitalize()}:", getattr(self, title))
        for widget in (self.maps, self.apply, self.progress, self.line):
            form.addRow(widget)
        self.layout.addLayout(form)
        self.layout.addStretch(1)
        self.apply.connect("clicked(bool)", self.on_apply)

    def on_apply(self, _: bool = False) -> None:
        """Segment the chosen volume; whatever goes wrong becomes the line."""
        self.apply.enabled = False  # clicks are handled meanwhile
        try:
            if is_installed() or self.install():
                self.line.text = "..."
                result = self.logic.process(
                    self.volume.currentNode(),
                    maps=self.maps.checked,
                    model=self.model.currentText,
                    mode=self.mode.currentText,
                    device=self.device.currentText,
                    progress=self.show_progress,
                )
                self.line.text = f"{result[-1]}. {NOTICE}"
        except Exception as error:
            self.line.text = one_line(error)
        finally:
            self.progress.setValue(0)
            self.apply.enabled = True

    def show_progress(self, stage: str, fraction: float) -> None:
        """Move the bar, and let Slicer draw itself."""
        done = STAGES.index(stage) if stage in STAGES else 0
        self.progress.setValue(round(100 * (done + fraction) / len(STAGES)))
        slicer.app.processEvents()

    def install(self) -> bool:
        """Install ddmseg when the user agrees; return whether it is there now.

        It is never fetched by its name alone, which somebody else may hold on the package index.

        Raises:
            ModuleError: when Slicer is too old or pip failed.
        """
        check_python()
        source = clone() or qt.QFileDialog.getOpenFileName(
            None, "Wheel of ddmseg", "", "Wheel (ddmseg-*.whl)"
        )
        question = (
            f"ddmseg is not installed. Install it from {source} into this Slicer? It brings "
            "PyTorch and takes some minutes and gigabytes."
        )
        if not source or not slicer.util.confirmOkCancelDisplay(question, "ddmseg"):
            self.line.text = "ddmseg is not installed; press Apply to install it"
            return False
        self.line.text = "installing ..."
        slicer.app.processEvents()
        try:
            slicer.util.pip_install(pip_words(str(source)))
        except Exception as error:
            logging.error("ddmseg: pip failed", exc_info=error)
            raise ModuleError(
                "pip could not install ddmseg; the Python console says why"
            ) from error
        importlib.invalidate_caches()
        chosen = self.model.currentText
        self.model.clear()
        self.model.addItems(known_models())
        self.model.setCurrentText(chosen)
        return is_installed()


class DDMSegmentationTest(ScriptedLoadableModuleTest):
    """Slicer's "Reload and Test": segments the scan that came with ddmseg."""

    def runTest(self, **_: Any) -> None:
        """Look for the structures of a whole brain and their volumes."""
        from importlib.resources import files

        slicer.mrmlScene.Clear(0)
        scan = slicer.util.loadVolume(str(files("ddmseg") / "demo" / "colin27_t1.nii.gz"))
        logic = DDMSegmentationLogic()
        node, table, maps, verdict = logic.process(
            scan, maps=True, model="anatomy_fast", mode="fast"
        )
        if node.GetSegmentation().GetNumberOfSegments() < 20 or not table.GetNumberOfRows():
            raise AssertionError(f"structures are missing: {verdict}")
        if len(maps) != 2:
            raise AssertionError("the maps are missing")
