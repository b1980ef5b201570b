"""Adding runs to the store, whatever happens: no segmentation is ever lost for the monitor."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ddmseg.errors import DdmsegError
from ddmseg.imaging.dicom.series import Series
from ddmseg.quality.segmentation import Segmentation

VARIABLE = "DDMSEG_MONITOR"
_RECEIPT, _LABELS = "_receipt.json", "_dseg.nii.gz"


def monitor_folder(named: Path | None) -> Path | None:
    """Return the store that was named, else that of the environment variable, else None."""
    if named is not None:
        return named
    value = os.environ.get(VARIABLE, "").strip()
    return Path(value) if value else None


class Recorder:
    """Adds a line for each run to a store.

    Args:
        folder: of the store; None adds nothing.
        tell: gets one line when runs cannot be added, once for each reason.
    """

    def __init__(self, folder: Path | None, tell: Callable[[str], None]) -> None:
        self.folder = folder
        self._tell = tell
        self._told: set[str] = set()

    def record(
        self,
        segmentation: Segmentation,
        *,
        series: Series | None = None,
        written: Sequence[Path] = (),
    ) -> None:
        """Add one run; never raises.

        Args:
            segmentation: the result.
            series: where the scan came from DICOM.
            written: the files of the result, if any.
        """
        if self.folder is None:
            return
        try:
            self._append(self.folder, segmentation, series, written)
        # what goes wrong here is the monitor's own trouble
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, DdmsegError):
                reason = f"unexpected {type(error).__name__}: {reason}"
            if reason not in self._told:
                self._told.add(reason)
                self._tell(f"warning: not added to the monitor: {reason}")

    def _append(
        self,
        folder: Path,
        segmentation: Segmentation,
        series: Series | None,
        written: Sequence[Path],
    ) -> None:
        from ddmseg.monitoring.statistics import run_statistics
        from ddmseg.monitoring.store import Store, arrow_module

        arrow_module()
        store = Store(folder)
        line = run_statistics(
            segmentation, salt=store.salt(), series=series, labels_sha256=labels_hash(written)
        )
        store.append(line)


def labels_hash(written: Sequence[Path]) -> str:
    """Return the SHA-256 of the labels from the receipt among the files; "" without one."""
    for path in written:
        if path.name.endswith(_RECEIPT):
            outputs = json.loads(path.read_text(encoding="utf-8"))["outputs"]
            return next((str(h) for name, h in outputs.items() if name.endswith(_LABELS)), "")
    return ""
