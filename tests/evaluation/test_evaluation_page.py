"""The page of an evaluation and its plots: whole, escaped, the same every time, true."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from ddmseg.evaluation.evaluate import Evaluation
from ddmseg.evaluation.page import SHOWN_NOTES, SHOWN_PATIENTS, SHOWN_VOLUMES, render_page
from ddmseg.evaluation.pairs import Pair
from ddmseg.evaluation.plots import colour_text, dice_plot, ticks, volume_plot
from ddmseg.evaluation.scores import agreement, limits_of_agreement, summarise
from ddmseg.maths.case_scores import Score

ATTACK = "<script>alert('x')</script>&\"$title"


def score(case: str, structure: str, index: int, dice: float, ml=(1.0, 1.2), far=2.0) -> Score:
    return Score(case, structure, index, dice, far, far, 0.9, dice, *ml)


def missed(case: str, structure: str, index: int) -> Score:
    return score(case, structure, index, 0.0, (1.0, 0.0), math.inf)


def absent(case: str, structure: str, index: int) -> Score:
    return Score(case, structure, index, *[math.nan] * 5, 0.0, 0.0)


def some_scores(patients: int = 5, structures: int = 3) -> list[Score]:
    return [
        score(f"p{n:02d}", f"S{k}", 10 + k, 0.5 + 0.04 * k + 0.01 * (n % 7), (1 + n, 1.3 + 0.9 * n))
        for n in range(patients)
        for k in range(structures)
    ]


def evaluation(scores: list[Score], **more) -> Evaluation:
    cases = dict.fromkeys(s.case for s in scores)
    facts = {"problems": (), "notes": (), "labels": None} | more
    return Evaluation(
        scores=tuple(scores),
        summary=summarise(scores),
        agreement=agreement(scores),
        pairs=tuple(Pair(case, Path("P", case), Path("T", case)) for case in cases),
        predictions=Path("P"),
        truth=Path("T"),
        **facts,
    )


class Page(HTMLParser):
    """Tags with attributes, and the visible text; complains about tags closed out of order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data

    def classes(self, name: str) -> list[dict[str, str | None]]:
        return [a for _, a in self.tags if name in (a.get("class") or "").split()]


def test_the_page_is_whole_and_asks_for_nothing_from_elsewhere() -> None:
    html = render_page(evaluation(some_scores()))
    page = Page(html)
    assert not re.search(r"https?://|url\(", html)
    assert all("src" not in a and "href" not in a for _, a in page.tags)
    assert "$" not in page.text
    assert "Research use only" in page.text


def test_the_same_scores_give_the_same_page() -> None:
    assert render_page(evaluation(some_scores())) == render_page(evaluation(some_scores()))


def test_whatever_comes_from_outside_is_escaped() -> None:
    scores = [score(ATTACK, ATTACK, 17, 0.5), missed("b", ATTACK, 17)]
    found = evaluation(scores, problems=(ATTACK,), notes=(ATTACK,), labels=ATTACK)
    found = dataclasses.replace(found, predictions=Path(ATTACK), truth=Path(ATTACK))
    html = render_page(found)
    assert "<script>alert" not in html
    assert Page(html).text.count("alert('x')") >= 8


def test_the_page_shows_the_figures_of_the_summary() -> None:
    found = evaluation([*some_scores(), missed("p09", "S0", 10)])
    page = Page(render_page(found))
    for name in ("mean", "S0", "S2"):
        interval = found.summary[name]["dice"].interval
        assert f"{interval.mean:.3f}" in page.text
        assert f"{interval.low:.3f} – {interval.high:.3f}" in page.text
    assert page.text.count("1 infinite left out") == 2  # of both distances
    assert "one patient" not in page.text


def test_the_worst_patient_comes_first_and_the_rest_is_folded_away() -> None:
    patients = SHOWN_PATIENTS + 4
    scores = [score(f"p{n:02d}", "S", 17, 0.9 - 0.01 * n) for n in range(patients)]
    page = Page(render_page(evaluation(scores)))
    table = page.text[page.text.index("Lowest structure") :]
    order = re.findall(r"p\d\d", table)[:patients]
    assert order == [f"p{n:02d}" for n in reversed(range(patients))]
    assert "4 more patients" in page.text


def test_a_patient_has_one_mark_everywhere() -> None:
    page = Page(render_page(evaluation(some_scores(patients=4, structures=2))))
    marks = [a["data-case"] for _, a in page.tags if "data-case" in a]
    # two structures, each in both plots, and the row of the table
    assert {mark: marks.count(mark) for mark in marks} == dict.fromkeys("0123", 5)


