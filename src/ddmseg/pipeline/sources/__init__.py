"""Where training examples come from: one file a kind of data."""

from __future__ import annotations

from ddmseg.errors import UsageError
from ddmseg.pipeline.batches import Source
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.sources.hippocampus import HippocampusSource
from ddmseg.pipeline.sources.ibsr18 import Ibsr18Source
from ddmseg.pipeline.sources.label_maps import LabelMapSource
from ddmseg.pipeline.sources.subject import LabelledSource

SOURCES: dict[str, type[LabelMapSource] | type[HippocampusSource] | type[Ibsr18Source]] = {
    "label_maps": LabelMapSource,
    "hippocampus": HippocampusSource,
    "ibsr18": Ibsr18Source,
}


def make_source(settings: DataSettings, root: str | None = None) -> Source:
    """Open the data that the settings name, below ``root`` or ``DDMSEG_DATA``."""
    return SOURCES[settings.kind](settings, root)


def labelled_source(settings: DataSettings, root: str | None = None) -> LabelledSource:
    """Open data of real scans with a test split.

    Raises:
        UsageError: when the data are synthesised and have none.
    """
    source = make_source(settings, root)
    if isinstance(source, LabelMapSource):
        raise UsageError("data.kind: label_maps has no test scans; name hippocampus or ibsr18")
    assert isinstance(source, HippocampusSource | Ibsr18Source)
    return source
