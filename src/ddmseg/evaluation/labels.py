"""Which label ids of a prediction and of a truth are one structure.

A table has the columns ``name``, ``prediction`` and ``truth``, with ids separated by
commas; several rows of one name are merged. An id may belong to several structures, such
as a whole tumour and its core.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ddmseg.errors import UsageError, did_you_mean
from ddmseg.evaluation.scores import MEAN
from ddmseg.imaging.labels import protocol_rows, structure
from ddmseg.models.json_reader import read_bounded

MOST_BYTES = 1 << 20
"""Of a table."""
LONGEST_NAME = 200
COLUMNS = ("name", "prediction", "truth")

IBSR18_TISSUES = {1: "CSF", 2: "GM", 3: "WM"}
"""Names of the ids of IBSR18's truth; its CSF is the ventricles."""


@dataclass(frozen=True)
class StructureIds:
    """A structure and the ids that make it up on either side, at least one each."""

    name: str
    prediction: tuple[int, ...]
    truth: tuple[int, ...]

    @property
    def index(self) -> int:
        """The id it is called by: the first of the truth."""
        return self.truth[0]


@dataclass(frozen=True)
class LabelTable:
    """The structures to compare, each name once; ``prepare_truth`` brings its ids to others."""

    name: str
    structures: tuple[StructureIds, ...]
    prepare_truth: Callable[[NDArray[np.integer]], NDArray[Any]] | None = None

    @property
    def prediction_ids(self) -> frozenset[int]:
        """Every id of the prediction that some structure takes."""
        return frozenset(index for item in self.structures for index in item.prediction)

    @property
    def truth_ids(self) -> frozenset[int]:
        """Every id of the truth that some structure takes."""
        return frozenset(index for item in self.structures for index in item.truth)

    def layers(self) -> list[list[StructureIds]]:
        """Return the structures in few groups, each of which fits into one label map."""
        groups: list[list[StructureIds]] = []
        for item in self.structures:
            fitting = (group for group in groups if not any(_overlap(item, o) for o in group))
            group = next(fitting, None)
            if group is None:
                groups.append(group := [])
            group.append(item)
        return groups


def load_label_table(named: str) -> LabelTable:
    """Return a table from a file, or a shipped one by its name.

    The shipped ones compare FreeSurfer ids, such as ddmseg predicts, with the truth of
    ``hippocampus`` (Decathlon Task04), ``ibsr18`` (tissues) and ``malc2012``.

    Raises:
        UsageError: when there is neither, or the table is wrong.
    """
    path = Path(named)
    if path.is_file():
        return read_label_table(path)
    if named not in SHIPPED:
        raise UsageError(
            f"labels: got '{named}'{did_you_mean(named, SHIPPED)}; give a TSV file with the "
            f"columns {', '.join(COLUMNS)}, or one of {', '.join(SHIPPED)}"
        )
    return SHIPPED[named]()


def read_label_table(path: Path) -> LabelTable:
    """Read a table; further columns are left alone. A UsageError says what is wrong with it."""
    try:
        text = read_bounded(path, most_bytes=MOST_BYTES).decode("utf-8-sig")
        table = csv.DictReader(io.StringIO(text, newline=""), delimiter="\t")
        rows, columns = list(table), table.fieldnames or ()
    except (OSError, ValueError, csv.Error) as error:
        raise UsageError(f"{path}: cannot be read as a table ({error}); give a TSV file") from error
    missing = [name for name in COLUMNS if name not in columns]
    if missing:
        raise UsageError(
            f"{path}: the column '{missing[0]}' is missing{did_you_mean(missing[0], columns)}; "
            f"a label table has {', '.join(COLUMNS)}, separated by tabs"
        )
    twice = [name for name in COLUMNS if columns.count(name) > 1]
    if twice:
        raise UsageError(f"{path}: the column '{twice[0]}' is there twice; leave one of them")
    merged: dict[str, tuple[list[int], list[int]]] = {}
    for number, row in enumerate(rows, start=2):
        place = f"{path}, line {number}"
        ids = merged.setdefault(_name(row["name"], place), ([], []))
        for found, side in zip(ids, COLUMNS[1:], strict=True):
            found += _ids(row[side], side, place)
    if not merged:
        raise UsageError(f"{path}: the table has no row; give one for each structure")
    return LabelTable(str(path), tuple(_structure(n, *ids, path) for n, ids in merged.items()))


def _name(text: str | None, place: str) -> str:
    name = (text or "").strip()
    if not name or name == MEAN or not name.isprintable() or len(name) > LONGEST_NAME:
        raise UsageError(
            f"{place}: name: got {name[:80]!r}; give the structure a name of at most "
            f"{LONGEST_NAME} printable characters ('{MEAN}' is taken)"
        )
    return name


def _ids(text: str | None, side: str, place: str) -> Iterable[int]:
    for word in (text or "").replace(" ", "").split(","):
        if not word:
            continue
        # ten digits: longer ones are no ids, and Python refuses to read very long ones
        if not (word.isascii() and word.isdigit() and len(word) <= 10 and 0 < int(word) < 2**31):
            raise UsageError(
                f"{place}: {side}: got {word[:80]!r}; give whole numbers above 0 (0 is "
                f"background) and below {2**31}, separated by commas"
            )
        yield int(word)


def _structure(
    name: str, prediction: Sequence[int], truth: Sequence[int], path: Path
) -> StructureIds:
    for side, ids in (("prediction", prediction), ("truth", truth)):
        if not ids:
            raise UsageError(f"{path}: '{name}' has no id in the column {side}; give at least one")
    return StructureIds(name, tuple(dict.fromkeys(prediction)), tuple(dict.fromkeys(truth)))


def _overlap(one: StructureIds, other: StructureIds) -> bool:
    return bool({*one.prediction} & {*other.prediction} or {*one.truth} & {*other.truth})


def _hippocampus() -> LabelTable:
    rows = protocol_rows("hippocampus")
    return LabelTable(
        "hippocampus",
        tuple(StructureIds(r["name"], (int(r["target"]),), (int(r["index"]),)) for r in rows),
    )


def _ibsr18() -> LabelTable:
    tissues: dict[int, list[int]] = {index: [] for index in IBSR18_TISSUES}
    for row in protocol_rows("ibsr18"):
        tissues[int(row["target"])].append(int(row["index"]))
    return LabelTable(
        "ibsr18",
        tuple(StructureIds(IBSR18_TISSUES[i], tuple(ids), (i,)) for i, ids in tissues.items()),
    )


def _malc2012() -> LabelTable:
    from ddmseg.datasets.malc2012 import EVALUATION_LABELS, freesurfer_ids

    # the vermis has no side in this protocol: it takes the nearest cortex to give it one
    return LabelTable(
        "malc2012",
        tuple(StructureIds(structure(i).name, (i,), (i,)) for i in EVALUATION_LABELS),
        prepare_truth=freesurfer_ids,
    )


SHIPPED: dict[str, Callable[[], LabelTable]] = {
    "hippocampus": _hippocampus,
    "ibsr18": _ibsr18,
    "malc2012": _malc2012,
}
