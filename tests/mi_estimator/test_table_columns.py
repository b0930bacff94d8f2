"""Which columns of a table are features: no index, id or misplaced cell tells the label."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.estimate import main
from mi_estimator.samples import numbers_rows, read_samples

HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not HAS_PYARROW, reason="no pyarrow")
NO_NAME = (
    "column {0!r} has no name, as a row index, which tells the label wherever rows are sorted by "
    "it; leave it out with --drop {0!r}, or name it"
)


def noise(rows: int = 120) -> pd.DataFrame:
    """Two features that know nothing of the label, in rows sorted by it."""
    values = np.random.default_rng(0).normal(size=(rows, 2))
    return pd.DataFrame(values, columns=["a", "b"]).assign(y=np.repeat(["cat", "owl"], rows // 2))


def refusal(path: Path, label: str | None = "y", **options) -> str:
    with pytest.raises(UserError) as error:
        read_samples(path, label, **options)
    return str(error.value)


def text_file(folder: Path, text: str) -> Path:
    path = folder / "table.csv"
    path.write_text(text)
    return path


@pytest.fixture
def estimate(tmp_path, capsys):
    """Runs the command by linear discriminants; what it wrote to estimate.json, stdout, stderr."""

    def run(path: Path, *flags: str, label: str | None = "y") -> tuple[dict, str, str]:
        capsys.readouterr()
        out = tmp_path / f"run{len(list(tmp_path.iterdir()))}"
        chosen = [] if label is None else ["--label", label]
        fixed = ["--estimator", "lda", "--folds", "3", "--device", "cpu", "--output-dir", str(out)]
        main([str(path), *chosen, *fixed, *flags])
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
    flags = ["--label", "y", "--device", "cpu", "--output-dir", tmp_path / "out"]
    line = user_error(main, [path, *flags])
    assert line == f"error: {path}: line 1: {NO_NAME.format('Unnamed: 0')}"
    assert not (tmp_path / "out").exists()
    result, out, err = estimate(path, "--drop", "Unnamed: 0")
    assert result["features"] == ["a", "b"] and "features (2): a, b\n" in out and err == ""
    assert -0.05 < result["mutual_information"] < 0.05


def test_an_index_written_twice_is_left_out_by_one_name(tmp_path):
    path = tmp_path / "noise.csv"
    noise().to_csv(path)
    pd.read_csv(path).to_csv(path)
    assert path.read_text().startswith(",Unnamed: 0,a,b,y\n")
    assert refusal(path) == f"{path}: line 1: {NO_NAME.format('Unnamed: 0')}"
    assert read_samples(path, "y", drop=["Unnamed: 0"]).feature_names == ["a", "b"]


def test_any_column_without_a_name_is_refused_even_where_it_is_asked_for(tmp_path):
    path = text_file(tmp_path, "a,y, \n1,u,7\n2,v,5\n4,u,6\n")
    message = f"{path}: line 1: {NO_NAME.format('Unnamed: 2')}"
    assert refusal(path) == message
    assert refusal(path, features=["Unnamed: 2"]) == message
    assert read_samples(path, "y", features=["a"]).feature_names == ["a"]


@needs_pyarrow
def test_an_index_in_parquet_is_restored_or_refused(tmp_path):
    """pandas takes an index that it wrote for one; other tools keep it as a column."""
    import pyarrow.parquet as parquet

    path = tmp_path / "noise.parquet"
    table = noise().sample(frac=1, random_state=0)
    table.to_parquet(path)
    assert read_samples(path, "y").feature_names == ["a", "b"]
    parquet.write_table(parquet.read_table(path).replace_schema_metadata(None), path)
    assert refusal(path) == f"{path}: {NO_NAME.format('__index_level_0__')}"
    assert read_samples(path, "y", drop=["__index_level_0__"]).feature_names == ["a", "b"]


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
def test_a_column_that_numbers_the_rows_is_a_warning(tmp_path, estimate, order):
    path = tmp_path / "noise.csv"
    table = noise().assign(**{"row id": np.arange(120) + 1000})
    table = {
        "sorted": table,
        "reversed": table[::-1],
        "shuffled": table.sample(frac=1, random_state=0),
    }[order]
    table.to_csv(path, index=False)
    result, out, err = estimate(path)
    assert result["mutual_information"] > 0.4  # of noise and the id
    assert "features (3): a, b, row id\n" in out
    assert err == (
        "warning: columns row id number the rows, as an index or id does; where rows are or were "
        "sorted by the label, they give it away; leave them out with --drop 'row id'\n"
    )
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


def test_features_and_drop_choose_the_same_columns(tmp_path):
    """In the file's order, whatever the flag's; text columns that are left out are no error."""
    path = tmp_path / "table.csv"
    noise().assign(name="x", c=3.5).to_csv(path, index=False)
    assert refusal(path) == (
        "columns name are not numeric, such as 'x'; encode them, or leave them out with --drop"
    )
    kept = read_samples(path, "y", features=["b", "a"])
    left = read_samples(path, "y", drop=["name", "c"])
    assert kept.feature_names == left.feature_names == ["a", "b"]
    assert kept.x.tolist() == left.x.tolist() == noise()[["a", "b"]].astype("f4").values.tolist()
    assert kept.class_names == left.class_names == ["cat", "owl"]


@pytest.mark.parametrize("flag", ["features", "drop"])
def test_unknown_columns_and_the_label_are_refused(tmp_path, flag):
    path = tmp_path / "table.csv"
    noise().to_csv(path, index=False)
    columns = "no such column; the columns are a, b, y"
    assert refusal(path, **{flag: ["a", "c"]}) == f"--{flag} c: {columns}"
    message = f"--{flag} y: this is the label, which is no feature"
    assert refusal(path, **{flag: ["y"]}) == message
    assert refusal(path, drop=["a", "b"]) == "no feature columns beside the label"


def test_columns_of_arrays_are_chosen_by_number(tmp_path):
    x = np.array([[5, 0, 1], [6, 1, 4], [9, 0, 3]])
    np.save(tmp_path / "a.npy", x)
    assert read_samples(tmp_path / "a.npy", "1", drop=["0"]).x.tolist() == [[1], [4], [3]]
    assert refusal(tmp_path / "a.npy", "1", features=["3"]) == (
        "--features 3: no such column; the columns are 0, 1, 2"
    )
    np.savez(tmp_path / "a.npz", x=x, y=[0, 1, 0])
    chosen = read_samples(tmp_path / "a.npz", None, features=["x2", "x0"])
    assert (chosen.feature_names, chosen.x.tolist()) == (["x0", "x2"], [[5, 1], [6, 4], [9, 3]])
    assert refusal(tmp_path / "a.npz", None, drop=["2"]) == (
        "--drop 2: no such column; the columns are x0, x1, x2"
    )


def test_flags_that_do_not_go_together_are_refused(tmp_path, user_error):
    path = tmp_path / "table.csv"
    noise().to_csv(path, index=False)
    given = [path, "--label", "y", "--output-dir", tmp_path / "out"]
    line = user_error(main, [*given, "--features", "a", "--drop", "b"])
    assert "error: argument --drop: not allowed with argument --features" in line
    for flag in ("--features", "--drop"):
        line = user_error(main, ["--dataset", "mnist", flag, "a"])
        assert line == (
            "error: --label, --features, --drop and --drop-constant are for a FILE, not for "
            "--dataset"
        )
    assert not (tmp_path / "out").exists()


def test_long_lists_of_features_are_shortened(tmp_path, estimate):
    x = np.random.default_rng(0).normal(size=(60, 25))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(60) % 2)
    result, out, _ = estimate(tmp_path / "a.npz", label=None)
    assert result["features"] == [f"x{i}" for i in range(25)]
    shown = ", ".join(f"x{i}" for i in range(20))
    assert f"features (25): {shown}, ...\n" in out


@pytest.mark.parametrize("header", ["a,y,y", "a,y, y", 'a,"y",y', "\ufeffy,a,y"])
def test_a_second_label_column_is_refused(tmp_path, header):
    path = text_file(tmp_path, f"{header}\n1,u,u\n2,v,v\n4,u,u\n")
    assert refusal(path) == f"{path}: line 1: 2 columns are named y"


def test_features_of_one_name_are_refused_or_left_out(tmp_path):
    path = text_file(tmp_path, "\n\na,b,a,y\n1,9,2,u\n2,8,5,v\n")
    assert refusal(path) == (
        f"{path}: line 3: 2 columns are named a; rename them, or leave them out with --drop 'a'"
    )
    assert read_samples(path, "y", drop=["a"]).x.tolist() == [[9], [8]]


@needs_pyarrow
def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet

    path, columns = (
        tmp_path / "a.parquet",
        [pa.array([1.0, 2.5]), pa.array([0, 1]), pa.array([0, 1])],
    )
    pyarrow.parquet.write_table(pa.Table.from_arrays(columns, ["a", "y", "y"]), path)
    assert refusal(path) == f"{path}: 2 columns are named y"


@pytest.mark.parametrize(
    "lines, place",
    [
        (["7,1,2,u", "8,2,1,v"], "line 2 has 4 cells"),  # pandas: the first cells are an index
        (["1,2,u", "2,1,v,w"], "line 3 has 4 cells"),
        (["1,2,u,", "2,1,v,"], "line 2 has 4 cells"),
        (["1,2,u", "2,1"], "line 3 has 2 cells"),
        (['1,2,"u\nu"', "", "2,1"], "line 5 has 2 cells"),
        (["1;2;u", "2;1;v"], "line 2 has 1 cells"),
    ],
)
def test_lines_that_are_longer_or_shorter_than_the_header_are_refused(tmp_path, lines, place):
    path = text_file(tmp_path, "\n".join(["a,b,y", *lines, ""]))
    assert refusal(path) == f"{path}: {place}, the header has 3"


def test_the_label_is_read_as_one_column(tmp_path):
    """pandas reads a long file in chunks, and numbers before text as numbers: 5 classes for 3."""
    labels = ["0", "1"] * 150_000 + ["unknown"] * 300
    path = text_file(
        tmp_path, "".join(["a,y\n", *(f"{i % 7},{y}\n" for i, y in enumerate(labels))])
    )
    samples = read_samples(path, "y")
    assert samples.class_names == ["0", "1", "unknown"]
    assert samples.y.bincount().tolist() == [150_000, 150_000, 300]


@pytest.mark.parametrize(
    "labels, classes",
    [
        (["10", "2", "-1.5"], ["-1.5", "2", "10"]),
        (["1e3", "20", "3"], ["3", "20", "1e3"]),
        (
            ["9007199254740993", "9007199254740992", "7"],
            ["7", "9007199254740992", "9007199254740993"],
        ),
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


@pytest.mark.parametrize("first, second", [("1", "1.0"), ("01", "1"), ("100", "1e2")])
def test_one_number_written_in_two_ways_is_refused(tmp_path, first, second):
    path = text_file(tmp_path, f"a,y\n1,{second}\n3,{first}\n2,{second}\n5,7\n")
    assert refusal(path) == f"labels {first!r} and {second!r} are one number; write it in one way"
