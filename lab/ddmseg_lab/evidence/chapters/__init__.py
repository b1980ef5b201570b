"""Chapters of the page of results, each made of one summary in ``results/``.

A summary that is missing gives a chapter that says so; no figure stands here in words.
"""

from __future__ import annotations

from ddmseg.pipeline.evidence.chapters.anatomy import anatomy
from ddmseg.pipeline.evidence.chapters.bench import bench
from ddmseg.pipeline.evidence.chapters.budget import budget
from ddmseg.pipeline.evidence.chapters.discrepancy import discrepancy
from ddmseg.pipeline.evidence.chapters.distillation import distillation
from ddmseg.pipeline.evidence.chapters.hippocampus import hippocampus
from ddmseg.pipeline.evidence.chapters.memory import memory
from ddmseg.pipeline.evidence.chapters.monitor import monitor
from ddmseg.pipeline.evidence.chapters.peers import peers
from ddmseg.pipeline.evidence.chapters.quantisation import quantisation
from ddmseg.pipeline.evidence.chapters.robustness import robustness
from ddmseg.pipeline.evidence.chapters.speed import speed, synthesis
from ddmseg.pipeline.evidence.chapters.tables import table_chapters
from ddmseg.pipeline.evidence.chapters.tiers import tiers
from ddmseg.pipeline.evidence.page import Section, Summaries

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
        distillation(summaries),
        tiers(summaries),
        speed(summaries),
        bench(summaries),
        memory(summaries),
        budget(summaries),
        quantisation(summaries),
        synthesis(summaries),
        monitor(summaries),
    ]
