"""Tables: read alike in all forms; what would mislead is one error with the place."""

import importlib.util
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.estimate import main
from mi_estimator.samples import numbers_rows, read_samples

needs_pyarrow = pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="no pyarrow")
X = np.random.default_rng(0).normal(size=(40, 2))
Y = np.arange(40) % 2
CSV = "a,b,y\n" + "".join(f"{a},{b},{'ab'[k]}\n" for (a, b), k in zip(X, Y, strict=True))
ABCY = "a,b,c,y\n1,4,9,u\n2,5,7,v\n4,6,8,u\n"


def noise() -> pd.DataFrame:
    """Rows sorted by a label of which a and b know nothing."""
    values = np.random.default_rng(0).normal(size=(120, 2))
    return pd.DataFrame(values, columns=["a", "b"]).assign(y=np.repeat(["cat", "owl"], 60))


def csv_file(folder: Path, content: bytes | str) -> Path:
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, label: str | None = "y", **options) -> str:
    with pytest.raises(UserError) as error:
        read_samples(path, label, **options)
    return str(error.value)


def with_cell(cell: str) -> str:
    return f"{CSV}{cell},2,a\n"


REFUSED = {
    "UTF-16": (CSV.encode("utf-16"), ["table.csv: ", "byte 0xff", "save it as UTF-8"]),
    "Latin 1": (CSV.replace("b\n", "ü\n").encode("latin-1"), ["byte 0xfc", "save it as UTF-8"]),
    "UTF-16 without mark": (CSV.encode("utf-16-le"), ["line 1", "control character", "UTF-8"]),
    "NUL": (CSV + "1,2\0,a\n", ["line 42", "control character"]),
    "a label of its own by a control character": (CSV + "1,2,a\x01\n", ["line 42", r"'\x01'"]),
    "open quote": (CSV + '1,2,"a\n', ["line 42", "unexpected end"]),
    "text after a quote": (CSV + '1,"2"3,a\n', ["line 42"]),
    "long field": (CSV + f"1,2,{'a' * 140_000}\n", ["line 42", "131072"]),
    "nothing": ("", ["no header line"]),
    "blank lines alone": ("\n \r\n\n", ["no header line"]),
    "binary": (b"\xff\xfe\x00 not a table \x80" * 9, ["table.csv: cannot be read"]),
    "header alone": ("a,y\n", ["no samples"]),
    "label alone": ("y\nu\nv\n", ["no feature columns"]),
    "thousands": (
        with_cell('"1,234"'),
        ["row 40", "column a", "'1,234'", "decimal point", "--drop a"],
    ),
    "hexadecimal": (with_cell("0x1F"), ["row 40", "column a", "'0x1F'", "--drop a"]),
    "decimal commas": ('a,y\n"0,5",u\n"1,5",v\n', ["row 0", "column a", "'0,5'", "decimal point"]),
    "beyond float64": (with_cell("1e400"), ["row 40", "column a", "inf"]),
    "minus infinity": (with_cell("-inf"), ["row 40", "column a", "-inf"]),
    "NaN": (with_cell("NaN"), ["columns a (1)", "row 40", "--missing drop", "--missing indicator"]),
    "empty cell": (with_cell(""), ["columns a (1)", "row 40"]),
    "beyond float32": (with_cell("9" * 60), ["row 40", "column a", "1e+60"]),
    "no label": ("a,y\n1,u\n2,\n3,v\n", ["row 1", "no label", "remove the 1 such rows"]),
    "one class": ("a,y\n1,u\n2,u\n", ["one value, u", "two classes"]),
    "constant": ("a,b,c,y\n1,2,3,u\n1,3,3,v\n", ["columns a, c are constant", "--drop-constant"]),
    # pandas takes the first cells of longer lines for an index, and fills up shorter ones.
    "longer lines": ("a,b,y\n7,1,2,u\n8,2,1,v\n", ["line 2 has 4 cells", "the header has 3"]),
    "one longer line": ("a,b,y\n1,2,u\n2,1,v,w\n", ["line 3 has 4 cells"]),
    "commas at the ends": ("a,b,y\n1,2,u,\n2,1,v,\n", ["line 2 has 4 cells"]),
    "a shorter line": ("a,b,y\n1,2,u\n2,1\n", ["line 3 has 2 cells"]),
    "a shorter line after others": ('a,b,y\n1,2,"u\nu"\n\n2,1\n', ["line 5 has 2 cells"]),
    "label twice": ("a,y,y\n1,u,u\n2,v,v\n", ["line 1: 2 columns are named y"]),
    "label twice, spaced": ("a,y, y\n1,u,u\n2,v,v\n", ["2 columns are named y"]),
    "label twice, quoted": ('a,"y",y\n1,u,u\n2,v,v\n', ["2 columns are named y"]),
    "label twice, marked": ("\ufeffy,a,y\n1,u,u\n2,v,v\n", ["2 columns are named y"]),
    "feature twice": ("\n\na,b,a,y\n1,9,2,u\n2,8,5,v\n", ["line 3: 2", "named a", "--drop 'a'"]),
    "no name": ("a,y, \n1,u,7\n2,v,5\n", ["line 1", "'Unnamed: 2'", "--drop 'Unnamed: 2'"]),
    "pandas' index twice": (",Unnamed: 0,a,y\n0,0,1,u\n1,1,2,v\n", ["--drop 'Unnamed: 0'"]),
    "1 and 1.0": ("a,y\n1,1.0\n3,1\n2,1.0\n5,7\n", ["'1' and '1.0' are one number"]),
    "01 and 1": ("a,y\n1,1\n3,01\n2,1\n5,7\n", ["'01' and '1' are one number"]),
    "100 and 1e2": ("a,y\n1,1e2\n3,100\n2,1e2\n5,7\n", ["'100' and '1e2' are one number"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_csv_that_would_mislead_is_refused_with_the_place(tmp_path, name):
    content, parts = REFUSED[name]
    message = refusal(csv_file(tmp_path, content))
    assert all(part in message for part in parts), message
    assert "\n" not in message and len(message) < 500


FLAGS_REFUSED = [
    ({"label": "colour"}, "--label colour: no such column; the columns are a, b, c, y"),
    ({"label": None}, "--label is missing; the columns are a (number, 3 distinct), b (number, 3"),
    ({"features": ["a", "d"]}, "--features d: no such column; the columns are a, b, c, y"),
    ({"drop": ["a", "d"]}, "--drop d: no such column; the columns are a, b, c, y"),
    ({"features": ["y"]}, "--features y: this is the label"),
    ({"drop": ["y"]}, "--drop y: this is the label"),
    ({"drop": ["a", "b", "c"]}, "no feature columns"),
]


@pytest.mark.parametrize(("options", "message"), FLAGS_REFUSED)
def test_unknown_columns_are_refused_and_the_known_ones_listed(tmp_path, options, message):
    assert message in refusal(csv_file(tmp_path, ABCY), **options)


def test_features_and_drop_select_the_same_columns_in_the_file_s_order(tmp_path):
    path = csv_file(tmp_path, ABCY.replace("9", "x"))  # c is text, which does no harm when left out
    kept, left = read_samples(path, "y", features=["b", "a"]), read_samples(path, "y", drop=["c"])
    assert kept.feature_names == left.feature_names == ["a", "b"]
    assert kept.x.tolist() == left.x.tolist() == [[1, 4], [2, 5], [4, 6]]
    assert kept.class_names == left.class_names == ["u", "v"]
    path = csv_file(tmp_path, "a,b,a,y\n1,9,2,u\n2,8,5,v\n")
    assert read_samples(path, "y", drop=["a"]).x.tolist() == [[9], [8]]
    path = csv_file(tmp_path, "a,y, \n1,u,7\n2,v,5\n4,u,6\n")
    assert "'Unnamed: 2'" in refusal(path, features=["Unnamed: 2"])  # even when asked for
    assert read_samples(path, "y", drop=["Unnamed: 2"]).feature_names == ["a"]


@pytest.mark.parametrize("change", ["none", "BOM", "CRLF", "CR", "blank lines", "quoted newlines"])
def test_csv_is_read_alike_however_its_lines_end(tmp_path, change):
    text = {
        "BOM": "\ufeff" + CSV,
        "CRLF": CSV.replace("\n", "\r\n"),
        "CR": CSV.replace("\n", "\r"),
        "blank lines": "\n" + CSV.replace("\n", "\n\n") + "   \n",
        "quoted newlines": CSV.replace(",a\n", ',"a\n"\n').replace(",b\n", ',"b\n"\n'),
    }.get(change, CSV)
    samples = read_samples(csv_file(tmp_path, text), "y")
    assert samples.x.tolist() == X.astype(np.float32).tolist()
    assert samples.y.tolist() == Y.tolist()
    newline = "\n" if change == "quoted newlines" else ""
    assert samples.class_names == [f"a{newline}", f"b{newline}"]


def test_truth_values_are_numbers(tmp_path):
    path = csv_file(tmp_path, "a,b,y\n0.5,true,u\n1.5,false,v\n2.5,true,u\n")
    assert read_samples(path, "y").x.tolist() == [[0.5, 1], [1.5, 0], [2.5, 1]]


@pytest.mark.parametrize("sparse", [True, False])
def test_a_file_without_lines_is_refused_before_it_fills_memory(tmp_path, sparse, monkeypatch):
    monkeypatch.setattr("mi_estimator.text_files.LONGEST_LINE", 2**20)
    path = tmp_path / "a.csv"
    with path.open("wb") as file:
        file.write(b"" if sparse else b"a" * 2**24)
        file.truncate(10**11 if sparse else 2**24)  # takes no room on the disk
    tracemalloc.start()
    message = refusal(path)
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()
    assert f"line 1 {'holds the control character' if sparse else 'does not end'}" in message


@pytest.mark.parametrize("suffix", ["csv", pytest.param("parquet", marks=needs_pyarrow)])
def test_a_table_that_does_not_fit_into_memory_is_refused(tmp_path, monkeypatch, suffix):
    path = csv_file(tmp_path, CSV)
    if suffix == "parquet":
        pd.read_csv(path).to_parquet(path := tmp_path / "a.parquet")
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 1000}))
    assert refusal(path).startswith(f"{path}: 40 samples of 3 columns: needs ")


