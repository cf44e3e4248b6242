"""Tables as files; as text they are tested with what prints them."""

import json

import pytest

from keras_resnet.utils.tables import write_table
from tests.helpers import refused

ROWS = [{"a": 1}, {"a": 2, "b": "three"}]


def test_rows_with_different_keys_share_a_table(tmp_path):
    write_table(tmp_path / "t.csv", ROWS)
    assert (tmp_path / "t.csv").read_text().split() == ["a,b", "1,", "2,three"]
    write_table(tmp_path / "t.json", ROWS)
    assert json.loads((tmp_path / "t.json").read_text()) == ROWS


def test_columns_come_first_and_head_a_table_without_rows(tmp_path):
    write_table(tmp_path / "t.csv", [], ("b", "a"))
    assert (tmp_path / "t.csv").read_bytes() == b"b,a\r\n"
    write_table(tmp_path / "t.csv", [{"a": 1, "c": 2}], ("b", "a"))
    assert (tmp_path / "t.csv").read_bytes() == b"b,a,c\r\n,1,2\r\n"
    write_table(tmp_path / "t.json", [], ("b", "a"))
    assert json.loads((tmp_path / "t.json").read_text()) == []


def test_parquet(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    write_table(tmp_path / "t.parquet", [], ("b", "a"))
    assert parquet.read_table(tmp_path / "t.parquet").column_names == ["b", "a"]
    write_table(tmp_path / "t.parquet", ROWS)
    assert parquet.read_table(tmp_path / "t.parquet").to_pylist() == [{"a": 1, "b": None}, ROWS[1]]


def test_other_files_are_refused(tmp_path):
    with refused("path", "t.xls"):
        write_table(tmp_path / "t.xls", ROWS)
