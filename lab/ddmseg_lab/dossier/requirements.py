"""What ddmseg has to do, what proves it, and how that went."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ddmseg_lab.dossier.document import bullets, document, rows
from ddmseg_lab.dossier.figures import Figure, Measured
from ddmseg_lab.dossier.junit import NOT_RUN, JunitRun
from ddmseg_lab.dossier.shipped import shipped_table
from ddmseg_lab.page import NOT_MEASURED, Target

State = Literal["met", "not met", "open"]
TITLE = "Requirements, tests and results"


@dataclass(frozen=True)
class Proof:
    """One test file, test or figure, and how it went."""

    name: str
    result: str
    state: State


@dataclass(frozen=True)
class Requirement:
    """What has to be, with its proofs."""

    identifier: str
    text: str
    proofs: Sequence[Proof]

    @property
    def state(self) -> State:
        """``not met`` when any proof failed, ``met`` when all are there and hold."""
        states = {proof.state for proof in self.proofs}
        if "not met" in states:
            return "not met"
        return "met" if states == {"met"} else "open"


Read = Callable[[str], Measured]
"""From the name of a figure to what was measured."""


def requirements(run: JunitRun, read: Read) -> list[Requirement]:
    """Return every requirement with its proofs."""
    return [_requirement(row, run, read) for row in shipped_table("requirements")["requirement"]]


def requirements_document(found: Sequence[Requirement], run: JunitRun) -> str:
    """Return the matrix of requirements, tests and results."""
    body = []
    for one in found:
        told = [one.text, one.state]
        for proof in one.proofs:
            body.append([one.identifier, *told, proof.name, proof.result])
            told = ["", ""]  # once is enough
    counts = Counter(one.state for one in found)
    summary = ", ".join(f"{counts[state]} {state}" for state in ("met", "not met", "open"))
    return document(
        TITLE,
        [
            f"{len(found)} requirements: {summary}. *Open* means that a proof was not run, was "
            "skipped or was not measured; it is no way of having been met.",
            _source(run),
            rows(["", "requirement", "it is", "proof", "result"], body),
            bullets(
                [
                    "Tests are named as pytest names them; a file stands for all tests in it.",
                    "Figures are judged by their mean; the interval stands beside it.",
                ]
            ),
        ],
    )


def _source(run: JunitRun) -> str:
    if not run.source:
        return f"No results of tests were given (`--tests`), so every test is *{NOT_RUN}*."
    when = f", run at {run.time}" if run.time else ""
    return (
        f"Results of tests: `{run.source}`{when}, {len(run.cases)} tests, SHA-256 `{run.sha256}`."
    )


def _requirement(row: Mapping[str, Any], run: JunitRun, read: Read) -> Requirement:
    proofs = [_test_proof(test, run) for test in row.get("tests", ())]
    proofs += [_figure_proof(bound, read) for bound in row.get("figures", ())]
    return Requirement(row["id"], row["text"], proofs)


def _test_proof(test: str, run: JunitRun) -> Proof:
    counts = run.outcomes(test)
    if not counts:
        return Proof(f"`{test}`", NOT_RUN, "open")
    if counts["failed"]:
        return Proof(f"`{test}`", f"**{counts['failed']} of {counts.total()} failed**", "not met")
    told = [f"{counts[outcome]} {outcome}" for outcome in ("passed", "skipped") if counts[outcome]]
    state: State = "open" if counts["skipped"] else "met"
    return Proof(f"`{test}`", ", ".join(told), state)


def _figure_proof(bound: Mapping[str, Any], read: Read) -> Proof:
    measured = read(bound["figure"])
    target = _target(measured.figure, bound)
    name = f"{measured.figure.what}: {target.shown} (`results/{measured.figure.record}`)"
    if measured.value is None:
        return Proof(name, f"{NOT_MEASURED} ({measured.why})", "open")
    value = float(measured.value["mean"])
    holds = value >= target.bound if target.at_least else value <= target.bound
    result = f"{measured.shown}: {target.verdict(value)}"
    return Proof(name, result, "met" if holds else "not met")


def _target(figure: Figure, bound: Mapping[str, Any]) -> Target:
    at_least = "at_least" in bound
    return Target(
        figure.what,
        bound["at_least" if at_least else "at_most"],
        at_least=at_least,
        unit=figure.unit,
        digits=figure.digits,
    )
