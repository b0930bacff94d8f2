"""Numeric labels: as classes, or in bins of equal counts; a missing --label lists the columns."""

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.labels import binned_codes
from mi_estimator.samples import checked_samples, read_samples

RNG = np.random.default_rng(0)


def classes_of(labels) -> int:
    labels = pd.Series(labels)
    samples = checked_samples(pd.DataFrame({"a": RNG.normal(size=len(labels))}), labels)
    return len(samples.class_names)


@pytest.mark.parametrize(
    ("labels", "many"),
    [
        (np.arange(200) % 20, None),
        (np.arange(200) % 20 + 0.5, None),
        (np.arange(210) % 21, None),  # a tenth of the samples
        (np.arange(200) % 21, 21),
        (np.arange(2000) % 21 + 0.5, 21),
        ((np.arange(200) % 21).astype(str), 21),
        (pd.array(np.arange(200) % 21, "Int64"), 21),
        ([f"c{i % 50}" for i in range(200)], None),
        (pd.Categorical(np.arange(200) % 50), None),
        ((np.arange(200) % 21).astype(">i8"), 21),
    ],
)
def test_numbers_that_look_like_a_quantity_are_no_classes(labels, many):
    if many is None:
        assert classes_of(labels) == len(pd.unique(pd.Series(labels)))
    else:
        with pytest.raises(UserError, match=f"{many} different numbers in .*; --bins 4 makes four"):
            classes_of(labels)


@pytest.mark.parametrize("kind", [np.float64, ">f4", str, "Float64", "category"])
def test_bins_are_those_of_pandas_quantiles(kind):
    values = RNG.permutation(np.arange(101.0))
    codes, names = binned_codes(pd.Series(values).astype(kind), 4)
    assert (codes == pd.qcut(values, 4, labels=False)).all()
    assert names == ["[0, 25]", "(25, 50]", "(50, 75]", "(75, 100]"]


@pytest.mark.parametrize(
    ("labels", "codes", "names"),
    [
        ([0, 0, 0, 5, 7, 0], [0, 0, 0, 1, 2, 0], ["0", "(0, 5]", "(5, 7]"]),
        ([9, 9, 9, 5, 7, 9], [1, 1, 1, 0, 0, 1], ["[5, 7]", "(7, 9]"]),
        ([1, 2, 2, 2, 2, 3], [0, 0, 0, 0, 0, 1], ["[1, 2]", "(2, 3]"]),
        ([0.5, 1, 2, 3], [0, 1, 2, 3], ["0.5", "(0.5, 1]", "(1, 2]", "(2, 3]"]),
        ([1 / 3, 2 / 3, 1], [0, 1, 2], ["0.333333", "(0.333333, 0.666667]", "(0.666667, 1]"]),
        (
            [7, 2**40, 2**40 + 1],
            [0, 1, 2],
            ["7", "(7, 1099511627776]", "(1099511627776, 1099511627777]"],
        ),
    ],
)
def test_equal_numbers_share_a_bin(labels, codes, names):
    bin_codes, bin_names = binned_codes(pd.Series(labels), 4)
    assert (bin_codes.tolist(), bin_names) == (codes, names)
    table = pd.DataFrame({"a": np.arange(len(labels)) % 3})
    samples = checked_samples(table, pd.Series(labels), bins=4)
    counts = zip(names, np.bincount(codes), strict=True)
    shown = ", ".join(f"{name} ({count})" for name, count in counts)
    assert samples.notes == [f"label in {len(names)} bins: {shown}"]


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["1", "2", "u"], "--bins 4: row 2 (from 0): label 'u' is no finite number"),
        ([1, 2, np.inf], "row 2 (from 0): label 'inf' is no finite number"),
        ([3, 3, 3], "the label has one value, 3.0"),
        ([3, None, 4], "row 1 (from 0): no label"),
    ],
)
def test_labels_that_have_no_bins_are_refused(labels, message):
    with pytest.raises(UserError) as error:
        binned_codes(pd.Series(labels), 4)
    assert message in str(error.value)


def test_without_a_label_the_columns_are_listed(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("age;town;on;since\n1,5;Ulm;true;2020-01-01\n2,5;Bonn;false;2020-01-01\n")
    with pytest.raises(UserError) as error:
        read_samples(path, None)
    assert str(error.value) == (
        "--label is missing; the columns are age (number, 2 distinct), town (text, 2 distinct), "
        "on (boolean, 2 distinct), since (text, 1 distinct)"
    )
    pd.DataFrame(np.eye(3, 30)).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"19 \(number, 1 distinct\), and 10 more$"):
        read_samples(path, None)
