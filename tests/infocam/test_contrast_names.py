"""Which words name a contrast, and what is said about the others."""

import pytest

from common.errors import UserError
from infocam.cam import CONTRASTS, parse_contrast


def test_names_of_contrasts():
    for name in (*CONTRASTS, "lowest:1", "lowest:200", "class:0", "class:red fox"):
        assert parse_contrast(name) == name
    classes = ["red fox", "a:b", "7", "1"]
    for name, canonical in {
        "class:red fox": "class:0",
        "class:a:b": "class:1",
        "class:7": "class:2",
        "class:1": "class:3",  # a name goes before a number
        "class:0": "class:0",
        "class:3": "class:3",
        "infocam+": "infocam+",
    }.items():
        assert parse_contrast(name, classes) == canonical


UNKNOWN = ["", "CAM", "cam ", "infocam:2", "lowest", "lowest:", "lowest:0", "lowest:-1", "lowest:x"]


@pytest.mark.parametrize("name", [*UNKNOWN, "lowest:1.5", "class", "class:", "infocam, cam"])
def test_unknown_names_say_which_there_are(name):
    known = "cam, infocam, infocam+, similar, posterior, lowest:N, class:NAME"
    for classes in (None, ["x", ""]):
        with pytest.raises(UserError) as raised:
            parse_contrast(name, classes)
        assert str(raised.value) == f"method {name!r}: use one of {known}"


@pytest.mark.parametrize("name", ["class:2", "class:-1", "class:Fox", "class:1.0"])
def test_a_class_that_is_not_there_is_a_user_error(name):
    with pytest.raises(UserError) as raised:
        parse_contrast(name, ["fox", "hen"])
    expected = f"method {name!r}: no such class; give a name or a number below 2"
    assert str(raised.value) == expected
