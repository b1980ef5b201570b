"""What a NIfTI header says of place and values, checked before any voxel is read.

A header says where the scan lies up to three times: sform, qform and the voxel edges in pixdim.
Readers use the first that is set, so two that disagree are two scans, and which one a person sees
depends on the viewer. Here they are compared, and a difference is told.

Source: NIfTI-1 standard header (nifti1.h): "3D image orientation" methods 1 to 3, qfac, and the
units of xyzt_units; nifti_quatern_to_mat44 for quaternions longer than 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ddmseg.errors import Reason, ScanError
from ddmseg.imaging.grid import Grid, three
from ddmseg.imaging.source_file import coded_error
from ddmseg.imaging.volume import DoubleArray

MOST_DEGREES = 1.0  # sform and qform may differ by such a turn
MOST_VOXELS = 0.5  # their grids' middles may be so many of the shortest voxel edges apart
MOST_SPACING_SHARE = 0.01  # voxel edges of sform and pixdim may differ by such a share
LONGEST_QUATERNION = 1.01  # beyond 1 by rounding only; the rest is damage
MILLIMETRES = {0: 1.0, 1: 1000.0, 2: 1.0, 3: 0.001}
"""By the spatial units of xyzt_units: unknown, metre, millimetre, micrometre."""
NO_SCANS = {1002: "label map", 1003: "label map", 1006: "displacement field", 1007: "vector field"}
"""Intents whose values are no intensities; those from 2 to 24 are statistics."""
_LENGTHS = ("srow_x", "srow_y", "srow_z", "qoffset_x", "qoffset_y", "qoffset_z")
Notes = tuple[Reason, ...]


def check_values(header: Any, name: str, *, scan: bool) -> None:
    """Refuse a header whose scaling is damaged or, of a ``scan``, whose values are none."""
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not math.isfinite(slope) or (slope != 0 and not math.isfinite(intercept)):
        raise _damaged(name, f"slope {slope:g}, intercept {intercept:g}")
    intent = int(header["intent_code"])
    kind = "statistical map" if 2 <= intent <= 24 else NO_SCANS.get(intent)
    if scan and kind is not None:
        raise ScanError(f"{name}: this is a {kind}, not a scan; give the scan it was made from")


def mended(header: Any, name: str) -> tuple[Any, Notes]:
    """Return a header that says the same in millimetres and as the standard wants it, and notes.

    ``pixdim[0]`` becomes 1 or -1 by its sign, a quaternion hardly longer than 1 is shortened. The
    header of nibabel that came is left as it is.
    """
    header = header.copy()
    notes: list[Reason] = []
    code = int(header["xyzt_units"]) & 7
    if code not in MILLIMETRES:
        raise _damaged(name, f"lengths in the unit {code}, which is none")
    if MILLIMETRES[code] != 1.0:
        for field in _LENGTHS:
            header[field] = header[field] * MILLIMETRES[code]
        header["pixdim"][1:4] *= MILLIMETRES[code]
        header["xyzt_units"] = (int(header["xyzt_units"]) & ~7) | 2
        unit = "metres" if code == 1 else "micrometres"
        said = f"the header gives lengths in {unit}: the results have millimetres"
        notes.append(Reason(said, "units_converted", {"unit": unit}))
    qfac = float(header["pixdim"][0])
    if qfac not in (-1.0, 1.0):
        header["pixdim"][0] = -1.0 if qfac < 0 else 1.0
        if qfac != 0.0 and header["qform_code"] > 0 >= header["sform_code"]:
            taken = int(header["pixdim"][0])
            said = f"left and right may be exchanged: pixdim[0] is {qfac:g}, taken as {taken}"
            notes.append(Reason(said, "qfac_odd", {"qfac": f"{qfac:g}", "taken": taken}))
    _shorten_quaternion(header)
    return header, tuple(notes)


def place(header: Any, name: str) -> tuple[DoubleArray, Notes]:
    """Return the affine that readers use, if it is sound, and what is doubtful about it."""
    sform = header["sform_code"] > 0
    if not sform and header["qform_code"] <= 0:
        return _used(header.get_base_affine, name), (sides_unknown(),)
    if not sform:
        return _used(header.get_qform, name), ()
    affine = _used(header.get_sform, name)
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        return affine, ()  # refused by whoever uses it
    return affine, (*_against_pixdim(header, affine), *_against_qform(header, affine))


def sides_unknown() -> Reason:
    """Return the reason for a scan whose header says nothing of directions."""
    said = (
        "left and right cannot be known: the header gives no orientation (qform and sform code "
        "0); the axes were taken to run left, front and up, as most readers do"
    )
    return Reason(said, "sides_unknown", {})


def _used(get: Any, name: str) -> DoubleArray:
    from nibabel.spatialimages import HeaderDataError

    try:
        return np.asarray(get(), dtype=np.float64)
    except (HeaderDataError, ValueError) as error:
        raise _damaged(name, str(error)) from error


def _damaged(name: str, why: str) -> ScanError:
    said = f"the header is damaged ({why}); mend it first"
    return coded_error(name, said, "header_damaged", why=why)


def _shorten_quaternion(header: Any) -> None:
    fields = ("quatern_b", "quatern_c", "quatern_d")
    vector = [float(header[field]) for field in fields]
    length = math.hypot(*vector)
    if 1.0 < length <= LONGEST_QUATERNION:
        for field, value in zip(fields, vector, strict=True):
            header[field] = value / length


def _against_pixdim(header: Any, affine: DoubleArray) -> Notes:
    """Compare the voxel edges of the sform with those of pixdim, where it has some."""
    own = np.linalg.norm(affine[:3, :3], axis=0)
    told = np.abs(np.asarray(header["pixdim"][1:4], dtype=np.float64))
    known = np.isfinite(told) & (told > 0)
    if (np.abs(own - told)[known] <= MOST_SPACING_SHARE * told[known]).all():
        return ()
    shown = [" x ".join(f"{edge:.3g}" for edge in edges) for edges in (own, told)]
    said = (
        f"the header contradicts itself on the voxels: {shown[0]} mm by its sform, which was "
        f"used, {shown[1]} mm by its pixdim; volumes may be wrong"
    )
    return (Reason(said, "spacing_contradicted", {"sform": shown[0], "pixdim": shown[1]}),)


def _against_qform(header: Any, sform: DoubleArray) -> Notes:
    """Compare directions and place of sform and qform."""
    if header["qform_code"] <= 0:
        return ()
    try:
        qform = _used(header.get_qform, "")
        qgrid = Grid(three(header.get_data_shape()[:3]), qform)
    except ScanError:
        said = "the qform of the header is damaged: its sform was used alone"
        return (Reason(said, "qform_damaged", {}),)
    sgrid = Grid(qgrid.shape, sform)
    turn = _rotation(sform) @ _rotation(qform).T
    if np.linalg.det(turn) < 0:
        values = {"sform": sgrid.orientation, "qform": qgrid.orientation}
        said = (
            "the header contradicts itself on left and right: {sform} by its sform, which was "
            "used, {qform} by its qform".format(**values)
        )
        return (Reason(said, "sides_contradicted", values),)
    degrees = math.degrees(math.acos(min(1.0, max(-1.0, (np.trace(turn) - 1) / 2))))
    middle = (np.array(sgrid.shape, float) - 1) / 2
    apart_mm = float(np.linalg.norm(sgrid.world(middle) - qgrid.world(middle)))
    if degrees <= MOST_DEGREES and apart_mm <= MOST_VOXELS * min(sgrid.spacing_mm):
        return ()
    told = {"degrees": round(degrees, 2), "mm": round(apart_mm, 2)}
    said = (
        "the header contradicts itself on the place of the scan: sform, which was used, and "
        "qform differ by {degrees:g} degrees and {mm:g} mm".format(**told)
    )
    return (Reason(said, "place_contradicted", told),)


def _rotation(affine: DoubleArray) -> DoubleArray:
    """Return the nearest directions at right angles, of determinant 1 or -1."""
    u, _, vt = np.linalg.svd(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0))
    return np.asarray(u @ vt)
