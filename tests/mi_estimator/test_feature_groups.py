"""Groups of features: their notation, the features that they hold, and wrong ones."""

import pytest

from mi_common.errors import UserError
from mi_estimator.feature_groups import Group, group_features, read_groups, split_given

COLUMNS = ["age", "town", "town", "town", "size, cm", "sex"]  # of six features


def test_features_of_one_column_stay_together():
    assert group_features(COLUMNS, {}) == [
        Group("age", (0,)),
        Group("town", (1, 2, 3)),
        Group("size, cm", (4,)),
        Group("sex", (5,)),
    ]


def test_groups_stand_where_their_first_feature_stands():
    groups = group_features(COLUMNS, {"body": ["sex", "size, cm"], "town": ["town"]})
    assert groups == [Group("age", (0,)), Group("town", (1, 2, 3)), Group("body", (4, 5))]
    ranked, given = split_given(groups, ["body", "age"])
    assert [group.name for group in ranked] == ["town"]
    assert [group.name for group in given] == ["age", "body"]


def test_a_file_and_flags_are_written_alike(tmp_path):
    lines = ['body = "size, cm", sex', "", "place=town"]
    file = tmp_path / "groups"
    file.write_text("\n".join(lines))
    expected = {"body": ["size, cm", "sex"], "place": ["town"]}
    assert read_groups(file, []) == read_groups(None, [lines[0], lines[2]]) == expected
    assert read_groups(None, []) == {}


@pytest.mark.parametrize("text", ["town", "=town", "place=", "place=town,", "place=,town", " =a"])
def test_another_form_is_refused(tmp_path, text):
    with pytest.raises(UserError, match=r"--group .*name=a,b,c"):
        read_groups(None, [text])
    file = tmp_path / "groups"
    file.write_text(f"body=sex\n{text}\n")
    with pytest.raises(UserError, match=r"groups: line 2: .*name=a,b,c"):
        read_groups(file, [])


@pytest.mark.parametrize("content", [None, b"", b"a=\xff"], ids=["missing", "empty", "not UTF-8"])
def test_a_file_without_groups_is_refused(tmp_path, content):
    file = tmp_path / "groups"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=r"--groups \S*/groups: "):
        read_groups(file, [])


@pytest.mark.parametrize(
    "definitions, message",
    [
        ({"g": ["age", "height"]}, "group g: no feature height; the features are age, town"),
        ({"g": ["age"], "h": ["sex", "age"]}, "feature age is in groups g and h"),
        ({"g": ["age", "age"]}, "feature age is in group g twice"),
        ({"sex": ["age", "town"]}, "group sex: a feature outside of it has this name"),
    ],
)
def test_wrong_groups_are_refused(definitions, message):
    with pytest.raises(UserError, match=message):
        group_features(COLUMNS, definitions)


@pytest.mark.parametrize(
    "columns, given, message",
    [
        (["a", "b"], ["c"], "--conditional-on c: no such feature or group; there are a, b"),
        (["a", "b"], ["b", "a"], "--conditional-on names all features"),
        (["a", "a"], [], "only one feature, a: there is nothing to rank"),
    ],
)
def test_nothing_to_compare_is_refused(columns, given, message):
    with pytest.raises(UserError, match=message):
        split_given(group_features(columns, {}), given)


def test_a_group_name_given_twice_is_refused():
    with pytest.raises(UserError, match="another group g"):
        read_groups(None, ["g=age", "g=sex"])
