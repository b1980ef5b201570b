"""Students beside their teachers: Dice, calibration and cost on the same scans."""

from __future__ import annotations

from collections.abc import Iterator

from ddmseg_lab.page import (
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

COMMAND = "python -m ddmseg_lab.accuracy.distillation --students STUDENT --data DATA"
SPLIT, DIFFUSION, FAST = "test", "diffusion against diffusion", "fast against fast"
SHIPPED = "anatomy_one_step"
LIGHT = "anatomy_light"


def distillation(summaries: Summaries) -> Section:
    """Every student that was measured, and what it keeps of its teacher."""
    title, found = "Students", summaries.get("distillation")
    students = {} if found is None else found["students"]
    claims = [*_claims(students.get(SHIPPED)), _size(students.get(LIGHT))]
    if not students:
        return missing(title, COMMAND, claims)
    words = (
        "Student and teacher segment the same test scans in the same mode, with the steps and "
        "samples of its own card each; ECE is of the largest class probability. Processor seconds "
        f"are medians of one run a scan. {INTERVALS}"
    )
    head = ["student", "parameters", "teacher", "method", "mode", "Dice", "of teacher", "share"]
    rows = [
        _row(name, one, comparison)
        for name, one in students.items()
        for comparison in _comparisons(one)
    ]
    columns = [*head, "ECE", "of teacher", "s", "of teacher"]
    return Section(title, COMMAND, [words, table(columns, rows)], claims)


def _comparisons(one: Summary) -> list[str]:
    """Return what differs between student and teacher: fewer steps leave the fast mode as it is."""
    return [FAST, DIFFUSION] if one["method"] == "soft_labels" else [DIFFUSION]


def _row(name: str, one: Summary, comparison: str) -> list[str]:
    compared = one["splits"][SPLIT][comparison]
    return [
        f"`{name}` ({one['student']['weights']})",
        str(one["student"]["parameters"]),
        f"`{one['teacher']['name']}` ({one['teacher']['weights']})",
        one["method"].replace("_", " "),
        comparison.split()[0],
        with_interval(compared["student_dice"]),
        with_interval(compared["teacher_dice"]),
        with_interval(compared["share_of_dice"], 4),
        with_interval(compared["student_ece"]),
        with_interval(compared["teacher_ece"]),
        f"{compared['student_processor_seconds']['median']:.1f}",
        f"{compared['teacher_processor_seconds']['median']:.1f}",
    ]


def _claims(one: Summary | None) -> Iterator[Claim]:
    compared = None if one is None else one["splits"][SPLIT][DIFFUSION]
    share = Target(f"{SHIPPED}: share of its teacher's Dice", 0.99)
    ece = Target(f"{SHIPPED}: ECE more than its teacher's", 0.01, at_least=False)
    yield Claim(share, None if compared is None else compared["share_of_dice"])
    yield Claim(ece, None if compared is None else compared["ece_difference"])


def _size(one: Summary | None) -> Claim:
    target = Target(f"{LIGHT}: parameters", 150_000, at_least=False, digits=0)
    return Claim(target, None if one is None else one["student"]["parameters"])
