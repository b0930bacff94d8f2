"""Names of methods and classes: what they mean, and what is said about the others."""

import pytest
import torch

from infocam.maps.cam import coefficients
from infocam.maps.methods import class_number, parse_method, parse_methods
from infocam.names import CONTRASTS, GRADIENT_METHODS, PROTOCOLS
from infocam.scoring import protocols
from mi_common.errors import UserError

NAMES = ["tabby", "tiger cat", "Persian cat", "7", "crane fly", "crane bird"]
NAMES += ["golden retriever", "Golden Retriever"]


def test_names_of_protocols_are_those_that_exist():
    assert tuple(protocols.PROTOCOLS) == PROTOCOLS


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("tabby", 0),
        ("TIGER CAT", 1),
        ("persian", 2),
        ("7", 3),  # a name goes before a number
        ("6", 6),
        ("crane bird", 5),
        ("Golden Retriever", 7),  # the same letters go before those of another case
        ("golden retriever", 6),
    ],
)
def test_a_class_is_meant_by_name_part_of_a_name_or_number(text, number):
    assert class_number(text, NAMES, "--label") == number
    assert parse_method(f"class:{text}", NAMES) == f"class:{number}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat", "several classes; .* below 8, such as tiger cat = 1, Persian cat = 2$"),
        ("crane", "several classes; .* such as crane fly = 4, crane bird = 5$"),
        ("GOLDEN RETRIEVER", "several classes; .* golden retriever = 6, Golden Retriever = 7$"),
        ("taby", "no such class; .* below 8, such as tabby = 0$"),
        *((text, "no such class; .* below 8$") for text in ("8", "-1", "1.0", "²", "zebra")),
    ],
)
def test_what_is_no_class_or_several_is_answered_with_near_ones(text, message):
    with pytest.raises(UserError, match=f"^--label {text}: {message}"):
        class_number(text, NAMES, "--label")
    with pytest.raises(UserError, match=f"^--methods class {text}: {message}"):
        parse_method(f"class:{text}", NAMES)


def test_classes_of_one_name_have_numbers():
    classes = ["crane", "fox", "crane"]
    with pytest.raises(UserError, match=r"several classes; .*crane = 0, crane = 2$"):
        parse_method("class:crane", classes)
    assert parse_method("class:2", classes) == "class:2"


def test_methods_are_named_once_in_their_order():
    texts = ["lowest:2", "class:hen", "layer-cam", "class:1", "lowest:02", "infocam+"]
    assert parse_methods(texts, ["fox", "Hen"]) == ["lowest:2", "class:1", "layer-cam", "infocam+"]
    assert parse_method("class:a:b", ["fox", "a:b"]) == "class:1"
    for name in (*CONTRASTS, *GRADIENT_METHODS, "lowest:1", "class:0", "class:red fox"):
        assert parse_method(name) == name


UNKNOWN = ["", "CAM", "cam ", "infocam:2", "random", "infocam, cam"]
BAD_COUNTS = ["lowest", "lowest:", "lowest:0", "lowest:-1", "lowest:x", "lowest:²", "lowest:٣"]
BAD_COUNTS += ["lowest:1_0", f"lowest:{10**9 + 1}", "lowest:1.5", "lowest:" + "9" * 5000]


@pytest.mark.parametrize("name", [*UNKNOWN, *BAD_COUNTS, "class", "class:"])
def test_unknown_methods_are_one_short_line_that_says_which_there_are(name):
    for classes in (None, ["x", ""]):
        with pytest.raises(UserError, match=r"^method '.*': use one of cam, infocam, ") as raised:
            parse_method(name, classes)
        assert all(
            name in str(raised.value) for name in (*CONTRASTS, *GRADIENT_METHODS, "class:NAME")
        )
        assert len(str(raised.value)) < 300


@pytest.mark.parametrize("name", [*UNKNOWN, "infocam++", "cam:1", "similar:3", *GRADIENT_METHODS])
def test_a_contrast_without_a_rule_is_an_error_and_never_another_contrast(name):
    with pytest.raises(UserError, match="no such contrast"):
        coefficients(name, torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([1]))


def test_a_class_of_any_length_is_answered_briefly():
    with pytest.raises(UserError, match=r"^--label x{100}\.\.\.: no such class; "):
        class_number("x" * 10**6, NAMES, "--label")
