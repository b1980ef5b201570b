"""Colour tables of label ids, as other viewers read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from ddmseg.imaging.labels import Structure, structure

Viewer = Literal["freesurfer", "itk-snap", "slicer"]


def colour_table(viewer: Viewer, labels: Iterable[int]) -> str:
    """Return the text of a colour table for the ids of a model, background included.

    Args:
        viewer: ``freesurfer`` for ``FreeSurferColorLUT.txt``, ``itk-snap`` for a label
            description file, ``slicer`` for a ``.ctbl`` of 3D Slicer.

    >>> print(colour_table("freesurfer", [17]))
    0 Unknown 0 0 0 0
    17 Left-Hippocampus 220 216 20 0
    <BLANKLINE>
    """
    items = [structure(index) for index in sorted({0, *labels})]
    return "".join(f"{line}\n" for line in _LINES[viewer](items))


def _freesurfer(items: list[Structure]) -> Iterator[str]:
    """Source: FreeSurferColorLUT.txt: id, name, red, green, blue, 255 less opacity."""
    for item in items:
        yield " ".join(map(str, (item.index, item.name, *item.colour, 0)))


def _itk_snap(items: list[Structure]) -> Iterator[str]:
    """Source: ITK-SNAP label description file: id, colour, opacity, visible, mesh, name."""
    for item in items:
        shown = int(item.index > 0)
        numbers = (item.index, *item.colour, shown, shown, shown)
        yield " ".join(map(str, numbers)) + f' "{item.name if shown else "Clear Label"}"'


def _slicer(items: list[Structure]) -> Iterator[str]:
    """Source: colour table file of 3D Slicer: id, name, red, green, blue, opacity."""
    for item in items:
        yield " ".join(map(str, (item.index, item.name, *item.colour, 255 * (item.index > 0))))


_LINES: dict[Viewer, Callable[[list[Structure]], Iterator[str]]] = {
    "freesurfer": _freesurfer,
    "itk-snap": _itk_snap,
    "slicer": _slicer,
}
