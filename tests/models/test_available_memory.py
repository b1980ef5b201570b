"""What is there: of the system, and of the control groups around the process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ddmseg.models import available_memory as memory_available
from ddmseg.models.available_memory import memory_for_this_process

GB = 10**9
PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A made-up system: 8 GB to spare, 1 GB held by the process, no control group."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GB // 1024} kB\n")
    (tmp_path / "statm").write_text(f"999999999 {GB // PAGE} 5 5 0 5 0\n")
    (tmp_path / "cgroup").write_text("")
    monkeypatch.setattr(memory_available, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory_available, "_OWN_PAGES", tmp_path / "statm")
    monkeypatch.setattr(memory_available, "_OWN_GROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory_available, "_GROUPS", tmp_path / "groups")
    return tmp_path


def group(folder: Path, most: object, now: int, cached: int, *, version: int = 2) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    limit, used, name = (
        ("memory.max", "memory.current", "inactive_file")
        if version == 2
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    (folder / limit).write_text(f"{most}\n")
    (folder / used).write_text(f"{now}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{name} {cached}\n")


def test_what_the_process_holds_counts_as_there(system) -> None:
    assert memory_for_this_process() == pytest.approx(9 * GB, rel=1e-5)


@pytest.mark.parametrize("inner", [True, False])
def test_the_narrowest_group_counts(system, inner) -> None:
    (system / "cgroup").write_text("0::/batch/job\n")
    batch, job = system / "groups" / "batch", system / "groups" / "batch" / "job"
    group(batch, 8 * GB if inner else 3 * GB, 1 * GB, 0)
    group(job, 3 * GB if inner else "max", 1 * GB, 0)
    assert memory_for_this_process() == pytest.approx(3 * GB, rel=1e-5)


def test_files_that_the_kernel_would_drop_are_not_in_the_way(system) -> None:
    (system / "cgroup").write_text("0::/\n")
    group(system / "groups", 4 * GB, 4 * GB, 2 * GB)
    assert memory_for_this_process() == pytest.approx(3 * GB, rel=1e-5)


def test_an_older_kind_of_group_counts_too(system) -> None:
    (system / "cgroup").write_text("4:cpu:/x\n5:memory,cpu:/x\nnonsense\n")
    # inside a container the group's own path is missing and the root stands for it
    group(system / "groups" / "memory", 2 * GB, 1 * GB, 0, version=1)
    assert memory_for_this_process() == pytest.approx(2 * GB, rel=1e-5)


def test_a_group_without_a_limit_changes_nothing(system) -> None:
    (system / "cgroup").write_text("0::/\n")
    group(system / "groups", "max", 4 * GB, 0)
    assert memory_for_this_process() == pytest.approx(9 * GB, rel=1e-5)


def test_elsewhere_the_free_pages_count_and_else_nothing_is_known(system, monkeypatch) -> None:
    (system / "meminfo").unlink()
    (system / "statm").unlink()
    pages = {"SC_AVPHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(os, "sysconf", pages.__getitem__)
    assert memory_for_this_process() == 1000 * 4096

    def unknown(name: str) -> int:
        raise ValueError(name)

    monkeypatch.setattr(os, "sysconf", unknown)
    assert memory_for_this_process() is None


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="only Linux has /proc/meminfo")
def test_on_this_machine_it_is_a_sensible_number() -> None:
    found = memory_for_this_process()
    assert found is not None
    assert 10**8 < found < 10**14


def test_the_limit_of_the_shell_counts(system, monkeypatch) -> None:
    """Of 3 GB of address space 2 are taken; of the process 1 GB is in memory."""
    resource = pytest.importorskip("resource")
    (system / "statm").write_text(f"{2 * GB // PAGE} {GB // PAGE} 5 5 0 5 0\n")
    limits = {resource.RLIMIT_AS: (3 * GB, 9 * GB)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert memory_for_this_process() == pytest.approx(2 * GB, rel=1e-4)
