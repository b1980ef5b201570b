"""Images that were refused for lack of room: which examinations are not whole without them.

    SPOOL/refused/STUDY     a line for each image: SERIES/IMAGE.dcm

An examination is held as long as one of its images is missing. The files outlive the
program; where the disk is so full that not even they can be written, memory has to do. A
line stays when its image has come: whoever opens the file looks whether the image is there.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Collection
from pathlib import Path

SUFFIX = ".dcm"
MOST_IMAGES = 200_000
"""Images that are remembered, of all examinations; a sender can name any number."""


class Shortage:
    """What was refused, by study; not safe to use from several threads at once.

    Args:
        folder: of the files; made when it is missing.

    Raises:
        OSError: when it cannot be made or read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        # the program may have ended in the middle of a line
        self._missing = {
            path.name: {line for line in path.read_text("utf-8").split("\n") if line[-4:] == SUFFIX}
            for path in folder.iterdir()
        }
        self._changed = {study: (folder / study).stat().st_mtime for study in self._missing}

    def note(self, study: str, place: Path) -> None:
        """Remember an image that was refused; ``place`` is series and image."""
        if sum(map(len, self._missing.values())) >= MOST_IMAGES:
            return
        missing = self._missing.setdefault(study, set())
        if place.as_posix() in missing:
            return
        missing.add(place.as_posix())
        self._changed[study] = time.time()
        with contextlib.suppress(OSError), (self._folder / study).open("a") as stream:
            stream.write(f"{place.as_posix()}\n")

    def came(self, study: str, place: Path) -> None:
        """Note that an image of a study is here now, missing before or not."""
        if study not in self._missing:
            return
        self._changed[study] = time.time()
        self._missing[study].discard(place.as_posix())
        if not self._missing[study]:
            self.forget(study)

    def drop(self, here: Callable[[str, str], bool]) -> None:
        """Take images off the list that are here, as told by study and place."""
        for study, places in list(self._missing.items()):
            self._missing[study] = {place for place in places if not here(study, place)}
            if not self._missing[study]:
                self.forget(study)

    def missing(self, study: str) -> int:
        """Return how many images of a study were refused and have not come since."""
        return len(self._missing.get(study, ()))

    def over(self, before: float) -> list[str]:
        """Return the studies of which nothing was refused or came after a time, since 1970."""
        return [study for study, changed in self._changed.items() if changed <= before]

    def forget(self, study: str) -> None:
        """Take a study for whole."""
        self._missing.pop(study, None)
        self._changed.pop(study, None)
        with contextlib.suppress(OSError):
            (self._folder / study).unlink()

    def forget_all(self, before: float, *, but: Collection[str]) -> None:
        """Forget the studies of which nothing was heard since, but for some."""
        for study in set(self.over(before)) - set(but):
            self.forget(study)
