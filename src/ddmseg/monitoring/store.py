"""The store of the monitor: a folder to which runs only ever add.

    store.json                              version of the store, its salt, what it may be used for
    month=2026-11/20261123T040655-<random>.parquet    one line, one run

Each run writes a file of its own under a temporary name and renames it. Runs side by side
never wait for each other and never lose a line, and no reader ever sees half of one. Columns
may come and go with versions: what a file lacks is empty.
"""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ddmseg.atomic import PARTIAL, atomic_write
from ddmseg.errors import OutputError, ScanError, optional
from ddmseg.messages import NOTICE
from ddmseg.models.json_reader import parse_json
from ddmseg.monitoring.columns import (
    CATEGORIES,
    FEATURE,
    IDENTIFIERS,
    NUMBERS,
    VOLUME,
    Line,
    meaning,
)
from ddmseg.outputs.tables import data_dictionary
from ddmseg.outputs.text import cell_text, write_json

VERSION = 1
INDEX = "store.json"
MAX_VALUES = 10_000_000
"""Values of one file; a run has a hundred or two."""


@dataclass(frozen=True)
class Lines:
    """All runs of a store, oldest first, every name that any has, and files that are damaged."""

    lines: list[Line]
    columns: list[str]
    problems: list[str] = field(default_factory=list)


