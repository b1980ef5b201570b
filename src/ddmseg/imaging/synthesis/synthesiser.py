"""Images made from label maps alone: an endless, labelled set of any contrast.

A label map is posed and bent (``deform``), each label is given an intensity (``contrast``), and the
image is spoilt as scanners spoil it (``artefacts``). Every patch is new, so nothing is stored and
the weights depend on no scan.

Source: Billot et al. 2023, SynthSeg, section 3 (the idea of a random contrast); the ordered tissue
ranges, the head texture and the masks are ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Generator, Tensor

from ddmseg.errors import ScanError, SettingsError
from ddmseg.imaging.intensity import normalise
from ddmseg.imaging.labels import ANATOMY_LABELS, LESION, generation_labels, generation_mirror
from ddmseg.imaging.synthesis import artefacts, deform
from ddmseg.imaging.synthesis.contrast import FAMILIES, Contrast, draw_contrast
from ddmseg.imaging.synthesis.deform import CSF, CompactHead, Image3D, Mask3D, Pose
from ddmseg.imaging.synthesis.lesions import control_points, draw_lesions
from ddmseg.imaging.synthesis.settings import SynthesisSettings
from ddmseg.randomness import draw_chance, draw_choice, draw_integer, draw_uniform

Classes3D = UInt8[Tensor, "i j k"]
WHITE_MATTER = (2, 41)
LATERAL_VENTRICLES = (4, 43)
LEAST_CONTRAST = 0.08
"""Between a lesion and white matter; what is fainter is not painted, for nobody could see it."""
INSIDE_SKULL = frozenset({"vein", "artery", "optic_nerve", "spinal_cord"})
"""Tissues that are no structure of the brain but lie within the skull."""
SLAB = 3  # voxels along k of the slab whose middle is a 2-D patch
TETRAHEDRON = ((0, 0, 0), (0, 1, 1), (1, 0, 1), (1, 1, 0))
"""Corners of a cube, as picks between its low and its high face on each axis."""


class LabelMapSynthesiser:
    """Draws pairs of a synthetic image and its classes.

    Args:
        label_maps: ids of ``generation_labels()`` on 1 mm grids in RAS orientation, int16 or wider.
        spacing_mm: voxel size of the patches, the same along all axes.
        labels: FreeSurfer ids of the classes, background first.

    The tables are built once; a call touches only the voxels of the patch.
    """

    def __init__(
        self,
        label_maps: Sequence[Tensor],
        settings: SynthesisSettings | None = None,
        *,
        spacing_mm: float = 2.0,
        patch_shape: tuple[int, ...] = (80, 96, 80),
        labels: tuple[int, ...] = ANATOMY_LABELS,
    ) -> None:
        if not label_maps:
            raise ScanError("label maps: got none; synthesis needs at least one")
        if spacing_mm <= 0:
            raise SettingsError(f"spacing_mm: got {spacing_mm}; it must be above 0")
        self.settings = settings or SynthesisSettings()
        self.spacing_mm = spacing_mm
        if len(patch_shape) not in (2, 3) or min(patch_shape) < 1:
            raise SettingsError(
                f"patch_shape: got {patch_shape}; give two or three numbers of at least 1"
            )
        self.flat = len(patch_shape) == 2
        i, j, k = (*patch_shape, SLAB)[:3]
        self.patch_shape = (i, j, k)
        known = generation_labels()
        ids = [LESION if label.tissue == "lesion" else label.target for label in known]
        targets = torch.tensor(ids if LESION in labels else [label.target for label in known])
        position = {index: place for place, index in enumerate(labels)}
        self._tissues = [label.tissue for label in known]
        self._class_of = torch.tensor([position.get(int(index), 0) for index in targets])
        self._class_of_mirrored = self._class_of[torch.tensor(generation_mirror())]
        lining = torch.tensor([label.tissue in INSIDE_SKULL for label in known])
        self._is_inside = (targets > 0) | lining
        self._is_brain = (targets > 0) & (targets != CSF)
        self._is_white = torch.isin(targets, torch.tensor(WHITE_MATTER))
        self._is_lateral = torch.isin(targets, torch.tensor(LATERAL_VENTRICLES))
        self._white_class = int(self._is_white.nonzero()[0]) if self._is_white.any() else 0
        self._lesion = position.get(LESION)
        self._heads = [deform.compact_head(label_map) for label_map in label_maps]

    def __call__(
        self, generator: Generator
    ) -> tuple[Float[Tensor, "contrast=1 *grid"], Int64[Tensor, "*grid"]]:
        """Draw one normalised image and its class indices (0 is background)."""
        settings = self.settings
        head = self._heads[draw_integer(generator, 0, len(self._heads))]
        family = draw_choice(generator, dict(zip(FAMILIES, settings.contrast_weights, strict=True)))
        contrast = draw_contrast(generator, self._tissues, family=family)
        flip = draw_chance(generator, settings.flip_probability)
        pose = self._draw_pose(head, generator, flip=flip)
        centre, corners = self._read_classes(head, pose)
        image, lesion = self._paint(centre, corners, contrast, generator)
        image = self._spoil(image, centre, generator)
        keep = self._draw_coverage(centre, generator)
        classes = _look_up(self._class_of_mirrored if flip else self._class_of, centre)
        if lesion is not None and self._lesion is not None:
            classes = classes.masked_fill(lesion, self._lesion)
        image = self._finish(image * keep, generator)
        classes = classes.masked_fill(keep < 0.5, 0)
        if self.flat:
            return image[None, :, :, SLAB // 2], classes[:, :, SLAB // 2]
        return image[None], classes

    def _draw_pose(self, head: CompactHead, generator: Generator, *, flip: bool) -> Pose:
        settings = self.settings
        extent = [count * self.spacing_mm for count in self.patch_shape]
        on_brain = draw_chance(generator, settings.brain_centred_probability)
        low, high = head.brain_box if on_brain else head.head_box
        room = ((high - low - torch.tensor(extent)) / 2).clamp_min(0.0)
        offsets = 2 * torch.rand(3, generator=generator) - 1
        centre = (low + high) / 2 + offsets * (room + settings.translation_mm)
        matrix = deform.draw_matrix(
            generator,
            rotation_deg=settings.rotation_deg,
            scaling=settings.scaling,
            shear=settings.shear,
            flip=flip,
        )
        displacement = deform.draw_displacement(
            generator,
            extent_mm=tuple(extent),
            spacing_mm=settings.elastic_spacing_mm,
            largest_std_mm=settings.elastic_std_mm,
        )
        return Pose(centre=centre, matrix=matrix, displacement=displacement)

    def _read_classes(self, head: CompactHead, pose: Pose) -> tuple[Classes3D, list[Classes3D]]:
        """The class at each voxel's centre and at four points around it.

        They lie a quarter of a voxel from it along each axis, for partial volume where structures
        meet.
        """
        positions = deform.sample_positions(pose, self.patch_shape, self.spacing_mm)
        strides = (head.shape[1] * head.shape[2], head.shape[2], 1)
        quarter = self.spacing_mm / 4

        def index(axis: int, shift: float) -> Tensor:
            rounded = (positions[axis] + shift).round_().clamp_(0, head.shape[axis] - 1)
            return rounded.int().mul_(strides[axis])

        def read(places: Tensor) -> Tensor:
            return head.classes.index_select(0, places.flatten()).view(self.patch_shape)

        centre = read(index(0, 0.0) + index(1, 0.0) + index(2, 0.0))
        faces = [[index(axis, sign * quarter) for sign in (-1, 1)] for axis in range(3)]
        corners = [read(faces[0][a] + faces[1][b] + faces[2][c]) for a, b, c in TETRAHEDRON]
        return centre, corners

    def _paint(
        self, centre: Classes3D, corners: list[Classes3D], contrast: Contrast, generator: Generator
    ) -> tuple[Image3D, Mask3D | None]:
        """Give each voxel the mean of its corners' intensities, plus texture and lesions."""
        shape = self.patch_shape
        quarter_mean = contrast.mean / len(corners)
        image = _look_up(quarter_mean, corners[0])
        for corner in corners[1:]:
            image += _look_up(quarter_mean, corner)
        points = control_points(shape, self.spacing_mm, every_mm=7.0)
        texture = artefacts.smooth_field(generator, shape, points=points).clamp_(-1.5, 1.5)
        lesion = None
        visible = abs(contrast.lesion_mean - float(contrast.mean[self._white_class]))
        if draw_chance(generator, self.settings.lesion_probability) and visible > LEAST_CONTRAST:
            white, lateral = (_look_up(x, centre) for x in (self._is_white, self._is_lateral))
            lesion = draw_lesions(white, lateral, generator, spacing_mm=self.spacing_mm)
            # Not all are alike in one scan, nor all as unlike white matter as they can be.
            strength = draw_uniform(generator, 0.5, 1.0) * (1 + 0.2 * texture[lesion])
            image[lesion] = image[lesion].lerp(image.new_tensor(contrast.lesion_mean), strength)
        spread = torch.randn(shape, generator=generator)
        image += texture.mul_(_look_up(contrast.texture, centre))
        image = image.add_(spread.mul_(_look_up(contrast.spread, centre))).clamp_min_(0.0)
        return image, lesion

    def _spoil(self, image: Image3D, centre: Classes3D, generator: Generator) -> Image3D:
        """Apply what happens in the scanner: blur, slices, bias, motion, ghosts, noise."""
        settings = self.settings
        sigma = [draw_uniform(generator, *settings.blur_mm) / self.spacing_mm for _ in range(3)]
        image = artefacts.blur(image, (sigma[0], sigma[1], sigma[2]))
        if draw_chance(generator, settings.thick_slice_probability):
            thickness = draw_uniform(generator, *settings.slice_thickness_mm)
            factor = max(1.0, thickness / self.spacing_mm)
            axis = draw_integer(generator, 0, 3)
            image = artefacts.thicken_slices(image, axis=axis, factor=factor)
        image = artefacts.multiply_bias(image, generator, largest_std=settings.bias_std)
        if draw_chance(generator, settings.motion_probability):
            image = artefacts.add_motion(
                image, generator, largest_voxels=artefacts.MOTION_MM / self.spacing_mm
            )
        if draw_chance(generator, settings.ghost_probability):
            image = artefacts.add_ghosts(image, generator)
        # Squared, because averaging to the voxel size leaves most scans with little noise.
        noise = settings.noise_std * draw_uniform(generator, 0.0, 1.0) ** 2
        image = artefacts.add_noise(image, generator, std=noise)
        if draw_chance(generator, settings.clean_background_probability):
            image = image.masked_fill_(centre == 0, 0.0)
        return image

    def _draw_coverage(self, centre: Classes3D, generator: Generator) -> Image3D:
        """The share of each voxel that is kept: skull stripping and field of view."""
        settings = self.settings
        keep = torch.ones(self.patch_shape)
        if draw_chance(generator, settings.skull_strip_probability):
            brain = _look_up(self._is_brain, centre)
            keep = artefacts.stripped_brain(
                brain, generator, spacing_mm=self.spacing_mm, range_mm=settings.strip_edge_mm
            )
            if draw_chance(generator, 0.5):  # a tool that stops at the skull
                keep = keep * _look_up(self._is_inside, centre)
        if draw_chance(generator, settings.cut_probability):
            seen = artefacts.field_of_view(
                self.patch_shape, generator, lowest=settings.cut_fraction
            )
            keep = keep * seen
        return keep

    def _finish(self, image: Image3D, generator: Generator) -> Image3D:
        """Bend the grey scale and normalise as every scan is."""
        settings = self.settings
        gamma = draw_uniform(generator, -settings.log_gamma, settings.log_gamma)
        gain = draw_uniform(generator, 1 - settings.gain, 1 + settings.gain)
        image = image.clamp_min(1e-6).pow(torch.e**gamma)
        try:
            image = normalise(image)
        except ScanError:  # a patch beside the head, or everything cut away
            return torch.zeros_like(image)
        return image.mul_(gain)


def _look_up(table: Tensor, classes: Classes3D) -> Tensor:
    return table.index_select(0, classes.flatten().int()).view(classes.shape)
