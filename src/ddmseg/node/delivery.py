"""Takes results to their destinations, however long that needs."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ddmseg.errors import DdmsegError, OutputError, ScanError, SettingsError
from ddmseg.node.destinations import Destination, UnreachableError
from ddmseg.node.jobs import Job, JobQueue
from ddmseg.node.log import plain_reason


@dataclass(frozen=True)
class Backoff:
    """Waits that double from try to try, from the first on, never above the longest.

    Each is shortened at random, which keeps what failed together from coming back together.
    """

    first_seconds: float = 10.0
    longest_seconds: float = 900.0

    def __post_init__(self) -> None:
        if not 0 < self.first_seconds <= self.longest_seconds:
            raise SettingsError(
                f"retry: got {self.first_seconds:g} to {self.longest_seconds:g} s; the first wait "
                "must be above 0 and not above the longest"
            )

    def seconds(self, failures: int, draw: float | None = None) -> float:
        """Return the wait after so many failures in a row, at least 1: by a ``draw`` from [0, 1)
        between all of its full length and half of it.
        """
        # 2 ** 1000 is still a float; a power beyond that is not
        full = min(self.longest_seconds, self.first_seconds * 2.0 ** min(failures - 1, 1000))
        return full * (1 - (random.random() if draw is None else draw) / 2)


def not_taken_line(files: Sequence[Path]) -> str:
    """Return what to add to a line about sending: what the receiver does without, if anything.

    >>> not_taken_line([Path("series-004_volumes.dcm")])
    '; without series-004_volumes.dcm: Comprehensive 3D SR is not taken there'
    """
    names = ", ".join(path.name for path in files)
    return f"; without {names}: Comprehensive 3D SR is not taken there" if files else ""


class Delivery:
    """Takes segmented jobs to ``done``; each destination gets every result.

    A destination that does not answer is left alone for a while; one that refuses a job
    still gets the others. Nothing is ever given up: the archive may be mended tomorrow.
    ``report`` gets a line for each try.
    """

    def __init__(
        self,
        queue: JobQueue,
        destinations: Sequence[Destination],
        output: Path,
        *,
        backoff: Backoff,
        report: Callable[[str], None],
    ) -> None:
        self._queue, self._destinations, self._output = queue, destinations, output
        self._backoff, self._report = backoff, report
        self._silences: Counter[str] = Counter()
        self._not_before: dict[tuple[int | None, str], float] = {}  # without a job: for all
        self._reached: set[tuple[int, str]] = set()
        self._unnoted: Counter[int] = Counter()

    def step(self) -> bool:
        """Try the oldest job that is due at one place; return whether there was one.

        Waits are measured from here on and never by the time of day; a node that starts tries
        everything at once. After an OutputError, when the state of a job cannot be written,
        others go first.
        """
        due = self._queue.due("segmented")
        for job in sorted(due, key=lambda job: (self._unnoted[job.number], job.number)):
            missing = [one for one in self._destinations if one.name not in job.record.delivered]
            wanted = missing if job.record.files else []
            ready = [one for one in wanted if self._is_time(job, one)]
            if ready or not wanted:
                try:
                    self._try(job, ready[0]) if ready else self._end(job)
                except OutputError:
                    self._unnoted[job.number] += 1
                    raise
                return True
        return False

    def _is_time(self, job: Job, destination: Destination) -> bool:
        waits = [self._not_before.get((one, destination.name), 0.0) for one in (None, job.number)]
        return max(waits) <= time.monotonic()

    def _end(self, job: Job) -> None:
        self._queue.end(job, "done")
        held = "" if job.record.files or not self._destinations else ", nothing sent"
        self._report(f"{job.name}: done{held}")

    def _try(self, job: Job, destination: Destination) -> None:
        start, name = time.perf_counter(), destination.name
        files = [self._output / job.name / file for file in job.record.files]
        not_taken: list[Path] = []
        try:
            if (job.number, name) not in self._reached:  # nor again when this cannot be noted
                not_taken = destination.send(files)
        except ScanError as error:
            # what was to be sent is gone: trying again would not bring it back
            reason = plain_reason(error)
            self._queue.end(job, "failed", reason=reason)
            self._report(f"{job.name}: not sent: {reason}")
        except Exception as error:
            self._postpone(job, name, error)
        else:
            self._reached.add((job.number, name))
            self._silences[name] = 0
            self._queue.update(job, delivered=(*job.record.delivered, name), failures=0)
            self._reached.discard((job.number, name))
            sent, seconds = len(files) - len(not_taken), time.perf_counter() - start
            without = not_taken_line(not_taken)
            self._report(f"{job.name}: {sent} files sent to {name}, {seconds:.1f} s{without}")

    def _postpone(self, job: Job, name: str, error: Exception) -> None:
        failures = job.record.failures + 1
        wait = self._backoff.seconds(failures)
        if isinstance(error, UnreachableError):
            # one job asks for all of them, and their own waits do not grow
            self._silences[name] += 1
            wait = self._backoff.seconds(self._silences[name])
            self._not_before[None, name] = time.monotonic() + wait
        self._not_before[job.number, name] = time.monotonic() + wait
        reason = plain_reason(error) if isinstance(error, DdmsegError) else type(error).__name__
        self._report(f"{job.name}: {reason}; tried again in {wait:.0f} s")
        self._queue.update(job, failures=failures)
