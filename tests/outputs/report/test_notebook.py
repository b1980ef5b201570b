"""The piece of HTML that a notebook shows: complete, escaped, small."""

from __future__ import annotations

import base64
import dataclasses
import re

import pytest

from ddmseg.interactive import Segmentation
from ddmseg.messages import NOTICE
from ddmseg.outputs.report.notebook import notebook_html
from ddmseg.quality.segmentation import StructureVolume

ATTACK = "<script>alert('x')</script>&\"\udcff"


def test_it_holds_verdict_picture_and_volumes(make_segmentation) -> None:
    segmentation = make_segmentation()
    html = notebook_html(segmentation)
    assert Segmentation.of(segmentation)._repr_html_() == html
    for told in ("<b>scan</b>", "✓ Pass", "expected Dice 0.91", "24 × 30 × 20 voxels", NOTICE):
        assert told in html
    rows = re.findall(r"<th scope=.*?>(\S+)</th><td>(\S+)</td><td>(.*?)</td>", html)
    assert rows[-1] == ("Right-Hippocampus", "3.58", "3.23 – 3.94")
    assert len(rows) == 3


def test_the_picture_is_a_png_within_and_nothing_is_loaded(make_segmentation) -> None:
    html = notebook_html(make_segmentation())
    (picture,) = re.findall(r'src="data:image/png;base64,([^"]*)"', html)
    assert base64.b64decode(picture).startswith(b"\x89PNG")
    assert "http" not in html
    assert "<script" not in html
    assert len(html) < 400_000


@pytest.mark.parametrize("verdict", ["pass", "warn", "fail"])
def test_whatever_comes_from_files_is_escaped(make_segmentation, verdict) -> None:
    plain = make_segmentation()
    evil = dataclasses.replace(
        plain,
        scan=dataclasses.replace(plain.scan, name=ATTACK),
        volumes=[StructureVolume(2, ATTACK, 1.0, 0.5, 2.0)],
        totals=[StructureVolume(0, f"{ATTACK} sum", 1.0, 0.5, 2.0)],
        quality=dataclasses.replace(plain.quality, verdict=verdict, reasons=[ATTACK]),
    )
    html = notebook_html(evil)
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt;&amp;&quot;\\xff") == 4
    html.encode()


def test_many_structures_are_folded_below_the_sums(make_segmentation) -> None:
    plain = make_segmentation()
    rows = [StructureVolume(n, f"Part-{n}", 1.0, 0.5, 2.0) for n in range(1, 12)]
    many = notebook_html(dataclasses.replace(plain, volumes=rows))
    assert "<summary>3 structures</summary>" in many
    brain = dataclasses.replace(plain, totals=[StructureVolume(0, "Brain", 1200.0, 1.0, 2.0)])
    shown, _, hidden = notebook_html(brain).partition("<details>")
    assert "Brain" in shown
    assert "<summary>3 structures</summary>" in hidden
    assert "Right-Hippocampus" in hidden


def test_a_scan_without_volumes_is_shown_too(make_segmentation) -> None:
    html = notebook_html(dataclasses.replace(make_segmentation(), volumes=[]))
    assert "No volumes were measured." in html