def test_many_structures_and_notes_are_folded_away() -> None:
    scores = some_scores(patients=2, structures=SHOWN_VOLUMES + 2)
    notes = tuple(f"note {n}" for n in range(SHOWN_NOTES + 3))
    page = Page(render_page(evaluation(scores, notes=notes)))
    assert "2 more structures" in page.text
    assert "3 more" in page.text
    assert len(page.classes("agreement")) == SHOWN_VOLUMES + 2


@pytest.mark.parametrize(
    ("scores", "told"),
    [
        ([score("a", "S", 17, 0.5)], "one patient: no interval"),
        ([absent("a", "S", 17), absent("b", "S", 17)], "nothing to score"),
        ([missed("a", "S", 17), missed("b", "S", 17)], "2 infinite left out"),
        ([score("a", "S", 17, 1.0), score("b", "S", 17, 1.0)], "1.000 – 1.000"),
    ],
)
def test_few_or_empty_scores_make_a_page_too(scores, told) -> None:
    text = Page(render_page(evaluation(scores))).text
    assert told in text
    assert "nan" not in text.lower()
    assert "inf " not in text


# Plots


def test_dots_lie_where_their_values_are() -> None:
    scores = {"S": [score("a", "S", 17, 0.55), score("b", "S", 17, 1.0)]}
    summary = summarise(scores["S"])
    page = Page(dice_plot(scores, {"S": summary["S"]["dice"]}, {"a": 0, "b": 1}))
    x = {a["data-case"]: float(a["cx"]) for a in page.classes("dot")}
    ends = sorted(float(a["x1"]) for a in page.classes("grid"))
    assert x["1"] == ends[-1]
    # the axis runs from 0.5 to 1
    assert x["0"] == pytest.approx(ends[0] + 0.1 * (ends[-1] - ends[0]), abs=0.1)
    assert "a: Dice 0.550" in page.text
    assert page.classes("half") == []  # two patients make no box


def test_the_box_holds_the_middle_half() -> None:
    rows = [score(n, "S", 17, d) for n, d in zip("abcde", (0.5, 0.6, 0.7, 0.8, 1.0), strict=True)]
    summary = summarise(rows)["S"]["dice"]
    page = Page(dice_plot({"S": rows}, {"S": summary}, {c: n for n, c in enumerate("abcde")}))
    x = [float(a["cx"]) for a in page.classes("dot")]
    (box,), (median,) = page.classes("half"), page.classes("median")
    assert float(box["x"]) == pytest.approx(x[1], abs=0.2)
    assert float(box["x"]) + float(box["width"]) == pytest.approx(x[3], abs=0.2)
    assert float(median["x1"]) == pytest.approx(x[2], abs=0.2)


def test_a_volume_plot_leaves_out_who_has_nothing() -> None:
    rows = [score("a", "S", 17, 0.5, (2.0, 3.0)), missed("b", "S", 17), absent("c", "S", 17)]
    found = agreement(rows)["S"]
    page = Page(volume_plot("S", rows, found, {"a": 0, "b": 1, "c": 2}))
    assert [a["data-case"] for a in page.classes("dot")] == ["0", "1"]
    assert "bias 0 ml, limits −2.77 to +2.77 ml" in page.text
    assert "b: −1 ml" in page.text


def test_an_id_of_another_protocol_has_a_colour_of_its_own() -> None:
    own, other = score("a", "Right-Hippocampus", 53, 0.5), score("a", "label 53", 53, 0.5)
    assert colour_text(own) == "#dcd814"
    assert colour_text(other) != colour_text(own)
    assert colour_text(other) != colour_text(score("a", "label 54", 54, 0.5))


def test_ticks_are_round_and_inside() -> None:
    for low, high in ((0.0, 1.0), (-0.0123, 0.045), (1e-6, 3e-6), (95.0, 1234.0)):
        found = ticks(low, high, 5)
        assert 1 <= len(found) <= 6
        assert all(low - 1e-12 <= t <= high + 1e-12 for t in found)


# Agreement


def test_limits_by_hand() -> None:
    found = limits_of_agreement([1.0, 2.0, 3.0])
    assert (found.bias_ml, found.n) == (2.0, 3)
    assert found.low_ml == pytest.approx(2 - 1.96)
    assert found.high_ml == pytest.approx(2 + 1.96)


def test_one_patient_has_a_bias_and_no_limits_and_none_has_neither() -> None:
    one, none = limits_of_agreement([1.0]), limits_of_agreement([])
    assert (one.bias_ml, one.n, none.n) == (1.0, 1, 0)
    assert math.isnan(one.low_ml)
    assert math.isnan(none.bias_ml)


def test_a_missed_structure_counts_with_its_volume_and_an_absent_one_not_at_all() -> None:
    rows = [missed("a", "S", 17), absent("b", "S", 17), score("c", "S", 17, 0.5, (1.0, 3.0))]
    assert agreement(rows)["S"].bias_ml == pytest.approx((-1.0 + 2.0) / 2)
    assert agreement(rows)["S"].n == 2
