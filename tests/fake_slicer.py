"""As much of 3D Slicer as the module calls, with its rules: arrays k j i, no 64-bit integers."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest


class Matrix:
    """``vtkMatrix4x4``."""

    def __init__(self) -> None:
        self.values = np.eye(4)


class Column(list):
    """An array of vtk: ``vtkIntArray``, ``vtkDoubleArray`` or ``vtkStringArray``."""

    kind: type = float

    def SetName(self, name: str) -> None:
        self.name = name

    def InsertNextValue(self, value: Any) -> None:
        if not isinstance(value, self.kind):
            raise TypeError(f"{value!r} in an array of {self.kind}")
        self.append(value)


class IntColumn(Column):
    kind = int


class StringColumn(Column):
    kind = str


class Node:
    """A node of the scene."""

    def __init__(self, kind: str, name: str) -> None:
        self.kind, self.name, self.transform = kind, name, None

    def GetName(self) -> str:
        return self.name

    def GetTransformNodeID(self) -> str | None:
        return self.transform

    def SetAndObserveTransformNodeID(self, wanted: str | None) -> None:
        self.transform = wanted


class VolumeNode(Node):
    """``vtkMRMLScalarVolumeNode`` and ``vtkMRMLLabelMapVolumeNode``."""

    array: np.ndarray | None = None
    matrix = np.eye(4)

    def GetImageData(self) -> np.ndarray | None:
        return self.array

    def GetIJKToRASMatrix(self, matrix: Matrix) -> None:
        matrix.values = self.matrix


class Segment:
    """``vtkSegment``."""

    def __init__(self, value: int) -> None:
        self.value, self.name, self.colour = value, f"Label_{value}", (0.5, 0.5, 0.5)

    def GetLabelValue(self) -> int:
        return self.value

    def SetName(self, name: str) -> None:
        self.name = name

    def SetColor(self, *colour: float) -> None:
        assert len(colour) == 3
        self.colour = colour


class SegmentationNode(Node):
    """``vtkMRMLSegmentationNode`` together with its ``vtkSegmentation``."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.segments: list[Segment] = []
        self.labels = np.zeros(0)
        self.matrix = np.eye(4)
        self.reference: Node | None = None

    def CreateDefaultDisplayNodes(self) -> None:
        pass

    def SetReferenceImageGeometryParameterFromVolumeNode(self, node: Node) -> None:
        self.reference = node

    def GetSegmentation(self) -> SegmentationNode:
        return self

    def GetNumberOfSegments(self) -> int:
        return len(self.segments)

    def GetNthSegment(self, place: int) -> Segment:
        return self.segments[place]


class TableNode(Node):
    """``vtkMRMLTableNode``."""

    def __init__(self, kind: str, name: str) -> None:
        super().__init__(kind, name)
        self.columns: list[Column] = []

    def AddColumn(self, column: Column) -> None:
        self.columns.append(column)

    def GetNumberOfRows(self) -> int:
        return len(self.columns[0])


KINDS = {
    "vtkMRMLScalarVolumeNode": VolumeNode,
    "vtkMRMLLabelMapVolumeNode": VolumeNode,
    "vtkMRMLSegmentationNode": SegmentationNode,
    "vtkMRMLTableNode": TableNode,
}


