"""Places of lines, and boxes that may end beyond the last pixel."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.annotation_lines import annotation_lines, parse_box, place_of
from common.errors import UserError


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


@pytest.mark.parametrize("field", ["", "1.0", "nan", "x", str(2**63), "9" * 5000])
def test_what_is_no_whole_number_that_fits_is_named(field):
    with pytest.raises(UserError, match=r"^here: .* are not four whole numbers x0 y0 x1 y1$"):
        parse_box(["0", "0", field, "0"], "here", width=60, height=50, beyond=np.inf)
