"""Level 2: patches at 1 mm, told what level 1 says, only where its discrepancy says it pays.

Level 1 sees the whole head at 2 mm and so knows where everything is; level 2 sees a few
centimetres at 1 mm and so knows where edges run. Its answers are blended into level 1's,
interpolated, with weights that fall off towards the border of a patch. Its card may name the
structures that it decides (``sampling.decides``): those that it was measured to draw better.
The others keep level 1's probabilities, and patches without doubt about its own are not
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.pipeline.checkpoint import Card, load_weights
from ddmseg.pipeline.ensemble import Answer
from ddmseg.pipeline.level_blend import Blend
from ddmseg.pipeline.patch_choice import Box, choose_patches
from ddmseg.pipeline.quality.assessment import Assessment
from ddmseg.pipeline.scan_encoding import within
from ddmseg.pipeline.zoo import second_level_path

MARGIN_MM = 4.0
"""Kept around level 1's foreground, so that level 2 can grow it."""


@dataclass(frozen=True)
class Refined:
    """A finer answer, on a grid of its own.

    Attributes:
        prepared: the scan on that grid, and the way back.
        answer: class probabilities there; no samples.
        assessment: level 1's, whose calibration holds for it, with the labels of this answer;
            the discrepancy is level 1's, since that of level 2 is on another scale.
        wrong_before: share of the voxels of what level 2 decides that level 1 expects to be
            wrong in its own answer.
        wrong_after: the same in this one.
        patches: looked at.
    """

    prepared: Prepared
    answer: Answer
    assessment: Assessment
    wrong_before: float
    wrong_after: float
    patches: int


class LevelTwo:
    """The second level of a model.

    Args:
        model: in eval mode; sees the scan and level 1's expected mask.
        card: of its weights.

    Attributes:
        decides: FreeSurfer ids of the structures that it draws; all of the card's but the
            background where the card names none.
    """

    def __init__(self, model: DiscrepancyDiffusionSegmenter, card: Card) -> None:
        self.model = model.eval()
        self.card = card
        named = tuple(card.settings.get("sampling", {}).get("decides", ()))
        self.decides = named or card.labels[1:]
        self._own = torch.tensor([not named or index in named for index in card.labels])

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
        blend = Blend.of_first(
            prepared, to_first, answer, assessment, temperature=self._temperature, own=self._own
        )
        guide = self._guide(answer, to_first, three(prepared.image.shape))
        image = torch.from_numpy(prepared.image)[None]
        size = _patch(self.card, blend.shape)
        chosen = choose_patches(blend.doubt, blend.inside, size, self.model.multiple)[:patches]
        for number, box in enumerate(chosen):
            view = torch.cat([image[(slice(None), *box)], guide[(slice(None), *box)]])
            blend.add(box, *self._look(view[None].to(device), blend, box))
            if progress is not None:
                progress((number + 1) / len(chosen))
        return self._refined(prepared, blend, assessment, len(chosen))

    @property
    def _temperature(self) -> float:
        return float(self.card.settings["loss"]["temperature"])

    def _grid(self, scan: Volume, first: Prepared, answer: Answer) -> tuple[Prepared, IndexMap]:
        """Prepare the scan at 1 mm, cut to level 1's foreground, with the map to its grid."""
        spacing = float(self.card.settings["data"]["spacing_mm"])
        multiple = self.model.multiple
        whole = prepare(scan, spacing_mm=spacing, multiple=multiple, crop_to_head=True)
        to_first = whole.onto(first)
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
        return prepared, prepared.onto(first)

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

    def _look(self, view: Tensor, blend: Blend, box: Box) -> tuple[Tensor, Tensor]:
        """Return what to add of a patch: probabilities (``k i j k``), change of D (``i j k``).

        One judge for both: the change is from level 1's labels to those of the joined
        answer, both seen at 1 mm.
        """
        encoding = self.model.encode(view)
        p = blend.joined(box, torch.softmax(encoding.coarse_logits, dim=1)[0].cpu())
        before, after = (
            self.model.discrepancy_map(encoding, labels[None].to(view.device))[0, 0].cpu()
            for labels in (blend.first[box].long(), p.argmax(0))
        )
        return p, after - before

    def _refined(
        self, prepared: Prepared, blend: Blend, first: Assessment, patches: int
    ) -> Refined:
        p, D = blend.result()
        labels = p.argmax(0)
        decided = self._decided(labels) | self._decided(blend.first.long())
        assessment = replace(first, labels=labels[None], discrepancy=blend.first_D[None, None])
        finer = Answer(p[None], torch.zeros(0), torch.zeros(0, len(p)), 0)
        before, after = self._wrong(blend.first_D[decided]), self._wrong(D[decided])
        return Refined(prepared, finer, assessment, before, after, patches)

    def _wrong(self, D: Tensor) -> float:
        """Return the share of voxels that is expected to be wrong; 0 of none."""
        wrong = 1 - right_probability(D, temperature=self._temperature)
        return float(wrong.mean()) if len(D) else 0.0

    def _decided(self, labels: Tensor) -> Tensor:
        """Say where labels are structures that level 2 decides."""
        own = self._own.clone()
        own[0] = False
        return own[labels]


def _patch(card: Card, shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(min(n, p) for n, p in zip(shape, card.settings["data"]["patch"], strict=True))
