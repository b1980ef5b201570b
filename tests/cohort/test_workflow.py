"""Files for Snakemake and Slurm; and both, where they are installed, killed in the middle."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import slurm
from bids_folder import describe, image, study
from toy_head import everything_in

SNAKEMAKE = shutil.which("snakemake")
TABLE = "group_volumes.tsv"


@pytest.fixture
def init(ddmseg, tmp_path):
    def run(*words: object):
        return ddmseg("cohort", "init", tmp_path / "raw", tmp_path / "out", "-o", "jobs", *words)

    return run


def test_subjects_are_dealt_evenly_to_jobs(init, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    describe(tmp_path / "raw")
    for number in range(1, 8):
        image(tmp_path / "raw", f"sub-{number}_T1w")
    image(tmp_path / "raw", "sub-8_PDw")
    made = init("--scans-per-job", "3", "--partition", "long_queue")
    assert made.code == 0
    assert "passed over sub-8" in made.err
    names = ["jobs/Snakefile", "jobs/slurm/config.yaml", "jobs/array.sbatch", "jobs/batches.txt"]
    assert made.out.split() == names
    batches = [line.split() for line in Path("jobs/batches.txt").read_text().splitlines()]
    assert [len(batch) for batch in batches] == [2, 2, 3]
    assert sorted(subject for batch in batches for subject in batch) == [
        f"sub-{number}" for number in range(1, 8)
    ]
    for name in names:
        assert not re.search("@[A-Z_]+@", Path(name).read_text())
    script = Path("jobs/array.sbatch").read_text()
    assert "#SBATCH --array=1-3\n" in script
    assert "#SBATCH --partition=long_queue\n" in script
    assert subprocess.run(["bash", "-n", "jobs/array.sbatch"]).returncode == 0
    assert "slurm_partition: long_queue" in Path("jobs/slurm/config.yaml").read_text()
    refused = init()
    assert refused.error == "jobs/Snakefile exists already; pass --overwrite to replace it"
    assert init("--overwrite").code == 0
    assert "#SBATCH --array=1-1\n" in Path("jobs/array.sbatch").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["cohort", "init", "raw", "-o", "jobs"], "init: give the BIDS folder and the folder for"),
        (["cohort", "init", "raw", "out"], "--output is missing"),
        (["cohort", "init", "none", "out", "-o", "jobs"], "no such folder"),
        (["cohort", "init", "raw", "out", "-o", "jobs"], "no image to segment"),
        (["cohort", "init", "full", "out", "-o", "jobs", "--scans-per-job", "0"], "at least 1"),
        (["cohort", "init", "full", "out", "-o", "jobs", "--partition", "a b"], "sinfo shows"),
        (["cohort", "mix", "raw", "-o", "jobs"], "ACTION: got 'mix'; allowed are group, init"),
        (["cohort", "group", "-o", "jobs"], "DIR is missing"),
    ],
)
def test_what_cannot_be_is_one_line(ddmseg, tmp_path, monkeypatch, words, said) -> None:
    monkeypatch.chdir(tmp_path)
    describe(Path("raw"))
    image(describe(Path("full")), "sub-1_T1w")
    before = everything_in(tmp_path)
    assert said in ddmseg(*words).error
    assert everything_in(tmp_path) == before


def test_a_task_of_the_array_does_its_line(init, tiny_model, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, path_of_python())))
    study(tmp_path / "raw", 2)
    assert init("--scans-per-job", "1").code == 0
    script = Path("jobs/array.sbatch")
    script.write_text(
        script.read_text().replace('"${labels[@]}"', f'"${{labels[@]}}" {fast(tiny_model)}')
    )
    done = subprocess.run(
        ["bash", "array.sbatch"], cwd="jobs", env={**os.environ, "SLURM_ARRAY_TASK_ID": "2"}
    )
    assert done.returncode == 0
    assert [path.name for path in Path("out").glob("sub-*")] == ["sub-02"]


def fast(tiny_model: Path) -> str:
    return f"--model {tiny_model} --mode fast --no-cache"


def path_of_python() -> Iterator[str]:
    """The folders of this package and of what keeps the network away, for other programs."""
    import ddmseg

    yield str(Path(ddmseg.__file__).parent.parent)
    yield from filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))


@pytest.fixture
def plain(ddmseg, tiny_model, tmp_path):
    """Eight small scans with the results of a plain run; the bytes of its group table."""
    raw, out = study(tmp_path / "raw", 8), tmp_path / "plain"
    threads = torch.get_num_threads()
    words = [*fast(tiny_model).split(), "--threads", "2"]
    assert ddmseg("bids", raw, out, "participant", *words).code == 0
    torch.set_num_threads(threads)
    assert ddmseg("bids", raw, out, "group").code == 0
    return (out / TABLE).read_bytes()


@pytest.mark.skipif(SNAKEMAKE is None, reason="Snakemake: pip install 'ddmseg[snakemake]'")
@pytest.mark.skipif(bool(slurm.missing()), reason=slurm.missing() or "Slurm is there")
def test_slurm_killed_in_the_middle_ends_in_the_table_of_a_plain_run(
    init, plain, tiny_model, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, path_of_python())))
    assert init("--scans-per-job", "2", "--partition", "test").code == 0
    assert SNAKEMAKE is not None
    command = [SNAKEMAKE, "--profile", "slurm", "--config", f"options={fast(tiny_model)}"]
    with slurm.running(tmp_path / "slurm") as cluster, (tmp_path / "driver.log").open("ab") as log:

        def drive(*words: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [*command, *words], cwd="jobs", env=cluster.environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

        driver = drive()
        cluster.wait(("squeue", "--noheader", "--format=%T"), "RUNNING", 120)
        until(lambda: [*Path("out").rglob("*_receipt.json")], driver, cluster)
        os.killpg(driver.pid, signal.SIGKILL)
        driver.wait()
        running = cluster.ask("squeue", "--noheader", "--format=%i", "--states=RUNNING").split()
        cluster.ask("scancel", "--signal=KILL", "--full", *running[:1])
        cluster.kill("slurmd")
        cluster.start_node()
        assert drive("--unlock").wait(60) == 0
        again = drive()
        assert again.wait(400) == 0, (tmp_path / "driver.log").read_text()[-3000:] + cluster.logs()
    receipts = sorted(path.name for path in Path("out").rglob("*_receipt.json"))
    assert receipts == [f"sub-{number:02d}_space-orig_receipt.json" for number in range(1, 9)]
    assert Path("out", TABLE).read_bytes() == plain
    assert not [name for name in everything_in(Path("out")) if ".writing" in name]


def until(true, driver: subprocess.Popen[bytes], cluster: slurm.Slurm) -> None:
    end = time.monotonic() + 120
    while not true():
        assert driver.poll() is None, cluster.logs()
        assert time.monotonic() < end, cluster.logs()
        time.sleep(0.2)
