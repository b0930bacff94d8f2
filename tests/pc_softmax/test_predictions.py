"""Saved predictions are valid, or an error of one line; see also tests/mi_common/test_damage.py."""

import io
import math
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from mi_common.errors import UserError
from pc_softmax.predictions import Predictions


def arrays(**changes) -> dict[str, np.ndarray]:
    """What a predictions.npz of two classes holds, with changes; None leaves an array out."""
    whole = {
        "log_prior": np.log([0.75, 0.25]).astype(np.float32),
        "counts": np.array([30, 10]),
        "logit_log_prior": np.log([0.5, 0.5]),
        "class_names": np.array(["ape", "bee"]),
        "paper-window_logits": np.zeros((3, 2), np.float32),
        "paper-window_labels": np.array([0, 0, 1]),
        "validation_logits": np.ones((2, 2), np.float32),
        "validation_labels": np.array([1, 0]),
    }
    return {name: array for name, array in (whole | changes).items() if array is not None}


def test_predictions_are_read_as_they_were_saved(tmp_path):
    path = tmp_path / "predictions.npz"
    np.savez(path, **arrays())
    saved = Predictions.load(path)
    assert np.exp(saved.log_prior) == pytest.approx([0.75, 0.25])
    assert saved.counts.tolist() == [30, 10] and saved.class_names == ["ape", "bee"]
    assert list(saved.tests) == ["paper-window"] and saved.head is None
    assert saved.tests["paper-window"][1].tolist() == [0, 0, 1]
    assert saved.validation[0].dtype == np.float64 and saved.validation[1].tolist() == [1, 0]
    for logits, expected in (
        (saved.test_logits["paper-window"], np.zeros((3, 2))),
        (saved.validation_logits, np.ones((2, 2))),
    ):
        assert logits == pytest.approx(expected + math.log(2))

    np.savez(path, **arrays(validation_logits=None, validation_labels=None))
    without = Predictions.load(path)
    assert without.validation is without.validation_logits is None


NOT_FINITE = np.array([[0, np.nan], [1, 2], [np.inf, 0]])


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("counts", None, "array 'counts' is missing"),
        ("paper-window_logits", None, "array 'paper-window_logits' is missing"),
        ("paper-window_logits", NOT_FINITE, "2 of 3 rows of paper-window_logits"),
        ("validation_logits", NOT_FINITE[:2], "1 of 2 rows of validation_logits"),
        ("paper-window_logits", np.zeros((3, 4)), "shape (3, 4), not (3, 2)"),
        ("paper-window_logits", np.zeros((2, 2)), "labels has shape (3,), not (2,)"),
        ("paper-window_logits", np.zeros(()), "shape (), not (0, 2)"),
        ("paper-window_logits", np.zeros((3, 2), complex), "holds complex128, not floats"),
        ("validation_labels", np.array([0, 2]), "validation_labels must hold 0..1"),
        ("validation_labels", np.array([-1, 0]), "validation_labels must hold 0..1"),
        ("validation_labels", np.array([0.0, 1.0]), "holds float64, not whole numbers"),
        ("class_names", np.array(["ape"]), "class_names has shape (1,), not (2,)"),
        ("class_names", np.array(["ape", None]), "holds Python objects; write it again"),
        ("class_names", np.array(["ape", "bee\ud800"]), r"class 'bee\ud800' is not UTF-8"),
        ("class_names", np.array([1, 2]), "class_names holds int64, not text"),
        ("counts", np.array([30, 0]), "2 counts from 0"),
        ("counts", np.array([30.0, 10.0]), "counts holds float64, not whole numbers"),
        ("log_prior", np.array([0.0, -np.inf]), "1 of 2 rows of log_prior are not finite"),
        ("log_prior", np.array([[0.5, 0.5]]), "log_prior has shape (1, 2), not (2,)"),
        ("logit_log_prior", np.zeros(2), "exp(logit_log_prior) sums to 2, not one"),
        ("head_norms", np.ones(2), "array 'head_bias' is missing"),
        ("head_norms", np.array([1, np.nan]), "1 of 2 rows of head_norms are not finite"),
    ],
)
def test_invalid_arrays_are_an_error_with_file_value_and_remedy(tmp_path, name, value, said):
    path = tmp_path / "predictions.npz"
    np.savez(path, **arrays(**{name: value}))
    with pytest.raises(UserError) as error:
        Predictions.load(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    assert said in message and "train again with --overwrite" in message


def test_a_file_that_is_missing_or_cut_off_is_an_error(tmp_path):
    path = tmp_path / "predictions.npz"
    for missing in (path, Path("n" * 300) / "predictions.npz"):
        with pytest.raises(UserError, match=r"npz: not there; give a folder that pc_softmax.train"):
            Predictions.load(missing)
    np.savez(path, **arrays())
    for content in (path.read_bytes()[:200], b"", b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"npz: damaged, its content is not what was written"):
            Predictions.load(path)


def valid_or_one_line(content: bytes, folder: Path) -> None:
    path = folder / "predictions.npz"
    path.write_bytes(content)
    try:
        saved = Predictions.load(path)
    except UserError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        num_classes = len(saved.class_names)
        for logits, labels in saved.tests.values():
            assert logits.shape == (len(labels), num_classes) and np.isfinite(logits).all()
            assert labels.dtype == np.int64
            assert labels.min() >= 0 and labels.max() < num_classes
        assert np.exp(saved.log_prior).sum() == pytest.approx(1, abs=1e-4)


ANY_ARRAY = arrays_of.arrays(
    st.one_of(
        arrays_of.boolean_dtypes(),
        arrays_of.integer_dtypes(),
        arrays_of.floating_dtypes(),
        arrays_of.complex_number_dtypes(),
        arrays_of.unicode_string_dtypes(max_len=3),
        arrays_of.byte_string_dtypes(max_len=3),
        arrays_of.datetime64_dtypes(),
    ),
    arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3),
)


