"""Chapters of the page of results, each made of one summary in ``results/``.

A summary that is missing gives a chapter that says so; no figure stands here in words.
"""

from __future__ import annotations

from ddmseg_lab.evidence.chapters.anatomy import anatomy
from ddmseg_lab.evidence.chapters.bench import bench
from ddmseg_lab.evidence.chapters.budget import budget
from ddmseg_lab.evidence.chapters.discrepancy import discrepancy
from ddmseg_lab.evidence.chapters.hippocampus import hippocampus
from ddmseg_lab.evidence.chapters.memory import memory
from ddmseg_lab.evidence.chapters.monitor import monitor
from ddmseg_lab.evidence.chapters.peers import peers
from ddmseg_lab.evidence.chapters.quantisation import quantisation
from ddmseg_lab.evidence.chapters.robustness import robustness
from ddmseg_lab.evidence.chapters.speed import speed, synthesis
from ddmseg_lab.evidence.chapters.tables import table_chapters
from ddmseg_lab.evidence.chapters.tiers import tiers
from ddmseg_lab.page import Section, Summaries

__all__ = ["all_chapters", "table_chapters"]

LEAST_R = {"hippocampus": 0.95, "anatomy": 0.85}
"""Least correlation of expected and true Dice that is aimed at."""


def all_chapters(summaries: Summaries) -> list[Section]:
    """Return every chapter in order."""
    return [
        hippocampus(summaries),
        anatomy(summaries),
        peers(summaries),
        *(discrepancy(summaries, model, least) for model, least in LEAST_R.items()),
        robustness(summaries),
        tiers(summaries),
        speed(summaries),
        bench(summaries),
        memory(summaries),
        budget(summaries),
        quantisation(summaries),
        synthesis(summaries),
        monitor(summaries),
    ]
