"""Which answer a scan gets: the coarse head's, or what mode and budget let samples make of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from ddmseg.inference.budget import Draw
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_encoding import EncodedScan
from ddmseg.inference.scan_stages import PreparedScan, Progress
from ddmseg.maths.adaptive import BUDGETS, climb
from ddmseg.maths.schedule import make_schedule
from ddmseg.models.checkpoint import Card
from ddmseg.models.settings import SamplingSettings
from ddmseg.models.settings_reader import settings_from_dict
from ddmseg.networks.ensemble import Answer, Choice, Drawn, coarse_answer, sampled_answer
from ddmseg.networks.sampling import Guidance, MaskSampler
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.quality.assessment import Assessment, assess
from ddmseg.quality.limits import Limits
from ddmseg.randomness import seeded

Assessed = tuple[Answer, Assessment]
"""An answer, and what to expect of it."""


class SamplingPolicy:
    """Answers encoded scans with one model.

    Attributes:
        enough: expected Dice from which on nothing more is spent.
    """

    def __init__(self, model: DiscrepancyDiffusionSegmenter, card: Card) -> None:
        self.model = model
        self.card = card
        self.enough = Limits.of(card).passes
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
            choice = Choice(self.enough, coarse[1].expected_dice)
            if coarse[1].expected_dice >= self.enough:
                return replace(coarse[0], choice=choice), coarse[1]
            return self._climb(encoded, begun, coarse, choice)
        own = self.own_draw
        draw = Draw(options.steps or own.steps, options.samples or own.samples)
        return self._timed_draw(encoded, begun, draw)

    def _climb(
        self, encoded: EncodedScan, begun: PreparedScan, coarse: Assessed, choice: Choice
    ) -> Assessed:
        """Spend more and more steps until the result is expected to pass, or time is over."""
        own, before = self.own_draw, choice.coarse_expected_dice
        drawn: list[Drawn] = []

        def has_room(steps: int) -> bool:
            step = partial(one_step, self, encoded, begun)
            return begun.deadline is None or begun.deadline.allows(steps, step)

        def run(steps: int) -> tuple[Assessed, float] | None:
            if not has_room(steps):
                return None
            outcome = self._timed_draw(encoded, begun, Draw(steps, own.samples))
            found = outcome[1].expected_dice
            drawn.append(Drawn(steps, outcome[0].samples, found))
            return outcome, found

        if not has_room(own.steps):
            return replace(coarse[0], choice=replace(choice, stopped_because="no room")), coarse[1]
        # The card's own steps come first: a one-step student begins with one.
        ladder = (own.steps, *(steps for steps in BUDGETS if steps > own.steps))
        effort = climb(run, quality=self.enough, budgets=ladder, start=before)
        choice = replace(choice, drawn=tuple(drawn), stopped_because=effort.reason)
        answer, assessment = coarse if effort.quality < before else effort.result
        return replace(answer, choice=choice), assessment

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
