"""Write the table of plausible volumes from the training label maps and hippocampus crops.

``python -m ddmseg_lab.limits.plausible_volumes [--data DATA]`` rewrites
``src/ddmseg/imaging/protocols/plausible_volumes.tsv``. Label maps give every structure of
``anatomy``, the training crops of the Decathlon head and body of one hippocampus.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from ddmseg.atomic import atomic_write
from ddmseg.datasets import hippocampus, label_maps
from ddmseg.datasets.case import Case
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.labels import (
    ANATOMY_LABELS,
    HIPPOCAMPUS_LABELS,
    generation_labels,
    mirror_index,
    remap,
)
from ddmseg.imaging.nifti import read_label_map

DEVIATIONS = 4.0
LEAST_LOG_RATIO = 0.15
"""White matter's sides differ by 2%: so tight a limit would complain of any tilt."""
LEFT_OUT = frozenset({24})  # CSF around the brain ends where a brain mask cuts it
TABLE = Path(str(files("ddmseg"))) / "imaging" / "protocols" / "plausible_volumes.tsv"

Volumes = dict[int, list[float]]  # by FreeSurfer id, in ml, one a subject


def main() -> None:
    """Write the table that ships."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", help="folder of the data sets (DDMSEG_DATA)")
    data = parser.parse_args().data
    heads = head_volumes(data)
    rows = [*plausible_rows(heads), *plausible_rows(crop_volumes(data))]
    lines = ["index\tlow_ml\thigh_ml\tlog_ratio", *("\t".join(row) for row in rows)]
    with atomic_write(TABLE) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def plausible_rows(volumes: Volumes) -> Iterator[list[str]]:
    """Yield index, low, high and log ratio of each structure; sides share their range."""
    for index, own in sorted(volumes.items()):
        other = volumes.get(mirror_index(index), own)
        logs = np.log([*own, *other])
        spread = DEVIATIONS * logs.std(ddof=1)
        ratio = ""
        if mirror_index(index) != index:
            differences = np.log(own) - np.log(other)
            limit = DEVIATIONS * np.sqrt((differences**2).mean())
            ratio = f"{max(limit, LEAST_LOG_RATIO):.2f}"
        low, high = np.exp(logs.mean() - spread), np.exp(logs.mean() + spread)
        yield [str(index), f"{low:.3g}", f"{high:.3g}", ratio]


def head_volumes(data: str | None) -> Volumes:
    """Return what the label maps hold, in the structures that the model learns."""
    target = {label.index: label.target for label in generation_labels()}
    learned = [index for index in ANATOMY_LABELS[1:] if index not in LEFT_OUT]
    return _volumes(label_maps.list_cases(data), target, learned)


def crop_volumes(data: str | None) -> Volumes:
    """Return head and body of each training crop."""
    cases = split_cases(hippocampus.list_cases(data), "hippocampus").require("train")
    return _volumes(cases, dict(enumerate(HIPPOCAMPUS_LABELS)), HIPPOCAMPUS_LABELS[1:])


def _volumes(cases: Sequence[Case], target: dict[int, int], indices: Sequence[int]) -> Volumes:
    found: Volumes = {index: [] for index in indices}
    for case in cases:
        assert case.labels is not None  # as all of these have
        labels = read_label_map(case.labels)
        counts = np.bincount(remap(labels.data, target).ravel(), minlength=max(found) + 1)
        for index, volumes in found.items():
            volumes.append(float(counts[index]) * _voxel_ml(labels.affine))
    return found


def _voxel_ml(affine: np.ndarray) -> float:
    return abs(float(np.linalg.det(affine[:3, :3]))) / 1000


if __name__ == "__main__":
    main()
