"""Adding runs to the store, whatever happens: no segmentation is ever lost for the monitor."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from ddmseg.errors import DdmsegError, optional
from ddmseg.imaging.dicom.series import Series
from ddmseg.outputs.names import RECEIPT
from ddmseg.outputs.staging import receipt_hashes
from ddmseg.quality.segmentation import Segmentation

VARIABLE = "DDMSEG_MONITOR"


def monitor_folder(named: Path | None) -> Path | None:
    """Return the store that was named, else that of the environment variable, else None."""
    if named is not None:
        return named
    value = os.environ.get(VARIABLE, "").strip()
    return Path(value) if value else None


class Recorder:
    """Adds a line for each run to a store; without a folder it adds nothing.

    ``report`` gets one line when runs cannot be added, once for each reason.
    """

    def __init__(self, folder: Path | None, report: Callable[[str], None]) -> None:
        self.folder = folder
        self._report = report
        self._reported: set[str] = set()

    def record(
        self,
        segmentation: Segmentation,
        *,
        series: Series | None = None,
        written: Sequence[Path] = (),
    ) -> None:
        """Add one run, with its DICOM series and the files of the result if any; never raises."""
        if self.folder is None:
            return
        try:
            from ddmseg.monitoring.statistics import run_statistics
            from ddmseg.monitoring.store import Store

            optional("pyarrow", "monitor")
            store, labels = Store(self.folder), labels_hash(written)
            salt = store.salt()
            store.append(
                run_statistics(segmentation, salt=salt, series=series, labels_sha256=labels)
            )
        # what goes wrong here is the monitor's own trouble
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            if not isinstance(error, DdmsegError):
                reason = f"unexpected {type(error).__name__}: {reason}"
            if reason not in self._reported:
                self._reported.add(reason)
                self._report(f"warning: not added to the monitor: {reason}")


def labels_hash(written: Sequence[Path]) -> str:
    """Return the SHA-256 of the labels from the receipt among the files; "" without one."""
    receipt = next((path for path in written if path.name.endswith(RECEIPT)), None)
    hashes = {} if receipt is None else receipt_hashes(receipt)
    return next((digest for name, digest in hashes.items() if name.endswith("_dseg.nii.gz")), "")
