"""Places of lines, and boxes that may end beyond the last pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mi_common.annotation_lines import (
    MAX_PIXELS,
    annotation_lines,
    brief,
    parse_box,
    parse_label,
    parse_size,
    place_of,
    whole_number,
)
from mi_common.errors import UserError


def test_lines_are_counted_as_an_editor_counts_them(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("one\n\n  \ntwo \nthree")
    lines = [(f"{file}, line 1", "one"), (f"{file}, line 4", "two "), (f"{file}, line 5", "three")]
    assert list(annotation_lines(file)) == lines
    assert [place_of(file, i) for i in range(3)] == [place for place, _ in lines]


@given(st.lists(st.integers(-2, 70), min_size=4, max_size=4), st.sampled_from([0, 1, 5, np.inf]))
def test_only_the_far_corner_may_lie_beyond_and_by_no_more_than_said(corners, beyond):
    x0, y0, x1, y1 = corners
    starts_inside = x0 in range(60) and y0 in range(50)
    fits = starts_inside and x0 <= x1 <= 59 + beyond and y0 <= y1 <= 49 + beyond
    fields = [str(value) for value in corners]
    if fits:
        box = parse_box(fields, "here", width=60, height=50, beyond=beyond)
        assert box.tolist() == corners and box.dtype == np.int64
    else:
        with pytest.raises(UserError) as error:
            parse_box(fields, "here", width=60, height=50, beyond=beyond)
        assert str(error.value) == f"here: box {x0} {y0} {x1} {y1} is not inside 0..59, 0..49"


def test_a_mark_of_windows_editors_and_odd_separators_are_no_part_of_a_line(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffa\x0bb\u2028c\r\nd\x85\re".encode())
    assert [line for _, line in annotation_lines(file)] == ["a\x0bb\u2028c", "d\x85", "e"]
    assert place_of(file, 2) == f"{file}, line 3"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    for name, reason in (("none", "No such file or directory"), ("", "Is a directory")):
        with pytest.raises(UserError, match=rf"cannot be read \({reason}\)$"):
            list(annotation_lines(tmp_path / name))
    (tmp_path / "a").write_bytes(b"fine\ncaf\xe9\n")
    with pytest.raises(UserError, match=r"/a: not UTF-8 text$"):
        list(annotation_lines(tmp_path / "a"))


TEXTS = st.text() | st.integers().map(str) | st.from_regex(r"[0-9²٣+_ .-]*")


@given(TEXTS, st.integers(-5, 5), st.integers(0, 10**19))
def test_a_whole_number_is_of_ascii_digits_alone(text, least, most):
    digits = bool(text) and set(text) <= set("0123456789") and len(text) <= 18
    fits = digits and least <= int(text) <= most
    assert whole_number(text, least, most) == (int(text) if fits else None)


@given(TEXTS, TEXTS)
def test_a_size_is_one_that_a_picture_can_have_or_one_line(width, height):
    fits = [whole_number(text, 1, 65_535) is not None for text in (width, height)]
    if all(fits) and int(width) * int(height) <= MAX_PIXELS:
        assert parse_size(width, height, "here") == (int(width), int(height))
    else:
        with pytest.raises(UserError, match=r"^here: (width|height|an image of) .* [0-9]+"):
            parse_size(width, height, "here")


@pytest.mark.parametrize("text", ["1000000", "-1", "", "1.0", "²", str(2**31 - 1), "9" * 5000])
def test_what_is_no_class_number_is_one_line(text):
    assert parse_label("999999", "here") == 999_999
    with pytest.raises(UserError) as error:
        parse_label(text, "here")
    want = "is not a whole number from 0 to 999999"
    assert str(error.value) == f"here: label '{brief(text)}' {want}"


@given(st.text(st.characters(codec=None)), st.integers(1, 50))
def test_a_brief_text_is_short_and_on_one_line(text, limit):
    shown = brief(text, limit)
    assert shown.isprintable() and len(shown) <= 10 * limit + 3
    assert len(text) > limit or not text.isprintable() or shown == text
    assert brief("ab\0\n" + "c" * 9, 5) == r"ab\x00\nc..."