class Scene:
    """``slicer.mrmlScene``."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def AddNewNodeByClass(self, kind: str, name: str) -> Any:
        self.nodes.append(KINDS[kind](kind, name))
        return self.nodes[-1]

    def RemoveNode(self, node: Node) -> None:
        self.nodes.remove(node)

    def Clear(self, _: int) -> None:
        self.nodes.clear()


class Widget:
    """Any widget of Qt: remembers what it is given."""

    def __init__(self, *_: Any) -> None:
        self.items: list[str] = []
        self.values: list[int] = []
        self.slots: dict[str, Callable[..., Any]] = {}
        self.currentText, self.text, self.checked, self.node = "", "", False, None

    def addItems(self, items: list[str]) -> None:
        self.items += items
        self.currentText = self.currentText or self.items[0]

    def clear(self) -> None:
        self.items, self.currentText = [], ""

    def setCurrentText(self, text: str) -> None:
        self.currentText = text

    def setValue(self, value: int) -> None:
        assert type(value) is int
        self.values.append(value)

    def connect(self, signal: str, slot: Callable[..., Any]) -> None:
        self.slots[signal] = slot

    def setMRMLScene(self, _: Scene) -> None:
        pass

    def currentNode(self) -> Any:
        return self.node

    def addRow(self, *_: Any) -> None:
        pass

    addLayout = addStretch = addRow


class Parent:
    """What the classes of Slicer's modules stand on."""

    def __init__(self, parent: Any = None) -> None:
        self.parent, self.layout = parent, Widget()

    def setup(self) -> None:
        pass


class FakeSlicer:
    """The application: its scene, what was installed, and how the user answers."""

    def __init__(self) -> None:
        self.scene = Scene()
        self.installed: list[list[str]] = []
        self.asked: list[str] = []
        self.agrees = True
        self.pip_fails = False
        self.file = ""

    def add_volume(
        self, array: np.ndarray, matrix: Any = None, name: str = "", kind: str | None = None
    ) -> VolumeNode:
        if array.dtype.kind in "iu" and array.dtype.itemsize == 8:
            raise RuntimeError("Unsupported numpy array type: long long")
        node = self.scene.AddNewNodeByClass(kind or "vtkMRMLScalarVolumeNode", name)
        node.array = np.array(array, order="C")
        node.matrix = np.eye(4) if matrix is None else np.array(matrix)
        return node  # type: ignore[no-any-return]

    def import_labels(self, labels: VolumeNode, node: SegmentationNode) -> None:
        assert labels.kind == "vtkMRMLLabelMapVolumeNode"
        assert labels.array is not None
        node.labels, node.matrix = labels.array, labels.matrix
        node.segments = [Segment(int(value)) for value in np.unique(labels.array) if value]

    def ask(self, question: str, title: str) -> bool:
        self.asked.append(question)
        return self.agrees

    def pip_install(self, words: list[str]) -> None:
        if self.pip_fails:
            raise RuntimeError("pip ended with 1\nno space left")
        self.installed.append(words)

    def stand_in(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make ``import slicer``, ``qt`` and ``vtk`` find this."""
        util = SimpleNamespace(
            arrayFromVolume=lambda node: node.array,
            arrayFromVTKMatrix=lambda matrix: matrix.values.copy(),
            addVolumeFromArray=self.add_volume,
            confirmOkCancelDisplay=self.ask,
            pip_install=self.pip_install,
        )
        logic = SimpleNamespace(ImportLabelmapToSegmentationNode=self.import_labels)
        given = {
            "slicer": {
                "util": util,
                "mrmlScene": self.scene,
                "modules": SimpleNamespace(segmentations=SimpleNamespace(logic=lambda: logic)),
                "app": SimpleNamespace(processEvents=lambda: None),
                "qMRMLNodeComboBox": Widget,
            },
            "slicer.ScriptedLoadableModule": {
                f"ScriptedLoadableModule{end}": type(f"Base{end}", (Parent,), {})
                for end in ("", "Logic", "Test", "Widget")
            },
            "qt": {
                **dict.fromkeys(
                    ("QComboBox", "QCheckBox", "QPushButton", "QProgressBar", "QLabel"), Widget
                ),
                "QFormLayout": Widget,
                "QFileDialog": SimpleNamespace(getOpenFileName=lambda *_: self.file),
            },
            "vtk": {
                "vtkMatrix4x4": Matrix,
                "vtkIntArray": IntColumn,
                "vtkDoubleArray": Column,
                "vtkStringArray": StringColumn,
            },
        }
        for name, values in given.items():
            module = ModuleType(name)
            module.__dict__.update(values)
            monkeypatch.setitem(sys.modules, name, module)
