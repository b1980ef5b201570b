"""The store: round trips, runs side by side, death in the middle, versions, refusals."""

from __future__ import annotations

import csv
import json
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from ddmseg.errors import MissingExtraError, OutputError, ScanError
from ddmseg.messages import NOTICE
from ddmseg.monitoring.columns import meaning
from ddmseg.monitoring.statistics import run_statistics
from ddmseg.monitoring.store import INDEX, Store, write_csv

pq = pytest.importorskip("pyarrow.parquet", reason="needs ddmseg[monitor]")
import pyarrow as pa  # noqa: E402

TIME = datetime(2026, 11, 23, 4, 6, 55, 123456, tzinfo=UTC)


def line(**values: object) -> dict:
    return {"time": TIME, "noise": 1.5, "verdict": "pass", **values}


def test_a_line_comes_back_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "new" / "store")
    path = store.append(line(absent=None, nothing=math.nan))
    assert path.parent.name == "month=2026-11"
    found = Store(store.folder).read()
    (back,) = found.lines
    assert found.problems == []
    assert {k: back[k] for k in ("time", "noise", "verdict")} == line()
    assert len(str(back["run"])) == 16
    assert "absent" not in back
    assert math.isnan(back["nothing"])  # type: ignore[arg-type]
    assert found.columns[:3] == ["run", "time", "noise"]


def test_store_and_lines_say_what_they_are_for(tmp_path: Path) -> None:
    path = Store(tmp_path).append(line())
    assert pq.read_schema(path).metadata[b"notice"] == NOTICE.encode()
    assert json.loads((tmp_path / INDEX).read_text())["notice"] == NOTICE
    assert set(line()) <= set(Store(tmp_path).read().columns), "it is no column"


def test_a_store_that_was_begun_without_the_notice_goes_on(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text('{"version": 1, "salt": "00ff"}\n')
    Store(tmp_path).append(line())
    assert len(Store(tmp_path).read().lines) == 1
    assert (tmp_path / INDEX).read_text() == '{"version": 1, "salt": "00ff"}\n'


def test_lines_come_by_time_and_months_by_utc(tmp_path: Path) -> None:
    store = Store(tmp_path)
    east = datetime(2026, 12, 1, 1, tzinfo=timezone(timedelta(hours=8)))
    for time in (east, TIME, TIME - timedelta(days=60)):
        store.append(line(time=time))
    times = [one["time"] for one in store.read().lines]
    assert times == sorted(times, key=str)
    months = sorted(p.name for p in tmp_path.iterdir() if p.is_dir())
    assert months == ["month=2026-09", "month=2026-11"]


def test_the_salt_stays_and_differs_between_stores(tmp_path: Path) -> None:
    one, other = Store(tmp_path / "a"), Store(tmp_path / "b")
    assert one.salt() == Store(tmp_path / "a").salt()
    assert one.salt() != other.salt()
    assert len(one.salt()) == 16


def test_parallel_writers_lose_nothing_and_agree_on_the_salt(tmp_path: Path) -> None:
    folder = tmp_path / "store"

    def write(number: int) -> bytes:
        store = Store(folder)
        store.append(line(number=float(number)))
        return store.salt()

    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(write, range(40)))
    assert len(salts) == 1
    assert sorted(one["number"] for one in Store(folder).read().lines) == [*range(40)]
    assert not [path for path in folder.rglob("*") if "partial" in path.name]


KILLED = """
import os, sys
from datetime import datetime, UTC
from pathlib import Path
from ddmseg.messages import NOTICE
from ddmseg.monitoring.store import Store
store = Store(Path(sys.argv[1]))
store.append({"time": datetime.now(UTC), "number": 1.0})
os.fsync = lambda descriptor: os._exit(9)   # the bytes are written, the name is not yet given
store.append({"time": datetime.now(UTC), "number": 2.0})
"""


def test_a_writer_that_dies_before_the_renaming_leaves_the_store_whole(tmp_path: Path) -> None:
    died = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert died.returncode == 9
    assert len(list(tmp_path.rglob(".partial-*"))) == 1  # what it left, which nobody reads
    found = Store(tmp_path).read()
    assert [one["number"] for one in found.lines] == [1.0]
    assert found.problems == []
    Store(tmp_path).append(line(number=3.0))
    assert len(Store(tmp_path).read().lines) == 2


def test_columns_of_other_versions_are_kept(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.append(line())
    later = {"time": [TIME], "noise": [2.0], "colour": ["blue"], "flags": [[1, 2]]}
    schema = pa.schema([("time", pa.timestamp("us", "UTC")), ("noise", pa.float64())])
    table = pa.table({**later})
    table = table.set_column(0, "time", pa.array(later["time"], schema.field("time").type))
    pq.write_table(table, tmp_path / "month=2026-11" / "later.parquet")
    found = store.read()
    assert len(found.lines) == 2
    assert {"colour", "flags", "verdict"} <= set(found.columns)


def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    store = Store(tmp_path)
    whole, torn = store.append(line()), store.append(line())
    torn.write_bytes(whole.read_bytes()[:200])
    pq.write_table(pa.table({"x": [1]}), tmp_path / "month=2026-11" / "timeless.parquet")
    found = store.read()
    assert len(found.lines) == 1
    assert len(found.problems) == 2
    assert any(problem.startswith(f"{torn}: cannot be read (") for problem in found.problems)
    assert any("it has no time" in problem for problem in found.problems)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"noise": "loud"}, "row 2: noise is no number"),
        ({"verdict": 3.0}, "row 2: verdict is no word"),
        ({"scan_key": [1]}, "row 2: scan_key is no word"),
        ({"weights": {"a": 1}}, "row 2: weights is no word"),
        ({"volume_ml.CSF": b"x"}, "row 2: volume_ml.CSF is no number"),
        ({"feature.000": [0.5]}, "row 2: feature.000 is no number"),
        ({"time": None}, "row 2: it has no time"),
    ],
)
def test_one_bad_row_is_one_bad_row(tmp_path: Path, row: dict, told: str) -> None:
    store = Store(tmp_path)
    path = store.append(line())
    values = {"time": [TIME, TIME]} | {name: [None, value] for name, value in row.items()}
    if "time" in row:
        values["time"] = [TIME, None]
    pq.write_table(pa.table(values), path.with_name("odd.parquet"))
    found = store.read()
    assert len(found.lines) == 2
    assert found.problems == [f"{path.with_name('odd.parquet')}: {told}; left out"]