@pytest.fixture
def estimate(tmp_path, capsys):
    """Runs the command by linear discriminants; what it wrote to estimate.json, stdout, stderr."""

    def run(path: Path, *flags: str) -> tuple[dict, str, str]:
        capsys.readouterr()
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        fixed = ["--label", "y", "--estimator", "lda", "--folds", "3", "--device", "cpu"]
        main([str(path), *fixed, "--output-dir", str(out), *flags])
        return json.loads((out / "estimate.json").read_text()), *capsys.readouterr()

    return run


@pytest.mark.parametrize("again", [False, True])
def test_an_index_in_a_csv_is_refused_and_can_be_left_out(tmp_path, estimate, user_error, again):
    """With an empty header, or with the one that pandas gives it on reading and writing again."""
    path = tmp_path / "noise.csv"
    noise().to_csv(path)
    if again:
        pd.read_csv(path).to_csv(path, index=False)
    assert path.read_text().startswith("Unnamed: 0,a,b,y\n" if again else ",a,b,y\n")
    line = user_error(main, [path, "--label", "y", "--output-dir", tmp_path / "out"])
    assert f"{path}: line 1: column 'Unnamed: 0' has no name" in line
    assert not (tmp_path / "out").exists()
    result, out, err = estimate(path, "--drop", "Unnamed: 0")
    assert result["features"] == ["a", "b"] and "features (2): a, b\n" in out and err == ""
    assert -0.05 < result["mutual_information"] < 0.05


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
def test_a_column_that_numbers_the_rows_is_a_warning(tmp_path, estimate, order):
    path, table = tmp_path / "noise.csv", noise().assign(**{"row id": np.arange(120) + 1000})
    if order != "sorted":
        table = table[::-1] if order == "reversed" else table.sample(frac=1, random_state=0)
    table.to_csv(path, index=False)
    result, out, err = estimate(path)
    assert result["mutual_information"] > 0.4  # of noise and the id
    assert "features (3): a, b, row id\n" in out
    assert err.startswith("warning: columns row id number the rows") and err.count("\n") == 1
    assert err.endswith("--drop 'row id'\n")
    result, _, err = estimate(path, "--drop", "row id")
    assert -0.05 < result["mutual_information"] < 0.05 and err == ""


