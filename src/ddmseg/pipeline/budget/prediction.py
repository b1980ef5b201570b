"""Predicts what a scan will take: its sizes times the rates of this machine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ddmseg.networks.tiling import tile_shapes
from ddmseg.pipeline.budget.costs import Costs, Size
from ddmseg.pipeline.budget.given_up import KEY
from ddmseg.pipeline.budget.plan import wish_of
from ddmseg.pipeline.budget.spending import Spending
from ddmseg.pipeline.checkpoint import Card

if TYPE_CHECKING:
    from ddmseg.pipeline.inference import Segmenter
    from ddmseg.pipeline.scan_encoding import EncodedScan
    from ddmseg.pipeline.throughput.scan_stages import PreparedScan


def size_of(
    card: Card, scan_voxels: int, whole: Sequence[int], cropped: Sequence[int], *, multiple: int
) -> Size:
    """Return the voxels that each kind of work on a scan has to do with.

    Args:
        card: of the weights.
        scan_voxels: of the scan.
        whole: the model grid, which is encoded.
        cropped: the grid on which samples are drawn.
        multiple: of which tiles begin at one.
    """
    tiles = tile_shapes(whole, card.settings["data"]["patch"], multiple=multiple)
    return Size(scan_voxels, sum(map(math.prod, tiles)), math.prod(cropped))


def predicted(
    segmenter: Segmenter, begun: PreparedScan, encoded: EncodedScan | None = None, *, writes: bool
) -> Costs:
    """Predict the seconds of a scan; better so once it is cropped to what matters.

    Args:
        segmenter: knows its rates.
        begun: the prepared scan.
        encoded: the same with its features, where there are any yet.
        writes: whether writing the results counts.
    """
    assert begun.prepared is not None
    whole = begun.prepared.image.shape
    cropped = whole if encoded is None else encoded.prepared.image.shape
    size = size_of(
        segmenter.card, begun.scan.data.size, whole, cropped, multiple=segmenter.model.multiple
    )
    return segmenter.rates().costs(size, writes=writes)


def spending_of(segmenter: Segmenter, begun: PreparedScan) -> Spending | None:
    """Plan a prepared scan's budget; None where it has none.

    Raises:
        SettingsError: when it cannot be met; names the smallest that can.
    """
    if begun.deadline is None:
        return None
    costs = predicted(segmenter, begun, writes=begun.deadline.writes)
    wish = wish_of(begun.options, own=segmenter.answering.own_draw)
    return Spending(begun.deadline, costs, wish, segmenter.card.calibration.get(KEY, {}))
