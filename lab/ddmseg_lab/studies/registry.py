"""Which studies there are."""

from __future__ import annotations

from ddmseg_lab.studies.discrepancy import DISCREPANCY
from ddmseg_lab.studies.robustness import ROBUSTNESS
from ddmseg_lab.studies.samples import SAMPLES
from ddmseg_lab.studies.steps import STEPS
from ddmseg_lab.studies.study import Study
from ddmseg_lab.studies.temperature import TEMPERATURE

STUDIES: dict[str, Study] = {
    study.name: study for study in (TEMPERATURE, STEPS, DISCREPANCY, SAMPLES, ROBUSTNESS)
}
"""Studies of trained weights, by name."""
