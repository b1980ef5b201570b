"""Rival heads on the frozen features of f^I: dropout, an ensemble, a Gaussian over logits.

All are small, correct the coarse head where it is not sure (``UncertainVoxels``), begin at random
and are trained side by side on the same made-up patches, for as many steps. What their answers
differ in is shared by all voxels, since independent noise averages out of a volume: a dropout mask
of whole channels (Gal and Ghahramani 2016; Tompson et al. 2015), other weights (Lakshminarayanan et
al. 2017), or the vector w of a stochastic segmentation network (Monteiro et al. 2020, arXiv
2006.06015):

    logits = mu + P w,    w ~ N(0, 1) of RANK numbers
    loss   = -log mean_s exp(sum_v log p(y_v | w_s)) / voxels
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from ddmseg.datasets.label_maps import list_cases, read_label_map
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.synthesis.synthesiser import LabelMapSynthesiser
from ddmseg.models.checkpoint import Card
from ddmseg.networks.blocks import at_voxels, log_probabilities
from ddmseg.networks.image_encoder import Encoding, FeatureEncoder
from ddmseg.networks.segmenter import DiscrepancyDiffusionSegmenter
from ddmseg.networks.uncertain_voxels import UncertainVoxels
from ddmseg.randomness import seeded
from ddmseg_lab.made_up_heads import KINDS, ORDER
from ddmseg_lab.studies.volume_rivals import EncodedHead, Rival, Said, joined, voxels
from ddmseg_lab.study import say

STEPS = 1000
LEARNING_RATE = 3e-3
MOST_VOXELS = 16384  # of a patch, drawn anew at each step
WIDTH, DROPOUT, MEMBERS, RANK, DRAWN = 64, 0.2, 5, 8, 8
"""Hidden channels; share dropped; heads of the ensemble; rank of P; masks and w drawn per scan."""
PLACES = 8  # voxels of a block
SEED = 77


class RowHead(nn.Module):
    """Logits of single voxels from the features of f^I at their places.

    Its inputs are features on half the grid and ``fine`` numbers: the image of a block and the
    place in it. ``dropout`` is the share of hidden channels that a mask takes away.
    """

    def __init__(
        self, blocks: int, fine: int, classes: int, *, dropout: float = 0.0, rank: int = 0
    ) -> None:
        super().__init__()
        self.hidden = nn.Linear(blocks + fine, WIDTH)
        self.logits = nn.Linear(WIDTH, classes)
        self.factor = nn.Linear(blocks, classes * rank) if rank else None
        self.dropout, self.rank = dropout, rank

    def forward(self, rows: Tensor, generator: Generator) -> Tensor:
        """Return logits (``n k``) of rows (:func:`rows_of`), under one mask that is drawn."""
        features = rows[:, : self.hidden.in_features]
        coarse = rows[:, self.hidden.in_features :]
        h = F.leaky_relu(self.hidden(features), 0.01)
        if self.dropout:
            keep = torch.rand(WIDTH, generator=generator) >= self.dropout
            h = h * keep / (1 - self.dropout)
        logits: Tensor = coarse + self.logits(h)
        return logits

    def drawn(self, mean: Tensor, rows: Tensor, generator: Generator) -> Tensor:
        """Return logits with P w added, for one w that is drawn."""
        assert self.factor is not None
        w = torch.randn(self.rank, generator=generator)
        # P w is linear in the features: its weights are summed over the rank first.
        weight = torch.einsum("kri,r->ki", torch.unflatten(self.factor.weight, 0, (-1, len(w))), w)
        bias = torch.unflatten(self.factor.bias, 0, (-1, len(w))) @ w
        return mean + F.linear(rows[:, : self.factor.in_features], weight, bias)


Heads = Mapping[str, RowHead]


def rival_heads(encoder: FeatureEncoder, classes: int) -> Heads:
    """Return all heads on features of an encoder, their weights at random."""
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        # the image of a block, and which of its voxels is asked about
        fine = encoder.stem_width + PLACES
        make = partial(RowHead, encoder.pyramid_widths[0], fine, classes)
        heads = {f"member{n}": make() for n in range(MEMBERS)}
        return {"dropout": make(dropout=DROPOUT), "ssn": make(rank=RANK), **heads}


def rows_of(encoding: Encoding, places: Tensor) -> Tensor:
    """Return features and image of their blocks, places in these, and logits, at flat places."""
    i, j, k = torch.unravel_index(places, encoding.coarse.shape[2:])
    _, rows, columns = encoding.pyramid[0].shape[2:]
    block = (i // 2 * rows + j // 2) * columns + k // 2
    place = F.one_hot(4 * (i % 2) + 2 * (j % 2) + k % 2, PLACES).float()
    said = at_voxels(encoding.coarse, places)
    coarse = log_probabilities(said) if encoding.decided else said
    parts = at_voxels(encoding.pyramid[0], block), at_voxels(encoding.stem, block)
    return torch.cat([*(part[0].T for part in parts), place, coarse[0].T], dim=1)


def loss_of(head: RowHead, rows: Tensor, labels: Tensor, generator: Generator) -> Tensor:
    """Return the loss of a head per voxel, 0-d."""
    mean = head(rows, generator)
    if head.factor is None:
        return F.cross_entropy(mean, labels)
    sums = [
        -F.cross_entropy(head.drawn(mean, rows, generator), labels, reduction="sum")
        for _ in range(DRAWN)
    ]
    return (math.log(DRAWN) - torch.logsumexp(torch.stack(sums), dim=0)) / len(labels)


def patches(card: Card, data: str | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield made-up patches of the training maps without end, intact and degraded in turn."""
    cases = split_cases(list_cases(data), "label_maps").require("train")
    make = LabelMapSynthesiser(
        [read_label_map(case.labels) for case in cases if case.labels is not None],
        spacing_mm=float(card.settings["data"]["spacing_mm"]),
        patch_shape=tuple(card.settings["data"]["patch"]),
        labels=card.labels,
    )
    step = 0
    while True:
        make.settings = KINDS[ORDER[step % len(ORDER)]]
        yield make(seeded(SEED, step))
        step += 1


