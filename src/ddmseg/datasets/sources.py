"""Where training examples come from: one file a kind of data."""

from __future__ import annotations

from collections.abc import Callable

from ddmseg.datasets.brats import BratsSource
from ddmseg.datasets.hippocampus import HippocampusSource
from ddmseg.datasets.ibsr18 import Ibsr18Source
from ddmseg.datasets.label_maps import LabelMapSource
from ddmseg.datasets.lpba40 import Lpba40Source
from ddmseg.datasets.source import Finish, LabelledSource, Source
from ddmseg.errors import UsageError
from ddmseg.models.settings import DataSettings

REAL_SOURCES: dict[str, Callable[..., LabelledSource]] = {
    "hippocampus": HippocampusSource,
    "ibsr18": Ibsr18Source,
    "lpba40": Lpba40Source,
    "brats": BratsSource,
}
SOURCES = {"label_maps": LabelMapSource, **REAL_SOURCES}
"""By kind of data."""
SHOWN = 3
"""Cases that a line names when some are left out."""


def make_source(
    settings: DataSettings, root: str | None = None, *, tell: Callable[[str], None] | None = None
) -> Source:
    """Open the data that the settings name, below ``root`` or ``DDMSEG_DATA``.

    ``tell`` is called with a line when cases are left out.
    """
    if settings.kind == "label_maps":
        return LabelMapSource(settings, root)
    source = labelled_source(settings, root)
    if tell is not None and source.left_out:
        first = [f"{name} ({why})" for name, why in sorted(source.left_out.items())[:SHOWN]]
        more = " and others" * (len(source.left_out) > SHOWN)
        count = len(source.left_out)
        tell(f"{settings.kind}: {count} left out of all splits: {', '.join(first)}{more}")
    return source


def labelled_source(
    settings: DataSettings, root: str | None = None, *, finish: Finish | None = None
) -> LabelledSource:
    """Open data of real scans with a test split; as :func:`make_source`.

    ``finish`` adds the channels of ``data.maps`` where the settings ask for any.

    Raises:
        UsageError: when the data are synthesised and have none, or nothing adds their maps.
    """
    if settings.kind not in REAL_SOURCES:
        raise UsageError(
            f"data.kind: label_maps has no test scans; name one of {', '.join(REAL_SOURCES)}"
        )
    if settings.maps != "none" and finish is None:
        raise UsageError(
            f"data.maps: got {settings.maps}, whose channels the laboratory makes; run these "
            "settings as a row of a table with ddmseg compare, or leave data.maps out"
        )
    source = REAL_SOURCES[settings.kind](settings, root)
    source.finish = finish or source.finish
    return source
