"""Scores of a case, their table, and what they add up to."""

from __future__ import annotations

import csv
import math
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.evaluation.scores import (
    MEAN,
    METRICS,
    per_patient,
    read_scores,
    summarise,
    write_scores,
    write_table,
)
from ddmseg.maths.case_scores import Score, score_case
from ddmseg.maths.statistics import bootstrap_interval

NOTHING, FAR = math.nan, math.inf


def score(case="a", structure="S", index=1, dice=0.5, **more) -> Score:
    values = {"hausdorff_mm": 2.0, "hd95_mm": 1.0, "volume_similarity": 0.9, "surface_dice": 0.8}
    values |= {"truth_ml": 1.0, "prediction_ml": 2.0} | more
    return Score(case, structure, index, dice, **values)


def absent(case="a", structure="S", index=1) -> Score:
    return Score(case, structure, index, *[NOTHING] * 5, 0.0, 0.0)


def missed(case="a", structure="S", index=1) -> Score:
    return Score(case, structure, index, 0.0, FAR, FAR, 0.0, 0.0, 1.0, 0.0)


def maps() -> tuple[np.ndarray, np.ndarray]:
    """One structure half overlapping, one missed, one invented."""
    prediction, truth = np.zeros((2, 12, 12, 12), dtype=np.int16)
    truth[2:6, 2:6, 2:6], prediction[4:8, 2:6, 2:6] = 5, 5
    truth[9, 9, 9], prediction[0, 0, 0] = 7, 8
    return prediction, truth


# One case


def test_a_case_scored_by_hand() -> None:
    names = {8: "invented", 5: "half", 7: "missed", 9: "absent"}
    rows = score_case("p1", *maps(), names, spacing_mm=(1.0, 2.0, 0.5))
    assert [(row.case, row.structure, row.index) for row in rows] == [
        ("p1", name, index) for index, name in names.items()
    ]
    invented, half, lost, none = rows
    assert (half.dice, half.volume_similarity, half.hausdorff_mm) == (0.5, 1.0, 2.0)
    assert half.truth_ml == half.prediction_ml == pytest.approx(64 / 1000)
    for row in (invented, lost):
        assert (row.dice, row.volume_similarity, row.surface_dice) == (0, 0, 0)
        assert (row.hausdorff_mm, row.hd95_mm) == (FAR, FAR)
    assert (lost.truth_ml, lost.prediction_ml) == (0.001, 0.0)
    assert all(math.isnan(getattr(none, metric)) for metric in METRICS)
    assert (none.truth_ml, none.prediction_ml) == (0.0, 0.0)


def test_surface_dice_is_at_one_millimetre() -> None:
    truth, prediction = np.zeros((2, 9, 9, 9), dtype=int)
    truth[4, 4, 4], prediction[5, 4, 4] = 1, 1
    for edge_mm, share in ((1.0, 1.0), (1.01, 0.0)):
        (row,) = score_case("p", prediction, truth, {1: "S"}, spacing_mm=(edge_mm, 1.0, 1.0))
        assert row.surface_dice == share


def test_two_grids_are_refused() -> None:
    with pytest.raises(ScanError, match=r"shape \(3, 3, 3\) and truth of shape \(4, 4, 4\)"):
        score_case("p", np.zeros((3,) * 3), np.zeros((4,) * 3), {1: "S"}, spacing_mm=(1.0,) * 3)


# The table

NUMBERS = st.floats(0, 1) | st.just(NOTHING)
DISTANCES = st.floats(0, 1e6) | st.sampled_from([NOTHING, FAR])
WORDS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\t\r\n"), min_size=1, max_size=8
)
SCORES = st.builds(
    Score,
    case=WORDS,
    structure=WORDS,
    index=st.integers(1, 10**6),
    dice=NUMBERS,
    hausdorff_mm=DISTANCES,
    hd95_mm=DISTANCES,
    volume_similarity=NUMBERS,
    surface_dice=NUMBERS,
    truth_ml=st.floats(0, 1e4),
    prediction_ml=st.floats(0, 1e4),
)


