"""Settings: frozen dataclasses that check themselves, one file a table of the TOML file."""

from ddmseg.pipeline.config.data import DataSettings
from ddmseg.pipeline.config.distillation import DistillationSettings
from ddmseg.pipeline.config.loss import LossSettings
from ddmseg.pipeline.config.model import ModelSettings
from ddmseg.pipeline.config.row import RowSettings
from ddmseg.pipeline.config.training import SamplingSettings, TrainingSettings
from ddmseg.pipeline.config.whole import Settings, read_settings

__all__ = [
    "DataSettings",
    "DistillationSettings",
    "LossSettings",
    "ModelSettings",
    "RowSettings",
    "SamplingSettings",
    "Settings",
    "TrainingSettings",
    "read_settings",
]
