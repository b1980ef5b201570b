"""The contest on made-up answers: who tells the truth about its doubt wins, at honest coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ddmseg.errors import UsageError
from ddmseg_lab.made_up_heads import INTACT
from ddmseg_lab.studies import interval_scores, volume_contest, volume_rivals
from ddmseg_lab.studies.volume_contest import DEVELOPMENT, MADE_UP, TEST

pytestmark = pytest.mark.usefixtures("quick_intervals")

Rows = list[dict[str, str]]
PROTOCOL = 1.3
"""What volumes drawn by hand are larger by than those made up."""


def contest() -> Rows:
    """Answers of three rivals: ``honest`` knows how far off it is, ``blind`` says anything."""
    generator = np.random.default_rng(0)
    rows: Rows = []
    for name, scans, subjects in ((MADE_UP, 60, 20), (DEVELOPMENT, 12, 6), (TEST, 24, 10)):
        for number in range(scans):
            for index in ("10", "17"):
                error = 0.02 * math.exp(1.2 * generator.normal())
                true = 1000 * (1 if name == MADE_UP else PROTOCOL)
                centre = 1000 * math.exp(error * generator.normal())
                at = {"set": name, "number": str(number), "name": f"{name}{number // 2}"}
                at |= {"subject": f"{name}{number // 2 % subjects}", "index": index}
                at |= {"kind": INTACT if number % 2 else "noise", "true": str(true)}
                for rival, spread in (
                    ("constant", 1.0),
                    ("shipped", error * math.exp(0.9 * generator.normal())),
                    ("honest", error),
                    ("blind", math.exp(generator.normal())),
                ):
                    said = {"rival": rival, "centre": str(centre), "spread": str(spread)}
                    rows.append({**at, **said, "effective": "4", "seconds": "1"})
    return rows


@pytest.fixture(scope="module")
def found(quick_intervals: None) -> dict[str, object]:
    """The summary of it."""
    return volume_contest.summarise(contest())


@pytest.mark.parametrize("name", [MADE_UP, TEST])
@pytest.mark.parametrize("condition", interval_scores.CONDITIONS)
def test_who_knows_how_far_off_he_is_wins(found: dict, name: str, condition: str) -> None:
    scored = found["sets"][name][condition]
    assert found["winner"] == "honest"
    assert scored["honest"]["gained"]["mean"] > 0.15
    assert scored["blind"]["gained"]["mean"] < 0
    assert 0.85 < scored["honest"]["coverage"]["mean"] <= 1


@pytest.mark.parametrize(("low", "wins"), [(0.01, "samples"), (0.0, "shipped"), (None, "shipped")])
def test_the_lowest_score_wins_only_where_it_is_clearly_lower_than_what_ships(low, wins) -> None:
    scored = {
        "shipped": {"score": 1.0, "gained_on_shipped": {"low": 0.0}},
        "samples": {"score": 0.9, "gained_on_shipped": {"low": low}},
        "blind": {"score": 2.0, "gained_on_shipped": {"low": 0.5}},
    }
    assert interval_scores.winner(scored) == wins
    lowest = {**scored, "shipped": {**scored["shipped"], "score": 0.5}}
    assert interval_scores.winner(lowest) == "shipped"


def test_constant_width_is_what_others_are_held_against(found: dict) -> None:
    scored = found["sets"][MADE_UP][INTACT]["constant"]
    assert (scored["gained"]["mean"], scored["gained"]["low"]) == (0, 0)


def test_scans_and_subjects_are_counted(found: dict) -> None:
    assert found["scans"][TEST] == {"scans": 24, "subjects": 10}
    assert found["rivals"]["honest"] == {"seconds": 1, "effective": 4}


def test_the_bias_of_the_protocol_is_taken_out() -> None:
    answers = volume_rivals.answers_of(contest())["honest"]
    drawn, _ = volume_contest.drawn_intervals("honest", answers)
    heads, test = (answers[answers.set == name] for name in (MADE_UP, TEST))
    moved = drawn.middle - volume_rivals.intervals("honest", heads, test).middle
    assert moved == pytest.approx(math.log(PROTOCOL), abs=0.03)
    assert np.median(np.exp(drawn.middle)) == pytest.approx(1000 * PROTOCOL, rel=0.02)


def test_a_subject_is_never_in_its_own_fit() -> None:
    rows = contest()
    for row in rows:
        if row["subject"] == f"{MADE_UP}0":
            row["centre"] = "100"
    answers = volume_rivals.answers_of(rows)["honest"]
    found = volume_rivals.cross_fitted("honest", answers[answers.set == MADE_UP])
    odd = found.where(found.answers.subject == f"{MADE_UP}0")
    assert len(odd.answers) == 8  # 4 scans, 2 structures
    assert interval_scores.scores(odd)["coverage"].sum() == 0


def test_scans_of_one_person_are_held_against_each_other() -> None:
    answers = volume_rivals.answers_of(contest())["honest"]
    found = volume_contest.rescan_intervals("honest", answers)
    # 12 development scans are 6 files of 6 persons; of 12 test files two persons have two.
    assert set(found.answers.subject) == {f"{TEST}0", f"{TEST}1"}
    for subject in (f"{TEST}0", f"{TEST}1"):
        assert (
            len(set(found.answers.true[found.answers.subject == subject])) == 4
        )  # 2 files, 2 structures


def test_what_a_rival_was_not_asked_is_left_out_for_all() -> None:
    rows = contest()
    asked = [r for r in rows if not (r["rival"] == "blind" and r["number"] in ("0", "1"))]
    answers = volume_rivals.answers_of(asked)
    assert {len(said) for said in answers.values()} == {2 * (58 + 10 + 22)}


def test_structures_smaller_than_can_be_judged_are_left_out() -> None:
    rows = contest()
    for row in rows:
        if row["index"] == "10":
            row["true"] = "49"
    answers = volume_rivals.answers_of(rows)["honest"]
    assert set(answers.index) == {"17"}


def test_too_few_heads_are_refused() -> None:
    few = [row for row in contest() if row["set"] != MADE_UP or int(row["number"]) < 12]
    with pytest.raises(UsageError, match=r"cases: got 6 label maps; .* take at least 11"):
        volume_contest.summarise(few)


def test_page_and_pictures(found: dict) -> None:
    models = {"models": {"ddm": {"name": "toy", "weights": "0", "trained_steps": 1, "batch": 1}}}
    volume_contest.TITLES.update({"honest": "honest", "blind": "blind"})
    try:
        text = "\n".join(volume_contest.body({**found, **models}))
    finally:
        for name in ("honest", "blind"):
            del volume_contest.TITLES[name]
    assert "60 made-up heads of 20 label maps" in text
    assert "24 scans of 10 persons" in text
    assert "The winner: honest." in text
    assert "clearly better than what ships" in text
    assert len(volume_contest.gained_figure(found).axes) == 2


def test_claims_are_about_the_winner(found: dict) -> None:
    claims = volume_contest.claims(found)
    assert len(claims) == 10
    assert "reached" in claims[0].row()[3]
    assert all(claim.value is None for claim in volume_contest.claims({}))
