"""One line of the log: its form, its place in the chain, and the seal of the account.

Who can write to the folder can write a log anew, with a chain that holds. He cannot seal its
lines without the key, which the account that reviews keeps apart from the folder. Nor does he
reach the account's heads: how long each log was, and what its last line, when this account wrote
to it last.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ddmseg.atomic import write_bytes
from ddmseg.errors import OutputError, UsageError
from ddmseg.models.json_reader import parse_json

FIRST = "0" * 64
"""What the first line gives as the hash of the line before."""
_TEXTS = (
    *("time", "scan", "action", "reviewer", "note"),
    *("file", "file_sha256", "original_sha256", "previous_sha256"),
)
KEY_VARIABLE = "DDMSEG_REVIEW_KEY"
"""Environment variable that names the file of the key, for accounts that share one."""
_KEY_BYTES = 32


def line_of(entry: dict[str, Any]) -> bytes:
    """Return the one form of an entry: names in order, no spaces, UTF-8.

    Bytes of a file name that are no text are escapes, as JSON has them.
    """
    form: Any = {"ensure_ascii": False, "allow_nan": False, "sort_keys": True}
    text = json.dumps(entry, separators=(",", ":"), **form)
    return text.encode("utf-8", "backslashreplace")


def entry_of(line: bytes) -> dict[str, Any]:
    """Return the entry of a line.

    ValueError says what is wrong: no JSON object in its one form, or a value of a kind that no
    entry has.
    """
    try:
        entry = parse_json(line)
    except ValueError as error:
        raise ValueError("no JSON; it was damaged or changed") from error
    if not isinstance(entry, dict):
        raise ValueError("no JSON object; it was changed")
    # lines that were never sealed have spaces, and names as they came
    older = json.dumps(entry, ensure_ascii=False).encode("utf-8", "backslashreplace")
    if line != line_of(entry) and ("seal" in entry or line != older):
        raise ValueError("not in the form in which lines are written; it was changed")
    for name, value in entry.items():
        if not _fits(name, value):
            raise ValueError(f"its {name} is of a kind that no entry has; it was changed")
    return entry


def line_sha256(line: bytes) -> str:
    """Return the hash by which the next line knows this one."""
    return hashlib.sha256(line).hexdigest()


def wrong_place(entry: dict[str, Any], number: int, previous: str) -> str:
    """Return why an entry cannot be the line of that number after that hash, or ""."""
    if entry.get("previous_sha256") != previous:
        before = f"line {number - 1}" if number > 1 else "an empty log"
        return f"its previous_sha256 is not that of {before}; one of the two was changed"
    if entry.get("entry") != number:
        return f"its entry says {entry.get('entry')!r}; lines are missing or were moved"
    return ""


def _fits(name: str, value: Any) -> bool:
    if name in _TEXTS:
        return isinstance(value, str)
    if name == "edit":
        return isinstance(value, dict) and type(value.get("ml_changed", 0.0)) in (int, float)
    return name != "entry" or type(value) is int


@dataclass(frozen=True)
class Head:
    """How many lines a log had, and the hash of the last."""

    entries: int
    last_sha256: str

    def missing_from(self, lines: list[bytes]) -> str:
        """Return why a log cannot be this one or a longer one, or ""."""
        if len(lines) < self.entries:
            return f"line {len(lines) + 1}: missing; {self.entries} lines were written"
        if self.entries and line_sha256(lines[self.entries - 1]) != self.last_sha256:
            return f"line {self.entries}: not the line that was written; the log was changed"
        return ""


def head_of(value: object) -> Head:
    """Return the head that a JSON object is; ValueError when it is none."""
    found = value if isinstance(value, dict) else {}
    entries, digest = found.get("entries"), found.get("last_sha256")
    if type(entries) is not int or entries < 0 or not isinstance(digest, str):
        raise ValueError("no head of a log")
    return Head(entries, digest)


class Account:
    """Key and heads of whoever runs this program, for the log in a folder.

    Without a place for them it has neither.
    """

    def __init__(self, folder: Path) -> None:
        self._state = state_folder()
        named = os.environ.get(KEY_VARIABLE, "").strip()
        self._named = Path(os.path.expanduser(named)) if named else None
        # a hash, for the path may show who was scanned
        place = hashlib.sha256(os.fsencode(folder.resolve())).hexdigest()[:32]
        self._head = None if self._state is None else self._state / "heads" / f"{place}.json"

    def key(self, *, make: bool = False) -> bytes | None:
        """Return the key, None where there is none; with ``make`` it is made when missing."""
        path = self._named or (None if self._state is None else self._state / "key")
        if path is None:
            return None
        with contextlib.suppress(OSError):
            if make and self._named is None and not path.exists():
                _make_key(path)
        with contextlib.suppress(OSError, ValueError):
            key = bytes.fromhex(path.read_text("ascii").strip() if path.is_file() else "")
            return key if len(key) >= _KEY_BYTES else None
        return None

    def trouble(self) -> str:
        """Make the key where there is none, and return why there is none still, or "".

        UsageError when a key was named and is none.
        """
        if self.key(make=True) is not None:
            return ""
        if self._named is not None:
            raise UsageError(
                f"{KEY_VARIABLE}: got {self._named}; name a file of {2 * _KEY_BYTES} hex digits "
                "that this account can read"
            )
        where = "there is no home folder" if self._state is None else f"no key in {self._state}"
        return f"{where}; {KEY_VARIABLE} names the file of a key elsewhere"

    def head(self) -> Head | None:
        """Return the head of this log when the account last wrote to it."""
        try:
            return None if self._head is None else head_of(parse_json(self._head.read_bytes()))
        except (OSError, ValueError):
            return None

    def keep(self, head: Head) -> None:
        """Remember a head; where it cannot be kept the log is as good as without it."""
        if self._head is not None:
            text = json.dumps(asdict(head)) + "\n"
            with contextlib.suppress(OutputError):
                write_bytes(self._head, text.encode("ascii"), private=True)

    def sealed(self, entry: dict[str, Any]) -> dict[str, Any]:
        """Return the entry with its seal and the name of the key; without a key the seal is None.

        The seal is HMAC-SHA256 of the line without it, in hex digits.
        """
        key = self.key(make=True)
        if key is None:
            return {**entry, "seal": None}
        named = {**entry, "key": _key_name(key)}
        return {**named, "seal": _seal(named, key)}

    def check(self, entries: list[dict[str, Any]]) -> tuple[str, str]:
        """Return what is wrong with the seals of a log, and what is in doubt; "" for nothing.

        A log of which nothing is this account's is in doubt; one that is partly its own is
        wrong where another key sealed a line, for anybody could have added that.
        """
        key = self.key()
        ours = None if key is None else _key_name(key)
        known, strange, sealed = self.head() is not None, "", False
        for number, entry in enumerate(entries, start=1):
            name, seal = entry.get("key"), entry.get("seal")
            if key is not None and name == ours:
                unsealed = {field: value for field, value in entry.items() if field != "seal"}
                if seal != _seal(unsealed, key):
                    return f"line {number}: its seal is wrong; it was changed or forged", ""
                known = True
            elif seal is not None:
                strange = strange or (
                    f"line {number}: sealed with a key that is not here ({name}); only that key "
                    f"can tell a log that was written anew ({KEY_VARIABLE} names its file)"
                )
            elif sealed:
                return f"line {number}: not sealed, though lines before it are", ""
            sealed = sealed or seal is not None
        if strange:
            return (strange, "") if known else ("", strange)
        doubt = "not sealed, so that a log that was written anew cannot be told from it"
        return "", "" if sealed or not entries else doubt


def state_folder() -> Path | None:
    """Return where an account keeps what must not be lost; None without a home.

    Source: XDG Base Directory Specification 0.8, ``XDG_STATE_HOME``.
    """
    base = os.environ.get("XDG_STATE_HOME", "").strip()
    try:
        state = Path(base) if base else Path.home() / ".local" / "state"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return None
    return state / "ddmseg" / "review"


def _key_name(key: bytes) -> str:
    """By what a key is known; the key cannot be found from it."""
    return hashlib.sha256(b"ddmseg review key " + key).hexdigest()[:16]


def _seal(entry: dict[str, Any], key: bytes) -> str:
    return hmac.new(key, line_of(entry), hashlib.sha256).hexdigest()


def _make_key(path: Path) -> None:
    """Of several programs that make the key at once, the first one's counts."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(descriptor, "w", encoding="ascii") as file:
            file.write(f"{secrets.token_hex(_KEY_BYTES)}\n")
            file.flush()
            os.fsync(descriptor)
        try:
            # unlike a rename, a link never replaces what is there
            os.link(draft, path)
        except FileExistsError:
            return
        except OSError:  # a disk without links
            draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
