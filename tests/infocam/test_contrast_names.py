"""Which words name a contrast, and what is said about the others."""

import pytest
import torch

from infocam.maps import cam
from infocam.maps.cam import CONTRASTS, coefficients, parse_contrast
from mi_common.errors import UserError


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
UNKNOWN += ["lowest:²", "lowest:٣", "lowest:1_0", f"lowest:{10**9 + 1}"]


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


def test_numbers_of_any_length_are_one_short_line():
    long, shown = "9" * 5000, "9" * 92
    for classes in (None, ["fox", "hen"]):
        with pytest.raises(UserError, match=rf"^method 'lowest:{shown}9\.\.\.': use one of cam, "):
            parse_contrast(f"lowest:{long}", classes)
    with pytest.raises(UserError) as raised:
        parse_contrast(f"class:{long}", ["fox", "hen"])
    expected = f"method 'class:{shown}99...': no such class; give a name or a number below 2"
    assert str(raised.value) == expected
    for rest in (long, "2", "²", "fox"):
        with pytest.raises(UserError, match=r": want a class number from 0 to 1$"):
            coefficients(f"class:{rest}", torch.zeros(1, 2), torch.tensor([0]))


def test_a_name_of_several_classes_is_a_user_error_and_their_numbers_are_not():
    classes = ["crane", "fox", "crane"]
    with pytest.raises(UserError) as raised:
        parse_contrast("class:crane", classes)
    expected = "method 'class:crane': several classes have this name; give a number"
    assert str(raised.value) == expected
    assert parse_contrast("class:fox", classes) == "class:1"
    assert parse_contrast("class:2", classes) == "class:2"


@pytest.mark.parametrize("name", ["infocam++", "infocam:2", "cam:1", "similar:3"])
def test_a_contrast_without_a_rule_is_an_error_and_never_another_contrast(monkeypatch, name):
    monkeypatch.setattr(cam, "CONTRASTS", (*CONTRASTS, name))
    assert parse_contrast(name) == name
    given = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([1])
    with pytest.raises(ValueError) as raised:
        coefficients(name, *given)
    assert str(raised.value) == f"method {name}: no rule for its coefficients; add one here"


@pytest.mark.parametrize("name", CONTRASTS)
def test_every_contrast_has_a_rule_of_its_own(name):
    given = torch.tensor([[3.0, 0.0, 1.0, 2.0]]), torch.tensor([3])
    rows = {contrast: coefficients(contrast, *given).tolist() for contrast in CONTRASTS}
    assert [other for other in CONTRASTS if rows[other] == rows[name]] == [name]