def same(one: Score, other: Score) -> bool:
    pairs = ((getattr(one, f.name), getattr(other, f.name)) for f in fields(Score))
    return all(a == b or (a != a and b != b) for a, b in pairs)


@settings(max_examples=25)
@given(scores=st.lists(SCORES, max_size=5, unique_by=lambda s: (s.case, s.structure)))
def test_what_is_written_is_read_back_exactly(tmp_path_factory, scores) -> None:
    path = tmp_path_factory.mktemp("scores") / "scores.tsv"
    write_scores(path, scores)
    again = read_scores(path)
    assert len(again) == len(scores)
    assert all(map(same, again, scores))


def test_the_table_is_tidy_and_says_nothing_where_nothing_is_known(tmp_path) -> None:
    path = tmp_path / "new" / "scores.tsv"
    write_scores(path, [score(), missed(case="b"), absent(case="c")])
    assert path.read_bytes().decode().split("\n") == [
        "case\tstructure\tindex\tdice\thausdorff_mm\thd95_mm\tvolume_similarity\tsurface_dice"
        "\ttruth_ml\tprediction_ml",
        "a\tS\t1\t0.5\t2.0\t1.0\t0.9\t0.8\t1.0\t2.0",
        "b\tS\t1\t0.0\tinf\tinf\t0.0\t0.0\t1.0\t0.0",
        "c\tS\t1\t\t\t\t\t\t0.0\t0.0",
        "",
    ]


def test_breaks_in_a_name_do_not_break_a_row(tmp_path) -> None:
    write_scores(tmp_path / "s.tsv", [score(case="a\tb\r\nc")])
    assert [found.case for found in read_scores(tmp_path / "s.tsv")] == ["a b c"]


FORMULAS = [
    "=1+1", "+1+1", "-x", "@SUM(A1)", " =1+1", "\x0b=1", "'=1+1", "''=1", "\uff1d1+1",
    '=HYPERLINK("http://x";"y")', "=cmd|' /C calc'!A0", "\t=1",
]  # fmt: skip


@pytest.mark.parametrize("word", FORMULAS)
def test_no_word_becomes_a_formula_and_none_is_lost(tmp_path, word: str) -> None:
    path = tmp_path / "s.tsv"
    write_scores(path, [score(case=word, structure=word)])
    with path.open(encoding="utf-8", newline="") as file:
        (row,) = csv.DictReader(file, delimiter="\t")
    for cell in (row["case"], row["structure"]):
        assert cell.startswith("'")
    (found,) = read_scores(path)
    assert (found.case, found.structure) == 2 * (word.replace("\t", " "),)


def test_words_and_numbers_that_are_no_formula_stay_as_they_are(tmp_path) -> None:
    words = ["'tis", "a=1", "-0.5", "+3", "-inf", "sub-01", "label 7"]
    write_table(tmp_path / "t.tsv", ["word"], [[word] for word in words])
    assert (tmp_path / "t.tsv").read_text().splitlines()[1:] == words
    write_table(tmp_path / "t.tsv", ["number"], [[-0.5], [-3]])
    assert (tmp_path / "t.tsv").read_text().splitlines()[1:] == ["-0.5", "-3"]


def test_a_name_that_is_no_text_is_written_as_escapes(tmp_path) -> None:
    write_scores(tmp_path / "s.tsv", [score(case="M\udcfcller")])
    assert [found.case for found in read_scores(tmp_path / "s.tsv")] == [r"M\udcfcller"]


def test_a_table_that_cannot_be_written_leaves_nothing(tmp_path) -> None:
    (tmp_path / "scores.tsv").mkdir()
    with pytest.raises(OutputError, match="a folder of that name is there already"):
        write_scores(tmp_path / "scores.tsv", [score()])
    assert [path.name for path in tmp_path.iterdir()] == ["scores.tsv"]


