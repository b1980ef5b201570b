"""What is done to a log or to labels behind the back of the review is noticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ddmseg.errors import OutputError, ScanError, UsageError
from ddmseg.review.log import HEAD, LOG, ReviewLog
from ddmseg.review.results import CORRECTED, LABELS
from ddmseg.review.seal import FIRST, KEY_VARIABLE, line_of, line_sha256
from ddmseg.review.session import Review
from ddmseg.review.verification import verify_review

Spoil = Callable[[Path], None]


def a_log(folder: Path, entries: int = 3) -> ReviewLog:
    folder.mkdir(exist_ok=True)
    log = ReviewLog(folder)
    for place in range(entries):
        log.append({"scan": f"scan-{place}", "action": "accept", "note": "fine"})
    return log


def lines(folder: Path) -> list[bytes]:
    return (folder / LOG).read_bytes().splitlines()


def put(folder: Path, rows: list[bytes], *, head: bool = False) -> None:
    """Write the lines, and a head that fits them."""
    (folder / LOG).write_bytes(b"".join(row + b"\n" for row in rows))
    if head:
        last = line_sha256(rows[-1]) if rows else FIRST
        told = {"entries": len(rows), "last_sha256": last, "pending": None}
        (folder / HEAD).write_text(json.dumps(told))


def rewritten(rows: list[bytes], change: Callable[[dict], dict]) -> list[bytes]:
    """All lines anew, with a chain that holds."""
    previous, found = FIRST, []
    for number, row in enumerate(rows, start=1):
        entry = {**change(json.loads(row)), "entry": number, "previous_sha256": previous}
        found.append(line_of(entry))
        previous = line_sha256(found[-1])
    return found


def rejecting(entry: dict) -> dict:
    return {**entry, "action": "reject"}


def unsealed(entry: dict) -> dict:
    return {**entry, "seal": None, "key": None}


def forged(folder: Path, **change: object) -> list[bytes]:
    rows = lines(folder)
    entry = {**json.loads(rows[-1]), "entry": len(rows) + 1, **change}
    return [*rows, line_of({**entry, "previous_sha256": line_sha256(rows[-1])})]


def flip(at: int, bit: int) -> Spoil:
    def spoil(folder: Path) -> None:
        raw = bytearray((folder / LOG).read_bytes())
        raw[at] ^= 1 << bit
        (folder / LOG).write_bytes(bytes(raw))

    return spoil


def replayed(folder: Path) -> None:
    """An older state of all that lies in the folder, which once was true."""
    shutil.copytree(folder, folder.parent / "older")
    a_log(folder, 1)
    for name in (LOG, HEAD):
        shutil.copy(folder.parent / "older" / name, folder / name)


SPOILS: dict[str, Spoil] = {
    "last line flipped": lambda f: put(
        f, [*lines(f)[:2], lines(f)[2].replace(b"accept", b"reject")]
    ),
    "last line flipped, head too": lambda f: put(
        f, [*lines(f)[:2], lines(f)[2].replace(b"accept", b"reject")], head=True
    ),
    "last line gone": lambda f: put(f, lines(f)[:2]),
    "last line gone, head too": lambda f: put(f, lines(f)[:2], head=True),
    "all lines gone": lambda f: put(f, []),
    "log gone": lambda f: (f / LOG).unlink(),
    "log and head gone": lambda f: [(f / name).unlink() for name in (LOG, HEAD)] and None,
    "head gone": lambda f: (f / HEAD).unlink(),
    "head damaged": lambda f: (f / HEAD).write_text("{"),
    "last line cut": lambda f: (f / LOG).write_bytes((f / LOG).read_bytes()[:-9]) and None,
    "last line end cut": lambda f: (f / LOG).write_bytes((f / LOG).read_bytes()[:-1]) and None,
    "name twice": lambda f: put(
        f, [*lines(f)[:2], lines(f)[2].replace(b'"note"', b'"action":"reject","note"')], head=True
    ),
    "spaces": lambda f: put(f, [*lines(f)[:2], lines(f)[2].replace(b",", b", ", 1)], head=True),
    "escapes": lambda f: put(
        f, [*lines(f)[:2], lines(f)[2].replace(b"fine", rb"\u0066ine")], head=True
    ),
    "chain anew": lambda f: put(f, rewritten(lines(f), rejecting)),
    "chain anew, head too": lambda f: put(f, rewritten(lines(f), rejecting), head=True),
    "chain anew without seals": lambda f: put(
        f, rewritten(lines(f), lambda one: unsealed(rejecting(one))), head=True
    ),
    "a line inserted": lambda f: put(
        f, rewritten([*lines(f)[:1], *lines(f)], dict), head=True
    ),
    "forged": lambda f: put(f, forged(f)),
    "forged, head too": lambda f: put(f, forged(f), head=True),
    "forged without a seal": lambda f: put(f, forged(f, seal=None, key=None), head=True),
    "forged with another key": lambda f: put(f, forged(f, key=16 * "0"), head=True),
    "an older state": replayed,
    "wrong kinds": lambda f: put(f, forged(f, note=[1]), head=True),
    "deeply nested": lambda f: put(f, [*lines(f), b"[" * 90_000 + b"]" * 90_000], head=True),
    "no number": lambda f: put(f, [*lines(f), b'{"entry":1e999}'], head=True),
}  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_every_edit_is_noticed_and_nothing_is_added_to_it(tmp_path: Path, spoil: Spoil) -> None:
    folder = tmp_path / "out"
    log = a_log(folder)
    assert log.verify().problem == ""
    spoil(folder)
    problem = verify_review(folder).problem
    assert problem
    assert len(problem.splitlines()) == 1
    if lines(folder) if (folder / LOG).exists() else False:
        with log.locked(), pytest.raises(OutputError, match="nothing is added"):
            log.append({"scan": "x"})


@pytest.mark.parametrize("bit", range(8))
def test_every_flipped_bit_is_noticed(tmp_path: Path, bit: int) -> None:
    a_log(tmp_path, 2)
    whole = (tmp_path / LOG).read_bytes()
    for at in range(bit, len(whole), 17):
        flip(at, bit)(tmp_path)
        assert ReviewLog(tmp_path).verify().problem, (at, bit)
        (tmp_path / LOG).write_bytes(whole)
    assert ReviewLog(tmp_path).verify().problem == ""


def test_without_the_key_a_log_written_anew_is_only_doubted(tmp_path: Path, monkeypatch) -> None:
    """What the manual says a chain cannot prove."""
    folder = tmp_path / "out"
    a_log(folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    found = verify_review(folder)
    assert (found.problem, found.doubt[:44]) == ("", "line 1: sealed with a key that is not here (")
    put(folder, lines(folder)[:2])
    assert verify_review(folder).problem.startswith("line 3: missing")
    put(folder, rewritten(lines(folder), rejecting), head=True)
    found = verify_review(folder)
    assert (found.problem, bool(found.doubt)) == ("", True)


def test_accounts_that_share_a_key_vouch_for_each_other(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "out"
    key = tmp_path / "key"
    key.write_text(32 * "ab" + "\n")
    for account in ("one", "other"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / account))
        a_log(folder, 1)
    assert "sealed with a key that is not here" in ReviewLog(folder).verify().problem
    shared = tmp_path / "shared"
    monkeypatch.setenv(KEY_VARIABLE, str(key))
    for account in ("one", "other"):
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / account))
        a_log(shared, 1)
    found = ReviewLog(shared).verify()
    assert (found.entries, found.problem, found.doubt) == (2, "", "")


def test_a_named_key_must_be_one(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path))
    with pytest.raises(UsageError, match=r"DDMSEG_REVIEW_KEY: got .*; name a file of 64 hex"):
        ReviewLog(tmp_path).account.trouble()


def test_the_key_is_for_its_owner_alone_and_made_once(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    accounts = [ReviewLog(tmp_path).account for _ in range(3)]
    assert [account.trouble() for account in accounts] == 3 * [""]
    assert len({account.key() for account in accounts}) == 1
    key = tmp_path / "state" / "ddmseg" / "review" / "key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in key.parent.iterdir()] == ["key"]


def test_without_a_place_for_a_key_the_log_goes_on_and_says_so(tmp_path, monkeypatch) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(blocked))
    log = a_log(tmp_path / "out")
    assert log.account.trouble().startswith("no key in ")
    found = log.verify()
    assert (found.entries, found.problem, found.doubt[:10]) == (3, "", "not sealed")


def test_a_log_begun_in_place_of_a_lost_one_says_so(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    last = line_sha256(lines(tmp_path)[-1])
    log.path.rename(tmp_path / "kept.jsonl")
    assert log.verify().problem == "line 1: missing; 3 lines were written"
    entry = log.append({"scan": "x"})
    assert entry["earlier_log"] == {"entries": 3, "last_sha256": last}
    assert log.verify().problem == ""


@pytest.mark.parametrize("name", [LOG, HEAD, ".review_log.lock"])
def test_links_lead_nothing_out_of_the_folder(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "out", tmp_path / "outside"
    folder.mkdir()
    outside.write_bytes(b"mine\n")
    (folder / name).symlink_to(outside)
    log = ReviewLog(folder)
    try:
        with log.locked():
            log.append({"scan": "x"})
    except (OutputError, ScanError) as error:
        assert "a link or no plain file" in str(error)  # noqa: PT017  a head is replaced, not refused
    else:
        assert name == HEAD
    assert outside.read_bytes() == b"mine\n"


def test_a_log_of_two_names_and_a_pipe_are_refused(tmp_path: Path) -> None:
    log = a_log(tmp_path)
    os.link(log.path, tmp_path / "twin")
    with pytest.raises(ScanError, match="a link or no plain file"):
        log.append({"scan": "x"})
    log.path.unlink()
    os.mkfifo(log.path)
    with pytest.raises(ScanError, match="a link or no plain file"):
        log.verify()


@pytest.mark.parametrize("action", ["accept", "reject"])
def test_labels_changed_after_a_decision_are_told(
    review: Review, folder: Path, action: str
) -> None:
    worse = review.rows()[0].result.identifier
    review.decide(worse, action, seen=review.seen(worse))
    assert (verify_review(folder).problem, review.row(worse).changed) == ("", "")
    path = folder / f"worse{LABELS}"
    path.write_bytes(path.read_bytes() + b"x")
    told = f"worse{LABELS} was changed after it was {action}ed"
    assert verify_review(folder).problem == f"line 1: {told}"
    assert next(row.changed for row in review.rows() if row.result.identifier == worse) == told
    assert review.problems == [f"worse: {told}; look at them again"]
    review.decide(worse, action, seen=review.seen(worse))
    assert (verify_review(folder).problem, review.row(worse).changed) == ("", "")
    path.unlink()
    assert verify_review(folder).problem == f"line 2: worse{LABELS} is missing"


def test_a_correction_by_a_link_does_not_leave_the_folder(
    review: Review, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (folder / "linked").symlink_to(outside)
    with review.log.locked():
        review.log.append({"action": "correct", "file": f"linked/x{CORRECTED}", "file_sha256": ""})
    assert verify_review(folder).problem == f"line 1: linked/x{CORRECTED} is not in this folder"
