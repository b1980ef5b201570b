"""Heads with and without something that no model was shown, painted or real.

Masses, ring-enhancing masses and resection cavities are painted into T1 heads, wholly within one
cerebral hemisphere. Place and shape come from a seed, intensities from the scan. Nothing around
is pushed aside, as a real mass would. Real ones are two patients with multiple sclerosis and
one with a vestibular schwannoma.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Generator

from ddmseg.datasets.case import data_folder
from ddmseg.imaging.dicom.series import list_series, read_series
from ddmseg.imaging.labels import labelled_box
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.volume import Volume
from ddmseg.randomness import draw_integer, draw_uniform, seeded
from ddmseg_lab.scans import HEADS, Ids

PAINTED, REAL, TEST = "painted", "real", "test"
INTACT, EMPTIED = "intact", "hemisphere emptied"
KINDS = ("mass", "ring", "cavity")
SIZES_ML = (2.0, 10.0, 50.0)
EMPTIED_HEAD = "colin27_t1"
OTHER_HEADS = (EMPTIED_HEAD, "chris_t1")
PATIENTS = ("patient07", "patient19")
CONTRASTS = ("FLAIR", "T1", "T2")
SERIES = "siemens_avanto_t1gd.zip"
WHITE, GREY, VENTRICLES = (2, 41), (3, 42), (4, 43)
SIDES = ((2, 3, 10, 11, 12, 13, 17, 18, 26, 28), (41, 42, 49, 50, 51, 52, 53, 54, 58, 60))
"""Cerebrum left and right, without ventricles."""
LEFT_VENTRICLES = (4, 5)
FOLDS_MM = 3.0  # half the width of the folds that count as part of the hemisphere around them
IRREGULAR = 0.2  # standard deviation of a border, in radii
BORDER_MM = 0.7  # standard deviation of the Gaussian that gives a border partial volumes
RIM_MM = 3.0
SEED = 4711

Mask = NDArray[np.bool_]
Image = NDArray[np.float32]


@dataclass(frozen=True)
class Scan:
    """One scan as it will be measured."""

    set: str
    head: str
    person: str
    """Two scans of one person have one."""
    kind: str
    """What is in it, or the contrast."""
    ml: float
    """To paint; 0 for nothing."""
    path: Path
    number: int = 0
    """Of the head, which fixes what is drawn."""


def scans(data: str | None, *, test: bool = False) -> Iterator[Scan]:
    """Yield seven heads, intact and painted, then real patients; test scans when asked for."""
    heads = [(c.identifier, c.group, c.images[0]) for c in HEADS.cases("validation", data)]
    folder = data_folder("scans", data)
    heads += [(name, name, folder / f"{name}.nii.gz") for name in OTHER_HEADS]
    for number, (name, person, path) in enumerate(heads):
        painted = [(INTACT, 0.0), *((kind, ml) for ml in SIZES_ML for kind in KINDS)]
        painted += [(EMPTIED, 0.0)] * (name == EMPTIED_HEAD)
        for kind, ml in painted:
            yield Scan(PAINTED, name, person, kind, ml, path, number)
    for name in PATIENTS:
        for contrast in CONTRASTS:
            path = data_folder("open_ms", data) / name / f"{contrast}.nii.gz"
            yield Scan(REAL, name, name, f"multiple sclerosis, {contrast}", 0.0, path)
    path = data_folder("dicom", data) / SERIES
    yield Scan(REAL, "schwannoma", "schwannoma", "vestibular schwannoma, T1 Gd", 0.0, path)
    for case in HEADS.cases("test", data) if test else ():
        yield Scan(TEST, case.identifier, case.group, INTACT, 0.0, case.images[0])


def opened(scan: Scan, label: Callable[[Volume], Ids]) -> Volume:
    """Read a scan and paint into it what it should hold; ``label`` says where an intact head is."""
    if scan.path.suffix == ".zip":
        return read_series(list_series(scan.path)[0])
    volume = read_volume(scan.path)
    if scan.kind == EMPTIED:
        return emptied(volume, label(volume))
    if scan.kind not in KINDS:
        return volume
    place = KINDS.index(scan.kind) + len(KINDS) * SIZES_ML.index(scan.ml)
    generator = seeded(SEED, 100 * scan.number + place)
    return paint(volume, label(volume), scan.kind, scan.ml, generator)[0]


@dataclass(frozen=True)
class Levels:
    """What a scan shows fluid, grey and white matter as, and its noise (standard deviation)."""

    fluid: float
    grey: float
    white: float
    noise: float


def levels(image: Image, labels: Ids) -> Levels:
    """Return medians over what lies a voxel within each tissue; of fluid the lower quartile."""
    within = [ndimage.binary_erosion(np.isin(labels, ids)) for ids in (VENTRICLES, GREY, WHITE)]
    # Of a thin ventricle, most voxels hold its wall, too.
    fluid, grey, white = (
        float(np.percentile(image[own], part))
        for own, part in zip(within, (25, 50, 50), strict=True)
    )
    steps = np.diff(image, axis=0)[within[2][1:] & within[2][:-1]]
    noise = 1.4826 * np.median(np.abs(steps)) / np.sqrt(2)
    return Levels(fluid, grey, white, float(noise))


def hemisphere(labels: Ids, side: int, spacing_mm: tuple[float, ...]) -> Mask:
    """Return one side of the cerebrum with its folds, without ventricles (``*grid``)."""
    own = np.isin(labels, SIDES[side])
    near = ndimage.distance_transform_edt(~own, sampling=spacing_mm) <= FOLDS_MM
    closed = ndimage.distance_transform_edt(near, sampling=spacing_mm) > FOLDS_MM
    return np.asarray(own | (closed & np.isin(labels, (0, 24))))


def paint(
    volume: Volume, labels: Ids, kind: str, ml: float, generator: Generator
) -> tuple[Volume, Mask]:
    """Return the scan with so many ml of a mass, a ring-enhancing mass or a cavity, and where.

    Place, shape, intensity and texture are drawn; labels are FreeSurfer ids of the intact scan.
    """
    spacing, box = volume.spacing_mm, _around(labels)
    image, own = volume.data[box].astype(np.float32), labels[box]
    inside = hemisphere(own, draw_integer(generator, 0, 2), spacing)
    voxels = round(ml / volume.voxel_ml)
    mask = _grown(inside, inside & np.isin(own, WHITE), voxels, spacing, generator)
    look = levels(image, own)
    share = draw_uniform(generator, 0.0, 0.5)  # of the way from grey matter to fluid
    texture = 0.25 * (look.white - look.grey) * _smooth(image.shape, 3.0, spacing, generator)
    filled = look.grey + share * (look.fluid - look.grey) + texture
    if kind == "cavity":
        filled = np.full(image.shape, look.fluid, np.float32)
    elif kind == "ring":
        depth = ndimage.distance_transform_edt(mask, sampling=spacing)
        core = look.grey + 0.7 * (look.fluid - look.grey) + texture
        rim = look.white + 0.6 * (look.white - look.grey) + texture
        filled = np.where(depth > RIM_MM, core, rim)
    filled = filled + look.noise * torch.randn(image.shape, generator=generator).numpy()
    whole = np.zeros(volume.shape, bool)
    whole[box] = mask
    data = volume.data.astype(np.float32)
    data[box] = _blended(image, filled, mask, spacing)
    return replace(volume, data=data), whole


def emptied(volume: Volume, labels: Ids) -> Volume:
    """Return the scan with fluid in the place of the left half of the cerebrum."""
    mask = hemisphere(labels, 0, volume.spacing_mm) | np.isin(labels, LEFT_VENTRICLES)
    image = volume.data.astype(np.float32)
    look = levels(image, labels)
    noise = torch.randn(image.shape, generator=seeded(SEED, 0)).numpy()
    filled = look.fluid + look.noise * noise
    return replace(volume, data=_blended(image, filled, mask, volume.spacing_mm))


def _around(labels: Ids) -> tuple[slice, ...]:
    return tuple(slice(max(0, one.start - 5), one.stop + 5) for one in labelled_box(labels))


def _grown(
    inside: Mask, white: Mask, voxels: int, spacing_mm: tuple[float, ...], generator: Generator
) -> Mask:
    """Return an irregular ellipsoid around a place in white matter, cut where the side ends."""
    radius = float(0.75 / np.pi * voxels * np.prod(spacing_mm)) ** (1 / 3)  # of a ball
    depth = np.where(white, ndimage.distance_transform_edt(inside, sampling=spacing_mm), 0.0)
    # Half a radius deep; the deepest place where the head has none such.
    places = np.argwhere(depth >= min(radius / 2, depth.max()))
    centre = places[draw_integer(generator, 0, len(places))]
    axes = [draw_uniform(generator, 0.8, 1.25) for _ in centre]
    away = np.zeros(inside.shape, np.float32)
    for axis, along in enumerate(np.ogrid[tuple(slice(n) for n in inside.shape)]):
        away = away + ((along - centre[axis]) * spacing_mm[axis] / axes[axis]) ** 2
    rough = IRREGULAR * radius * _smooth(inside.shape, radius / 2, spacing_mm, generator)
    far = np.where(inside, np.sqrt(away) + rough, np.inf)
    mask = far <= np.partition(far.ravel(), voxels - 1)[voxels - 1]
    pieces, _ = ndimage.label(mask)
    return np.asarray(pieces == np.bincount(pieces[mask]).argmax())


def _smooth(
    shape: tuple[int, ...], sigma_mm: float, spacing_mm: tuple[float, ...], generator: Generator
) -> Image:
    white = torch.randn(shape, generator=generator).numpy()
    noise = ndimage.gaussian_filter(white, sigma_mm / np.asarray(spacing_mm))
    return np.asarray(noise / noise.std(), dtype=np.float32)


def _blended(
    image: Image, filled: NDArray[np.floating], mask: Mask, spacing_mm: tuple[float, ...]
) -> Image:
    """Return the image with other intensities in the mask, with partial volumes at its border."""
    sigma = BORDER_MM / np.asarray(spacing_mm)
    weight = ndimage.gaussian_filter(mask.astype(np.float32), sigma)
    blended = (1 - weight) * image + weight * np.maximum(filled, 0)
    return np.asarray(blended, dtype=np.float32)