@pytest.mark.parametrize(
    "column, expected",
    [
        ([3, 4, 9, 11], True),
        ([9.0, 4.0, -1.0], True),
        ([2, 4, 3, 1], True),
        (np.arange(256, dtype=np.uint8)[::-1], True),
        ([2**62 - 1, 2**62, 2**62 + 1], True),  # one number in float64
        ([2, 5, 3, 1], False),
        ([1, 2, 2, 3], False),
        ([1.0, 2.5, 3.0], False),
        ([False, True], False),
    ],
)
def test_what_numbers_rows(column, expected):
    assert numbers_rows(np.asarray(column)) is expected


def test_flags_that_do_not_go_together_are_refused(tmp_path, user_error):
    given = [csv_file(tmp_path, ABCY), "--label", "y", "--output-dir", tmp_path / "out"]
    line = user_error(main, [*given, "--features", "a", "--drop", "b"])
    assert "--drop: not allowed with argument --features" in line
    for flag, value in (("--features", "a"), ("--drop", "a"), ("--missing", "drop"), ("--bins", 4)):
        line = user_error(main, ["--dataset", "mnist", flag, value])
        assert f"{flag} is for a FILE only" in line
    assert "--bins 1: at least 2" in user_error(main, [*given, "--bins", 1])
    assert not (tmp_path / "out").exists()