@settings(max_examples=60)
@given(st.dictionaries(st.sampled_from([*arrays(), "head_norms", "head_bias"]), ANY_ARRAY))
def test_arrays_of_any_kind_are_valid_or_one_line(tmp_path_factory, changes):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays(**changes))
    valid_or_one_line(buffer.getvalue(), tmp_path_factory.getbasetemp())


def saved_with(entry: str, content: bytes) -> bytes:
    """A predictions.npz with other bytes in place of one array; its checksums are right."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays().items():
            with archive.open(f"{name}.npy", "w") as file:
                if name == entry:
                    file.write(content)
                else:
                    np.save(file, values)
    return buffer.getvalue()


SHAPES = ["(1000000000, 2)", f"(3, {2**70})", "(-3, 2)", "(3, True)", "(" * 500, "-" * 5000 + "1"]


@pytest.mark.parametrize("shape", SHAPES, ids=range(len(SHAPES)))
def test_a_header_that_claims_what_the_file_does_not_hold_is_one_line(tmp_path, shape):
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    content = b"\x93NUMPY\1\0" + len(head).to_bytes(2, "little") + head + bytes(48)
    path = tmp_path / "predictions.npz"
    path.write_bytes(saved_with("paper-window_logits", content))
    with pytest.raises(UserError, match=r"npz: damaged, its content is not what was written"):
        Predictions.load(path)


STARTS = (
    "",
    "\x93NUMPY\1\0",
    "\x93NUMPY\1\0\x46\0{'descr': '<f8', 'fortran_order': False, 'shape': (",
)


@settings(max_examples=50)
@given(
    st.sampled_from([name for name in arrays() if name != "validation_labels"]),
    st.sampled_from([start.encode("latin-1") for start in STARTS]),
    st.binary(max_size=100),
)
def test_any_bytes_in_place_of_an_array_are_one_line(tmp_path_factory, entry, start, content):
    valid_or_one_line(saved_with(entry, start + content), tmp_path_factory.getbasetemp())
