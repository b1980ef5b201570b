"""Keeps exported graphs beside the feature cache, so that they are made once a model.

Files are ONNX, named by key and by the hash of their own bytes: what is damaged is
noticed, removed and made again. Beside a graph lies what its check in an engine found.
Nothing that goes wrong with these files is an error.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from ddmseg.atomic import atomic_write
from ddmseg.errors import OutputError
from ddmseg.inference.cache import cache_folder
from ddmseg.models.json_reader import read_json

MAX_GRAPHS = 12
"""Kept on disk; those that were unused longest go first."""


def graphs_folder() -> Path | None:
    """Return the folder of the graphs; None when caches are off."""
    features = cache_folder()
    return None if features is None else features / "graphs"


class GraphCache:
    """Graphs and findings on disk.

    Args:
        folder: made when it is missing; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> bytes | None:
        """Return a graph, or None where there is no sound one."""
        for path in self._files(f"{key[:40]}-*.onnx"):
            with contextlib.suppress(OSError):
                data = path.read_bytes()
                if path.stem.endswith(f"-{_short_hash(data)}"):
                    os.utime(path)  # its time says when it was last of use
                    return data
                path.unlink()
        return None

    def put(self, key: str, data: bytes) -> None:
        """Keep a graph."""
        if self.folder is not None:
            self._write(self.folder / f"{key[:40]}-{_short_hash(data)}.onnx", data)
            self._evict()

    def finding(self, data: bytes, engine: str) -> dict[str, Any] | None:
        """Return what the check of this graph in this engine found, or None."""
        if self.folder is None:
            return None
        try:
            found = read_json(self._note(self.folder, data, engine))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def note(self, data: bytes, engine: str, found: dict[str, Any]) -> None:
        """Keep what a check found."""
        if self.folder is not None:
            text = json.dumps(found, sort_keys=True) + "\n"
            self._write(self._note(self.folder, data, engine), text.encode())

    def _note(self, folder: Path, data: bytes, engine: str) -> Path:
        return folder / f"{_short_hash(data)}-{_short_hash(engine.encode())}.json"

    def _write(self, path: Path, data: bytes) -> None:
        with contextlib.suppress(OutputError), atomic_write(path) as partial:
            partial.write_bytes(data)

    def _evict(self) -> None:
        for path in self._files("*.onnx")[MAX_GRAPHS:]:
            graph = path.stem.rpartition("-")[2]
            for one in (path, *self._files(f"{graph}-*.json")):
                with contextlib.suppress(OSError):
                    one.unlink()

    def _files(self, pattern: str) -> list[Path]:
        """Files of a pattern, the one used last first."""
        timed = []
        for path in self.folder.glob(pattern) if self.folder is not None else ():
            with contextlib.suppress(OSError):  # another process may have removed it since
                timed.append((path.stat().st_mtime_ns, path))
        return [path for _, path in sorted(timed, reverse=True)]


def _short_hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]
