"""Which answer a scan gets: the coarse head's, or what mode and budget let samples make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ddmseg.inference.budget import Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_encoding import EncodedScan
from ddmseg.inference.scan_stages import PreparedScan, Progress
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import SamplingSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.networks.ensemble import Answer, Choice, Drawn, coarse_answer, sampled_answer
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import Assessment, assess
from ddmseg.quality.volumes import USUAL_WIDTH, Measured
from ddmseg.randomness import seeded

Assessed = tuple[Answer, Assessment]
"""An answer, and what to expect of it."""


class SamplingPolicy:
    """Answers encoded scans with one model."""

    def __init__(self, model: DiscrepancyDiffusionSegmenter, card: Card) -> None:
        self.model = model
        self.card = card
        self._own = settings_from_dict(SamplingSettings, card.settings["sampling"])

    @property
    def own_draw(self) -> Draw:
        """Steps and samples of the card."""
        return Draw(self._own.steps, self._own.samples)

    def coarse(self, encoded: EncodedScan) -> Assessed:
        """Return the coarse head's answer."""
        answer = coarse_answer(encoded.encoding)
        return answer, assess(self.model, self.card, encoded.encoding, answer)

    def answer(self, encoded: EncodedScan, begun: PreparedScan, coarse: Assessed) -> Assessed:
        """Spend what the mode asks for.

        Args:
            begun: the same before, with the options.
            coarse: the coarse head's answer.
        """
        options = begun.options
        if options.mode == "fast":
            return coarse
        if options.chooses_freely:
            return self._chosen(encoded, begun, coarse)
        own = self.own_draw
        draw = Draw(options.steps or own.steps, options.samples or own.samples)
        return self._timed_draw(encoded, begun, draw)

    def _chosen(self, encoded: EncodedScan, begun: PreparedScan, coarse: Assessed) -> Assessed:
        """Draw samples where the volumes of this scan are in more doubt than usual."""
        usual = self.card.calibration.get(USUAL_WIDTH)
        choice = Choice(usual, self._width(coarse))

        def stayed(because: str) -> Assessed:
            return replace(coarse[0], choice=replace(choice, stopped_because=because)), coarse[1]

        if usual is None:
            return stayed("the model does not know what is usual")
        if choice.coarse_width is None or choice.coarse_width <= usual:
            return replace(coarse[0], choice=choice), coarse[1]
        step = partial(one_step, self, encoded, begun)
        if begun.deadline is not None and not begun.deadline.allows(self.own_draw.steps, step):
            return stayed("no room")
        sampled = self._timed_draw(encoded, begun, self.own_draw)
        answer, assessment = sampled
        drawn = Drawn(answer.steps, answer.samples, assessment.expected_dice)
        choice = Choice(usual, choice.coarse_width, self._width(sampled), (drawn,), "all was run")
        return replace(answer, choice=choice), assessment

    def _width(self, found: Assessed) -> float | None:
        answer, assessment = found
        expected = assessment.expectation
        voxels = dict(zip(self.card.labels, expected.size.tolist(), strict=True))
        measured = Measured(self.card, voxels, expected, expected_voxel_ml=1.0, answer=answer)
        width = measured.width()
        return None if width is None else round(width, 3)

    def _timed_draw(self, encoded: EncodedScan, begun: PreparedScan, draw: Draw) -> Assessed:
        """Draw samples as long as there is time."""
        deadline = begun.deadline
        go_on = None if deadline is None else deadline.between_samples(draw.steps)
        return self.draw(encoded, begun.options, begun.progress, draw, go_on)

    def draw(
        self,
        encoded: EncodedScan,
        options: SegmentOptions,
        progress: Progress,
        draw: Draw,
        go_on: Callable[[int], bool] | None = None,
    ) -> Assessed:
        """Draw samples; return their answer and what to expect of it.

        Args:
            options: sampler, temperature, seed and trace.
            draw: steps and samples.
            go_on: is asked after each sample whether there is time for another.
        """
        own = self._own
        loss = self.card.settings["loss"]
        temperature = own.temperature if options.temperature is None else options.temperature
        sampler = MaskSampler(
            self.model,
            encoded.encoding,
            make_schedule(loss["schedule"], loss["schedule_shift"]),
            Guidance(own.guidance, own.guidance_scale, loss["temperature"]),
        )
        answer = sampled_answer(
            sampler,
            algorithm=options.sampler or own.sampler,
            steps=draw.steps,
            samples=draw.samples,
            temperature=temperature,
            coarse_share=own.coarse_share,
            generator=seeded(options.seed, 0),
            progress=lambda fraction: progress("denoise", fraction),
            trace=options.trace,
            go_on=go_on,
        )
        return answer, assess(self.model, self.card, encoded.encoding, answer)


def one_step(answering: SamplingPolicy, encoded: EncodedScan, begun: PreparedScan) -> None:
    """Do a step of a sample, for the clock to see how long it takes."""
    answering.draw(encoded, begun.options, begun.progress, Draw(1, 1))
