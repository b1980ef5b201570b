"""Which scans of a run are still to be done, and the claims on the places of their results."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg.atomic import system_reason
from ddmseg.cohort.scan import Scan
from ddmseg.errors import OutputError, ScanError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.outputs.names import WITH_OPTION, check_label_file, check_place, check_space
from ddmseg.outputs.staging import Claim, errors_named, settle, try_claim
from ddmseg.outputs.standing import plain_request, standing

if TYPE_CHECKING:
    from ddmseg.outputs.dicom import DicomTarget
    from ddmseg.quality.segmentation import Segmentation

_POLL_SECONDS = 0.5


class DoneAlreadyError(Exception):
    """The same result stands there: nothing is left to do."""


class BusyError(Exception):
    """Another process is at work on this scan."""


@dataclass
class ResultPlaces:
    """The places of the results of one run; ``asked`` is what decides one beside the scan."""

    output: Path
    asked: Mapping[str, Any]
    overwrite: bool = False
    _claims: dict[tuple[str, str], Claim] = field(default_factory=dict)

    def is_done(self, scan: Scan) -> bool:
        """Say before the work whether a scan is done already, or by an OutputError cannot be."""
        folder = scan.folder(self.output)
        check_place(folder, scan.stem)
        if self.overwrite or not folder.is_dir():
            return False
        try:
            claim = self._claimed(scan)
        except BusyError:
            return False  # seen to when its turn comes
        try:
            self._check(scan, self._request(scan))
        except DoneAlreadyError:
            return True
        finally:
            claim.release()
        return False

    def take(self, scan: Scan, *, voxels: int, waits: threading.Event | None) -> dict[str, Any]:
        """Claim the place of a scan's results; return what the receipt is to say of it.

        It waits for another process that is at work on the scan until ``waits`` is set; None does
        not. 0 voxels are an unknown number.

        Raises:
            DoneAlreadyError: when it is done meanwhile.
            BusyError: when another process is at work on it.
            OutputError: when the results cannot be stored.
        """
        while True:
            try:
                claim = self._claimed(scan)
                break
            except BusyError:
                if waits is None or waits.wait(_POLL_SECONDS):
                    raise
        self._claims[scan.subfolder, scan.stem] = claim
        from ddmseg.imaging.nifti_guard import MAX_VOXELS  # the help does not wait for numpy

        if voxels <= MAX_VOXELS:  # of one that promises more something better is said
            check_space(claim.folder, voxels, probabilities=bool(self.asked.get("probabilities")))
        request = self._request(scan)
        self._check(scan, request)
        return request

    def store(
        self, scan: Scan, segmentation: Segmentation, dicom: DicomTarget | None
    ) -> list[Path]:
        """Write the results of a scan whose place was taken; return the files."""
        from ddmseg.cohort.derivatives import bids_uri
        from ddmseg.inference.options import SegmentOptions
        from ddmseg.outputs.write import write_outputs

        more: dict[str, Any] = {name: bool(self.asked.get(name)) for name in WITH_OPTION}
        return write_outputs(
            segmentation,
            scan.folder(self.output),
            stem=scan.stem,
            overwrite=True,  # what must not be replaced was refused when the place was claimed
            options=SegmentOptions(**more),
            dicom=dicom,
            claim=self._claims[scan.subfolder, scan.stem],
            source=bids_uri(scan.source) if scan.source else "",
        )

    def release(self, scan: Scan) -> None:
        """Give the place of a scan back, if it was taken."""
        claim = self._claims.pop((scan.subfolder, scan.stem), None)
        if claim is not None:
            claim.release()

    def release_all(self) -> None:
        """Give all places back."""
        for claim in [*self._claims.values()]:
            claim.release()
        self._claims.clear()

    def _request(self, scan: Scan) -> dict[str, Any]:
        """Return all that decides the result of a scan, its bytes first."""
        try:
            return plain_request(input_sha256=_input_sha256(scan), **self.asked)
        except OSError as error:
            why = system_reason(error)
            raise ScanError(f"{scan.path}: cannot be read ({why}); check the path") from error

    def _claimed(self, scan: Scan) -> Claim:
        folder = scan.folder(self.output)
        with errors_named(folder):
            claim = try_claim(folder, scan.stem)
        if claim is None:
            raise BusyError
        return claim

    def _check(self, scan: Scan, request: Mapping[str, Any]) -> None:
        folder = scan.folder(self.output)
        settle(folder, scan.stem)
        if self.overwrite:
            return
        stands = standing(folder, scan.stem, request)
        if stands.kind == "done":
            raise DoneAlreadyError
        if stands.kind == "other":
            raise OutputError(stands.why)


class LabelFile(ResultPlaces):
    """The place of the labels of one scan, without other results: ``output`` is a file."""

    def is_done(self, scan: Scan) -> bool:
        """Say no, or why it cannot be stored: no receipt tells what a lone file was made from."""
        check_label_file(self.output, overwrite=self.overwrite)
        return False

    def take(self, scan: Scan, *, voxels: int, waits: threading.Event | None) -> dict[str, Any]:
        """Return what was asked for; nothing is claimed, since the file comes in one piece."""
        check_space(self.output.parent, voxels, probabilities=False)
        return self._request(scan)

    def store(
        self, scan: Scan, segmentation: Segmentation, dicom: DicomTarget | None
    ) -> list[Path]:
        """Write the labels; return the file."""
        from ddmseg.imaging.mgh import write_mgz
        from ddmseg.imaging.nifti_write import write_label_map

        check_label_file(self.output, overwrite=self.overwrite)
        write = write_mgz if self.output.suffix.lower() == ".mgz" else write_label_map
        write(self.output, segmentation.labels, segmentation.scan)
        return [self.output]


def _input_sha256(scan: Scan) -> str:
    """Return a hash of a scan's files, whatever they are called and wherever they lie."""
    if scan.series is None:
        return file_sha256(scan.path)
    sources = scan.series.paths
    files = {source if isinstance(source, Path) else source.archive for source in sources}
    hashes = sorted(file_sha256(path) for path in files)
    return hashlib.sha256(" ".join([scan.series.uid, *hashes]).encode()).hexdigest()
