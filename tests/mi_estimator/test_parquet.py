"""Parquet: read like CSV; what would mislead is one error with the place."""

import sys

import pandas as pd
import torch

from mi_estimator.samples import read_samples
from tests.mi_estimator.test_table_files import CSV, csv_file, needs_pyarrow, noise, refusal


@needs_pyarrow
def test_parquet_is_read_like_csv(tmp_path):
    path = csv_file(tmp_path, CSV)
    pd.read_csv(path).to_parquet(tmp_path / "a.parquet")
    csv, parquet = read_samples(path, "y"), read_samples(tmp_path / "a.parquet", "y")
    assert torch.equal(csv.x, parquet.x) and torch.equal(csv.y, parquet.y)
    assert (csv.class_names, csv.feature_names) == (parquet.class_names, parquet.feature_names)


@needs_pyarrow
def test_an_index_in_parquet_is_restored_or_refused(tmp_path):
    """pandas recognises the index that it wrote; other tools keep it as a column."""
    import pyarrow.parquet as parquet

    path = tmp_path / "noise.parquet"
    noise().sample(frac=1, random_state=0).to_parquet(path)
    assert read_samples(path, "y").feature_names == ["a", "b"]
    parquet.write_table(parquet.read_table(path).replace_schema_metadata(None), path)
    assert "column '__index_level_0__' has no name" in refusal(path)
    assert read_samples(path, "y", drop=["__index_level_0__"]).feature_names == ["a", "b"]


@needs_pyarrow
def test_parquet_with_two_columns_of_one_name_or_other_text_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    path = tmp_path / "a.parquet"
    columns = [pa.array([1.0, 2.5]), pa.array([0, 1]), pa.array([0, 1])]
    pyarrow.parquet.write_table(pa.Table.from_arrays(columns, ["a", "y", "y"]), path)
    assert refusal(path) == f"{path}: 2 columns are named y"
    labels = pa.array([b"owl", b"\xff"]).view(pa.string())  # no UTF-8
    pyarrow.parquet.write_table(pa.table({"a": [1.0, 2.5], "y": labels}), path)
    assert refusal(path).startswith(f"{path}: cannot be read: ")


@needs_pyarrow
def test_parquet_columns_that_cannot_be_encoded_are_named(tmp_path):
    path = tmp_path / "a.parquet"
    for values, shown in (([[1, 2], [3]], "[1 2]"), ([{"u": 1}, {"u": 2}], "{'u': 1}")):
        pd.DataFrame({"a": values, "b": [0.5, 2], "y": [0, 1]}).to_parquet(path)
        message = refusal(path)
        assert "columns a are neither numbers" in message and repr(shown) in message
        assert read_samples(path, "y", drop=["a"]).x.tolist() == [[0.5], [2]]
    pd.DataFrame({"a": [1, 2], "y": [[0], [1]]}).to_parquet(path)
    assert refusal(path) == "the labels must all be real numbers, or all text"
    kinds = pd.Categorical(["owl", "cat", "bat"], categories=["owl", "cat", "bat"])
    pd.DataFrame({"a": [1.0, 4, 2], "y": kinds}).to_parquet(path)
    assert read_samples(path, "y").class_names == ["bat", "cat", "owl"]


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    assert "pip install pyarrow" in refusal(path)
