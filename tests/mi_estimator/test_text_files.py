"""Delimiters and compressions are detected; decimal commas are read or refused."""

import bz2
import gzip
import lzma

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.samples import read_samples

X = np.random.default_rng(0).normal(size=(40, 2)).round(3)
TABLE = pd.DataFrame(X, columns=["a", "b, in m"]).assign(y=["x|y", "z;"] * 20)


def refusal(path, **options) -> str:
    with pytest.raises(UserError) as error:
        read_samples(path, "y", **options)
    return str(error.value)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".TXT"])
def test_the_delimiter_is_detected(tmp_path, delimiter, suffix):
    path = tmp_path / f"a{suffix}"
    TABLE.to_csv(path, sep=delimiter, index=False)
    samples = read_samples(path, "y")
    assert samples.x.tolist() == X.astype(np.float32).tolist()
    assert samples.feature_names == ["a", "b, in m"] and samples.class_names == ["x|y", "z;"]
    assert samples.notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a;b,y\n1;2,u\n3;4,v\n", "a.csv: ',' and ';' both split each line"),
        ("a;b;y\n1;2;u\n3;4\n", "line 3 has 2 cells, the header has 3"),
        ("a\tb\ty\n1\t2\tu\tv\n", "line 2 has 4 cells, the header has 3"),
        ("a b y\n1 2 u\n", "a.csv: one column, a b y; separate cells by , ; tab or |"),
    ],
)
def test_cells_that_cannot_be_told_apart_are_refused(tmp_path, text, message):
    (tmp_path / "a.csv").write_text(text)
    assert message in refusal(tmp_path / "a.csv")


def test_quotes_resolve_two_delimiters(tmp_path):
    (tmp_path / "a.csv").write_text('"a;b",y\n"1;2",u\n"3;4",v\n"1;2",v\n')
    samples = read_samples(tmp_path / "a.csv", "y")
    assert samples.notes == ["a;b: 1 for 3;4, 0 for 1;2"]
    assert samples.x.tolist() == [[0], [1], [0]]


@pytest.mark.parametrize("suffix, compress", [("gz", gzip), ("bz2", bz2), ("xz", lzma)])
def test_compressed_files_are_read_and_damage_is_noticed(tmp_path, suffix, compress):
    path = tmp_path / f"a.tsv.{suffix}"
    data = compress.compress(TABLE.to_csv(sep="\t", index=False).encode())
    path.write_bytes(data)
    assert read_samples(path, "y").x.tolist() == X.astype(np.float32).tolist()
    middle = len(data) // 2
    flipped = data[:middle] + bytes([data[middle] ^ 64]) + data[middle + 1 :]
    for damaged in (data[:middle], flipped, b"a,y"):
        path.write_bytes(damaged)
        assert refusal(path).startswith(f"{path}: cannot be read: ")


def test_a_small_file_that_unpacks_beyond_memory_is_refused_in_time(tmp_path, monkeypatch):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"a,y\n" + b"1,u\n" * 2**17))
    monkeypatch.setattr("mi_estimator.text_files.CHECK_ROWS", 1000)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 10**5}))
    assert path.stat().st_size < 3000
    rows = int(refusal(path).removeprefix(f"{path}: ").split()[0])
    assert 1000 <= rows <= 5000


def test_decimal_commas_are_read_with_semicolons(tmp_path):
    path = tmp_path / "a.csv"
    text = TABLE.assign(y=X[:, 0] > 0, n=np.arange(40) % 3, town=["Ulm", "1,5 km"] * 20)
    text.to_csv(path, sep=";", decimal=",", index=False)
    samples = read_samples(path, "y")
    assert samples.x[:, :2].tolist() == X.astype(np.float32).tolist()
    assert samples.notes[0] == "decimal commas in columns a, b, in m: 1,5 is 1.5"
    assert samples.feature_names[2:] == ["n", "town = Ulm"]
    for delimiter in "\t|":  # there a comma may separate thousands
        text.to_csv(path, sep=delimiter, decimal=",", index=False)
        assert "with a decimal point" in refusal(path)
    path.write_text("a;y\n" + "".join(f"{i},5;{i % 2}\n" for i in range(9)) + "2.5;1\n")
    assert "write '0,5' with a decimal point" in refusal(path)


def test_a_numeric_label_with_decimal_commas_can_be_binned(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("a;y\n" + "".join(f"{i % 7};{i},25\n" for i in range(40)))
    assert "--bins 4" in refusal(path)
    samples = read_samples(path, "y", bins=2)
    assert samples.class_names == ["[0.25, 19.25]", "(19.25, 39.25]"]
    assert samples.y.tolist() == [0] * 20 + [1] * 20
