"""Which questions there are: pages made of a record, and studies of trained weights."""

from __future__ import annotations

from ddmseg_lab.comparison.peers import summary as peers
from ddmseg_lab.page import Chapter
from ddmseg_lab.speed import bench_page, memory, quantisation, segment, synthesis
from ddmseg_lab.studies import (
    anatomy,
    anomalies,
    crop_intervals,
    expected_dice,
    hippocampus,
    ibsr18,
    monitor_alarms,
    robustness_anatomy,
    tiers,
    volume_contest,
    volumes,
)
from ddmseg_lab.studies.discrepancy import DISCREPANCY
from ddmseg_lab.studies.robustness import ROBUSTNESS
from ddmseg_lab.studies.samples import SAMPLES
from ddmseg_lab.studies.steps import STEPS
from ddmseg_lab.studies.temperature import TEMPERATURE
from ddmseg_lab.study import Study

CHAPTERS: tuple[Chapter, ...] = (
    *(hippocampus.CHAPTER, anatomy.CHAPTER, ibsr18.CHAPTER, peers.CHAPTER, *expected_dice.CHAPTERS),
    *(volumes.CHAPTER, volume_contest.CHAPTER, crop_intervals.CHAPTER),
    *(robustness_anatomy.CHAPTER, anomalies.CHAPTER),
    tiers.CHAPTER,
    *(segment.CHAPTER, bench_page.CHAPTER),
    *(memory.CHAPTER, quantisation.CHAPTER, synthesis.CHAPTER, monitor_alarms.CHAPTER),
)
"""In the order of the page; each is made of one summary."""
NAMES = tuple(chapter.record for chapter in CHAPTERS)  # of the summaries
STUDIES: dict[str, Study] = {
    study.name: study for study in (TEMPERATURE, STEPS, DISCREPANCY, SAMPLES, ROBUSTNESS)
}
"""Studies of trained weights, by name."""
