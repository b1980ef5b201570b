"""A figure comes from its record, of the weights that ship, or does not come at all."""

from __future__ import annotations

import json

import pytest

from ddmseg.errors import UsageError
from ddmseg_lab.dossier.figures import figures, measure
from ddmseg_lab.dossier.records import Records
from ddmseg_lab.studies.robustness import GOOD_DICE, ROBUSTNESS

FIGURES = figures()
DICE = FIGURES["anatomy-dice"]
ALARMS = FIGURES["monitor-false-alarms"]
NOTICED = FIGURES["hippocampus-auroc-bad-scans"]


@pytest.mark.parametrize("name", [name for name, one in FIGURES.items() if not one.study])
def test_every_figure_is_read_from_its_record(name, results, cards):
    measured = measure(FIGURES[name], Records(results), cards)
    unit, digits = FIGURES[name].unit, FIGURES[name].digits
    shown = [f"{number:.{digits}f}" for number in (0.911, 0.9, 0.922)]
    assert measured.shown == f"{shown[0]} ({shown[1]} to {shown[2]}){unit}"
    assert measured.count == f"7 {FIGURES[name].of}".strip()


def test_an_altered_record_changes_the_figure(results, cards, change):
    change(DICE, {"mean": 0.123, "low": 0.1, "high": 0.2, "n": 5})
    measured = measure(DICE, Records(results), cards)
    assert (measured.shown, measured.count) == ("0.123 (0.100 to 0.200)", "5 persons")


def test_without_a_record_nothing_was_measured(results, cards):
    (results / DICE.record).unlink()
    measured = measure(DICE, Records(results), cards)
    assert (measured.value, measured.count) == (None, "")
    assert measured.shown == "not measured (no anatomy.json)"


def test_the_weights_must_be_those_that_ship(results, cards, change):
    other, shipped = "0" * 12, cards["anatomy"].checksum[:12]
    change(DICE, models={"ddm": {"weights": other}})
    told = f"the record is of other weights, {other}; {shipped} ship"
    assert measure(DICE, Records(results), cards).why == told
    change(DICE, models={})
    assert measure(DICE, Records(results), cards).why == "the record names no weights"
    assert measure(DICE, Records(results), {}).why == "no model anatomy ships"


def test_the_table_behind_the_record_must_be_there_and_of_the_same_weights(results, cards):
    (results / DICE.raw).write_text("weights\tdice\n000000000000\t0.9\n")
    assert "is of other weights, 000000000000;" in measure(DICE, Records(results), cards).why
    (results / DICE.raw).unlink()
    assert measure(DICE, Records(results), cards).why == "no anatomy.tsv"


@pytest.mark.parametrize(
    ("value", "shown", "count"),
    [
        (
            {"rate": 0.0486, "low": 0.04, "high": 0.06, "n": 9},
            "0.049 (0.040 to 0.060)",
            "9 windows",
        ),
        ({"median": 2.0}, "2.000", "not stated"),
        ({"difference": -0.5, "low": None, "high": None, "n": 3}, "−0.500", "3 windows"),
        (0.25, "0.250", "not stated"),
        ({"mean": None, "n": 0}, "not measured (monitor_alarms.json has no value for it)", ""),
        ({"low": 0.1}, "not measured (monitor_alarms.json has no value for it)", ""),
    ],
)
def test_every_form_of_a_figure(results, cards, change, value, shown, count):
    change(ALARMS, value)
    measured = measure(ALARMS, Records(results), cards)
    assert (measured.shown, measured.count) == (shown, count)


def test_a_record_without_the_figure_says_so(results, cards):
    (results / ALARMS.record).write_text('{"without_shift": 3}')
    measured = measure(ALARMS, Records(results), cards)
    assert measured.why == "monitor_alarms.json does not hold it"


@pytest.mark.parametrize("value", ["0.9", {"mean": "high"}, {"mean": True}, {"mean": [1]}])
def test_what_is_no_number_is_refused(results, cards, change, value):
    change(ALARMS, value)
    with pytest.raises(UsageError, match=r"without_shift / all: got .* is no number; measure"):
        measure(ALARMS, Records(results), cards)


@pytest.mark.parametrize("text", ["{", "[]", "\0", '"x"'])
def test_a_damaged_record_is_refused(results, cards, text):
    (results / DICE.record).write_text(text)
    with pytest.raises(UsageError, match=r"anatomy\.json: damaged record .*; measure again"):
        measure(DICE, Records(results), cards)


def test_a_damaged_table_is_refused(results, cards):
    (results / DICE.raw).write_bytes(b"weights\tdice\n\xff\xfe\t1\n")
    with pytest.raises(UsageError, match=r"anatomy\.tsv: damaged record"):
        measure(DICE, Records(results), cards)


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder; name the one that holds the raw"):
        Records(tmp_path / "nowhere")


def test_what_was_read_is_known_by_its_hash(results, cards):
    import hashlib

    records = Records(results)
    measure(DICE, records, cards)
    expected = {
        name: hashlib.sha256((results / name).read_bytes()).hexdigest()
        for name in (DICE.record, DICE.raw)
    }
    assert records.used == expected


@pytest.mark.parametrize("name", FIGURES)
def test_the_records_of_this_project_hold_every_figure_they_should(name, root, cards):
    if not (root / "lab" / "results" / FIGURES[name].record).is_file():
        pytest.skip("the records of this project are not here")
    measured = measure(FIGURES[name], Records(root / "lab" / "results"), cards)
    # weights may be newer than what was measured of them, but a path must lead somewhere
    assert measured.value is not None or "weights" in measured.why


def noticed(results, cards, rows):
    """The quality check of hippocampus, from rows of (patient, expected and true Dice)."""
    raw = ROBUSTNESS.table(results)
    for weights, patient, expected, dice in rows:
        told = {"weights": weights, "subject": patient, "artefact": "motion", "verdict": "pass"}
        raw.add([{**told, "level": 1.0, "limit": 0.8, "expected": expected, "dice": dice}])
    return measure(NOTICED, Records(results), cards)


def test_what_a_study_aims_at_is_computed_from_its_rows_of_the_shipped_weights(results, cards):
    assert measure(NOTICED, Records(results), cards).why == f"no {NOTICED.record}"
    assert ("below four fifths" in NOTICED.what) == (GOOD_DICE == 4 / 5)
    shipped, other = cards["hippocampus"].checksum[:12], "0" * 12
    assert "other weights" in noticed(results, cards, [(other, "d", 0.1, 0.9)]).why
    rows = [(shipped, "a", 0.9, 0.9), (shipped, "b", 0.7, 0.5), (shipped, "c", 0.8, 0.85)]
    measured = noticed(results, cards, rows)
    assert (measured.value["mean"], measured.count) == (1.0, "3 patients")
    more = [(shipped, "d", 0.95, 0.2), (shipped, "e", 0.3, 0.9)]
    assert noticed(results, cards, more).value["mean"] == pytest.approx(2 / 6)


def test_a_study_without_bad_scans_has_nothing_to_tell_apart(results, cards):
    shipped = cards["hippocampus"].checksum[:12]
    measured = noticed(results, cards, [(shipped, name, 0.9, 0.9) for name in "abc"])
    assert measured.why == f"{NOTICED.record} has no value for it"


def test_the_table_of_figures_holds_no_figure():
    text = json.dumps([[figure.what, figure.path] for figure in FIGURES.values()])
    assert not any(f"0.{digit}" in text for digit in range(10))
