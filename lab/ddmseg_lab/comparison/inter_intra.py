"""Inter and intra maps of whole subjects: ensembles trained, kept and applied to a row's data.

Followed (Fan, Cai and Niranjan 2024, arXiv 2405.04974): two ensembles of auto-encoders on
2-D slices, one of all slices and one of normal ones; the mean absolute difference of their
means and the spread of the second as two channels beside the image.

Different here, because the data are:
- Theirs are tumours, and normal means "without a tumour", a label of the whole slice that a
  reader gives. Here there is healthy anatomy: a slice is normal when it holds nothing of
  the classes that a source names in ``sought``. On the hippocampus crops these are both
  labels, on IBSR18 the ventricles, because every slice of a brain holds grey and white
  matter. The maps then say "unlike slices in front of and behind the structure", which for
  grey against white matter says nothing.
- One contrast instead of four, so the mean over contrasts is one number.
- The network that sees the maps is DDM, not a diffusion model that predicts noise.
- Maps are divided by their root mean square over training slices, to be of the image's size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ddmseg.datasets.source import Finish, LabelledSource, Once, padded
from ddmseg.datasets.sources import labelled_source
from ddmseg.datasets.subject import Subject
from ddmseg.errors import CheckpointError, ScanError, SettingsError, UsageError
from ddmseg.imaging.augmentation import centre
from ddmseg.models.checkpoint import first_reason, load_state, save_state
from ddmseg.models.device import working_seconds
from ddmseg.models.settings import DataSettings
from ddmseg.models.settings.retired import without_retired
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.randomness import seeded
from ddmseg_lab.comparison.auto_encoder import DiscrepancyMaps

SLICES_AT_ONCE = 16
FILE = "auto_encoders.safetensors"
"""Beside the weights of the network that sees the maps."""


@dataclass(frozen=True)
class Recipe:
    """How each auto-encoder is trained: plain Adam on the mean squared error of slices."""

    steps: int = 300
    batch: int = 8
    learning_rate: float = 2e-3
    seed: int = 0


def train_maps(
    subjects: Iterable[Subject],
    sought: Sequence[int],
    shape: tuple[int, int],
    recipe: Recipe | None = None,
) -> DiscrepancyMaps:
    """Train both ensembles on slices of training subjects.

    Args:
        sought: classes that a normal slice holds nothing of.
        shape: of the slices, cut about the middle of each; a multiple of 8.
    """
    recipe = recipe or Recipe()
    slices, normal = training_slices(subjects, sought, shape)
    count = int(normal.sum())
    if not 2 <= count < len(slices):
        raise ScanError(
            f"data.maps: {count} of {len(slices)} training slices hold nothing of "
            "what is sought; inter_intra needs at least 2 of each kind, so give more subjects"
        )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(recipe.seed)
        maps = DiscrepancyMaps(2, slices.shape[1])
    ensembles = (maps.of_all, slices), (maps.of_normal, slices[normal])
    for kind, (ensemble, seen) in enumerate(ensembles):
        for number, member in enumerate(ensemble):
            # each member has its own stream of draws
            _train_one(member, seen, recipe, stream=2 * number + kind)
    maps.eval().requires_grad_(False)
    maps.scale.copy_(_size_of_maps(maps, slices))
    return maps


def training_slices(
    subjects: Iterable[Subject], sought: Sequence[int], shape: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Return slices with any signal (``n c *shape``) and which of them are normal (``n``)."""
    slices, normal = [], []
    for subject in subjects:
        box = signal_box(subject.image)
        image = subject.image[(slice(None), *box)].movedim(1 + subject.slice_axis, 0)
        labels = subject.labels[box].movedim(subject.slice_axis, 0)
        for one, truth in zip(image, labels, strict=True):
            if one.any():
                slices.append(centre(one, truth, shape)[0])
                normal.append(not bool(torch.isin(truth, torch.tensor(sought)).any()))
    if not slices:
        raise ScanError("data.maps: the training subjects hold no signal; give other subjects")
    return torch.stack(slices), torch.tensor(normal)


def _train_one(network: nn.Module, slices: Tensor, recipe: Recipe, *, stream: int) -> None:
    optimiser = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate)
    for step in range(recipe.steps):
        generator = seeded(recipe.seed + stream, step)
        chosen = torch.randint(len(slices), (recipe.batch,), generator=generator)
        batch = slices[chosen]
        loss = F.mse_loss(network(batch), batch)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()


@torch.no_grad()
def _size_of_maps(maps: DiscrepancyMaps, slices: Tensor) -> Tensor:
    """Return the root mean square of both maps over at most 256 slices, spread evenly."""
    chosen = slices[torch.linspace(0, len(slices) - 1, min(256, len(slices))).long()]
    squares = [
        maps(part).square().mean(dim=(0, 2, 3)) * len(part)
        for part in torch.split(chosen, SLICES_AT_ONCE)
    ]
    return (torch.stack(squares).sum(0) / len(chosen)).sqrt().clamp_min(1e-6)


@torch.no_grad()
def subject_maps(maps: DiscrepancyMaps, subject: Subject) -> Tensor:
    """Return both maps of a subject (``2 i j k``), slice by slice; 0 outside its signal."""
    box = signal_box(subject.image)
    image = subject.image[(slice(None), *box)]
    result = torch.zeros(2, *subject.labels.shape)
    result[(slice(None), *box)] = by_slices(image, subject.slice_axis, maps.multiple, maps)
    return result


