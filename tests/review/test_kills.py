"""A program that ends at any moment leaves log and labels that agree."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ddmseg.errors import OutputError
from ddmseg.review.log import HEAD, LOG
from ddmseg.review.results import CORRECTED
from ddmseg.review.session import Review
from ddmseg.review.verification import verify_review
from review_folder import nifti_bytes


class Killed(BaseException):
    """The end of the program: nothing of ours handles it."""


class Moments:
    """Ends the program at one of the moments at which something on the disk changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, last: int, *, half: bool = False) -> None:
        self.left, self.half, self.dead = last, half, False
        monkeypatch.setattr(os, "fsync", self._before(os.fsync))
        monkeypatch.setattr(Path, "replace", self._before(Path.replace))
        monkeypatch.setattr(os, "truncate", self._before(os.truncate))
        # a dead program tidies nothing up
        unlink = Path.unlink

        def removed(path: Path, missing_ok: bool = False) -> None:
            if not self.dead:
                unlink(path, missing_ok=missing_ok)

        monkeypatch.setattr(Path, "unlink", removed)

    def _before(self, step: Callable) -> Callable:
        def run(*words: object) -> object:
            if self.dead:
                raise Killed
            self.left -= 1
            if self.left < 0:
                self.dead = True
                raise Killed
            return step(*words)

        return run


def edited(review: Review, identifier: str, voxels: int) -> bytes:
    labels = review.labels(identifier)
    data = labels.data.astype(np.uint8)
    data[tuple(np.argwhere(data == 2)[:voxels].T)] = 53
    return nifti_bytes(data, labels.affine)


def decided(folder: Path) -> list[dict]:
    log = folder / LOG
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def check(folder: Path, before: int) -> list[dict]:
    """Log and file agree, nothing is left over, and work goes on."""
    found = verify_review(folder)
    assert found.problem == ""
    entries = decided(folder)
    assert len(entries) in (before, before + 1)
    corrected = folder / f"worse{CORRECTED}"
    told = [e["file_sha256"] for e in entries if e["action"] == "correct"]
    there = hashlib.sha256(corrected.read_bytes()).hexdigest() if corrected.exists() else None
    assert there == (told[-1] if told else None)
    again = Review(folder)
    worse = again.rows()[0].result.identifier
    again.correct(worse, edited(again, worse, 11), seen=again.seen(worse))
    assert verify_review(folder).problem == ""
    left = [path.name for path in folder.rglob(".*") if path.name != ".review_log.lock"]
    assert left == []
    return entries


@pytest.mark.parametrize("action", ["accept", "first correction", "second correction"])
def test_no_kill_leaves_log_and_file_in_disagreement(
    make_review: Callable[[str], Review], monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    outcomes = []
    for moment in range(40):
        review = make_review(str(moment))
        worse = review.rows()[0].result.identifier
        if action == "second correction":
            review.correct(worse, edited(review, worse, 5), seen=review.seen(worse))
        before = len(decided(review.folder))
        upload, seen = edited(review, worse, 9), review.seen(worse)
        with monkeypatch.context() as patch:
            moments = Moments(patch, moment)
            try:
                if action == "accept":
                    review.decide(worse, "accept", seen=seen)
                else:
                    review.correct(worse, upload, seen=seen)
            except Killed:
                pass
        outcomes.append(len(check(review.folder, before)) - before)
        if not moments.dead:
            break
    else:
        pytest.fail("there were more moments than were tried")
    assert len(outcomes) > 5
    assert {0, 1} == set(outcomes)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_a_line_that_was_cut_off_by_a_kill_is_taken_back(review: Review, share: float) -> None:
    folder = review.folder
    worse = review.rows()[0].result.identifier
    review.decide(worse, "reject", seen=review.seen(worse))
    before = (folder / LOG).read_bytes()
    head = json.loads((folder / HEAD).read_text())
    review.decide(worse, "accept", seen=review.seen(worse))
    line = (folder / LOG).read_bytes()[len(before) :]
    (folder / LOG).write_bytes(before + line[: int(share * len(line))])
    (folder / HEAD).write_text(json.dumps({**head, "pending": line.decode().rstrip("\n")}))
    # as the account knew it then
    review.log.account.keep(type(review.log.account.head())(1, head["last_sha256"]))
    assert verify_review(folder).problem == ""
    assert (folder / LOG).read_bytes() == before


def test_a_correction_that_cannot_get_its_name_is_not_in_the_log(
    review: Review, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worse = review.rows()[0].result.identifier
    replace = Path.replace

    def fail(path: Path, target: Path) -> Path:
        if path.name.endswith(".staged") and not path.name.startswith(".partial"):
            raise PermissionError(13, "Permission denied")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OutputError, match="Permission denied; nothing was decided"):
        review.correct(worse, edited(review, worse, 5), seen=review.seen(worse))
    assert decided(folder) == []
    assert not (folder / f"worse{CORRECTED}").exists()
    assert verify_review(folder).problem == ""
