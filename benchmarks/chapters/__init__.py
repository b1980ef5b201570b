"""Chapters of the page of results, each made of one summary in ``results/``.

A summary that is missing gives a chapter that says so; no figure stands here in words.
"""

from __future__ import annotations

from benchmarks.chapters.anatomy import anatomy
from benchmarks.chapters.discrepancy import discrepancy
from benchmarks.chapters.hippocampus import hippocampus
from benchmarks.chapters.speed import speed, synthesis
from benchmarks.page import Section, Summaries

LEAST_R = {"hippocampus": 0.95, "anatomy": 0.85}
"""Least correlation of expected and true Dice that is aimed at."""


def all_chapters(summaries: Summaries) -> list[Section]:
    """Return every chapter in order."""
    return [
        hippocampus(summaries),
        anatomy(summaries),
        *(discrepancy(summaries, model, least) for model, least in LEAST_R.items()),
        speed(summaries),
        synthesis(summaries),
    ]
