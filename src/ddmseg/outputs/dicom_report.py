"""The page of one result as a single picture, for where only pictures are shown.

Slices of three planes with outlines on the left; verdict, volumes and a legend on the
right. Nothing on it names the patient, the examination or a date.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import MissingExtraError
from ddmseg.imaging.dicom.reference import software_version
from ddmseg.messages import NOTICE
from ddmseg.outputs.report.figures import PLANES, Slice, Upright, colour_of
from ddmseg.outputs.report.thumbnail import paint_labels
from ddmseg.quality.segmentation import Segmentation, StructureVolume, format_ml

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

SLICES = 4
"""Slices of each plane."""
PANEL = 330
"""Pixels of the longest side of a slice."""
MARGIN = 24
TEXT_WIDTH = 520
LINE = 22

_GROUND, _INK, _QUIET, _RULE = (10, 12, 15), (226, 232, 240), (140, 150, 165), (44, 50, 60)
_VERDICTS = {
    "pass": ("PASS", (72, 187, 120)),
    "warn": ("LOOK FIRST", (236, 182, 60)),
    "fail": ("FAIL: DO NOT USE", (240, 96, 90)),
}
_ABOVE_TABLE = 300
"""Pixels that title, verdict and reasons take at most."""
_MOST_REASONS = 6
"""Lines of reasons that are shown; all of them stand in the report's other forms."""


def report_picture(segmentation: Segmentation) -> NDArray[np.uint8]:
    """Return the page as a picture: axes row, column and red, green, blue.

    Raises:
        MissingExtraError: when Pillow is not installed.
    """
    try:
        from PIL import Image, ImageDraw
    except ImportError as error:
        raise MissingExtraError("pillow", "dicom") from error
    left = MARGIN + SLICES * (PANEL + 8)
    rows = [row for row in segmentation.volumes if row.volume_ml > 0]
    height = max(len(PLANES) * (PANEL + 8) + 2 * MARGIN, _ABOVE_TABLE + (len(rows) + 4) * LINE)
    page = Image.new("RGB", (left + MARGIN + TEXT_WIDTH, height), _GROUND)
    _draw_slices(page, segmentation)
    pen = _Pen(ImageDraw.Draw(page), left + MARGIN, MARGIN, TEXT_WIDTH - MARGIN)
    _write_verdict(pen, segmentation)
    _write_volumes(pen, rows)
    pen.top = height - 2 * LINE
    pen.rule()
    pen.write(f"ddmseg {software_version()}; {NOTICE}", size=15, colour=_QUIET)
    return np.asarray(page, dtype=np.uint8).copy()


class _Pen:
    """Writes lines one below the other into a column."""

    def __init__(self, draw: ImageDraw.ImageDraw, left: int, top: int, width: int) -> None:
        self.draw, self.left, self.top, self.width = draw, left, top, width

    def write(
        self, text: str, *, size: int = 17, colour: tuple[int, int, int] = _INK, at: int = 0
    ) -> None:
        """Write a text ``at`` pixels from the left, and stay in the line."""
        self.draw.text((self.left + at, self.top), text, fill=colour, font=_font(size))

    def write_right(self, text: str, *, at: int, colour: tuple[int, int, int] = _INK) -> None:
        """Write a text that ends ``at`` pixels from the left, and stay in the line."""
        length = self.draw.textlength(text, font=_font(17))
        self.write(text, colour=colour, at=round(at - length))

    def down(self, pixels: int = LINE) -> None:
        """Go to a lower line."""
        self.top += pixels

    def rule(self) -> None:
        """Draw a thin line across the column."""
        across = (self.left, self.top + 4, self.left + self.width, self.top + 4)
        self.draw.line(across, fill=_RULE)
        self.down(12)


def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size)


def _draw_slices(page: Image.Image, segmentation: Segmentation) -> None:
    """A row of slices a plane, all to one scale, each with its place and its sides."""
    from PIL import Image, ImageDraw

    upright = Upright.of(segmentation)
    cuts = {plane: upright.slices(plane, SLICES) for plane in PLANES}
    longest_mm = max(max(cut.size_mm) for row in cuts.values() for cut in row)
    draw = ImageDraw.Draw(page)
    for row, plane in enumerate(PLANES):
        for column, cut in enumerate(cuts[plane]):
            left, top = MARGIN + column * (PANEL + 8), MARGIN + row * (PANEL + 8)
            picture = paint_labels(cut, longest_mm / PANEL)
            high, wide = picture.shape[:2]
            corner = (left + (PANEL - wide) // 2, top + (PANEL - high) // 2)
            page.paste(Image.fromarray(picture), corner)
            _mark(draw, cut, left, top)


def _mark(draw: ImageDraw.ImageDraw, cut: Slice, left: int, top: int) -> None:
    font, (one, other) = _font(14), cut.plane.marks
    middle = top + PANEL // 2 - 8
    draw.text((left + 4, middle), one, fill=_INK, font=font)
    draw.text((left + PANEL - 14, middle), other, fill=_INK, font=font)
    place = f"{cut.plane.name} {cut.position_mm:+.0f} mm"
    draw.text((left + 4, top + PANEL - 18), place, fill=_QUIET, font=font)


def _write_verdict(pen: _Pen, segmentation: Segmentation) -> None:
    quality = segmentation.quality
    word, colour = _VERDICTS[quality.verdict]
    pen.write("ddmseg brain structures", size=26)
    pen.down(38)
    pen.write(NOTICE.capitalize(), colour=_VERDICTS["warn"][1])
    pen.down(34)
    pen.write(word, size=26, colour=colour)
    pen.write_right(f"expected Dice {quality.dice_text}", at=pen.width)
    pen.down(36)
    lines = [line for reason in quality.reasons for line in textwrap.wrap(reason, 58)]
    for line in lines[:_MOST_REASONS]:
        pen.write(line, size=15, colour=_QUIET)
        pen.down(20)
    pen.rule()


def _write_volumes(pen: _Pen, rows: Sequence[StructureVolume]) -> None:
    pen.write("Structure", size=15, colour=_QUIET)
    pen.write_right("ml", at=330, colour=_QUIET)
    pen.write_right("95% interval", at=pen.width, colour=_QUIET)
    pen.down()
    for row in rows:
        top = pen.top + 4
        pen.draw.rectangle((pen.left, top, pen.left + 12, top + 12), fill=colour_of(row.index))
        pen.write(row.name, at=22)
        pen.write_right(format_ml(row.volume_ml), at=330)
        interval = f"{format_ml(row.interval_low_ml)} to {format_ml(row.interval_high_ml)}"
        pen.write_right(interval, at=pen.width, colour=_QUIET)
        pen.down()
    if not rows:
        pen.write("No structure was found in this scan.")
        pen.down()
