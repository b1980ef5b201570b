"""Which studies there are."""

from __future__ import annotations

from ddmseg.pipeline.studies.discrepancy import DISCREPANCY
from ddmseg.pipeline.studies.robustness import ROBUSTNESS
from ddmseg.pipeline.studies.samples import SAMPLES
from ddmseg.pipeline.studies.steps import STEPS
from ddmseg.pipeline.studies.study import Study
from ddmseg.pipeline.studies.temperature import TEMPERATURE

STUDIES: dict[str, Study] = {
    study.name: study for study in (TEMPERATURE, STEPS, DISCREPANCY, SAMPLES, ROBUSTNESS)
}
"""Studies of trained weights, by name."""
