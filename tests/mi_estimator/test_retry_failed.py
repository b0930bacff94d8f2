"""Cells that failed are computed again when they are asked for, and only these."""

import shutil

import pandas as pd
import pytest

from mi_common.errors import UserError
from mi_estimator import benchmark
from mi_estimator import cell as cell_module
from mi_estimator.tasks.images import digits

WORDS = ["--suite", "small-sample", "--estimators", "lda", "logistic-regression", "--n-train"]
WORDS += ["60", "--seeds", "0"]
WORDS += ["--n-test", "100", "--num-workers", "0", "--device", "cpu"]


@pytest.fixture
def failing(monkeypatch):
    """Names of the estimators that fail; to be changed by the test."""
    names, original = {"logistic-regression"}, cell_module._estimate

    def estimate(cell, *rest):
        if cell.estimator in names:
            raise UserError("out of luck")
        return original(cell, *rest)

    monkeypatch.setattr(cell_module, "_estimate", estimate)
    return names


def test_failed_rows_are_kept_or_tried_again(tmp_path, failing):
    given = [*WORDS, "--output-dir", str(tmp_path / "out")]
    benchmark.main(given)
    first = pd.read_csv(tmp_path / "out/results.csv")
    assert set(first[first["estimator"] == "logistic-regression"]["status"]) == {
        "failed: out of luck"
    }

    failing.clear()
    benchmark.main([*given, "--resume"])
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "out/results.csv"), first)

    benchmark.main([*given, "--resume", "--retry-failed"])
    again = pd.read_csv(tmp_path / "out/results.csv")
    assert len(again) == len(first) and set(again["status"]) == {"ok"}
    kept = again[again["estimator"] == "lda"].reset_index(drop=True)
    pd.testing.assert_frame_equal(
        kept, first[first["estimator"] == "lda"].reset_index(drop=True)
    )  # their seconds too


def test_other_images_are_refused_on_resume(tmp_path, user_error, small_mnist):
    small_mnist = shutil.copytree(small_mnist, tmp_path / "data")
    given = ["--suite", "images", "--estimators", "softmax", "--n-train", 40, "--n-test", 40]
    given += ["--epochs", 1, "--members", 1, "--num-workers", 0, "--device", "cpu"]
    given += ["--data-dir", small_mnist, "--output-dir", tmp_path / "out"]
    given = [str(word) for word in given]
    benchmark.main(given)
    images = small_mnist / "MNIST/raw/train-images-idx3-ubyte"
    content = bytearray(images.read_bytes())
    content[-1] ^= 1
    images.write_bytes(content)
    digits.cache_clear()  # as in another process
    line = user_error(benchmark.main, [*given, "--resume"])
    assert "the data changed (mnist-flip0.2" in line
