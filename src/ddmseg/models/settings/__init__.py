"""Settings: frozen dataclasses that check themselves, one file a table of the TOML file."""

from ddmseg.models.settings.data import DataSettings
from ddmseg.models.settings.loss import LossSettings
from ddmseg.models.settings.model import ModelSettings
from ddmseg.models.settings.training import (
    DistillationSettings,
    SamplingSettings,
    TrainingSettings,
)
from ddmseg.models.settings.whole import RowSettings, Settings, read_settings

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
