"""LPBA40: 40 healthy adults, T1, 56 structures drawn by hand.

Analyze pairs: ``delineation_space/S01/S01.delineation.skullstripped`` and
``.structure.label``, where the labels were drawn, and ``native_space/S01/S01.native.mri``
as scanned, without labels. Voxel edges are millimetres.

An Analyze file does not tell left from right, the labels do: odd ids are left, the
frontal lobe lies before the occipital one and the cerebellum below. Where there are
labels, they decide where the axes point; elsewhere it is ``ORIENTATION``, which is
Analyze's own rule and *unconfirmed* for the native scans, or the keyword.

``protocol_map("lpba40")`` gives FreeSurfer ids. The gyri hold grey and white matter
together and so have no FreeSurfer id; the cerebellum (181) is one structure here and
four there, so it has none either: compare it with 7, 8, 46 and 47 together. What a model
trained on this set writes is in ``model_ids``.

Source: Shattuck et al. 2008, doi:10.1016/j.neuroimage.2007.09.031; Laboratory of
Neuro Imaging. For research; the terms are on the download page.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ddmseg.datasets.case import Case, data_folder, require_cases
from ddmseg.datasets.patches import PatchSource
from ddmseg.datasets.split import fold_cases, with_labels
from ddmseg.datasets.subject import Subject, check_one_grid, on_model_grid
from ddmseg.errors import ScanError
from ddmseg.imaging.analyze import read_analyze
from ddmseg.imaging.grid import Grid
from ddmseg.imaging.labels import OWN_IDS, on_other_side, protocol_map, structure
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.models.settings import DataSettings
from ddmseg.models.settings.data import LPBA40_FOLDS

NAME = "lpba40"
Space = Literal["delineation", "native"]
SCANS = {"delineation": "delineation.skullstripped", "native": "native.mri"}
LABEL_ENDING = "delineation.structure.label"
FOLDS = LPBA40_FOLDS
"""Splits of ten subjects each."""

ORIENTATION = "LAS"
"""Where the axes point when nothing tells: the unflipped transverse order of Analyze."""

LEFT = (*range(21, 34, 2), *range(41, 50, 2), *range(61, 68, 2), *range(81, 92, 2), 161, 163, 165)
"""Ids of paired structures on the left; the right one is the next id."""
FRONTAL, OCCIPITAL = tuple(range(21, 35)), tuple(range(61, 69))
UPPER, LOWER = (27, 28, 41, 42, 43, 44), (181, 182)
"""Precentral, postcentral and superior parietal gyri; cerebellum and brain-stem."""


def model_ids() -> dict[int, int]:
    """Return ``{id of the set: id that a model trained on it writes}``, in the set's order.

    FreeSurfer's where it draws the same, else the set's own, counted from ``OWN_IDS``.

    >>> model_ids()[165], model_ids()[21]
    (17, 40021)
    """
    return {index: target or OWN_IDS + index for index, target in protocol_map(NAME).items()}


def list_cases(
    root: str | os.PathLike[str] | None = None, *, space: Space = "delineation"
) -> list[Case]:
    """Return the subjects of one space, by their header files; each is a group of its own.

    Folders are taken as the zips unpack, with or without ``LPBA40`` above them.
    """
    folder = data_folder(NAME, root)
    cases = []
    for scan in sorted(folder.glob(f"**/S[0-9][0-9].{SCANS[space]}.hdr*")):
        name = scan.name[:3]
        ends = ("", ".gz") if space == "delineation" else ()
        beside = (scan.with_name(f"{name}.{LABEL_ENDING}.hdr{end}") for end in ends)
        labels = next((path for path in beside if path.is_file()), None)
        cases.append(Case(name, (scan,), labels, name))
    pattern = f"{space}_space/S01/S01.{SCANS[space]}.hdr and .img or .img.gz"
    return require_cases(cases, folder, pattern)


def read_case(case: Case, *, orientation: str | None = None) -> tuple[Volume, LabelMap | None]:
    """Return scan and labels of a case in one space.

    ``orientation`` says where the axes i, j and k point, such as "RAS": None for what the
    labels say, or ``ORIENTATION`` without labels.

    Raises:
        ScanError: when a file cannot be read, the grids differ or the labels
            contradict the orientation.
    """
    scan = read_analyze(case.images[0])
    if case.labels is None:
        return scan.volume(orientation or ORIENTATION), None
    labels = read_analyze(case.labels)
    told = label_orientation(labels.data)
    if orientation and told and orientation.upper() != told:
        raise ScanError(
            f"{case.identifier}: orientation: got {orientation}; where the labels lie says {told}; "
            "leave it out"
        )
    chosen = told or orientation or ORIENTATION
    pair = scan.volume(chosen), labels.label_map(chosen)
    check_one_grid(case.identifier, pair)
    return pair


def label_orientation(labels: NDArray[Any]) -> str | None:
    """Return where the axes point by where the structures lie; None when too few are there.

    The axes run as those of the grid that these three directions span.
    """
    ids = labels.astype(np.int32, copy=False)
    ends = ((LEFT, tuple(index + 1 for index in LEFT)), (OCCIPITAL, FRONTAL), (LOWER, UPPER))
    apart = []
    for low, high in ends:
        centres = [
            ndimage.center_of_mass(np.isin(ids, group)) if np.isin(group, ids).any() else None
            for group in (low, high)
        ]
        if centres[0] is None or centres[1] is None:
            return None
        vector = np.subtract(centres[1], centres[0])
        apart.append(vector / max(float(np.linalg.norm(vector)), 1e-9))
    affine = np.eye(4)
    affine[:3, :3] = apart
    return Grid((2, 2, 2), affine).orientation


def write_nifti(
    case: Case, folder: str | os.PathLike[str], *, orientation: str | None = None
) -> list[Path]:
    """Write ``scans/S01_T1w.nii.gz`` and, with labels, ``labels/S01_dseg.nii.gz``.

    Then every command of ddmseg can read it. Files there are replaced. Returns the files.
    """
    from ddmseg.imaging.nifti_write import write_label_map, write_map

    scan, labels = read_case(case, orientation=orientation)
    written = [Path(folder) / "scans" / f"{case.identifier}_T1w.nii.gz"]
    write_map(written[0], scan.data, scan, description="LPBA40")
    if labels is not None:
        written.append(Path(folder) / "labels" / f"{case.identifier}_dseg.nii.gz")
        write_label_map(written[1], labels, scan)
    return written


VALIDATION_SUBJECTS = 4
IDS = model_ids()
CLASSES = {index: place for place, index in enumerate(IDS, start=1)}
"""Class of each id of the set."""
LABELS = (0, *IDS.values())
MIRRORED = torch.tensor(on_other_side(LABELS))


class Lpba40Source(PatchSource):
    """Patches of all folds but the one that is tested, in delineation space.

    The first four subjects of the fold after the tested one choose the weights and are
    not trained on.

    Raises:
        UsageError: when the fold is unknown or a split has no subject.
    """

    labels = LABELS
    always_present = LABELS[1:]
    structures: ClassVar = {CLASSES[index]: structure(own).name for index, own in IDS.items()}
    mirrored = MIRRORED
    data = (
        "LPBA40, Laboratory of Neuro Imaging (Shattuck et al. 2008), skull-stripped T1 with 56 "
        "structures in delineation space (40 subjects in 4 folds; split lpba40.tsv); for research"
    )
    licence = "not to be passed on without leave of the Laboratory of Neuro Imaging"

    def __init__(self, settings: DataSettings, root: str | None = None) -> None:
        cases, left_out = with_labels(list_cases(root))
        folds = fold_cases(cases, NAME, settings.fold, FOLDS, validation=VALIDATION_SUBJECTS)
        super().__init__(folds, settings, left_out)

    def read(self, case: Case) -> Subject:
        """Read a pair of Analyze files, turned as the labels say."""
        scan, labels = read_case(case)
        assert labels is not None, "cases without labels are left out"
        spacing_mm = self._settings.spacing_mm
        return on_model_grid(case.identifier, [scan], labels, CLASSES, spacing_mm=spacing_mm)
