"""Images that were refused for lack of room: which examinations are not whole without them.

    SPOOL/refused/STUDY     one line per image: SERIES/IMAGE.dcm

An examination is held as long as one of its images is missing. The files outlive the
program; where the disk is so full that not even they can be written, memory has to do. A
line stays when its image has come: whoever opens the file looks whether the image is there.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

SUFFIX = ".dcm"
MOST_IMAGES = 200_000
"""Images that are remembered, of all examinations; a sender can name any number."""


class MissingImages:
    """What was refused, by study; not safe to use from several threads at once.

    The folder of the files is made when it is missing (OSError when it cannot be); ``now`` is the
    clock of the spool.
    """

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder, self._now = folder, now
        folder.mkdir(exist_ok=True)
        files = [path for path in folder.iterdir() if path.is_file()]
        self._missing = {path.name: _read(path) for path in files}
        self._changed = {path.name: path.stat().st_mtime for path in files}
        for study, changed in list(self._changed.items()):
            if changed > now():  # another clock has written it
                self._touch(study)

    def note(self, study: str, place: Path) -> None:
        """Remember an image that was refused; ``place`` is series and image."""
        name, most = place.as_posix(), sum(map(len, self._missing.values())) >= MOST_IMAGES
        if most or name in self._missing.get(study, ()):
            return
        self._missing.setdefault(study, set()).add(name)
        with contextlib.suppress(OSError), (self._folder / study).open("a") as stream:
            stream.write(f"{name}\n")
            stream.flush()
            os.fsync(stream.fileno())
        self._touch(study)

    def came(self, study: str, place: Path) -> None:
        """Note that an image of a study is here now, missing before or not."""
        if study in self._missing:
            self._touch(study)
            self._missing[study].discard(place.as_posix())
            self._forget_whole(study)

    def drop(self, here: Callable[[str, str], bool]) -> None:
        """Take images off the list that are ``here``, asked by study and place."""
        for study, places in list(self._missing.items()):
            self._missing[study] = {place for place in places if not here(study, place)}
            self._forget_whole(study)

    def _forget_whole(self, study: str) -> None:
        if not self._missing[study]:
            self.forget(study)

    def missing(self, study: str) -> int:
        """Return how many images of a study were refused and have not come since."""
        return len(self._missing.get(study, ()))

    def over(self, before: float) -> list[str]:
        """Return the studies of which nothing was refused or came after a time."""
        return [study for study, changed in self._changed.items() if changed <= before]

    def forget(self, study: str) -> None:
        """Take a study for whole."""
        self._missing.pop(study, None)
        self._changed.pop(study, None)
        with contextlib.suppress(OSError):
            (self._folder / study).unlink()

    def _touch(self, study: str) -> None:
        """Note when something was last heard of a study: in the file too, for the next run."""
        self._changed[study] = now = self._now()
        with contextlib.suppress(OSError):
            os.utime(self._folder / study, (now, now))


def _read(path: Path) -> set[str]:
    """The images in a file; the program may have ended in the middle of a line."""
    try:
        lines = path.read_text("utf-8", errors="replace").split("\n")
    except OSError:
        return set()
    return {line for line in lines if line.endswith(SUFFIX)}
