"""Puts listener, queue, worker and delivery together, and ends them in good order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from ssl import SSLContext

from ddmseg.errors import DdmsegError, SettingsError
from ddmseg.node.delivery import Backoff, Delivery
from ddmseg.node.destinations import Destination
from ddmseg.node.jobs import OPEN_STATES
from ddmseg.node.listener import Listener
from ddmseg.node.log import Log, plain_reason, silent_libraries
from ddmseg.node.server import Limits
from ddmseg.node.spool import Quota, Spool
from ddmseg.node.worker import StopError, Work, Worker

LOOK_SECONDS = 0.1
"""How often the queue is looked at."""
WATCH_SECONDS = 0.5
"""How often it is looked whether all parts still run."""
CLEAN_SECONDS = 60.0
END_SECONDS = 30.0
"""How long the end waits for what is being sent; a segmentation stops at its next step."""


class NodeError(DdmsegError):
    """A part of the node has ended, so the node ends too."""


@dataclass(frozen=True)
class NodeSettings:
    """How a node is reached and what it keeps."""

    spool: Path
    title: str = "DDMSEG"
    address: str = "127.0.0.1"
    port: int = 0  # a free one
    allowed: tuple[str, ...] = ()  # AE titles that may send; empty for all
    quiet_seconds: float = 30.0  # an examination is complete when nothing came for so long
    destinations: tuple[Destination, ...] = ()
    encryption: SSLContext | None = None  # of what arrives
    limits: Limits = field(default_factory=Limits)
    quota: Quota = field(default_factory=Quota)
    backoff: Backoff = field(default_factory=Backoff)
    retry_failed: bool = False  # jobs that have failed for good, once, at the start

    def __post_init__(self) -> None:
        if not self.quiet_seconds > 0:
            raise SettingsError(
                f"quiet_seconds: got {self.quiet_seconds:g}; it must be above 0 (30 is usual)"
            )


def run_node(
    settings: NodeSettings, work: Work, *, stop: threading.Event, report: Callable[[str], None]
) -> None:
    """Serve until ``stop`` is set, or until KeyboardInterrupt in the main thread.

    ``report`` gets one line per event, without anything that identifies a patient.

    Raises:
        DdmsegError: when the spool or the port cannot be used.
        NodeError: when a part of the node has ended before ``stop`` was set.
    """
    with (
        closing(Log(report)) as log,
        silent_libraries(),
        closing(Spool(settings.spool, settings.quota)) as spool,
    ):
        _serve(spool, settings, work, stop, log)


def _serve(
    spool: Spool, settings: NodeSettings, work: Work, stop: threading.Event, report: Log
) -> None:
    worker = Worker(spool.queue, work, stop=stop, report=report)
    places, backoff = settings.destinations, settings.backoff
    delivery = Delivery(spool.queue, places, work.output, backoff=backoff, report=report)
    listener = Listener(
        spool,
        title=settings.title,
        address=settings.address,
        port=settings.port,
        allowed=settings.allowed,
        limits=settings.limits,
        encryption=settings.encryption,
        report=report,
    )
    keeper = _Keeper(spool, listener, settings.quiet_seconds, report)
    steps = {"queue": keeper.step, "segmentation": worker.step, "sending": delivery.step}
    threads = [_Loop(what, step, backoff, stop, report) for what, step in steps.items()]
    try:
        for line in spool.trouble:
            report(line)
        if settings.retry_failed:
            names = ", ".join(job.name for job in spool.retry_failed())
            report(f"failed jobs are tried again: {names or 'none has its images still'}")
        tls = ", TLS" if settings.encryption else ""
        unfinished = sum(len(spool.queue.due(state)) for state in OPEN_STATES) + spool.receiving
        report(
            f"listening on {settings.address} port {listener.port} as {settings.title}{tls}; "
            f"{unfinished} jobs to finish; research use, not for diagnosis"
        )
        for thread in threads:
            thread.start()
        while not stop.wait(WATCH_SECONDS):
            _check_running(listener, threads, stop)
    finally:
        stop.set()
        listener.stop()
        for thread in threads:
            if thread.is_alive():
                thread.join(END_SECONDS)
        report("ended; what is unfinished is taken up at the next start")


def _check_running(listener: Listener, threads: Sequence[_Loop], stop: threading.Event) -> None:
    """Make sure that no part has ended: images would be taken, and nothing would become of them."""
    ended = [f"{one.name} ({one.reason})" for one in threads if not one.is_alive()]
    if not listener.is_alive():
        ended.append("listening")
    if ended and not stop.is_set():
        raise NodeError(
            f"ended unexpectedly: {', '.join(ended)}; nothing that was received is lost: start "
            "the node again"
        )


class _Keeper:
    """Turns complete examinations into jobs, and removes what was kept long enough."""

    def __init__(self, spool: Spool, listener: Listener, quiet_seconds: float, log: Log) -> None:
        self._spool, self._listener = spool, listener
        self._quiet_seconds, self._report = quiet_seconds, log
        self._cleaned = -CLEAN_SECONDS

    def step(self) -> bool:
        still_open = self._listener.open_studies()
        for job in self._spool.close_quiet(self._quiet_seconds, still_open=still_open):
            self._report(f"{job.name}: complete, {job.record.instances} images")
        for held in self._spool.hold_quiet(self._quiet_seconds, still_open=still_open):
            self._report(
                f"an examination of {held.images} images is held, not segmented: {held.missing} "
                "more were refused for lack of room; it waits for them at most "
                f"{self._spool.quota.wait_hours:g} h"
            )
        for job in self._spool.give_up():
            self._report(
                f"{job.name}: {job.record.instances} images, not segmented: {job.record.reason}"
            )
        if time.monotonic() - self._cleaned >= CLEAN_SECONDS:
            self._cleaned = time.monotonic()
            if evicted := self._listener.count_evicted():
                self._report(f"{evicted} connections that brought nothing made room for others")
            if removed := self._spool.remove_old():
                self._report(f"images of {removed} old jobs removed")
        return False


class _Loop(threading.Thread):
    """Repeats a step until the end; a step that fails is tried again, later and later."""

    def __init__(
        self, what: str, step: Callable[[], bool], backoff: Backoff, stop: threading.Event, log: Log
    ) -> None:
        super().__init__(name=what, daemon=True)
        self._step, self._backoff = step, backoff
        self._stop_event, self._report = stop, log
        self.reason = "no reason"  # why the thread has ended, where it should not have

    def run(self) -> None:
        try:
            self._repeat()
        except BaseException as error:  # a library that ends the thread
            self.reason = plain_reason(error)

    def _repeat(self) -> None:
        """Repeat; a full disk or a bug ends neither the thread nor the node."""
        failures = 0
        while not self._stop_event.is_set():
            try:
                busy = self._step()
                failures = 0
            except StopError:
                return
            except Exception as error:
                failures += 1
                wait = self._backoff.seconds(failures)
                self._report(f"{self.name}: {plain_reason(error)}; tried again in {wait:.0f} s")
                self._stop_event.wait(wait)
                continue
            if not busy:
                self._stop_event.wait(LOOK_SECONDS)
