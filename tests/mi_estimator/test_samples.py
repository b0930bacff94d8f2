"""The user's own data: four formats read alike; every input that would mislead is one error."""

import importlib.util
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from mi_common.errors import UserError
from mi_estimator.samples import Samples, checked_samples, read_samples

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
TABLE = pd.DataFrame(
    {
        "length": [1.5, 2.0, 3.0, 4.5],
        "count": [4, 3, 2, 1],
        "kind": ["owl", "cat", "owl", "bat"],
        "grade": [10, 2, 10, -1],
    }
)


def csv_file(folder: Path, table: pd.DataFrame = TABLE, **changes) -> Path:
    """The table with some columns changed, as CSV."""
    path = folder / "table.csv"
    table.assign(**changes).to_csv(path, index=False)
    return path


def refusal(path: Path, label: str | None = "kind", **options) -> str:
    with pytest.raises(UserError) as error:
        read_samples(path, label, **options)
    return str(error.value)


def assert_same(found: Samples, x: list, y: list, classes: list, features: list) -> None:
    assert found.x.dtype == torch.float32 and found.x.tolist() == x
    assert found.y.dtype == torch.int64 and found.y.tolist() == y
    assert (found.class_names, found.feature_names) == (classes, features)


def test_csv_with_string_labels_in_sorted_order(tmp_path):
    found = read_samples(csv_file(tmp_path, TABLE.drop(columns="grade")), "kind")
    x = [[1.5, 4.0], [2.0, 3.0], [3.0, 2.0], [4.5, 1.0]]
    assert_same(found, x, [2, 1, 2, 0], ["bat", "cat", "owl"], ["length", "count"])


def test_integer_labels_are_sorted_as_numbers(tmp_path):
    """As text 10 would come before 2."""
    found = read_samples(csv_file(tmp_path, TABLE[["grade", "length"]]), "grade")
    assert_same(found, [[1.5], [2.0], [3.0], [4.5]], [2, 1, 2, 0], ["-1", "2", "10"], ["length"])


def test_npz_holds_x_and_y_and_flattens_images(tmp_path):
    x = np.arange(24, dtype=np.float64).reshape(3, 2, 4)
    np.savez(tmp_path / "a.npz", x=x, y=np.array(["b", "a", "b"]))
    found = read_samples(tmp_path / "a.npz", None)
    names = [f"x{i}" for i in range(8)]
    assert_same(found, x.reshape(3, 8).tolist(), [1, 0, 1], ["a", "b"], names)
    np.savez(tmp_path / "b.npz", x=x[:, 0], y=np.array([[7], [3], [7]]))
    found = read_samples(tmp_path / "b.npz", None)
    assert (found.y.tolist(), found.class_names) == ([1, 0, 1], ["3", "7"])


def test_npy_is_a_table_with_the_number_of_its_label_column(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[5, 0, 1], [6, 1, 4], [9, 0, 3]]))
    found = read_samples(tmp_path / "a.npy", "1")
    assert_same(found, [[5, 1], [6, 4], [9, 3]], [0, 1, 0], ["0", "1"], ["0", "2"])
    assert refusal(tmp_path / "a.npy", "3").endswith(
        "--label 3: no such column; the columns are 0, 1, 2"
    )


@pytest.mark.skipif(not HAS_PYARROW, reason="no pyarrow")
def test_parquet_is_read_like_csv(tmp_path):
    TABLE.to_parquet(tmp_path / "table.parquet")
    found, same = (
        read_samples(path, "kind") for path in (tmp_path / "table.parquet", csv_file(tmp_path))
    )
    assert torch.equal(found.x, same.x) and torch.equal(found.y, same.y)
    assert found.class_names == same.class_names and found.feature_names == same.feature_names


def test_a_missing_file_and_a_wrong_suffix(tmp_path):
    assert refusal(tmp_path / "no.csv") == f"{tmp_path}/no.csv: no such file"
    assert refusal(tmp_path) == f"{tmp_path}: no such file"
    (tmp_path / "a.xlsx").write_text("x")
    assert refusal(tmp_path / "a.xlsx") == f"{tmp_path}/a.xlsx: use .csv, .parquet, .npz or .npy"


@pytest.mark.parametrize(
    ("label", "problem"),
    [("colour", "--label colour: no such column"), (None, "--label is missing")],
)
def test_a_missing_label_column_lists_the_columns(tmp_path, label, problem):
    columns = "the columns are length, count, kind, grade"
    assert refusal(csv_file(tmp_path), label) == f"{problem}; {columns}"


def test_only_twenty_columns_are_listed(tmp_path):
    csv_file(tmp_path, pd.DataFrame(np.eye(25)).rename(columns=lambda c: f"c{c}"))
    message = refusal(tmp_path / "table.csv")
    assert message.endswith("c18, c19, ...") and message.count(", ") == 20


def test_columns_that_are_not_numeric_are_named(tmp_path):
    path = csv_file(tmp_path, size=["S", "M", "L", "S"], day=["2020-01-01"] * 4)
    assert refusal(path) == (
        "columns size, day are not numeric, such as 'S'; encode them, or leave them out with --drop"
    )


