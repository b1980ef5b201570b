"""What a study is, and the trained model it is made on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ddmseg.datasets.sources import labelled_source
from ddmseg.datasets.subject import LabelledSource, Subject
from ddmseg.errors import CheckpointError
from ddmseg.evaluation.scores import per_patient
from ddmseg.maths.case_scores import score_case
from ddmseg.maths.statistics import Interval
from ddmseg.models.checkpoint import Card, load_weights
from ddmseg.models.settings import Settings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.models.zoo import model_path
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.randomness import seeded
from ddmseg_lab.page import Target
from ddmseg_lab.studies.rows import Row, Rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray
    from torch import Generator

SEED = 0
"""Of all noise; subject number n draws from ``seeded(SEED, n)``."""


@dataclass(frozen=True)
class Trained:
    """A trained model with diffusion, and the scans to measure it on.

    Attributes:
        model: in eval mode.
        card: of its weights.
        settings: of its training, from the card.
        source: of its kind of data.
    """

    model: DiscrepancyDiffusionSegmenter
    card: Card
    settings: Settings
    source: LabelledSource

    def score(self, subject: Subject, labels: NDArray[Any]) -> dict[str, float]:
        """Return ``dice`` and ``hd95_mm``, means over structures, and how many are ``missed``.

        A missed structure counts as Dice 0 and is left out of the distance.
        """
        scores = score_case(
            subject.identifier,
            labels,
            subject.labels.numpy(),
            self.source.structures,
            spacing_mm=subject.spacing_mm,
        )
        found = {
            name: per_patient(scores, name)[subject.identifier] for name in ("dice", "hd95_mm")
        }
        return {**found, "missed": float(sum(score.hd95_mm == float("inf") for score in scores))}


def open_model(name: str, data: str | None) -> Trained:
    """Load a model and the scans it is for.

    Args:
        name: of a shipped model, or the path of a weights file.
        data: folder of the data sets, None for the environment's.

    Raises:
        UsageError: for an unknown model or one whose data have no test scans.
        CheckpointError: when the weights are damaged or have no diffusion.
        ScanError: when the data are not there.
    """
    path = model_path(name)
    model, card = load_weights(path)
    if model.denoiser is None:
        raise CheckpointError(f"{path}: a plain network without diffusion; give one with it")
    settings = settings_from_dict(Settings, card.settings)
    return Trained(model, card, settings, labelled_source(settings.data, data))


Measure = Callable[[Trained, Subject, int], Iterator[Row]]
"""``measure(trained, subject, number)`` yields the rows of one subject."""


@dataclass(frozen=True)
class Goal:
    """A figure that was aimed at, beside what the rows show.

    Attributes:
        target: the figure and its bound.
        measured: takes it from the rows, with an interval.
    """

    target: Target
    measured: Callable[[Rows], Interval]


@dataclass(frozen=True)
class Study:
    """One question and how it is answered.

    Attributes:
        name: as it is typed.
        question: in one line.
        words: columns of the rows that hold words, the conditions.
        numbers: columns that hold numbers; NaN where there is nothing to measure.
        measure: makes the rows of a subject.
        page: says in Markdown what the rows show.
        draw: draws it.
        caption: of the picture.
        inches: width and height of the picture.
        settings: what the rows depend on beside the weights; when it changes, they are old.
        goal: what was aimed at, None for nothing.
    """

    name: str
    question: str
    words: tuple[str, ...]
    numbers: tuple[str, ...]
    measure: Measure
    page: Callable[[Rows], str]
    draw: Callable[[Rows, Figure], None]
    caption: str
    inches: tuple[float, float] = (9.0, 3.8)
    settings: Mapping[str, Any] = field(default_factory=dict)
    goal: Goal | None = None


def noise_of(number: int) -> Generator:
    """Return the generator of a subject's noise; every condition of it starts from the same."""
    return seeded(SEED, number)
