"""Level 2: patches at 1 mm, told what level 1 says, only where its discrepancy says it pays.

Level 1 sees the whole head at 2 mm and so knows where everything is; level 2 sees a few
centimetres at 1 mm and so knows where edges run. Its answers are blended into level 1's,
interpolated, with weights that fall off towards the border of a patch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ddmseg.imaging.grid import IndexMap, Shape3, three
from ddmseg.imaging.preprocess import Prepared, prepare
from ddmseg.imaging.resample import resample
from ddmseg.imaging.volume import Volume
from ddmseg.maths.discrepancy import right_probability
from ddmseg.maths.encoding import MaskEncoding
from ddmseg.maths.expected_dice import expectation
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.tiling import bell, tiles
from ddmseg.pipeline.checkpoint import Card, load_weights
from ddmseg.pipeline.ensemble import Answer
from ddmseg.pipeline.quality.assessment import Assessment, calibrated
from ddmseg.pipeline.scan_encoding import within
from ddmseg.pipeline.zoo import second_level_path

OVERLAP = 0.25
"""Least share that neighbouring patches have in common."""
MARGIN_MM = 4.0
"""Kept around level 1's foreground, so that level 2 can grow it."""
PAYS = 0.02
"""Expected share of wrong voxels in level 1's foreground from which a patch is looked at."""
WEIGHT_OF_FIRST = 0.02
"""Of level 1's answer in the blend, against 1 in the middle of a patch."""

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Refined:
    """A finer answer, on a grid of its own.

    Attributes:
        prepared: the scan on that grid, and the way back.
        answer: class probabilities there; no samples.
        assessment: what the discrepancy of both levels says of it.
        patches: looked at, of so many in all.
        all_patches: that the head has.
    """

    prepared: Prepared
    answer: Answer
    assessment: Assessment
    patches: int
    all_patches: int


