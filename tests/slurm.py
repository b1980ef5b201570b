"""A Slurm of one node on this machine: munge, slurmctld and slurmd on loopback, for one test."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scancel", "sinfo", "srun")
_CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmdPort={node}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
SlurmdParameters=config_overrides
SlurmdTimeout=30
KillWait=2
MinJobAge=300
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=12000 State=UNKNOWN
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def missing() -> str:
    """Return what keeps a Slurm from being started, "" where nothing does."""
    absent = [name for name in PROGRAMS if shutil.which(name) is None]
    if absent:
        return f"Slurm: apt-get install slurm-wlm munge ({', '.join(absent)} missing)"
    if os.geteuid() != 0:
        return "Slurm: its daemons are started as root"
    return ""


@dataclass
class Slurm:
    """The daemons; those that are killed can be started again."""

    folder: Path
    environment: dict[str, str]
    daemons: dict[str, subprocess.Popen[bytes]]

    def start(self, name: str, *words: str) -> None:
        """Start a daemon in the foreground, its words in a log."""
        with (self.folder / f"{name}.out").open("ab") as out:
            self.daemons[name] = subprocess.Popen(
                [str(shutil.which(name)), *words],
                stdout=out, stderr=out, env=self.environment, start_new_session=True,
            )  # fmt: skip

    def start_node(self) -> None:
        """Start the daemon of the node."""
        self.start("slurmd", "-D")

    def kill(self, name: str) -> None:
        """Kill a daemon as a power cut does."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait()

    def ask(self, *words: str) -> str:
        """Run a command of Slurm and return what it says."""
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout.strip()

    def wait(self, words: tuple[str, ...], wanted: str, seconds: float = 60) -> None:
        """Wait until a command says something."""
        end = time.monotonic() + seconds
        while wanted not in (said := self.ask(*words)):
            assert time.monotonic() < end, f"{words}: {said}\n{self.logs()}"
            time.sleep(0.3)

    def logs(self) -> str:
        """The last lines of every log."""
        files = sorted((*self.folder.glob("*.log"), *self.folder.glob("*.out")))
        return "\n".join(f"{file.name}: {file.read_text()[-1500:]}" for file in files)


@contextlib.contextmanager
def running(folder: Path, *, cpus: int = 4) -> Iterator[Slurm]:
    """Run a Slurm for the time of the body."""
    for name in ("state", "spool"):
        (folder / name).mkdir(parents=True)
    folder.chmod(0o711)
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    ports = {name: _free_port() for name in ("controller", "node")}
    host = socket.gethostname().partition(".")[0]
    text = _CONFIGURATION.format(host=host, folder=folder, cpus=cpus, **ports)
    (folder / "slurm.conf").write_text(text)
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    # Snakemake takes the variables of Slurm from a job, and srun looks in /etc then
    (folder / "bin").mkdir()
    wrapper = folder / "bin" / "srun"
    wrapper.write_text(
        f'#!/bin/sh\nSLURM_CONF={folder}/slurm.conf exec {shutil.which("srun")} "$@"\n'
    )
    wrapper.chmod(0o755)
    environment["PATH"] = f"{folder / 'bin'}{os.pathsep}{environment['PATH']}"
    slurm = Slurm(folder, environment, {})
    try:
        slurm.start(
            "munged", "--foreground", "--force", f"--key-file={key}",
            f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid",
            f"--log-file={folder}/munged.log", f"--seed-file={folder}/munged.seed",
        )  # fmt: skip
        end = time.monotonic() + 30
        while not (folder / "munge.socket").exists():
            assert time.monotonic() < end, slurm.logs()
            time.sleep(0.1)
        slurm.start("slurmctld", "-D", "-i")
        slurm.start_node()
        slurm.wait(("sinfo", "--noheader", "--format=%T"), "idle")
        yield slurm
    finally:
        with contextlib.suppress(Exception):
            slurm.ask("scancel", "--user=root", "--signal=KILL", "--full")
            slurm.ask("scancel", "--user=root")
        for daemon in reversed([*slurm.daemons.values()]):
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(timeout=15)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