def test_the_label_is_read_as_one_column(tmp_path):
    """pandas reads a long file in chunks, and numbers before text as numbers: 5 classes for 3."""
    labels = ["0", "1"] * 150_000 + ["unknown"] * 300
    lines = (f"{i % 7},{y}\n" for i, y in enumerate(labels))
    samples = read_samples(csv_file(tmp_path, "".join(["a,y\n", *lines])), "y")
    assert samples.class_names == ["0", "1", "unknown"]
    assert samples.y.bincount().tolist() == [150_000, 150_000, 300]


LARGE = ["9007199254740992", "9007199254740993"]  # one number in float64


@pytest.mark.parametrize(
    "labels, classes",
    [
        (["owl", "cat", "bat"], ["bat", "cat", "owl"]),
        (["10", "2", "-1.5"], ["-1.5", "2", "10"]),
        (["1e3", "20", "3"], ["3", "20", "1e3"]),
        ([LARGE[1], LARGE[0], "7"], ["7", *LARGE]),
        (["10", "2", "x"], ["10", "2", "x"]),
        (["True", "False", "true"], ["False", "True", "true"]),
        (["1_1", "11", "2"], ["11", "1_1", "2"]),
        (["inf", "2", "10"], ["10", "2", "inf"]),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".npz", pytest.param(".parquet", marks=needs_pyarrow)])
def test_labels_are_text_as_written_sorted_by_value_where_all_are_numbers(
    tmp_path, labels, classes, suffix
):
    path = tmp_path / f"a{suffix}"
    table = pd.DataFrame({"a": [0.5, 2, 1], "y": labels})
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path)
    else:
        np.savez(path, x=table[["a"]].to_numpy(), y=np.array(labels))
    samples = read_samples(path, "y")
    assert samples.class_names == classes
    assert [classes[k] for k in samples.y] == labels
