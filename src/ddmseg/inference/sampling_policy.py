"""Which answer a scan gets: the coarse head's, or what mode and budget let samples make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from ddmseg.inference.budget import Draw
from ddmseg.inference.scan_stages import ScanRecord
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

    def coarse(self, encoded: ScanRecord) -> Assessed:
        """Return the coarse head's answer."""
        assert encoded.encoding is not None
        answer = coarse_answer(encoded.encoding)
        return answer, assess(self.model, self.card, encoded.encoding, answer)

    def answer(self, encoded: ScanRecord, coarse: Assessed) -> Assessed:
        """Spend what the mode asks for, given the coarse head's answer."""
        options, own = encoded.options, self.own_draw
        if options.mode == "fast":
            return coarse
        if options.chooses_freely:
            return self._chosen(encoded, coarse)
        draw = Draw(options.steps or own.steps, options.samples or own.samples)
        return self._timed_draw(encoded, draw)

    def _chosen(self, encoded: ScanRecord, coarse: Assessed) -> Assessed:
        """Draw samples where the volumes of this scan are in more doubt than usual."""
        usual, own = self.card.calibration.get(USUAL_WIDTH), self.own_draw
        deadline = encoded.deadline
        choice = Choice(usual, self._width(coarse))
        if usual is None:
            choice = replace(choice, stopped_because="the model does not know what is usual")
        elif choice.coarse_width is None or choice.coarse_width <= usual:
            pass
        elif deadline is None or deadline.allows(own.steps, lambda: self.draw(encoded, Draw(1, 1))):
            answer, assessment = sampled = self._timed_draw(encoded, own)
            drawn = Drawn(answer.steps, answer.samples, assessment.expected_dice)
            width = self._width(sampled)
            choice = Choice(usual, choice.coarse_width, width, (drawn,), "all was run")
            return replace(answer, choice=choice), assessment
        else:
            choice = replace(choice, stopped_because="no room")
        return replace(coarse[0], choice=choice), coarse[1]

    def _width(self, found: Assessed) -> float | None:
        answer, assessment = found
        expected = assessment.expectation
        voxels = dict(zip(self.card.labels, expected.size.tolist(), strict=True))
        measured = Measured(self.card, voxels, expected, expected_voxel_ml=1.0, answer=answer)
        width = measured.width()
        return None if width is None else round(width, 3)

    def _timed_draw(self, encoded: ScanRecord, draw: Draw) -> Assessed:
        """Draw the scan's samples, as long as there is time; nothing is drawn after them."""
        deadline = encoded.deadline
        go_on = None if deadline is None else deadline.between_samples(draw.steps)
        return self.draw(encoded, draw, go_on, last=True)

    def draw(
        self,
        encoded: ScanRecord,
        draw: Draw,
        go_on: Callable[[int], bool] | None = None,
        *,
        last: bool = False,
    ) -> Assessed:
        """Draw samples by the scan's options; return their answer and what to expect of it.

        Args:
            go_on: is asked after each sample whether there is time for another.
            last: the coarse head's probabilities may be written over.
        """
        own, options, loss = self._own, encoded.options, self.card.settings["loss"]
        assert encoded.encoding is not None
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
            temperature=own.temperature if options.temperature is None else options.temperature,
            coarse_share=own.coarse_share,
            generator=seeded(options.seed, 0),
            progress=lambda fraction: encoded.progress("denoise", fraction),
            trace=options.trace,
            go_on=go_on,
            last=last,
        )
        return answer, assess(self.model, self.card, encoded.encoding, answer)