def test_constant_columns_are_named_or_left_out_with_a_word(tmp_path, capsys):
    path = csv_file(tmp_path, TABLE.drop(columns="grade"), one=1.0, zero=0)
    message = "columns one, zero are constant; remove them or use --drop-constant"
    assert refusal(path) == message
    capsys.readouterr()
    found = read_samples(path, "kind", drop_constant=True)
    assert capsys.readouterr().out == "leaving out 2 constant columns: one, zero\n"
    assert found.feature_names == ["length", "count"]
    assert found.x.tolist() == [[1.5, 4.0], [2.0, 3.0], [3.0, 2.0], [4.5, 1.0]]
    csv_file(tmp_path, TABLE[["kind"]], one=1.0)
    assert "columns one are constant" in refusal(path, drop_constant=True)


@pytest.mark.parametrize("value, shown", [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_nan_and_infinity_are_found_by_row_and_column(tmp_path, value, shown):
    path = csv_file(tmp_path, count=[4, 3, value, value])
    place = f"row 2 (from 0), column count: {shown}"
    assert refusal(path) == f"{place}; fill in or remove the 2 such rows"


def test_a_missing_label_is_found_by_row(tmp_path):
    path = csv_file(tmp_path, kind=["owl", None, "cat", "owl"])
    assert refusal(path) == (
        "row 1 (from 0): no label (empty, NA, NaN, None or null); remove the 1 such rows, or write "
        "the label as another word"
    )


def test_one_class_is_refused_by_its_name(tmp_path):
    path = csv_file(tmp_path, kind="owl")
    assert refusal(path) == "the label has one value, owl: at least two classes are needed"


def test_a_table_without_features_is_refused(tmp_path):
    assert refusal(csv_file(tmp_path, TABLE[["kind"]])) == "no feature columns beside the label"


def test_empty_files_are_refused(tmp_path):
    assert refusal(csv_file(tmp_path, TABLE[:0])) == "no samples: the file is empty"
    np.savez(tmp_path / "a.npz", x=np.zeros((0, 3)), y=np.zeros(0))
    assert refusal(tmp_path / "a.npz") == f"{tmp_path}/a.npz: x is empty: its shape is (0, 3)"
    np.save(tmp_path / "a.npy", np.zeros((0, 3)))
    assert refusal(tmp_path / "a.npy", "0") == f"{tmp_path}/a.npy is empty: its shape is (0, 3)"


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".npy"])
def test_files_of_no_bytes_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    path.touch()
    assert refusal(path, "0").startswith(f"{path}: cannot be read: ")


def test_x_and_y_of_different_length_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(5), y=np.arange(4))
    assert refusal(tmp_path / "a.npz") == "x has 5 samples but y has 4"
    np.savez(tmp_path / "b.npz", x=np.eye(5), y=np.eye(5))  # one-hot
    assert refusal(tmp_path / "b.npz") == "x has 5 samples but y has 25"
    with pytest.raises(UserError, match="x has 4 samples but y has 3"):
        checked_samples(TABLE[["length"]], TABLE["kind"][:3])


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"x": np.float64(1)}, "x has 1 samples but y has 3|cannot be read"),
        ({"y": np.float64(1)}, "x has 3 samples but y has 1"),
    ],
)
def test_an_array_without_a_sample_axis_is_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **{"x": np.eye(3), "y": np.arange(3)} | arrays)
    with pytest.raises(UserError, match=message):
        read_samples(tmp_path / "a.npz", None)


def test_npz_without_x_or_y_lists_its_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(3), labels=np.arange(3))
    assert refusal(tmp_path / "a.npz").endswith("a.npz: needs arrays x and y, has x, labels")


@pytest.mark.parametrize("keep", [10, 200, -40])
def test_a_truncated_npz_is_refused(tmp_path, keep):
    """It starts as a zip, so that NumPy's error is zipfile's."""
    path = tmp_path / "a.npz"
    np.savez(path, x=np.eye(20), y=np.arange(20))
    path.write_bytes(path.read_bytes()[:keep])
    assert refusal(path).startswith(f"{path}: cannot be read: ")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_npz_is_refused(tmp_path, save):
    """Flipped bytes in the values of x fail the checksum or do not unpack."""
    path = tmp_path / "a.npz"
    save(path, x=np.random.default_rng(0).integers(0, 9, (99, 99)), y=np.arange(99))
    data = bytearray(path.read_bytes())
    data[1000:1100] = b"\xff" * 100
    path.write_bytes(data)
    assert refusal(path).startswith(f"{path}: cannot be read: ")


def test_other_bytes_under_a_known_suffix_are_refused(tmp_path):
    for suffix in (".npz", ".npy", ".csv"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(b"\xff\xfe\x00 not a table \x80" * 9)
        assert refusal(path).startswith(f"{path}: cannot be read: ")


def test_object_arrays_are_not_unpickled(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.eye(2), y=np.array(["a", 1], dtype=object))
    np.save(tmp_path / "a.npy", np.array([["a", 1], ["b", 2]], dtype=object))
    message = "holds values of type object; use real numbers"
    assert refusal(tmp_path / "a.npz") == f"{tmp_path}/a.npz: y {message} or text"
    assert refusal(tmp_path / "a.npy", "0") == f"{tmp_path}/a.npy {message}"


def test_a_value_beyond_float32_is_not_turned_into_infinity(tmp_path):
    path = csv_file(tmp_path, count=[4, 3, 1e300, 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        message = refusal(path)
    assert "row 2" in message and "column count" in message


def test_a_large_offset_does_not_wipe_out_a_column(tmp_path):
    """Seconds since 1970 differ by less than float32 resolves there; they must stay apart."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"time": 1.7e9 + np.arange(64), "kind": rng.permutation(64) % 2})
    assert len(read_samples(csv_file(tmp_path, table), "kind").x.unique()) == 64
