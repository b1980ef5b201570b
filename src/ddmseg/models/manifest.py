"""Which files the shipped weights are: hashes in ``weights/SHA256SUMS``.

A card holds the hash of its weights; this file holds those of the cards too, so that no id,
calibration or licence changes unseen. It tells damage and mistakes. Who may write to the
installation can write this file as well; ``git`` or the wheel's hash tell that.

After a change of the shipped weights: ``python -m ddmseg.models.manifest`` (``make manifest``).
``sha256sum -c SHA256SUMS`` in that folder checks it without ddmseg.
"""

from __future__ import annotations

import re
from pathlib import Path

from ddmseg.atomic import atomic_write
from ddmseg.errors import CheckpointError
from ddmseg.imaging.source_file import file_sha256
from ddmseg.models import zoo
from ddmseg.models.json_reader import read_bounded

FILE = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64})  ([^/\\\s]+)")


def manifest_of(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each card and weights file of a folder, by file name."""
    found = {}
    for path in sorted(folder.glob("*.*")):
        if path.suffix in (".json", zoo.SUFFIX) and not path.name.startswith("."):
            found[path.name] = file_sha256(path)
    return found


def read_manifest(folder: Path) -> dict[str, str]:
    """Return what a folder's manifest says, by file name; a CheckpointError without one."""
    path = folder / FILE
    try:
        lines = read_bounded(path).decode("ascii").splitlines()
        return {name: digest for digest, name in map(_parts, lines)}
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error}); install ddmseg again") from error


def check_shipped(path: Path, digest: str) -> None:
    """Refuse a card or weights file of the package that is not as it shipped; others pass."""
    folder = zoo.weights_folder()
    if path.parent.resolve() != folder.resolve():
        return
    if read_manifest(folder).get(path.name) != digest:
        raise CheckpointError(
            f"{path}: differs from what shipped ({FILE}); install ddmseg again, or after a change "
            "of your own run python -m ddmseg.models.manifest"
        )


def write_manifest(folder: Path) -> Path:
    """Write the manifest of a folder as it is now; return its path."""
    text = "".join(f"{digest}  {name}\n" for name, digest in manifest_of(folder).items())
    with atomic_write(folder / FILE) as partial:
        partial.write_text(text, encoding="ascii")
    return folder / FILE


def _parts(line: str) -> tuple[str, str]:
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError(f"no line of hash and name: {line[:80]!r}")
    return found[1], found[2]


if __name__ == "__main__":
    print(write_manifest(zoo.weights_folder()))
