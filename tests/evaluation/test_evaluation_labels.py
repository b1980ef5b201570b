"""Tables that say which ids of two protocols are one structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ddmseg.errors import UsageError
from ddmseg.evaluation.labels import (
    SHIPPED,
    StructureIds,
    load_label_table,
    read_label_table,
)
from ddmseg.imaging.labels import ANATOMY_LABELS


def write(tmp_path: Path, *rows: str, head: str = "name\tprediction\ttruth") -> Path:
    path = tmp_path / "labels.tsv"
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_ids_are_merged_over_commas_and_rows(tmp_path) -> None:
    path = write(tmp_path, "GM\t3, 42\t2", "WM\t2\t3", "GM\t17,3\t", "WM\t41\t3,4")
    assert read_label_table(path).structures == (
        StructureIds("GM", (3, 42, 17), (2,)),
        StructureIds("WM", (2, 41), (3, 4)),
    )


def test_columns_may_come_in_any_order_with_others(tmp_path) -> None:
    path = write(tmp_path, "#fff\t7\tS\t5", head="colour\ttruth\tname\tprediction")
    (found,) = read_label_table(path).structures
    assert (found, found.index) == (StructureIds("S", (5,), (7,)), 7)


def test_structures_that_share_an_id_go_into_layers(tmp_path) -> None:
    path = write(tmp_path, "whole\t1,2\t1,2", "core\t1\t1", "edge\t2\t2", "other\t9\t9")
    table = read_label_table(path)
    names = [[item.name for item in layer] for layer in table.layers()]
    assert names == [["whole", "other"], ["core", "edge"]]
    assert table.prediction_ids == {1, 2, 9}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([], "the table has no row; give one for each structure"),
        (["\t1\t1"], r"line 2: name: got ''; give the structure a name"),
        (["mean\t1\t1"], r"line 2: name: got 'mean'; .* \('mean' is taken\)"),
        (["a\t1\t1", "b\tx\t1"], "line 3: prediction: got 'x'; give whole numbers above 0"),
        (["a\t1\t0"], "line 2: truth: got '0'; give whole numbers above 0"),
        (["a\t1\t-4"], "line 2: truth: got '-4'"),
        (["a\t1\t²"], "line 2: truth: got '²'"),
        (["a\t1.5\t1"], "line 2: prediction: got '1.5'"),
        (["a\t1\t"], "'a' has no id in the column truth; give at least one"),
        (["a\t1"], "'a' has no id in the column truth; give at least one"),
        (["a\t,\t1"], "'a' has no id in the column prediction; give at least one"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path, rows, told) -> None:
    with pytest.raises(UsageError, match=told):
        read_label_table(write(tmp_path, *rows))


def test_a_missing_column_is_named(tmp_path) -> None:
    with pytest.raises(UsageError, match=r"'prediction' is missing \(did you mean 'predictions'"):
        read_label_table(write(tmp_path, head="name\tpredictions\ttruth"))
    with pytest.raises(UsageError, match=r"'name' is missing; .* separated by tabs"):
        read_label_table(write(tmp_path, head="name,prediction,truth"))


def test_what_is_neither_file_nor_shipped_is_refused(tmp_path) -> None:
    told = r"labels: got 'malc' \(did you mean 'malc2012'\?\); give a TSV file .* hippocampus, ibsr"
    with pytest.raises(UsageError, match=told):
        load_label_table("malc")
    (tmp_path / "x.tsv").write_bytes(b"\xff\xff")
    with pytest.raises(UsageError, match=r"x\.tsv: cannot be read as a table"):
        load_label_table(str(tmp_path / "x.tsv"))


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_table_takes_only_ids_that_ddmseg_predicts(name) -> None:
    table = load_label_table(name)
    known = {*ANATOMY_LABELS, 231, 232} - {0}
    assert table.name == name
    assert table.prediction_ids <= known
    assert len(table.layers()) == 1


def test_the_shipped_tables_say_what_the_sets_mean() -> None:
    tissues = {item.name: item for item in load_label_table("ibsr18").structures}
    assert (tissues["CSF"].truth, tissues["CSF"].prediction) == ((1,), (4, 5, 14, 15, 43, 44))
    assert 24 in tissues["GM"].prediction  # sulcal CSF lies in this truth's grey matter
    anterior = load_label_table("hippocampus").structures[0]
    assert anterior == StructureIds("Anterior", (232,), (1,))


def test_the_vermis_of_malc2012_gets_the_side_of_the_nearest_cortex() -> None:
    table = load_label_table("malc2012")
    truth = np.zeros((9, 3, 3), dtype=np.int32)
    truth[0], truth[2:4], truth[5:7], truth[8] = 38, 71, 72, 39
    assert table.prepare_truth is not None
    sides = table.prepare_truth(truth)[:, 1, 1].tolist()
    assert sides == [47, 0, 47, 47, 0, 8, 8, 0, 8]
