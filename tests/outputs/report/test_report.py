"""The page: complete in itself, escaped, the same every time, and true to its numbers."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from importlib import resources

import numpy as np
import pytest

from ddmseg.imaging.labels import structure
from ddmseg.imaging.nifti import read_volume
from ddmseg.imaging.volume import LabelMap, Volume
from ddmseg.outputs.report.page import grade, render_report, volume_tables
from ddmseg.quality.segmentation import (
    INTRACRANIAL,
    Asymmetry,
    Quality,
    StructureVolume,
    format_ml,
)
from ddmseg.quality.standing_out import StandingOut, StandingRegion

ATTACK = "<script>alert('x')</script>&\"$title"
VOID = {"meta", "input", "image", "use", "path", "br", "link", "img"}


class Page(HTMLParser):
    """Collects tags, attributes and text, and checks that tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID or tag == "path":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("script", "style"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def quality(**changes) -> Quality:
    return dataclasses.replace(Quality("pass", 0.91, {}, [], 10, 4), **changes)


def test_the_page_is_well_formed(make_segmentation) -> None:
    page = Page(render_report(make_segmentation()))
    assert page.open == []


def test_the_page_needs_nothing_from_outside(make_segmentation) -> None:
    html = render_report(make_segmentation())
    page = Page(html)
    links = [
        value
        for _, attributes in page.tags
        for key, value in attributes.items()
        if key in ("href", "src", "xlink:href", "action", "srcset")
    ]
    assert links
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    assert not page.all("link")
    assert "http" not in html
    assert "@import" not in html
    assert not re.search(r"url\(", html)
    assert "fetch(" not in html


def test_every_picture_that_is_shown_is_stored(make_segmentation) -> None:
    page = Page(render_report(make_segmentation()))
    stored = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(stored) == len(set(stored))
    shown = {attributes["href"][1:] for attributes in page.all("use")}
    assert shown <= set(stored)
    for kind in ("grey", "lines", "uncertainty", "discrepancy"):
        for plane in ("axial", "coronal", "sagittal"):
            assert f"{kind}-{plane}-0" in shown


@pytest.mark.parametrize("verdict", ["pass", "warn", "fail"])
def test_every_verdict_says_that_it_is_for_research_only(make_segmentation, verdict) -> None:
    page = Page(render_report(make_segmentation(quality=quality(verdict=verdict))))
    assert page.text.count("Research use only, not for diagnosis.") == 2
    assert f"verdict {verdict}" in [item.get("class") for item in page.all("section")]


def test_reasons_dice_and_effort_are_told(make_segmentation) -> None:
    told = quality(verdict="warn", expected_dice=0.734, reasons=["The scan is cut.", "It is dark."])
    text = Page(render_report(make_segmentation(quality=told))).text
    assert "Warn" in text
    assert "0.73" in text
    assert "The scan is cut." in text
    assert "It is dark." in text
    assert "10 steps × 4 samples" in text


def test_the_coarse_head_alone_is_called_so(make_segmentation) -> None:
    text = Page(render_report(make_segmentation(quality=quality(steps=0, samples=0)))).text
    assert "coarse head" in text


def test_an_unknown_expected_dice_is_called_so(make_segmentation) -> None:
    text = Page(render_report(make_segmentation(quality=quality(expected_dice=float("nan"))))).text
    assert "not known" in text
    assert "nan" not in text


def test_whatever_comes_from_outside_is_escaped(make_segmentation) -> None:
    plain = make_segmentation(quality=quality(verdict="fail", reasons=[ATTACK]))
    attacked = dataclasses.replace(
        plain,
        scan=Volume(plain.scan.data, plain.scan.affine, ATTACK),
        volumes=[dataclasses.replace(row, name=ATTACK) for row in plain.volumes],
        receipt={ATTACK: ATTACK, "model": ATTACK, "settings": {"mode": ATTACK, ATTACK: [ATTACK]}},
    )
    html = render_report(attacked)
    page = Page(html)
    assert len(page.all("script")) == 1
    assert "<script>alert" not in html
    assert page.text.count("alert('x')") > 8
    assert page.open == []


def test_no_time_gets_into_the_page_and_it_is_the_same_twice(make_segmentation) -> None:
    first, second = make_segmentation(), make_segmentation()
    slower = dataclasses.replace(
        second, receipt={**second.receipt, "seconds": {"encode": 99.25}, "encode_seconds": 77.5}
    )
    html = render_report(first)
    assert html == render_report(slower)
    assert "99.25" not in html


def test_the_receipt_is_shown_row_by_row(make_segmentation) -> None:
    text = Page(render_report(make_segmentation())).text
    assert "settings.mode" in text
    assert "settings.steps" in text


def test_facts_of_the_scan_are_told(make_segmentation) -> None:
    text = Page(render_report(make_segmentation(spacing_mm=(4.0, 4.0, 4.5)))).text
    for fact in ("24 × 30 × 20", "4 × 4 × 4.5 mm", "RAS", "anatomy", "auto"):
        assert fact in text


@pytest.mark.parametrize("date", ["2026-11-29", ""])
def test_the_day_of_the_scan_is_told_where_it_is_known(make_segmentation, date) -> None:
    made = make_segmentation()
    page = Page(
        render_report(dataclasses.replace(made, scan=dataclasses.replace(made.scan, date=date)))
    )
    assert ("Taken" in page.text) is bool(date)
    assert date in page.text


def test_structures_are_in_the_legend_and_have_a_colour(make_segmentation) -> None:
    html = render_report(make_segmentation())
    buttons = {item["data-structure"] for item in Page(html).all("button")}
    assert buttons == {"s2", "s41", "s53"}
    for index in (2, 41, 53):
        assert re.search(rf"\.s{index}\{{--c:#[0-9a-f]{{6}}\}}", html)


def test_a_scan_without_any_structure_has_a_page(make_segmentation) -> None:
    plain = make_segmentation(quality=quality(verdict="fail", reasons=["Nothing was found."]))
    nothing = LabelMap(np.zeros_like(plain.labels.data), plain.labels.affine)
    html = render_report(dataclasses.replace(plain, labels=nothing, volumes=[]))
    text = Page(html).text
    assert "No structure was found in this scan." in text
    assert "No volumes were measured." in text


@pytest.mark.parametrize(
    ("ml", "text"),
    [(1234.4, "1234"), (231.4, "231"), (18.26, "18.3"), (0.613, "0.61"), (0, "0.00")],
)
def test_volumes_have_about_three_digits(ml, text) -> None:
    assert format_ml(ml) == text


def measured(segmentation, **ml: float):
    """The volumes of these structures alone, by the last part of their names."""
    rows = [
        StructureVolume(index, structure(index).name, ml[name], 0.9 * ml[name], 1.2 * ml[name])
        for name, index in {"left": 17, "right": 53, "stem": 16}.items()
        if name in ml
    ]
    return dataclasses.replace(segmentation, volumes=rows)


def cells(html: str, title: str) -> list[list[str]]:
    """The cells of each row of a table, without tags, the parts of a cell between spaces."""
    body = html.split(f"<caption>{title}</caption>")[1].split("<tbody>")[1].split("</tbody>")[0]
    rows = [re.split(r"</t[hd]>", row)[:-1] for row in body.split("</tr>")[:-1]]
    return [[" ".join(re.sub(r"<[^>]+>", " ", cell).split()) for cell in row] for row in rows]


def test_left_and_right_stand_side_by_side(make_segmentation) -> None:
    sides = Asymmetry("Hippocampus", 28.57, 5.0, 40.0)
    known = quality(expected_dice_by_structure={"Left-Hippocampus": 0.876})
    made = measured(make_segmentation(), left=4.0, right=3.0, stem=20.0)
    html = volume_tables(dataclasses.replace(made, asymmetries=[sides], quality=known))
    assert cells(html, "Left and right") == [
        ["Hippocampus", "4.00 3.60 – 4.80", "3.00 2.70 – 3.60", "+29%", "excellent Dice 0.88"]
    ]
    assert "<b>+29%</b>" in html  # its interval leaves 0 out
    assert cells(html, "Other structures")[0][:2] == ["Brain Stem", "20.0 18.0 – 24.0"]


def test_a_difference_that_may_be_none_is_not_set_off(make_segmentation) -> None:
    made = measured(make_segmentation(), left=4.0, right=3.9)
    html = volume_tables(
        dataclasses.replace(made, asymmetries=[Asymmetry("Hippocampus", -2.5, -9.0, 4.0)])
    )
    assert cells(html, "Left and right")[0][3] == "−2%"
    assert "<b>" not in html


def test_totals_are_shares_of_the_intracranial_volume_or_say_why_not(make_segmentation) -> None:
    head = StructureVolume(0, INTRACRANIAL, 1500.0, 1400.0, 1600.0)
    brain = StructureVolume(0, "Brain", 1200.0, 1150.0, 1250.0)
    both = StructureVolume(0, "Hippocampus", 7.0, 6.0, 8.0)
    made = measured(make_segmentation(), left=4.0, right=3.0)
    html = volume_tables(dataclasses.replace(made, totals=[both, brain, head]))
    assert [row[0] for row in cells(html, "Totals")] == ["Brain", "Intracranial Volume"]
    assert cells(html, "Totals")[0][2] == "80.0%"
    bare = dataclasses.replace(made, totals=[brain], not_measured={INTRACRANIAL: "no head & neck"})
    told = cells(volume_tables(bare), "Totals")
    assert told[0][2] == "–"
    assert told[1][1] == "not measured: no head &amp; neck"


@pytest.mark.parametrize(
    ("dice", "word"),
    [
        (0.9, "excellent"),
        (0.7, "good"),
        (0.55, "fair"),
        (0.2, "poor"),
        (math.nan, "–"),
        (None, "–"),
    ],
)
def test_an_expected_dice_is_told_in_a_word(dice, word) -> None:
    assert grade(dice) == word


def test_one_side_alone_is_no_pair(make_segmentation) -> None:
    html = volume_tables(measured(make_segmentation(), left=0.0))
    assert cells(html, "Other structures")[0][0] == "Left Hippocampus"


def test_the_page_of_a_real_head_is_below_3_mb(make_segmentation) -> None:
    with resources.as_file(resources.files("ddmseg") / "demo" / "colin27_t1.nii.gz") as path:
        scan = read_volume(path)
    made_up = make_segmentation(shape=scan.shape, spacing_mm=scan.spacing_mm)
    html = render_report(dataclasses.replace(made_up, scan=scan))
    assert 300_000 < len(html.encode()) < 3_000_000


def regions(*names: int) -> StandingOut:
    """Say what stands out of a head of the fixture: regions of ever less volume."""
    listed = [
        StandingRegion(index, 0, (-3.0, 4.0, 5.0), 2.0 / (1 + place), 1.0, "discrepancy")
        for place, index in enumerate(names)
    ]
    return StandingOut(np.zeros((0, 0, 0), bool), listed)


def standing(make_segmentation, *names: int) -> str:
    made = make_segmentation()
    found = dataclasses.replace(regions(*names), beyond=made.labels.data > 0)
    return render_report(dataclasses.replace(made, standing_out=found))


def test_what_stands_out_is_drawn_by_size_with_its_place(make_segmentation) -> None:
    page = Page(standing(make_segmentation, 17, 53))
    assert "2.00 ml at L 3, A 4, S 5 mm" in page.text
    assert page.text.index("2.00 ml") < page.text.index("1.00 ml")
    drawn = [one for one in page.all("use") if "beyond-place" in str(one.get("href"))]
    assert len(drawn) == 2 * 3
    assert [one["d"] for one in page.all("path") if one["class"] == "out" and one["d"]]


def test_a_region_says_what_is_odd_about_it(make_segmentation) -> None:
    found = regions(17, 53)
    found.regions[1] = dataclasses.replace(found.regions[1], by="intensity")
    made = make_segmentation()
    found = dataclasses.replace(found, beyond=made.labels.data > 0)
    text = Page(render_report(dataclasses.replace(made, standing_out=found))).text
    assert "2.00 ml at L 3, A 4, S 5 mm: labels in doubt, 1.00 ml of them" in text
    assert "1.00 ml at L 3, A 4, S 5 mm: does not look like this structure" in text


def test_many_regions_are_listed_and_the_largest_drawn(make_segmentation) -> None:
    page = Page(standing(make_segmentation, *[17] * 7))
    assert "3 smaller" in page.text
    assert page.text.count(" ml at L 3") == 7


def test_where_nothing_stands_out_or_nobody_knows_the_page_says_so(make_segmentation) -> None:
    assert "Nothing lies beyond what is usual." in standing(make_segmentation)
    made = dataclasses.replace(make_segmentation(), standing_out=None)
    assert "does not say what is usual" in Page(render_report(made)).text


@pytest.mark.parametrize("corner", [(-500.0, 0.0, 0.0), (500.0, 500.0, 500.0)])
def test_a_region_at_the_edge_of_the_picture_is_drawn_all_the_same(
    make_segmentation, corner
) -> None:
    found = regions(17)
    found.regions[0] = dataclasses.replace(found.regions[0], position_mm=corner)
    made = make_segmentation()
    found = dataclasses.replace(found, beyond=made.labels.data > 0)
    html = render_report(dataclasses.replace(made, standing_out=found))
    assert html.count('class="place"') == 1
