"""Damaged, foreign and hostile tables: one line that says what is wrong, before memory is taken."""

import importlib.util
import io
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.samples import read_samples

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="no pyarrow")
X = np.random.default_rng(0).normal(size=(40, 2))
Y = np.arange(40) % 2
CSV = "a,b,y\n" + "".join(f"{a},{b},{'ab'[k]}\n" for (a, b), k in zip(X, Y, strict=True))


def refusal(path: Path, label: str | None = "y") -> str:
    with pytest.raises(UserError) as error:
        read_samples(path, label)
    return str(error.value)


def csv_refusal(folder: Path, content: bytes | str) -> str:
    """What is said of a CSV file, without its path."""
    path = folder / "a.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return refusal(path).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "content, message",
    [
        (CSV.encode("utf-16"), "codec can't decode byte 0xff in position 0: invalid start byte"),
        (CSV.replace("b\n", "ü\n").encode("latin-1"), "codec can't decode byte 0xfc"),
    ],
)
def test_csv_in_another_encoding_is_refused(tmp_path, content, message):
    found = csv_refusal(tmp_path, content)
    assert found.startswith("cannot be read: 'utf-8' ") and message in found
    assert found.endswith("; save it as UTF-8")


@pytest.mark.parametrize(
    "content, message",
    [
        (CSV.encode("utf-16-le"), "line 1 holds a NUL character; save it as CSV in UTF-8"),
        (CSV + "1,2\0,a\n", "line 42 holds a NUL character; save it as CSV in UTF-8"),
        (CSV + '1,2,"a\n', "line 42: unexpected end of data"),
        (CSV + '1,"2"3,a\n', "line 42: ',' expected after '\"'"),
        (CSV + f"1,2,{'a' * 140_000}\n", "line 42: field larger than field limit (131072)"),
        ("", "there is no header line"),
        ("\n \r\n\n", "there is no header line"),
    ],
)
def test_csv_that_is_damaged_is_refused_by_line(tmp_path, content, message):
    assert csv_refusal(tmp_path, content) == f"cannot be read: {message}"


@pytest.mark.parametrize("change", ["none", "BOM", "CRLF", "CR", "blank lines", "quoted newlines"])
def test_csv_is_read_alike_however_its_lines_end(tmp_path, change):
    text = {
        "BOM": "\ufeff" + CSV,
        "CRLF": CSV.replace("\n", "\r\n"),
        "CR": CSV.replace("\n", "\r"),
        "blank lines": "\n" + CSV.replace("\n", "\n\n") + "   \n",
        "quoted newlines": CSV.replace(",a\n", ',"a\n"\n').replace(",b\n", ',"b\n"\n'),
    }.get(change, CSV)
    (tmp_path / "a.csv").write_bytes(text.encode())
    samples = read_samples(tmp_path / "a.csv", "y")
    assert samples.x.tolist() == X.astype(np.float32).tolist()
    assert samples.y.tolist() == Y.tolist()
    newline = "\n" if change == "quoted newlines" else ""
    assert samples.class_names == [f"a{newline}", f"b{newline}"]


@pytest.mark.parametrize("sparse", [True, False])
def test_a_file_without_lines_is_refused_before_it_fills_memory(tmp_path, sparse, monkeypatch):
    monkeypatch.setattr("mi_estimator.table_files.LONGEST_LINE", 2**20)
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"" if sparse else b"a" * 2**24)
        file.truncate(10**11 if sparse else 2**24)  # takes no room on the disk
    tracemalloc.start()
    message = refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    content = "holds a NUL character" if sparse else "does not end"
    assert message == f"{path}: cannot be read: line 1 {content}; save it as CSV in UTF-8"


@pytest.mark.parametrize(
    "cell, message",
    [
        ('"1,234"', "columns a are not numeric, such as '1,234'; encode them, or leave them out "),
        ("0x1F", "columns a are not numeric, such as '0x1F'; encode them, or leave them out "),
        ("yes", "columns a are not numeric, such as 'yes'; encode them, or leave them out "),
        ("1e400", "row 40 (from 0), column a: inf; fill in or remove the 1 such rows"),
        ("-inf", "row 40 (from 0), column a: -inf; fill in or remove the 1 such rows"),
        ("NaN", "row 40 (from 0), column a: nan; fill in or remove the 1 such rows"),
        ("", "row 40 (from 0), column a: nan; fill in or remove the 1 such rows"),
        ("9" * 60, "row 40 (from 0), column a: 1e+60; fill in or remove the 1 such rows"),
    ],
)
def test_one_cell_that_is_no_finite_number_is_named(tmp_path, cell, message):
    assert csv_refusal(tmp_path, f"{CSV}{cell},2,a\n").startswith(message)


