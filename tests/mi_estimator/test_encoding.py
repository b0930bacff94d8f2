"""Text, booleans, categories, dates and missing values as numbers; what is ambiguous is refused."""

import datetime
import decimal

import numpy as np
import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator.estimators.crossfit import estimate_mutual_information
from mi_estimator.samples import checked_samples, read_samples

LABELS = pd.Series(["u", "v", "u", "v"])
DAYS = ["1970-01-02", "2000-03-01", "1969-12-31", "2000-03-02"]
SINCE = np.array([1.0, 11017.0, -1.0, 11018.0])


def encoded(column, **options):
    """The features of a table of this column, and its samples."""
    samples = checked_samples(pd.DataFrame({"a": column}), LABELS, **options)
    return dict(zip(samples.feature_names, samples.x.T.tolist(), strict=True)), samples


def refusal(column, labels=LABELS, **options) -> str:
    with pytest.raises(UserError) as error:
        checked_samples(pd.DataFrame({"a": column}), labels, **options)
    return str(error.value)


NUMBERS = {
    "boolean": ([True, False, False, True], [1, 0, 0, 1], "1 for true, 0 for false"),
    "boolean of pandas": (pd.array([True, False, False, True], "boolean"), [1, 0, 0, 1], "1 for"),
    "Int64": (pd.array([3, 1, 2, 7], "Int64"), [3, 1, 2, 7], None),
    "Float32": (pd.array([0.5, 1, 2, 7], "Float32"), [0.5, 1, 2, 7], None),
    "objects": (np.array([3, 1.5, 2, 7], dtype=object), [3, 1.5, 2, 7], None),
    "decimals": ([decimal.Decimal(t) for t in ("0.5", "1", "2", "7")], [0.5, 1, 2, 7], None),
    "numbers as text": (["3", " 1.5", "-2", "7e0"], [3, 1.5, -2, 7], "numbers, written as text"),
    "durations": (pd.to_timedelta([36, 12, 0, 24], "h"), [1.5, 0.5, 0, 1], "days"),
    "two texts": (["no", "yes", "yes", "no"], [0, 1, 1, 0], "1 for yes, 0 for no"),
    "two categories": (pd.Categorical([5, 7, 7, 5]), [0, 1, 1, 0], "1 for 7, 0 for 5"),
}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_column_becomes_one_number(name):
    column, values, note = NUMBERS[name]
    features, samples = encoded(column)
    assert list(features.values()) == [values]
    assert samples.source_columns == ["a"]
    assert (samples.notes or [None])[0] == note or samples.notes[0].startswith(f"a: {note}")


@pytest.mark.parametrize(
    "column",
    [
        DAYS,
        [f"{day}T00:00:00Z" for day in DAYS],
        [DAYS[0], f"{DAYS[1]} 02:00:00.000+02:00", *DAYS[2:]],
        pd.to_datetime(DAYS),
        pd.to_datetime(DAYS).tz_localize("UTC"),
        [datetime.date.fromisoformat(day) for day in DAYS],
    ],
    ids=["text", "with time", "mixed", "datetime64", "with zone", "date"],
)
def test_dates_are_days(column):
    samples = encoded(column)[1]
    difference = samples.x[:, 0].numpy() - SINCE
    np.testing.assert_allclose(difference, difference[0], atol=1e-3)  # a constant is subtracted
    assert samples.notes == ["a: days since 1970-01-01"]