def test_times_without_a_zone_and_whole_numbers_are_taken(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.append(line())
    rows = pa.table({"time": [TIME.replace(tzinfo=None)], "noise": [2], "model": ["toy"]})
    pq.write_table(rows, path.with_name("plain.parquet"))
    found = store.read()
    assert (found.problems, {one["time"] for one in found.lines}) == ([], {TIME})
    assert {type(one["noise"]) for one in found.lines} == {float}


def test_few_bytes_that_promise_many_values_and_pipes_are_left_out(tmp_path: Path) -> None:
    store = Store(tmp_path)
    path = store.append(line())
    pq.write_table(pa.table({"x": pa.nulls(20_000_000, pa.int8())}), path.with_name("a.parquet"))
    os.mkfifo(path.with_name("b.parquet"))
    found = store.read()
    assert len(found.lines) == 1
    assert "20000000 rows" in found.problems[0]
    assert "no plain file" in found.problems[1]


def test_no_cell_of_the_table_is_a_formula(tmp_path: Path) -> None:
    write_csv(
        tmp_path / "all.csv", [line(**{"=1+1": "@SUM(A1)", "noise": -1.5})], ["noise", "=1+1"]
    )
    assert (tmp_path / "all.csv").read_text().split() == ["noise,'=1+1", "-1.5,'@SUM(A1)"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[" * 90_000 + "]" * 90_000, "damaged; put it back"),
        ('{"version": 1e999, "salt": "00"}', "damaged; put it back"),
        ('{"version": 1, "version": 2, "salt": "00"}', "damaged; put it back"),
        ('{"version": 2, "salt": "00"}', "a store of version 2; this ddmseg reads version 1"),
        ("{", "damaged; put it back"),
        ('{"version": 1, "salt": "pepper"}', "damaged; put it back"),
        ("[]", "damaged; put it back"),
    ],
)
def test_another_version_and_a_damaged_index_are_refused(tmp_path, text: str, told: str) -> None:
    (tmp_path / INDEX).write_text(text)
    for use in (Store(tmp_path).read, Store(tmp_path).salt):
        with pytest.raises(ScanError, match=told):
            use()


def test_what_is_no_store_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ScanError, match="no monitor store here; ddmseg segment --monitor makes"):
        Store(tmp_path).read()
    (tmp_path / "scan_dseg.nii.gz").touch()
    with pytest.raises(OutputError, match="holds other files and no monitor store"):
        Store(tmp_path).append(line())
    assert [path.name for path in tmp_path.iterdir()] == ["scan_dseg.nii.gz"]
    with pytest.raises(OutputError, match="cannot write"):
        Store(tmp_path / "scan_dseg.nii.gz" / "store").append(line())


def test_disks_without_links_have_a_store_too(tmp_path: Path, monkeypatch) -> None:
    def link(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    salt = Store(tmp_path).salt()
    assert json.loads((tmp_path / INDEX).read_text())["salt"] == salt.hex()
    assert [path.name for path in tmp_path.iterdir()] == [INDEX]


def test_without_pyarrow_the_error_says_how_to_install_it(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"of the extra 'monitor'"):
        Store(tmp_path / "store").append(line())
    assert not (tmp_path / "store").exists()


def test_a_table_for_other_programs(tmp_path: Path) -> None:
    rows = [line(extra='say "a, b"'), line(noise=math.nan)]
    write_csv(tmp_path / "all.csv", rows, ["time", "noise", "extra"])
    with (tmp_path / "all.csv").open(newline="") as file:
        header, first, second = csv.reader(file)
    assert header == ["time", "noise", "extra"]
    assert first == ["2026-11-23T04:06:55+00:00", "1.5", 'say "a, b"']
    assert second[1:] == ["", ""]


def test_beside_the_table_stands_what_its_columns_mean(tmp_path: Path) -> None:
    names = ["run", "time", "noise", "volume_ml.CSF", "flip_angle_degrees", "feature.003", "later"]
    write_csv(tmp_path / "all.csv", [line()], names)
    told = json.loads((tmp_path / "all.json").read_text())
    assert told.pop("notice") == NOTICE
    assert list(told) == names
    assert told["volume_ml.CSF"] == {"Description": "Volume of CSF", "Units": "mL"}
    assert told["flip_angle_degrees"]["Units"] == "deg"
    assert told["feature.003"]["Description"].startswith("Mean of channel 003")
    assert told["later"]["Description"].startswith("Not known")


def test_every_column_of_a_run_is_described(make_segmentation) -> None:
    for name in run_statistics(make_segmentation(), salt=b"salt"):
        assert not meaning(name).description.startswith("Not known"), name
