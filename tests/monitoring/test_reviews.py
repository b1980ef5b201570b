"""Decisions of reviewers found again by the hash of the labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from ddmseg.errors import ScanError
from ddmseg.monitoring.reviews import Decision, join_reviews, read_reviews
from ddmseg.monitoring.statistics import keyed_hash
from ddmseg.review.log import ReviewLog
from monitor_store import simulated

SALT = b"salt"


def write_log(folder: Path, *entries: tuple[str, str, float | None]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    log = ReviewLog(folder)
    for digest, action, edited_ml in entries:
        entry: dict = {"scan": "scan", "action": action, "original_sha256": digest}
        log.append(entry if edited_ml is None else {**entry, "edit": {"ml_changed": edited_ml}})


def test_the_newest_word_counts_in_all_folders_below(tmp_path: Path) -> None:
    write_log(
        tmp_path,
        ("a", "accept", None),
        ("b", "correct", 1.0),
        ("b", "correct", 2.5),
        ("b", "accept", None),
    )
    write_log(
        tmp_path / "deeper", ("c", "correct", 0.5), ("c", "reject", None), ("", "accept", None)
    )
    decisions, problems = read_reviews(tmp_path)
    assert problems == []
    assert decisions == {
        "a": Decision("accepted", 0.0),
        "b": Decision("corrected", 2.5),
        "c": Decision("rejected", 0.5),
    }


def test_lines_get_the_decision_on_their_labels() -> None:
    lines = [
        {**line, "labels_key": key}
        for line, key in zip(
            simulated(3), (keyed_hash(SALT, "a"), keyed_hash(b"other", "a"), None), strict=True
        )
    ]
    joined = join_reviews(lines, {"a": Decision("corrected", 1.5)}, SALT)
    assert [line.get("review") for line in joined] == ["corrected", None, None]
    assert joined[0]["edited_ml"] == 1.5


def test_a_changed_log_is_named_and_no_log_refused(tmp_path: Path) -> None:
    write_log(tmp_path, ("a", "accept", None), ("b", "accept", None))
    path = tmp_path / "review_log.jsonl"
    path.write_text(path.read_text().replace("accept", "reject", 1))
    decisions, problems = read_reviews(tmp_path)
    assert len(decisions) == 2
    assert problems[0].startswith(f"{path}: line 2: ")
    with pytest.raises(ScanError, match=r"no review_log\.jsonl here"):
        read_reviews(tmp_path / "empty")


def test_one_bad_log_is_one_bad_log(tmp_path: Path) -> None:
    write_log(tmp_path / "good", ("a", "accept", None))
    for name, content in {"deep": b"[" * 90_000, "odd": b'{"edit": {"ml_changed": "x"}}\n'}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "review_log.jsonl").write_bytes(content)
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "review_log.jsonl").symlink_to(tmp_path / "good" / "review_log.jsonl")
    decisions, problems = read_reviews(tmp_path)
    assert decisions == {"a": Decision("accepted", 0.0)}
    assert len(problems) == 3
