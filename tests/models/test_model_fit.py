"""What the cards say to the choice of a series, and that reading them takes no torch."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from ddmseg.errors import UsageError
from ddmseg.imaging.dicom.series_selection import Trained
from ddmseg.models.card import LARGEST_CROP_MM, Card, of_card, trained_on


def test_the_shipped_models() -> None:
    assert trained_on("anatomy") == Trained("anatomy", max_slice_mm=6.5)
    assert trained_on("hippocampus") == Trained(
        "hippocampus", largest_crop_mm=LARGEST_CROP_MM, max_slice_mm=1.5, t1_alone=True
    )


@pytest.mark.parametrize(
    ("data", "t1_alone", "crop_mm"),
    [
        ({"kind": "label_maps"}, False, 0.0),
        ({"kind": "ibsr18"}, True, 0.0),
        ({"kind": "hippocampus", "synthetic_share": 0.5}, False, LARGEST_CROP_MM),
        ({}, False, 0.0),
    ],
)
def test_a_card_without_a_range_accepts_any_thickness(data, t1_alone, crop_mm) -> None:
    card = Card("own", (0, 17), {"data": data})
    assert of_card(card) == Trained("own", crop_mm, math.inf, t1_alone)


def test_an_unknown_model() -> None:
    with pytest.raises(UsageError, match="model: got 'anatomi'"):
        trained_on("anatomi")


def test_torch_is_not_needed() -> None:
    code = (
        "import sys; from ddmseg.models.card import trained_on; trained_on('anatomy'); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
