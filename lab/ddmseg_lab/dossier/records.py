"""The records under ``results/``, read strictly; it is kept which of them were used."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

from ddmseg.errors import UsageError
from ddmseg.models.json_reader import read_json
from ddmseg_lab.table import WEIGHTS, read_rows

MAX_BYTES = 256 << 20
"""The largest record that is read."""


class Records:
    """What was measured.

    Args:
        folder: that the measuring commands wrote to.

    Attributes:
        used: SHA-256 of each file that was read, by its name below the folder.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise UsageError(
                f"{folder}: no such folder; name the one that holds the raw results with --results"
            )
        self.folder = folder
        self.used: dict[str, str] = {}

    def has(self, name: str) -> bool:
        """Say whether a file is there."""
        return (self.folder / name).is_file()

    def summary(self, name: str) -> dict[str, Any] | None:
        """Return a record, None where there is none."""
        path = self.folder / name
        if not self._take(name):
            return None
        try:
            found = read_json(path, most_bytes=MAX_BYTES)
        except (OSError, ValueError) as error:
            raise _damaged(path, error) from error
        if not isinstance(found, dict):
            raise _damaged(path, ValueError("no table of names"))
        return found

    def weights_of_rows(self, name: str) -> set[str] | None:
        """Return which weights a raw table has rows of, None where there is no table."""
        path = self.folder / name
        if not self._take(name):
            return None
        try:
            return {row[WEIGHTS] for row in read_rows(path) if row.get(WEIGHTS)}
        except (OSError, ValueError, csv.Error) as error:
            raise _damaged(path, error) from error

    def _take(self, name: str) -> bool:
        """Note that a file is used; return whether it is there."""
        path = self.folder / name
        if not path.is_file():
            return False
        if name not in self.used:
            self.used[name] = hash_of(path)
        return True


def hash_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path}: above {MAX_BYTES >> 20} MB; name the right file or folder")
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror or error})") from error


def _damaged(path: Path, error: Exception) -> UsageError:
    return UsageError(f"{path}: damaged record ({error}); measure again, or take the file away")