def table(tmp_path: Path, *edits: tuple[str, str]) -> Path:
    path = tmp_path / "scores.tsv"
    write_scores(path, [score()])
    text = path.read_text()
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (
            ("surface_dice", "surf_dice"),
            r"'surface_dice' is missing \(did you mean 'surf_dice'\?\)",
        ),
        (("\t0.5\t", "\thalf\t"), "line 2: dice: got 'half'; give a number"),
        (("\t0.5\t", "\t1.5\t"), r"line 2: dice: got '1.5'; it must lie in \[0, 1\]"),
        (("\t0.9\t", "\tinf\t"), r"volume_similarity: got 'inf'; it must lie in \[0, 1\]"),
        (("\t0.5\t2.0\t", "\t0.5\t-2\t"), "hausdorff_mm: got '-2'; it must be at least 0 mm"),
        (("S\t1\t", "S\t0\t"), "index: got '0'; a label id is a whole number above 0"),
        (("S\t1\t", "S\t1.5\t"), "index: got '1.5'; a label id is a whole number above 0"),
        (("\t1.0\t2.0\n", "\t1.0\t\n"), "prediction_ml: got ''; give a number"),
        (("\t1.0\t2.0\n", "\t1.0\n"), "prediction_ml: got ''; give a number"),
        (("\t1.0\t2.0\n", "\tnan\t2.0\n"), "truth_ml: got 'nan'; it must be at least 0 ml"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(tmp_path, edit, told) -> None:
    with pytest.raises(UsageError, match=told):
        read_scores(table(tmp_path, edit))


def test_a_structure_that_comes_twice_is_refused(tmp_path) -> None:
    write_scores(tmp_path / "s.tsv", [score(), score()])
    with pytest.raises(UsageError, match="'S' of 'a' comes twice; leave one row of it"):
        read_scores(tmp_path / "s.tsv")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_is_no_table_is_refused(tmp_path, content) -> None:
    path = tmp_path / "s.tsv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"s\.tsv: cannot be read .* give a table of scores"):
        read_scores(path)


# What they add up to


def test_the_mean_of_a_patient_leaves_out_what_has_no_value() -> None:
    scores = [
        score(dice=0.4, hd95_mm=3.0),
        missed(structure="T"),
        absent(structure="U"),
        score(case="b", dice=0.9),
        absent(case="c"),
    ]
    assert per_patient(scores, "dice") == pytest.approx(
        {"a": 0.2, "b": 0.9, "c": NOTHING}, nan_ok=True
    )
    assert per_patient(scores, "hd95_mm")["a"] == 3.0


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UsageError, match=r"metric: got 'hd95' \(did you mean 'hd95_mm'\?\)"):
        per_patient([score()], "hd95")


def test_a_summary_by_hand() -> None:
    scores = [score(case=c, dice=d) for c, d in zip("abcd", (0.5, 0.6, 0.7, 0.9), strict=True)]
    scores += [score(case="a", structure="T", dice=0.1), missed("b", "T"), absent("c", "T")]
    found = summarise(scores)
    assert list(found) == ["S", "T", MEAN]
    assert all(list(metrics) == list(METRICS) for metrics in found.values())
    assert found["S"]["dice"].interval == bootstrap_interval([0.5, 0.6, 0.7, 0.9])
    t = found["T"]["dice"]
    assert (t.interval.mean, t.n, t.undefined, t.infinite) == (0.05, 2, 1, 0)
    t = found["T"]["hd95_mm"]
    assert (t.interval.mean, t.n, t.undefined, t.infinite) == (1.0, 1, 1, 1)
    mean = found[MEAN]["dice"]
    assert mean.interval == bootstrap_interval([0.3, 0.3, 0.7, 0.9])
    assert (mean.n, mean.undefined) == (4, 1)
    assert (found[MEAN]["hd95_mm"].infinite, found[MEAN]["hd95_mm"].undefined) == (1, 1)


def test_one_patient_has_a_mean_and_no_interval() -> None:
    interval = summarise([score()])["S"]["dice"].interval
    assert (interval.mean, interval.n) == (0.5, 1)
    assert math.isnan(interval.low)
    assert math.isnan(interval.high)


@pytest.mark.parametrize("scores", [[], [absent()]])
def test_nothing_to_score_has_no_mean(scores) -> None:
    interval = summarise(scores)[MEAN]["dice"].interval
    assert interval.n == 0
    assert math.isnan(interval.mean)
