"""Where training examples come from: one file a kind of data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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
"""Sources of real scans, by kind of data."""
SOURCES = {"label_maps": LabelMapSource, **REAL_SOURCES}
"""All of them."""
SHOWN = 3
"""Cases that a line names when some are left out."""


def make_source(
    settings: DataSettings, root: str | None = None, *, tell: Callable[[str], None] | None = None
) -> Source:
    """Open the data that the settings name, below ``root`` or ``DDMSEG_DATA``.

    Args:
        tell: is called with a line when cases are left out.
    """
    if settings.kind == "label_maps":
        return LabelMapSource(settings, root)
    source = labelled_source(settings, root)
    if tell is not None and source.left_out:
        tell(_left_out_line(settings.kind, source.left_out))
    return source


def labelled_source(
    settings: DataSettings, root: str | None = None, *, finish: Finish | None = None
) -> LabelledSource:
    """Open data of real scans with a test split; arguments as of :func:`make_source`.

    Args:
        finish: what is done to each subject that is read; it adds the channels of
            ``data.maps`` where the settings ask for any.

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
    return REAL_SOURCES[settings.kind](settings, root, finish=finish)


def _left_out_line(kind: str, left_out: Mapping[str, str]) -> str:
    """Say in one line which cases are left out and why, by the first of them."""
    shown = [f"{name} ({reason})" for name, reason in sorted(left_out.items())[:SHOWN]]
    more = " and others" * (len(left_out) > SHOWN)
    return f"{kind}: {len(left_out)} left out of all splits: {', '.join(shown)}{more}"
