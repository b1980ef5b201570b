"""The package's door in Python: segment a scan, look at the result, save it."""

from __future__ import annotations

from dataclasses import fields
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ddmseg.errors import OutputError, UsageError
from ddmseg.inference.options import SegmentOptions
from ddmseg.inference.scan_stages import Progress
from ddmseg.inference.segmenter import Segmenter as ModelSegmenter
from ddmseg.outputs.names import WITH_OPTION
from ddmseg.outputs.report.notebook import notebook_html, result_figure
from ddmseg.outputs.write import write_outputs
from ddmseg.quality.segmentation import Segmentation as PlainSegmentation

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Segmentation(PlainSegmentation):
    """Labels, maps, volumes and verdict of one scan, to look at and to save.

    In a notebook it shows itself: verdict, picture and volumes. ``print(result)`` gives
    the same in three lines.
    """

    @classmethod
    def of(cls, found: PlainSegmentation) -> Segmentation:
        """Return a segmentation as one that can be shown and saved; arrays are shared."""
        return cls(**{one.name: getattr(found, one.name) for one in fields(found)})

    def save(
        self,
        folder: str | PathLike[str],
        options: SegmentOptions | None = None,
        *,
        stem: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write what ``ddmseg segment`` writes, all files or none; return their paths.

        Args:
            folder: made when it is missing.
            options: whether ``probabilities``, ``brain`` and ``mgz`` are written as well;
                None for what was asked for when the scan was segmented.
            stem: what every file name begins with; None for the name of the scan.
            overwrite: replace the files of an earlier run.

        Raises:
            OutputError: when files exist already or cannot be written.
            UsageError: when probabilities are wanted but were not kept, or the stem is no name.
        """
        begins, place = self.scan.name if stem is None else stem, Path(folder)
        if not begins or begins != Path(begins).name or "\0" in begins:
            raise UsageError(f"stem: got {begins!r}; give the beginning of a file name, no folder")
        if options is None:  # what was asked for when the scan was segmented, by the receipt
            settings = self.receipt.get("settings", {})
            asked = {name: bool(settings.get(name)) for name in WITH_OPTION}
            options = SegmentOptions().changed(asked)
        try:
            return write_outputs(self, place, stem=begins, overwrite=overwrite, options=options)
        except OutputError as error:  # which speaks of the command line
            raise OutputError(str(error).replace("--overwrite", "overwrite=True")) from error

    def plot(self) -> Figure:
        """Return a matplotlib figure: labels, uncertainty and discrepancy in three planes.

        It is one of ``pyplot``'s: ``plt.show()`` shows it, ``savefig`` stores it. In a
        notebook assign it, else it appears twice.

        Raises:
            MissingExtraError: when matplotlib is not installed (extra ``plot``).
        """
        return result_figure(self)

    def _repr_html_(self) -> str:
        return notebook_html(self)


class Segmenter(ModelSegmenter):
    """A model ready to segment scans.

    >>> from importlib.resources import files
    >>> from ddmseg import Segmenter
    >>> scan = files("ddmseg") / "demo" / "colin27_t1.nii.gz"
    >>> result = Segmenter.load("anatomy_fast")(scan, mode="fast")
    >>> result.labels
    <LabelMap 'colin27_t1': 181 × 217 × 181 voxels of 1 × 1 × 1 mm, int32>
    """

    def __call__(
        self,
        image: object,
        options: SegmentOptions | None = None,
        *,
        progress: Progress | None = None,
        **overrides: Any,
    ) -> Segmentation:
        """Segment one scan.

        Args:
            image: path of a NIfTI file, nibabel image, ``(array, affine)`` or Volume.
            options: what to do; single fields may be given as keywords instead.
            progress: gets the stage and the fraction of it done.
            **overrides: fields of :class:`SegmentOptions`, such as ``mode="fast"``.

        Raises:
            ScanError: when the scan is not usable.
            SettingsError: for an unknown or wrong option.
        """
        return Segmentation.of(super().__call__(image, options, progress=progress, **overrides))