def test_decimal_commas_are_named_and_truth_values_are_numbers(tmp_path):
    text = 'a,b,y\n"0,5",true,u\n"1,5",false,v\n"2,5",true,u\n'
    assert csv_refusal(tmp_path, text).startswith("columns a are not numeric, such as '0,5'; ")
    (tmp_path / "a.csv").write_text(text.replace("0,5", "0.5").replace(",5", ".5"))
    assert read_samples(tmp_path / "a.csv", "y").x.tolist() == [[0.5, 1], [1.5, 0], [2.5, 1]]


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_another_separator_is_named(tmp_path, separator):
    columns = separator.join("aby")
    assert csv_refusal(tmp_path, CSV.replace(",", separator)) == (
        f"--label y: no such column; the columns are {columns}; separate cells by commas"
    )


def test_csv_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert csv_refusal(tmp_path, CSV).startswith("40 samples of 3 columns: needs ")


@needs_pyarrow
def test_parquet_columns_that_are_no_numbers_are_named(tmp_path):
    import datetime
    import decimal

    path = tmp_path / "a.parquet"
    for values, shown in (
        ([[1, 2], [3]], "[1 2]"),
        ([{"u": 1}, {"u": 2}], "{'u': 1}"),
        ([decimal.Decimal("1.5"), decimal.Decimal("2.5")], "1.5"),
        ([datetime.date(2020, 1, 2), datetime.date(2021, 1, 1)], "2020-01-02"),
        (["1", "2"], "1"),
        ([None, True], "True"),
    ):
        pd.DataFrame({"a": values, "b": [0.5, 2], "y": [0, 1]}).to_parquet(path)
        assert refusal(path) == (
            f"columns a are not numeric, such as {shown!r}; encode them, or leave them out with "
            "--drop"
        )
        assert read_samples(path, "y", drop=["a"]).x.tolist() == [[0.5], [2]]
    pd.DataFrame({"a": pd.array([1, None], "Int64"), "y": [0, 1]}).to_parquet(path)
    assert refusal(path) == "row 1 (from 0), column a: nan; fill in or remove the 1 such rows"
    pd.DataFrame({"a": [1, 2], "y": [[0], [1]]}).to_parquet(path)
    assert refusal(path) == "the labels must all be real numbers, or all text"


@needs_pyarrow
def test_labels_that_parquet_numbers_are_sorted_by_name(tmp_path):
    path = tmp_path / "a.parquet"
    kinds = pd.Categorical(["owl", "cat", "bat"], categories=["owl", "cat", "bat"])
    pd.DataFrame({"a": [1.0, 4, 2], "y": kinds}).to_parquet(path)
    samples = read_samples(path, "y")
    assert (samples.class_names, samples.y.tolist()) == (["bat", "cat", "owl"], [2, 1, 0])


@needs_pyarrow
def test_parquet_that_is_damaged_or_too_large_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "a.parquet"
    pd.read_csv(io.StringIO(CSV)).to_parquet(path)
    whole = path.read_bytes()
    for data in (b"", b"PAR1", whole[:-9], whole[20:], b"PAR1" + bytes(60) + b"PAR1", bytes(99)):
        path.write_bytes(data)
        assert refusal(path).startswith(f"{path}: cannot be read: ")
    path.write_bytes(whole)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert refusal(path).startswith(f"{path}: 40 samples of 3 columns: needs ")


@needs_pyarrow
def test_parquet_with_text_that_is_not_utf8_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    path, labels = tmp_path / "a.parquet", pa.array([b"owl", b"\xff"]).view(pa.string())
    pyarrow.parquet.write_table(pa.table({"a": [1.0, 2.5], "y": labels}), path)
    assert refusal(path).startswith(f"{path}: cannot be read: ")


def test_parquet_without_pyarrow_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # importing it fails
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    path = tmp_path / "a.parquet"
    path.write_bytes(b"PAR1")
    assert refusal(path) == f"{path}: reading Parquet needs pyarrow (pip install pyarrow)"
