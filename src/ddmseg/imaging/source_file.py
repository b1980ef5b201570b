"""Whether there is a file to read at all: before it is opened, since opening a pipe may hang."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from ddmseg.errors import ScanError, about_file

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_POINTERS = {
    b"/annex/objects/": "datalad get, git annex get",
    b"version https://git-lfs.github.com/": "git lfs pull",
}
"""What stands at the beginning of a small file in the place of content that was not fetched."""
_ANNEX = ".git/annex/objects"


def check_source(path: Path) -> None:
    """Check that a path leads to a regular file whose content is on this disk."""
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        raise _absent(path, error) from error
    if kind in _KINDS:
        said = f"{_KINDS[kind]}, not a file; give the file itself"
        raise coded_error(path, said, "no_file", kind=_KINDS[kind])
    if kind == stat.S_IFREG and (command := _to_fetch(path)):
        raise _not_here(path, command)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _absent(path: Path, error: OSError) -> ScanError:
    if path.is_symlink():
        leads_to = os.readlink(path)
        if _ANNEX in leads_to:
            return _not_here(path, _POINTERS[b"/annex/objects/"])
        said = f"a link that leads nowhere ({leads_to}); mend it"
        return coded_error(path, said, "dangling_link", leads_to=leads_to)
    missing = isinstance(error, FileNotFoundError)
    why = "no such file" if missing else str(error.strerror)
    return coded_error(path, f"{why}; check the path", "scan_absent", why=why)


def _to_fetch(path: Path) -> str:
    """Return what fetches the content that a small file stands for; empty where it is content."""
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:  # whoever reads it says why
        return ""
    return next((how for begins, how in _POINTERS.items() if start.startswith(begins)), "")


def _not_here(path: Path, command: str) -> ScanError:
    said = f"its content is not here; fetch it first ({command})"
    return coded_error(path, said, "content_absent", command=command)


def coded_error(file: Path | str, said: str, code: str, **values: str | float) -> ScanError:
    """Return the error for a file, with a code so that a page can say it in another language."""
    return ScanError(about_file(file, said, code, **values))
