"""Each requirement is met only when all of its proofs are there and hold."""

from __future__ import annotations

import ast
import re

import pytest

from ddmseg_lab.dossier.documents import requirements, requirements_document
from ddmseg_lab.dossier.figures import figures, measure, shipped_table
from ddmseg_lab.dossier.records import JunitCase, JunitRun, Records

ROWS = {row["id"]: row for row in shipped_table("requirements")["requirement"]}
TESTED, BOTH, MEASURED = "R-08", "R-19", "R-21"


def passing(outcome="passed", only=None):
    """A run in which every test of the matrix has this outcome, or only one of them has."""
    named = [test for row in ROWS.values() for test in row.get("tests", ())]
    cases = []
    for test in named:
        file, _, name = test.partition("::")
        module = file.removesuffix(".py").replace("/", ".")
        took = outcome if only in (None, test) else "passed"
        cases.append(JunitCase(module, name or "test_something", took))
    return JunitRun(cases, "junit.xml", "0" * 64, "2026-11-23T09:00:00")


@pytest.fixture
def found(results, cards):
    """The requirements by id, for a run of tests and the records at hand."""

    def of(run):
        records = Records(results)
        read = {name: measure(figure, records, cards) for name, figure in figures().items()}
        return {one.identifier: one for one in requirements(run, read.__getitem__)}

    return of


def test_without_a_run_no_test_has_a_result(found, change):
    change(figures()["monitor-false-alarms"], 0.04)
    every = found(JunitRun())
    assert every[TESTED].state == "open"
    assert {proof.result for proof in every[TESTED].proofs} == {"not run"}
    assert every[BOTH].state == "open"  # its figure holds, its test was not run
    text = requirements_document(list(every.values()), JunitRun())
    assert "No results of tests were given" in text
    assert "passed" not in text


def test_everything_passes_where_everything_passed(found, change):
    change(figures()["monitor-false-alarms"], 0.04)
    every = found(passing())
    assert every[TESTED].state == every[BOTH].state == "met"
    assert "junit.xml" in requirements_document(list(every.values()), passing())


def test_a_failed_test_shows_as_failed(found):
    test = ROWS[TESTED]["tests"][0]
    run = passing("failed", only=test)
    every = found(run)
    assert every[TESTED].state == "not met"
    assert every[TESTED].proofs[0].result == "**1 of 1 failed**"
    text = requirements_document(list(every.values()), run)
    (line,) = [line for line in text.splitlines() if f"`{test}`" in line]
    assert line.startswith(f"| {TESTED} |")
    assert "| not met |" in line
    assert "**1 of 1 failed**" in line


def test_a_skipped_test_is_not_a_passed_one(found):
    (one,) = [r for r in found(passing("skipped")).values() if r.identifier == TESTED]
    assert one.state == "open"
    assert {proof.result for proof in one.proofs} == {"1 skipped"}


@pytest.mark.parametrize(
    ("value", "state", "told"),
    [
        (0.95, "met", "0.950: reached, 0.060 to spare"),
        (0.80, "not met", "0.800: **missed by 0.090**"),
    ],
)
def test_figures_are_held_against_their_bound(found, change, value, state, told):
    change(figures()["hippocampus-dice"], value)
    one = found(JunitRun())[MEASURED]
    assert (one.state, one.proofs[0].result) == (state, told)
    assert "at least 0.890" in one.proofs[0].name


def test_a_figure_without_a_record_is_open(found, results):
    (results / "hippocampus.json").unlink()
    one = found(passing())[MEASURED]
    assert (one.state, one.proofs[0].result) == ("open", "not measured (no hippocampus.json)")


@pytest.mark.parametrize(
    ("requirement", "proof"),
    [
        ("R-11", "tests/imaging/test_dicom_bombs.py"),
        ("R-17", "tests/review/page/test_browser_keys.py"),
        ("R-25", "hippocampus-auroc-bad-scans"),
        ("R-25", "anatomy-auroc-bad-scans"),
    ],
)
def test_what_was_promised_has_its_proof(requirement, proof):
    row = ROWS[requirement]
    assert proof in [*row.get("tests", ()), *(one["figure"] for one in row.get("figures", ()))]


@pytest.mark.parametrize("requirement", ["R-24", "R-25"])
def test_records_of_this_project_decide_time_memory_and_quality_check(requirement, root, cards):
    if not (root / "lab" / "results").is_dir():
        pytest.skip("the records of this project are not here")
    records = Records(root / "lab" / "results")
    every = {r.identifier: r for r in requirements(JunitRun(), of_project(records, cards))}
    for proof in every[requirement].proofs:
        # a record of older weights is open, and says whose it is
        assert proof.state != "open" or "is of other weights, " in proof.result


def of_project(records, cards):
    return lambda name: measure(figures()[name], records, cards)


def test_the_counts_are_those_of_the_states(found):
    every = list(found(passing()).values())
    text = requirements_document(every, passing())
    met, missed, still = (sum(r.state == s for r in every) for s in ("met", "not met", "open"))
    assert f"{len(every)} requirements: {met} met, {missed} not met, {still} open." in text
    assert met + missed + still == len(ROWS)


def test_every_requirement_has_a_proof_and_its_own_id():
    rows = shipped_table("requirements")["requirement"]
    assert len(ROWS) == len(rows)
    for row in rows:
        assert re.fullmatch(r"R-\d\d", row["id"])
        assert row.get("tests") or row.get("figures")
        for bound in row.get("figures", ()):
            assert bound["figure"] in figures()
            assert len({"at_least", "at_most"} & set(bound)) == 1


@pytest.mark.parametrize("test", sorted({t for r in ROWS.values() for t in r.get("tests", ())}))
def test_every_test_that_is_named_is_there(test, root):
    file, _, name = test.partition("::")
    tree = ast.parse((root / file).read_text(encoding="utf-8"))
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert not name or name in names
    assert any(one.startswith("test_") for one in names)