class LevelTwo:
    """The second level of a model.

    Args:
        model: in eval mode; sees the scan and level 1's expected mask.
        card: of its weights.
    """

    def __init__(self, model: DiscrepancyDiffusionSegmenter, card: Card) -> None:
        self.model = model.eval()
        self.card = card

    @classmethod
    def beside(cls, weights: Path, card: Card) -> LevelTwo | None:
        """Load the second level whose weights lie beside those of the first.

        Args:
            weights: file of the first level, such as ``anatomy.safetensors``; the second
                level is ``anatomy_fine.safetensors``.
            card: of the first level.

        Returns:
            None where there is none, or it is of other structures.
        """
        path = second_level_path(weights)
        if path is None:
            return None
        model, own = load_weights(path)
        return cls(model, own) if own.labels == card.labels else None

    @torch.inference_mode()
    def refine(
        self,
        scan: Volume,
        first: Prepared,
        answer: Answer,
        assessment: Assessment,
        *,
        device: torch.device,
        patches: int | None = None,
        progress: Callable[[float], None] | None = None,
        require_room: Callable[[int], None] | None = None,
    ) -> Refined:
        """Look at the patches that pay, the most doubtful first.

        Args:
            scan: as read.
            first: the scan as level 1 saw it, cut to what its answer is of.
            answer: of level 1.
            assessment: of that answer.
            device: where to compute.
            patches: look at so many at most.
            progress: gets the fraction done.
            require_room: gets the voxels of the fine grid before anything large is made of
                them; raises where they are too many.
        """
        self.model.to(device)
        prepared, to_first = self._grid(scan, first, answer)
        if require_room is not None:
            require_room(prepared.image.size)
        blend = _Blend.of_first(prepared, to_first, answer, assessment, self._temperature)
        guide = self._guide(answer, to_first, three(prepared.image.shape))
        image = torch.from_numpy(prepared.image)[None]
        every, chosen = self._chosen(blend)
        for number, box in enumerate(chosen[:patches]):
            view = torch.cat([image[(slice(None), *box)], guide[(slice(None), *box)]])
            p, D = self._look(view[None].to(device))
            blend.add(box, p.cpu(), D.cpu())
            if progress is not None:
                progress((number + 1) / len(chosen[:patches]))
        return self._refined(prepared, blend, len(chosen[:patches]), every)

    @property
    def _temperature(self) -> float:
        return float(self.card.settings["loss"]["temperature"])

    def _grid(self, scan: Volume, first: Prepared, answer: Answer) -> tuple[Prepared, IndexMap]:
        """Prepare the scan at 1 mm, cut to level 1's foreground, with the map to its grid."""
        spacing = float(self.card.settings["data"]["spacing_mm"])
        multiple = self.model.multiple
        whole = prepare(scan, spacing_mm=spacing, multiple=multiple, crop_to_head=True)
        to_first = whole.to_input.then(first.to_input.inverse())
        inside = (answer.probabilities.argmax(1)[0] > 0).cpu().numpy()
        margin = round(MARGIN_MM / spacing)
        box = []
        for axis, n in enumerate(whole.image.shape):
            along = np.flatnonzero(inside.any(axis=tuple(a for a in range(3) if a != axis)))
            places = along if len(along) else np.array([0, inside.shape[axis] - 1])
            scale, offset = to_first.scale[axis], to_first.offset[axis]
            low, high = ((place - offset) / scale for place in (places[0] - 0.5, places[-1] + 0.5))
            start = max(0, round(low) - margin) // multiple * multiple
            stop = min(n, -(-(round(high) + 1 + margin) // multiple) * multiple)
            box.append(slice(start, stop))
        prepared = within(whole, tuple(box))
        return prepared, prepared.to_input.then(first.to_input.inverse())

    def _guide(self, answer: Answer, to_first: IndexMap, shape: Shape3) -> Tensor:
        """Return level 1's expected mask on the fine grid (``m i j k``)."""
        codes = MaskEncoding(self.model.classes)
        coarse = codes.of_probabilities(answer.probabilities.float().cpu())[0]
        background = codes.codebook[0].tolist()
        fine = [
            resample(channel.numpy(), to_first, shape, fill=outside)
            for channel, outside in zip(coarse, background, strict=True)
        ]
        return torch.from_numpy(np.stack(fine))

    def _chosen(self, blend: _Blend) -> tuple[int, list[Box]]:
        """Return how many patches hold foreground, and those that pay, worst first."""
        size = _patch(self.card, blend.shape)
        rows = []
        for box in tiles(blend.shape, size, OVERLAP, self.model.multiple):
            inside = float(blend.inside[box].sum())
            if inside:
                rows.append((float(blend.doubt[box].sum()), inside, box))
        paying = [(wrong, box) for wrong, inside, box in rows if wrong >= PAYS * inside]
        return len(rows), [box for _, box in sorted(paying, key=lambda row: -row[0])]

    def _look(self, view: Tensor) -> tuple[Tensor, Tensor]:
        """Return class probabilities (``k i j k``) and discrepancy (``i j k``) of a patch."""
        encoding = self.model.encode(view)
        p = torch.softmax(encoding.coarse_logits, dim=1)
        D = self.model.discrepancy_map(encoding, p.argmax(1))
        return p[0], D[0, 0]

    def _refined(self, prepared: Prepared, blend: _Blend, patches: int, every: int) -> Refined:
        p, D = blend.result()
        labels = p.argmax(0)
        right = right_probability(D, temperature=self._temperature)
        expected = expectation(labels, right, p)
        assessment = Assessment(
            labels[None], D[None, None], expected, calibrated(self.card, expected.mean_dice)
        )
        finer = Answer(p[None], torch.zeros(0), torch.zeros(0, len(p)), 0)
        return Refined(prepared, finer, assessment, patches, every)


@dataclass(frozen=True)
class _Blend:
    """Sums of weighted answers on the fine grid, level 1's among them.

    Attributes:
        p: class probabilities times weight (``k i j k``).
        D: discrepancy times weight.
        weight: the weights.
        doubt: probability that level 1's label is wrong.
        inside: level 1's foreground.
    """

    p: Tensor
    D: Tensor
    weight: Tensor
    doubt: Tensor
    inside: Tensor

    @classmethod
    def of_first(
        cls,
        prepared: Prepared,
        to_first: IndexMap,
        answer: Answer,
        assessment: Assessment,
        temperature: float,
    ) -> _Blend:
        shape = three(prepared.image.shape)
        coarse = answer.probabilities[0].float().cpu()
        p = torch.zeros((len(coarse), *shape))
        for number, values in enumerate(coarse):
            fill = float(number == 0)
            fine = resample(values.numpy(), to_first, shape, fill=fill)
            p[number] = torch.from_numpy(fine)
        first_D = assessment.discrepancy[0, 0].float().cpu()
        D = torch.from_numpy(resample(first_D.numpy(), to_first, shape))
        doubt = 1 - right_probability(D, temperature=temperature)
        weight = torch.full(shape, WEIGHT_OF_FIRST)
        inside = p[0] < 0.5
        return cls(p.mul_(WEIGHT_OF_FIRST), D * WEIGHT_OF_FIRST, weight, doubt, inside)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.weight.shape)

    def add(self, box: Box, p: Tensor, D: Tensor) -> None:
        share = bell(tuple(D.shape), D)
        self.p[(slice(None), *box)].addcmul_(p, share[None])
        self.D[box].addcmul_(D, share)
        self.weight[box].add_(share)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return probabilities and discrepancy; the sums are used up."""
        return self.p.div_(self.weight), self.D.div_(self.weight)


def _patch(card: Card, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(n, p) for n, p in zip(shape, card.settings["data"]["patch"], strict=True))
