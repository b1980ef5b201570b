"""The one brain with manual labels that speed is measured on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ddmseg.datasets import malc2012
from ddmseg.datasets.split import split_cases
from ddmseg.imaging.nifti import read_label_map


def development_brain(data: str) -> tuple[Path, NDArray[np.int32]]:
    """Return the first development scan of MALC2012 and its labels as FreeSurfer ids.

    What only one of the two protocols draws is 0.
    """
    listed = split_cases(malc2012.list_cases(data), malc2012.NAME)
    case = listed.require("validation")[0]
    assert case.labels is not None  # the set has labels throughout
    ids = malc2012.freesurfer_ids(read_label_map(case.labels).data)
    return case.images[0], np.where(np.isin(ids, malc2012.EVALUATION_LABELS), ids, 0)