class Store:
    """A store that is there, or that the first line makes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, line: Line) -> Path:
        """Add one run; the line is on the disk when this returns.

        Raises:
            OutputError: when it cannot be written, or the folder is something else.
            ScanError: when the store is of another version.
            MissingExtraError: when pyarrow is not installed.
        """
        optional("pyarrow", "monitor")
        self.salt()
        time = line["time"]
        assert isinstance(time, datetime)
        run = secrets.token_hex(8)
        utc = time.astimezone(UTC)
        target = self.folder / f"month={utc:%Y-%m}" / f"{utc:%Y%m%dT%H%M%S}-{run}.parquet"
        with atomic_write(target) as partial:
            _write_run(partial, {"run": run, **line, "time": utc})
        return target

    def salt(self) -> bytes:
        """Return the secret of this store; make the store when there is none.

        Raises:
            OutputError: when it cannot be made, or the folder holds other things.
            ScanError: when the store is of another version.
        """
        index = self.folder / INDEX
        if not index.exists():
            self._make(index)
        return self._salt()

    def _make(self, index: Path) -> None:
        """Of several runs that make the store at once, the first one's salt counts."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # what may lie in a store that is just being made, or lost its index
            names = {path.name for path in self.folder.iterdir()} - {INDEX}
            if not all(name.startswith((".", "month=")) for name in names):
                raise OutputError(
                    f"{self.folder}: holds other files and no monitor store; name an empty or "
                    "a new folder"
                )
            draft = self.folder / f"{PARTIAL}{secrets.token_hex(4)}-{INDEX}"
            index_of_new = {"version": VERSION, "notice": NOTICE, "salt": secrets.token_hex(16)}
            draft.write_text(json.dumps(index_of_new) + "\n", encoding="utf-8")
            try:
                _put(draft, index)
            finally:
                draft.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.folder}: {error.strerror or error}; choose another folder"
            ) from error

    def _salt(self) -> bytes:
        """Check the index of a store that should be there; return its salt."""
        index = self.folder / INDEX
        try:
            if not index.exists():
                raise ScanError(
                    f"{self.folder}: no monitor store here; ddmseg segment --monitor makes one"
                )
            # to open a pipe would wait for whoever writes to it
            found = parse_json(index.read_bytes() if index.is_file() else b"")
            version = int(found["version"])
            salt = bytes.fromhex(found["salt"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ScanError(f"{index}: damaged; put it back from a copy of the store") from error
        if version != VERSION:
            raise ScanError(
                f"{self.folder}: a store of version {version}; this ddmseg reads version "
                f"{VERSION}; use the ddmseg that wrote it, or begin a new store"
            )
        return salt

    def read(self) -> Lines:
        """Return every run; a ScanError for no store, or one of another version."""
        pa = optional("pyarrow", "monitor")
        unreadable = (OSError, ValueError, OverflowError, pa.ArrowException)
        self._salt()
        lines: list[Line] = []
        columns: dict[str, None] = {}
        problems = []
        for path in sorted(self.folder.glob("month=*/*.parquet")):
            if path.name.startswith(PARTIAL):
                continue
            try:
                rows = _read(path)
            except unreadable as error:
                why = (str(error).splitlines() or [type(error).__name__])[0]
                problems.append(f"{path}: cannot be read ({why}); left out")
                continue
            for number, row in enumerate(rows, start=1):
                if wrong := _wrong_with(row):
                    problems.append(f"{path}: row {number}: {wrong}; left out")
                else:
                    columns |= dict.fromkeys(row)
                    lines.append(row)
        lines.sort(key=lambda row: str(row["time"]))
        return Lines(lines, list(columns), problems)


def dictionary_beside(path: Path) -> Path:
    """Return where the data dictionary of a table goes.

    >>> dictionary_beside(Path("runs.csv")).name
    'runs.json'
    """
    return path.with_suffix(".json")


def write_csv(path: Path, lines: Sequence[Line], columns: Iterable[str]) -> None:
    """Write lines as CSV, empty where a line has no value, and what the columns mean beside it.

    Raises:
        OutputError: when a file cannot be written.
    """
    import csv

    names = list(columns)
    write_json(dictionary_beside(path), data_dictionary({name: meaning(name) for name in names}))
    with (
        atomic_write(path) as partial,
        partial.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(map(cell_text, names))
        writer.writerows([_cell(line.get(name)) for name in names] for line in lines)


def _cell(value: object) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, datetime):
        return value.isoformat(timespec="seconds")
    return f"{value:.10g}" if isinstance(value, float) else cell_text(str(value))


def _put(draft: Path, index: Path) -> None:
    """Give a file its name unless another run was first."""
    try:
        # unlike a rename, a link never replaces what is there
        os.link(draft, index)
    except FileExistsError:
        return
    except OSError:  # a disk without links; only the very first runs can be in each other's way
        if not index.exists():
            draft.replace(index)


def _write_run(path: Path, line: Mapping[str, object]) -> None:
    """Write a file of one line, as small as it can be; every number a double, as in all files."""
    pa = optional("pyarrow", "monitor")
    kinds = {str: pa.string(), datetime: pa.timestamp("us", tz="UTC")}
    known = {name: value for name, value in line.items() if value is not None}
    table = pa.table({n: pa.array([v], kinds.get(type(v), pa.float64())) for n, v in known.items()})
    with optional("pyarrow.parquet", "monitor").ParquetWriter(
        path,
        table.schema,
        # for one value a column, dictionaries and statistics are the larger part of a file
        use_dictionary=False,
        write_statistics=False,
        store_schema=False,
    ) as writer:
        writer.write_table(table)
        # metadata of the schema would go with the schema, which is not stored
        writer.add_key_value_metadata({"notice": NOTICE})


def _read(path: Path) -> list[Line]:
    if not path.is_file():
        raise ValueError("no plain file")
    # ParquetFile reads this file only; read_table would take the folder's name for a column
    file = optional("pyarrow.parquet", "monitor").ParquetFile(path)
    promised = file.metadata
    # few bytes can promise many values
    if promised.num_rows * promised.num_columns > MAX_VALUES:
        raise ValueError(f"{promised.num_rows} rows of {promised.num_columns} columns")
    rows: list[Line] = file.read().to_pylist()
    return rows


def _wrong_with(row: Line) -> str:
    """Return why a row is no run, or ""; values of unknown columns may be anything."""
    time = row.get("time")
    if not isinstance(time, datetime):
        return "it has no time"
    row["time"] = time.replace(tzinfo=time.tzinfo or UTC)
    for name, value in row.items():
        number = name in NUMBERS or name.startswith((VOLUME, FEATURE))
        word = name in CATEGORIES or (name in IDENTIFIERS and name != "time")
        if value is None or not (number or word):
            continue
        if number and type(value) is int:
            row[name] = float(value)
        elif not isinstance(value, float if number else str):
            return f"{name} is no {'number' if number else 'word'}"
    return ""