def test_text_is_one_hot_and_its_features_share_the_column():
    table = pd.DataFrame({"n": [1.5, 2, 3, 5], "town": ["Ulm", "Bonn", "Köln", "Ulm"]})
    samples = checked_samples(table, LABELS)
    assert samples.feature_names == ["n", "town = Bonn", "town = Köln", "town = Ulm"]
    assert samples.source_columns == ["n", "town", "town", "town"]
    assert samples.x[:, 1:].tolist() == [[0, 0, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]
    assert samples.notes == ["town: a 0/1 column for each of 3 levels: Bonn, Köln, Ulm"]
    kinds = pd.Categorical(table["town"], categories=["Ulm", "Rom", "Köln", "Bonn"])
    names = checked_samples(table.assign(town=kinds), LABELS).feature_names
    assert names == ["n", "town = Ulm", "town = Köln", "town = Bonn"]  # Rom does not occur


@pytest.mark.parametrize("count", [20, 21])
def test_text_of_more_than_20_levels_is_refused_by_name(count):
    table = pd.DataFrame({"name": [f"p{i % count}" for i in range(200)], "b": np.arange(200) % 7})
    labels = pd.Series(np.arange(200) % 2)
    if count == 20:
        assert checked_samples(table, labels).x.shape == (200, 21)
        return
    with pytest.raises(UserError, match=r"name \(21, such as 'p0'\); .* --drop name"):
        checked_samples(table, labels)
    categories = table.assign(name=table["name"].astype("category"))
    with pytest.raises(UserError, match="--drop name"):
        checked_samples(categories, labels)


@pytest.mark.parametrize(
    ("odd", "parts"),
    [
        ("7?", ["row 3 (from 0)", "column a", "'7?' is no number", "--drop a"]),
        ("1,5", ["row 3 (from 0)", "'1,5'", "decimal point"]),
        ("1.234.567,8", ["'1.234.567,8'", "decimal point"]),
    ],
)
@pytest.mark.parametrize("others", ["numbers", "dates"])
def test_a_cell_that_is_odd_among_numbers_or_dates_is_named(odd, parts, others):
    labels, cells = pd.Series(np.arange(20) % 2), [f"{i % 3}.5" for i in range(20)]
    if others == "dates":
        cells = [f"2020-01-{i % 3 + 10}" for i in range(20)]
        parts = ["row 3 (from 0)", f"{odd!r}"]
    cells[3] = odd
    message = refusal(cells, labels)
    assert all(part in message for part in parts), message
    cells[3:8] = [odd] * 5  # a quarter: a level like others, unless it may be a number
    if others == "numbers" and "," in odd:
        assert f"{odd!r}" in refusal(cells, labels)
    else:
        samples = checked_samples(pd.DataFrame({"a": cells}), labels)
        assert samples.x.shape == (20, 4) and samples.x.sum(dim=1).tolist() == [1] * 20


def test_impossible_dates_and_columns_of_no_known_type_are_refused():
    assert "column a: " in refusal(["2020-13-01", *DAYS[1:]])
    for column in ([[1], [2], [3], [4]], [b"a", b"b", b"a", b"b"], [1, "a", 2, "b"]):
        assert "columns a are neither numbers, booleans, text nor dates" in refusal(column)
    assert "columns a hold no value; leave them out with --drop a" in refusal([None] * 4)


HOLES = {
    "numbers": ([1.5, None, 4, 2], {"a": [1.5, 2, 4, 2], "a is missing": [0, 1, 0, 0]}),
    "Int64": (
        pd.array([1, None, 4, 2], "Int64"),
        {"a": [1, 2, 4, 2], "a is missing": [0, 1, 0, 0]},
    ),
    "booleans": ([True, None, False, False], {"a": [1, 0, 0, 0], "a is missing": [0, 1, 0, 0]}),
    "one number": ([3, None, 3, 3], {"a is missing": [0, 1, 0, 0]}),
    "text": (
        ["x", None, "y", "x"],
        {"a = x": [1, 0, 0, 1], "a = y": [0, 0, 1, 0], "a is missing": [0, 1, 0, 0]},
    ),
    "one text": (["x", None, "x", "x"], {"a is missing": [0, 1, 0, 0]}),
}


@pytest.mark.parametrize("name", HOLES)
def test_missing_values_are_refused_filled_in_or_left_out(name):
    column, features = HOLES[name]
    message = refusal(column)
    assert "missing values in columns a (1), first in row 1 (from 0)" in message
    assert "--missing drop leaves out these 1 of 4 rows, --missing indicator" in message
    filled, samples = encoded(column, missing="indicator")
    assert filled == features and set(samples.source_columns) == {"a"}
    table = pd.DataFrame({"a": column, "b": [1, 2, 3, 5.5]})
    samples = checked_samples(table, LABELS, missing="drop", drop_constant=True)
    assert samples.rows.tolist() == [0, 2, 3]
    assert samples.notes[0] == "left out 1 of 4 rows with missing values"
    assert samples.x[:, -1].tolist() == [1, 3, 5.5] and samples.y.tolist() == [0, 0, 1]


def test_missing_labels_are_refused_unless_their_rows_are_left_out():
    labels = pd.Series(["u", None, "v", "u"])
    for missing in (None, "indicator"):
        message = refusal([1, 2, 3, 5], labels, missing=missing)
        assert "row 1 (from 0): no label" in message and "--missing drop" in message
    samples = checked_samples(pd.DataFrame({"a": [1, 2, 3, 5]}), labels, missing="drop")
    assert (samples.rows.tolist(), samples.y.tolist()) == ([0, 2, 3], [0, 1, 0])
    assert "no row is complete" in refusal(
        [1, None, 3, None], pd.Series([None, 1, None, 0]), missing="drop"
    )


def test_an_odd_cell_is_named_by_its_row_in_the_table():
    cells = ["", "x", *(f"{i}.5" for i in range(18))]
    with pytest.raises(UserError, match=r"row 1 \(from 0\), column a: 'x'"):
        checked_samples(
            pd.DataFrame({"a": [None, *cells[1:]]}), pd.Series(np.arange(20) % 2), missing="drop"
        )


def test_infinite_numbers_are_no_missing_values(tmp_path):
    (tmp_path / "a.csv").write_text("a,y\n1,u\n,v\n-inf,v\n2,u\n")
    for missing in ("drop", "indicator"):
        with pytest.raises(UserError, match=r"row 2 \(from 0\), column a: -inf"):
            read_samples(tmp_path / "a.csv", "y", missing=missing)


@pytest.mark.parametrize(("copies", "warns"), [(0, False), (2, False), (3, True)])
def test_repeated_rows_with_fractions_are_a_warning(copies, warns):
    values = np.random.default_rng(0).normal(size=(200, 3))
    values[:copies] = values[100 : 100 + copies]
    labels = pd.Series(np.arange(200) % 2)
    warnings = checked_samples(pd.DataFrame(values), labels).warnings
    assert len(warnings) == warns and all("3 of 200 rows repeat" in text for text in warnings)
    assert checked_samples(pd.DataFrame(np.sign(values)), labels).warnings == []
    labels[:copies] = 7  # another label, so no copy
    assert checked_samples(pd.DataFrame(values), labels).warnings == []


def test_the_information_of_text_is_that_of_its_codes():
    """A letter that is the label with probability 0.9: log 2 - H(0.1) = 0.3681 nats."""
    rng = np.random.default_rng(0)
    y = rng.permutation(np.arange(2000) % 2)
    wrong = rng.permutation(np.arange(1000) < 100)
    letter = y.copy()
    letter[y == 0] ^= wrong
    letter[y == 1] ^= wrong
    table = pd.DataFrame({"letter": np.array(["a", "b"])[letter]})
    table["letter"] = table["letter"].astype("category")
    codes, labels = pd.DataFrame({"letter": letter}), pd.Series(y)
    text, numbers = (
        estimate_mutual_information(x, labels, estimator="logistic-regression", folds=2)
        for x in (table, codes)
    )
    assert text.value == pytest.approx(numbers.value, abs=1e-12)
    exact = np.log(2) + 0.1 * np.log(0.1) + 0.9 * np.log(0.9)
    assert text.value == pytest.approx(exact, abs=0.02)


def test_a_call_on_a_data_frame_takes_the_options_of_a_table():
    rng = np.random.default_rng(0)
    y = rng.normal(size=300)
    table = pd.DataFrame({"a": y + rng.normal(size=300), "b": np.where(y > 0, "p", "n")})
    table.loc[:9, "a"] = np.nan
    kept, options = table.index >= 10, {"estimator": "lda", "folds": 2}
    dropped = estimate_mutual_information(table, y, missing="drop", bins=2, **options)
    complete = checked_samples(table[kept], pd.Series(y[kept]), bins=2)
    same = estimate_mutual_information(complete.x, complete.y, **options)
    assert dropped.value == same.value and len(dropped.pointwise) == 290
    filled = estimate_mutual_information(table, y, missing="indicator", bins=2, **options)
    assert len(filled.pointwise) == 300
    with pytest.raises(UserError, match="missing values in columns a"):
        estimate_mutual_information(table, y, bins=2, **options)
    with pytest.raises(UserError, match="not for images"):
        estimate_mutual_information(np.zeros((4, 1, 2, 2)), [0, 1, 0, 1], bins=2)