def trained_heads(
    model: DiscrepancyDiffusionSegmenter, card: Card, data: str | None, *, steps: int
) -> Heads:
    """Train all heads on the same patches, with f^I as it is."""
    heads = rival_heads(model.image_encoder, len(card.labels))
    optimiser = torch.optim.Adam(nn.ModuleDict(heads).parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    generator = seeded(SEED, -1)
    for step, (image, labels) in zip(range(steps), patches(card, data), strict=False):
        with torch.no_grad():
            encoding = model.encode(image[None])
            places = UncertainVoxels.of(encoding.coarse_probabilities).voxels
            chosen = torch.randperm(len(places), generator=generator)[:MOST_VOXELS]
            rows, true = rows_of(encoding, places[chosen]), labels.flatten()[places[chosen]]
        losses = {name: loss_of(head, rows, true, generator) for name, head in heads.items()}
        optimiser.zero_grad()
        torch.autograd.backward(list(losses.values()))
        optimiser.step()
        schedule.step()
        if step % 25 == 0:
            say(f"step {step}  " + "  ".join(f"{n} {x.item():.3f}" for n, x in losses.items()))
    return heads


def heads_of(
    model: DiscrepancyDiffusionSegmenter,
    card: Card,
    data: str | None,
    path: Path,
    *,
    steps: int = STEPS,
) -> Heads:
    """Return the trained heads kept in a file; train them where there is none."""
    heads = rival_heads(model.image_encoder, len(card.labels))
    if path.is_file():
        nn.ModuleDict(heads).load_state_dict(load_file(path))
        return heads
    heads = trained_heads(model, card, data, steps=steps)
    save_file(nn.ModuleDict(heads).state_dict(), path)
    return heads


def trained_rivals(heads: Heads) -> Mapping[str, Rival]:
    """Return what each kind of head says of a scan."""
    return {
        "dropout": partial(_ensemble, DRAWN * [heads["dropout"]]),
        "ensemble": partial(_ensemble, [heads[f"member{n}"] for n in range(MEMBERS)]),
        "ssn": partial(_low_rank, heads["ssn"]),
    }


def _ensemble(nets: Sequence[RowHead], head: EncodedHead) -> Said:
    """Ask several heads, or one several times under other masks."""
    asked = _Uncertain(head)
    return joined([asked.counts(net(asked.rows, asked.generator)) for net in nets])


def _low_rank(net: RowHead, head: EncodedHead) -> Said:
    asked = _Uncertain(head)
    mean = net(asked.rows, asked.generator)
    drawn = (net.drawn(mean, asked.rows, asked.generator) for _ in range(DRAWN))
    return joined([asked.counts(logits) for logits in drawn])


class _Uncertain:
    """The voxels of a scan that heads decide, with their features."""

    def __init__(self, head: EncodedHead) -> None:
        there = UncertainVoxels.of(head.encoding.coarse_probabilities)
        self.rows = rows_of(head.encoding, there.voxels)
        self.generator = head.generator
        self.classes = len(head.card.labels)
        labels = there.labels.long().flatten()
        self.sure = voxels(labels, self.classes) - voxels(labels[there.voxels], self.classes)

    def counts(self, logits: Tensor) -> Tensor:
        return self.sure + voxels(logits.argmax(1), self.classes)
