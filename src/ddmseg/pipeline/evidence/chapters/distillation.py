"""Students beside their teachers: Dice, calibration and cost on the same scans."""

from __future__ import annotations

from collections.abc import Iterator

from ddmseg.pipeline.evidence.page import (
    INTERVALS,
    Claim,
    Section,
    Summaries,
    Summary,
    Target,
    missing,
    table,
    with_interval,
)

COMMAND = "python -m benchmarks.accuracy.distillation --students STUDENT --data DATA"
SPLIT, COMPARISON = "test", "diffusion against diffusion"
SHIPPED = "anatomy_one_step"


def distillation(summaries: Summaries) -> Section:
    """Every student that was measured, and what it keeps of its teacher."""
    title, found = "Students", summaries.get("distillation")
    students = {} if found is None else found["students"]
    claims = list(_claims(students.get(SHIPPED)))
    if not students:
        return missing(title, COMMAND, claims)
    words = (
        "Student and teacher segment the same test scans, each with the steps and samples of its "
        "own card; ECE is of the largest class probability. Processor seconds are medians of "
        f"one run a scan. {INTERVALS}"
    )
    head = ["student", "teacher", "method", "Dice", "of teacher", "share", "ECE", "of teacher"]
    rows = [_row(name, one) for name, one in students.items()]
    return Section(title, COMMAND, [words, table([*head, "s", "of teacher"], rows)], claims)


def _row(name: str, one: Summary) -> list[str]:
    compared = one["splits"][SPLIT][COMPARISON]
    return [
        f"`{name}` ({one['student']['weights']})",
        f"`{one['teacher']['name']}` ({one['teacher']['weights']})",
        one["method"].replace("_", " "),
        with_interval(compared["student_dice"]),
        with_interval(compared["teacher_dice"]),
        with_interval(compared["share_of_dice"], 4),
        with_interval(compared["student_ece"]),
        with_interval(compared["teacher_ece"]),
        f"{compared['student_processor_seconds']['median']:.1f}",
        f"{compared['teacher_processor_seconds']['median']:.1f}",
    ]


def _claims(one: Summary | None) -> Iterator[Claim]:
    compared = None if one is None else one["splits"][SPLIT][COMPARISON]
    share = Target(f"{SHIPPED}: share of its teacher's Dice", 0.99)
    ece = Target(f"{SHIPPED}: ECE more than its teacher's", 0.01, at_least=False)
    yield Claim(share, None if compared is None else compared["share_of_dice"])
    yield Claim(ece, None if compared is None else compared["ece_difference"])
