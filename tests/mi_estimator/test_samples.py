"""From a table's values to tensors: constant columns, large offsets, and files of no known kind."""

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.samples import checked_samples, read_samples

TABLE = pd.DataFrame({"length": [1.5, 2.0, 3.0, 4.5], "count": [4, 3, 2, 1]})
KIND = pd.Series(["owl", "cat", "owl", "bat"])


def test_constant_columns_are_left_out_with_a_word():
    samples = checked_samples(TABLE.assign(one=1.0, zero=0), KIND, drop_constant=True)
    assert samples.notes == ["left out 2 constant columns: one, zero"]
    assert samples.feature_names == samples.source_columns == ["length", "count"]
    assert samples.x.tolist() == [[1.5, 4.0], [2.0, 3.0], [3.0, 2.0], [4.5, 1.0]]
    with pytest.raises(UserError, match="columns one are constant"):
        checked_samples(TABLE[[]].assign(one=1.0), KIND, drop_constant=True)


def test_a_large_offset_does_not_wipe_out_a_column():
    """Seconds since 1970 differ by less than float32 resolves there; they must stay apart."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"time": 1.7e9 + np.arange(64)})
    samples = checked_samples(table, pd.Series(rng.permutation(64) % 2))
    assert len(samples.x.unique()) == 64


def test_a_zero_among_large_values_does_not_wipe_out_a_column():
    """A code for a missing value is an outlier; the other values must stay apart."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"time": np.r_[0.0, 1.7e9 + np.arange(63)]})
    samples = checked_samples(table, pd.Series(rng.permutation(64) % 2))
    assert len(samples.x.unique()) == 64
    assert samples.x[1:, 0].diff().tolist() == [1.0] * 62


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.csv", "no such file"),
        (".", "is a folder; give a file"),
        ("a.xlsx", "use .csv, .tsv"),
        ("a.npy.gz", "use .csv"),
    ],
)
def test_a_missing_file_and_a_wrong_suffix(tmp_path, name, message):
    for existing in ("a.xlsx", "a.npy.gz"):
        (tmp_path / existing).write_text("x")
    with pytest.raises(UserError, match=message) as error:
        read_samples(tmp_path / name, "kind")
    assert str(error.value).startswith(str(tmp_path))
