"""Where training examples come from: one file a kind of data."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ddmseg.errors import UsageError
from ddmseg.pipeline.batches import Source
from ddmseg.pipeline.config import DataSettings
from ddmseg.pipeline.sources.hippocampus import HippocampusSource
from ddmseg.pipeline.sources.ibsr18 import Ibsr18Source
from ddmseg.pipeline.sources.label_maps import LabelMapSource
from ddmseg.pipeline.sources.subject import LabelledSource

REAL_SOURCES: dict[str, type[HippocampusSource] | type[Ibsr18Source]] = {
    "hippocampus": HippocampusSource,
    "ibsr18": Ibsr18Source,
}
"""Sources of real scans, by kind of data."""
SOURCES = {"label_maps": LabelMapSource, **REAL_SOURCES}
"""All of them."""


def make_source(
    settings: DataSettings,
    root: str | None = None,
    *,
    run_folder: Path | None = None,
    training: bool = False,
) -> Source:
    """Open the data that the settings name, below ``root`` or ``DDMSEG_DATA``.

    Args:
        settings: of the data.
        root: folder of the data sets.
        run_folder: where the weights of the run lie, with what their data need besides:
            the auto-encoders of ``data.maps``. None where no example is drawn.
        training: the run is being trained: make there what is missing.
    """
    if settings.kind == "label_maps":
        return LabelMapSource(settings, root)
    return labelled_source(settings, root, run_folder=run_folder, training=training)


def labelled_source(
    settings: DataSettings,
    root: str | None = None,
    *,
    run_folder: Path | None = None,
    training: bool = False,
) -> LabelledSource:
    """Open data of real scans with a test split; arguments as of :func:`make_source`.

    Raises:
        UsageError: when the data are synthesised and have none.
    """
    if settings.kind not in REAL_SOURCES:
        raise UsageError("data.kind: label_maps has no test scans; name hippocampus or ibsr18")
    open_plain = partial(REAL_SOURCES[settings.kind], settings, root)
    if settings.maps == "none":
        return open_plain()
    # What the maps are made by imports the sources, so it is imported when it is wanted.
    from ddmseg.pipeline.sources.mapped import WithMaps

    return open_plain(finish=WithMaps(settings, open_plain, run_folder, train=training))