def by_slices(
    image: Tensor, axis: int, multiple: int, compute: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return what 2-D slices of an image across an axis become (``k i j k``), put together."""
    slices = image.movedim(1 + axis, 0)
    even = torch.stack([padded(one, one[0], multiple)[0] for one in slices])
    made = torch.cat([compute(part) for part in torch.split(even, SLICES_AT_ONCE)])
    return uncentred(made, slices.shape[2:]).movedim(0, 1 + axis)


def signal_box(image: Tensor) -> tuple[slice, ...]:
    """Return the smallest box of ``c i j k`` outside which all is 0; all of it when nothing is."""
    places = image.ne(0).any(0).nonzero()
    if not len(places):
        return (slice(None),) * (image.dim() - 1)
    low, high = places.amin(0).tolist(), places.amax(0).tolist()
    return tuple(slice(a, b + 1) for a, b in zip(low, high, strict=True))


def uncentred(x: Tensor, shape: Sequence[int]) -> Tensor:
    """Undo the even padding of ``centre`` on the last axes, as many as the shape has."""
    for axis, n in enumerate(shape, start=x.dim() - len(shape)):
        x = x.narrow(axis, (x.shape[axis] - n) // 2, n)
    return x


class Kept(NamedTuple):
    """Ensembles in eval mode, and the seconds that their training took."""

    maps: DiscrepancyMaps
    seconds: float


def keep_maps(
    folder: Path, settings: DataSettings, subjects: Iterable[Subject], sought: Sequence[int]
) -> Kept:
    """Return the ensembles of a run's folder, trained first unless they are of these settings."""
    path = folder / FILE
    if path.is_file() and _is_of(load_state(path)[1], settings):
        return load_maps(folder, settings)
    start = working_seconds()
    inside = settings.patch[:1] + settings.patch[-1:]
    maps = train_maps(subjects, sought, (inside[0], inside[1]))
    seconds = working_seconds() - start
    numbers = {"data": asdict(settings), "recipe": asdict(Recipe()), "seconds": seconds}
    save_state(path, maps.state_dict(), numbers)
    return Kept(maps, seconds)


def load_maps(folder: Path, settings: DataSettings) -> Kept:
    """Read a folder's ensembles."""
    path = folder / FILE
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; it comes with weights whose data have maps")
    tensors, numbers = load_state(path)
    if not _is_of(numbers, settings):
        raise CheckpointError(f"{path}: is of other data settings; train this row again")
    maps = DiscrepancyMaps(2, 1)
    try:
        maps.load_state_dict(tensors)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: does not fit the auto-encoders ({first_reason(error)}); train again"
        ) from error
    return Kept(maps.eval().requires_grad_(False), float(numbers["seconds"]))


def _is_of(numbers: dict[str, Any], settings: DataSettings) -> bool:
    try:
        stored = without_retired({"data": numbers["data"]})["data"]
        there = settings_from_dict(DataSettings, stored)
    except (KeyError, SettingsError):
        return False
    return there == settings and numbers.get("recipe") == asdict(Recipe())


def row_source(
    settings: DataSettings, root: str | None = None, *, run_folder: Path | None = None,
    training: bool = False,
) -> LabelledSource:  # fmt: skip
    """Open the data of a row, with the maps where ``data.maps`` asks for them.

    Args:
        root: folder of the data sets, None for the environment's.
        run_folder: where the weights of the run lie, and with them the auto-encoders of
            ``data.maps``. None where no example is drawn.
        training: make there what is missing.
    """
    if settings.maps == "none":
        return labelled_source(settings, root)
    return labelled_source(settings, root, finish=WithMaps(settings, root, run_folder, training))


class WithMaps(Finish):
    """Adds the maps to each subject that a source reads.

    The auto-encoders lie with the weights of the run, so that another process makes the
    same maps. They are looked for, and trained when need be, at the first subject.
    """

    def __init__(
        self, settings: DataSettings, root: str | None, folder: Path | None, train: bool
    ) -> None:
        self._settings, self._root, self._folder, self._train = settings, root, folder, train
        self._kept = Once(self._find)

    @property
    def parameters(self) -> int:
        """Of all auto-encoders."""
        return sum(p.numel() for p in self._kept().maps.parameters())

    @property
    def train_seconds(self) -> float:
        """That their training took."""
        return self._kept().seconds

    def __call__(self, subject: Subject) -> Subject:
        """Return the subject with both maps behind its scan."""
        maps = self._kept().maps
        start = working_seconds()
        channels = torch.cat([subject.image, subject_maps(maps, subject)])
        return replace(subject, image=channels, channel_seconds=working_seconds() - start)

    def _find(self) -> Kept:
        if self._folder is None:
            raise UsageError(
                "data.maps: inter_intra needs the auto-encoders that lie beside its weights; "
                "name the folder of the run"
            )
        if not self._train:
            return load_maps(self._folder, self._settings)
        plain = labelled_source(replace(self._settings, maps="none"), self._root)
        return keep_maps(self._folder, self._settings, plain.subjects("train"), plain.sought)
