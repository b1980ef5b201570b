"""Remembers what the image encoder left, so that a second run skips it.

The key of an entry is a hash of all that went in: the scan, the weights and how the scan was
prepared. What was unused longest is dropped. A cache may be lost at any time: nothing that goes
wrong with it is an error.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
import time
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ddmseg.atomic import atomic_write
from ddmseg.errors import OutputError, SettingsError

if TYPE_CHECKING:
    from torch import Tensor

CACHE_VARIABLE = "DDMSEG_CACHE"
"""Environment variable that names the folder of the cache; ``off`` for none."""
LIMIT_VARIABLE = "DDMSEG_CACHE_MB"
"""Environment variable with what the files may take together, in megabytes."""
MAX_BYTES = 500 * 10**6
"""What the files may take together, unless said otherwise: 500 MB."""

_SUFFIX = ".safetensors"
_STALE_NANOSECONDS = 3600 * 10**9
"""Age at which an unfinished file belongs to nobody."""


def cache_folder() -> Path | None:
    """Return the folder that the user or the platform names; None when off, or without a home.

    Source: XDG Base Directory Specification 0.8, ``XDG_CACHE_HOME``.
    """
    named = os.environ.get(CACHE_VARIABLE, "")
    if named.strip().lower() == "off":
        return None
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = os.path.expanduser(named or os.path.join(base, "ddmseg", "features"))
    return None if folder.startswith("~") else Path(folder)


def cache_limit() -> int:
    """Return the bytes that the files may take together: what the user says, else ``MAX_BYTES``.

    Raises:
        SettingsError: when ``DDMSEG_CACHE_MB`` is no number of at least 0.
    """
    said = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not said:
        return MAX_BYTES
    try:
        megabytes = float(said)
    except ValueError:
        megabytes = math.nan
    if not 0 <= megabytes < math.inf:
        raise SettingsError(
            f"{LIMIT_VARIABLE}: got {said[:40]!r}; give megabytes as a number of at least 0, such "
            f"as {MAX_BYTES / 1e6:.0f}"
        )
    return int(megabytes * 1e6)


class FeatureCache:
    """Tensors by key, a file each.

    Args:
        folder: made when it is missing.
        max_bytes: what the files may take together; 0 writes none.
    """

    def __init__(self, folder: Path, max_bytes: int = MAX_BYTES) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

    def get(self, key: str) -> dict[str, Tensor] | None:
        """Return the entry, contiguous and on the CPU whatever it was when it was put, or None."""
        path = self._path(key)
        try:
            if not path.is_file():
                return None
            tensors = _unpack(path, key)
        except (OSError, ValueError, TypeError, RuntimeError):
            _remove(path)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # its time says when it was last of use
        return tensors

    def put(self, key: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep an entry, in place of an older one of that key."""
        with contextlib.suppress(OSError, OutputError):
            size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            data = _pack(tensors, key) if size <= self.max_bytes else None
            if data is None or len(data) > self.max_bytes:
                self._make_room(0)  # the limit may be lower than that of earlier runs
                return
            # features show the person they were made from: for the owner's eyes only
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _remove(self._path(key))
            self._make_room(len(data))
            with atomic_write(self._path(key), private=True, durable=False) as draft:
                draft.write_bytes(data)

    @property
    def bytes_on_disk(self) -> int:
        """Bytes that the files take together, those of other caches in the folder included."""
        return sum(size for _, size, _ in self._files("**/*"))

    @property
    def holds_entries(self) -> bool:
        """Whether there is a file of an entry."""
        return bool(self._files(f"*{_SUFFIX}"))

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{_SUFFIX}"

    def _make_room(self, needed: int) -> None:
        """Remove what was unused longest, and drafts that nobody finished."""
        stale = time.time_ns() - _STALE_NANOSECONDS
        for used, _, draft in self._files(".*"):
            if used <= stale:
                _remove(draft)
        total = needed + self.bytes_on_disk
        for _, size, path in sorted(self._files(f"*{_SUFFIX}")):
            if total <= self.max_bytes:
                break
            total -= size if _remove(path) else 0

    def _files(self, pattern: str) -> list[tuple[int, int, Path]]:
        """Time of last use in nanoseconds, bytes and path of each file."""
        found = []
        for path in self.folder.glob(pattern):
            # another process may have removed it since
            with contextlib.suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    found.append((status.st_mtime_ns, status.st_size, path))
        return found


def _remove(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def _pack(tensors: Mapping[str, Tensor], key: str) -> bytes:
    from safetensors.torch import save

    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    return save(flat, metadata={"key": key, "crc32": str(_checksum(flat, key))})


def _unpack(path: Path, key: str) -> dict[str, Tensor]:
    """Undo :func:`_pack`; ValueError when the file is damaged or another scan's."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            note = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path}: damaged ({error})") from error
    if note.get("key") != key:  # a file may be renamed, and these would be another person's
        raise ValueError(f"{path}: of another key")
    if str(_checksum(tensors, key)) != note.get("crc32"):
        raise ValueError(f"{path}: damaged (checksum)")
    return tensors


def _checksum(tensors: Mapping[str, Tensor], key: str) -> int:
    """CRC-32 over key, names and values; safetensors itself notices only a wrong length."""
    import torch

    total = zlib.crc32(key.encode())
    for name in sorted(tensors):
        values = tensors[name].reshape(-1).view(torch.uint8).numpy()
        total = zlib.crc32(values.data, zlib.crc32(name.encode(), total))
    return total
