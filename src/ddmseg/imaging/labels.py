"""FreeSurfer ids: names, colours, left and right, and the maps between protocols.

A *class* is a position in a tuple of ids such as ``ANATOMY_LABELS``; networks see classes, files
hold ids. A *protocol* is a way of drawing labels; the tables in ``protocols/`` say what a label of
one becomes in another.

Source: FreeSurferColorLUT.txt of FreeSurfer 7 (ids, names and colours).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from ddmseg.errors import UsageError
from ddmseg.imaging.volume import IdArray, WholeArray

Colour = tuple[int, int, int]

ANATOMY_LABELS: tuple[int, ...] = (
    *(0, 2, 3, 4, 5, 7, 8, 10, 11, 12, 13, 14, 15, 16, 17, 18, 24, 26, 28),
    *(41, 42, 43, 44, 46, 47, 49, 50, 51, 52, 53, 54, 58, 60),
)
"""FreeSurfer ids of the ``anatomy`` model: background and 32 structures."""
LESION = 77  # FreeSurfer id of white-matter lesions, which have no side
OWN_IDS = 40000  # ids above this are none of FreeSurfer's: ``protocols/own.tsv`` names them
HIPPOCAMPUS_LABELS: tuple[int, ...] = (0, 232, 231)
"""Ids of the ``hippocampus`` model: background, anterior (HP_head), posterior (HP_body).

FreeSurfer's ids for head and body name no side, for it stores each side in a file of its own;
neither do these. "Posterior" is body and tail together.
"""


@dataclass(frozen=True)
class Structure:
    """A FreeSurfer id with its name and its colour (red, green, blue; 0-255)."""

    index: int
    name: str
    colour: Colour


@dataclass(frozen=True)
class GenerationLabel:
    """A label of the training label maps.

    ``target`` is the FreeSurfer id a network learns for it (0: background); ``tissue`` is the name
    under which synthesis draws its intensity.
    """

    index: int
    name: str
    target: int
    tissue: str


def protocol_rows(name: str) -> list[dict[str, str]]:
    """Return the rows of one table of ``imaging/protocols``; UsageError when there is none such."""
    file = resources.files("ddmseg.imaging") / "protocols" / f"{name}.tsv"
    if not file.is_file():
        raise UsageError(f"protocol: got '{name}'; there is no table of that name")
    return list(csv.DictReader(file.read_text().splitlines(), delimiter="\t"))


@cache
def _structures() -> dict[int, Structure]:
    found = {}
    for row in (*protocol_rows("freesurfer"), *protocol_rows("own")):
        colour = (int(row["red"]), int(row["green"]), int(row["blue"]))
        found[int(row["index"])] = Structure(int(row["index"]), row["name"], colour)
    return found


def structure(index: int) -> Structure:
    """Return name and colour of an id of FreeSurfer or ``protocols/own.tsv``; else UsageError.

    >>> structure(17).name
    'Left-Hippocampus'
    """
    known = _structures()
    if index not in known:
        raise UsageError(f"label: got {index}; it must be one of the ids {sorted(known)}")
    return known[index]


def mirror_index(index: int) -> int:
    """Return the id of the same structure on the other side (itself on the midline).

    >>> mirror_index(17), mirror_index(16)
    (53, 16)
    """
    other = other_side(structure(index).name)
    return next((item.index for item in _structures().values() if item.name == other), index)


def on_other_side(labels: Sequence[int]) -> list[int]:
    """Return for each class the one of the other side, itself for background and midline."""
    others = [mirror_index(index) if index else 0 for index in labels]
    missing = [structure(index).name for index in others if index not in labels]
    if missing:
        raise UsageError(f"labels: {missing[0]} is not among them; give both sides")
    return [labels.index(index) for index in others]


def other_side(name: str) -> str:
    """Return the name of the same structure on the other side (itself on the midline)."""
    for here, there in (("Left-", "Right-"), ("Right-", "Left-")):
        if name.startswith(here):
            return there + name.removeprefix(here)
    return name


@cache
def generation_labels() -> tuple[GenerationLabel, ...]:
    """Return the labels of the 20 training label maps, background first.

    Lesions and vessels become white matter and choroid plexus its ventricle: what surrounds them in
    the maps. Optic nerve, spinal cord and the tissues of the head are background to a network.
    """
    return tuple(
        GenerationLabel(int(row["index"]), row["name"], int(row["target"]), row["tissue"])
        for row in protocol_rows("generation")
    )


@cache
def generation_mirror() -> tuple[int, ...]:
    """Return for each generation label the position of its other-side partner."""
    names = [label.name for label in generation_labels()]
    position = {name: place for place, name in enumerate(names)}
    return tuple(position[other_side(name)] for name in names)


def protocol_map(name: str) -> dict[int, int]:
    """Return ``{id in the protocol: FreeSurfer id}`` of a table in ``protocols/``."""
    return {int(row["index"]): int(row["target"]) for row in protocol_rows(name)}


def remap(labels: WholeArray, mapping: Mapping[int, int]) -> IdArray:
    """Replace each label (at least 0) by its image under ``mapping``; others become 0."""
    if labels.size and int(labels.min()) < 0:
        raise UsageError(f"labels: got {int(labels.min())}; label ids must be at least 0")
    table = np.zeros(max([int(labels.max(initial=0)), *mapping]) + 1, dtype=np.int32)
    table[list(mapping)] = list(mapping.values())
    replaced: IdArray = table[labels]
    return replaced


def classes_of(ids: WholeArray, labels: Iterable[int]) -> IdArray:
    """Return class positions for FreeSurfer ids; ids outside ``labels`` become class 0."""
    return remap(ids, {index: place for place, index in enumerate(labels)})


def count_voxels(labels: WholeArray) -> dict[int, int]:
    """Return how many voxels each id (at least 0) has that occurs, ids in order."""
    # Four times as fast as to look for what is unique.
    counts = np.bincount(labels.ravel("K"))
    found = np.flatnonzero(counts)
    return dict(zip(found.tolist(), counts[found].tolist(), strict=True))


def labelled_box(labels: WholeArray) -> tuple[slice, ...]:
    """Return the smallest box that holds every label but 0; the whole grid without any."""
    from scipy.ndimage import find_objects

    found = find_objects((labels != 0).astype(np.uint8))
    return found[0] if found else tuple(slice(0, n) for n in labels.shape)


def dseg_table(labels: Iterable[int]) -> list[dict[str, str]]:
    """Return rows ``index, name, color`` for a BIDS ``_dseg.tsv``, background left out.

    Source: BIDS 1.9, Imaging derivatives, "Discrete segmentations".
    """
    found = (structure(index) for index in labels if index != 0)
    colour = "#{:02x}{:02x}{:02x}".format
    return [
        {"index": str(one.index), "name": one.name, "color": colour(*one.colour)} for one in found
    ]
