"""Accuracy, balanced accuracy and worst class by hand and against scikit-learn."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score

from common.errors import UserError
from pc_softmax.metrics import classification_scores, majority_scores, per_class_accuracy

# Class 0: 3 of 4 right, class 1: 1 of 3, class 2: 1 of 1.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
PREDICTED = np.array([0, 0, 0, 1, 1, 0, 2, 2])
LOGITS = np.eye(3)[PREDICTED]


def test_scores_by_hand():
    assert classification_scores(LOGITS, LABELS) == pytest.approx(
        {
            "accuracy": 5 / 8,
            "balanced_accuracy": (3 / 4 + 1 / 3 + 1) / 3,
            "worst_class_accuracy": 1 / 3,
        }
    )
    accuracies = per_class_accuracy(LOGITS, LABELS, np.array([2, 0, 1]))
    assert accuracies == pytest.approx([1, 3 / 4, 1 / 3])


def test_a_class_that_is_not_in_the_test_set_does_not_count():
    logits = np.hstack([LOGITS, np.full((8, 1), -1.0)])
    assert classification_scores(logits, LABELS) == classification_scores(LOGITS, LABELS)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_balanced_accuracy_is_scikit_learns(pairs):
    labels, predicted = map(np.array, zip(*pairs, strict=True))
    scores = classification_scores(np.eye(5)[predicted], labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a predicted class that has no sample
        expected = balanced_accuracy_score(labels, predicted)
    assert scores["balanced_accuracy"] == pytest.approx(expected)
    by_class = [(predicted[labels == k] == k).mean() for k in np.unique(labels)]
    assert scores["worst_class_accuracy"] == pytest.approx(min(by_class))
    assert scores["accuracy"] == pytest.approx(np.mean(labels == predicted))


def test_majority_predicts_the_most_frequent_training_class_not_the_test_sets():
    scores = majority_scores(np.log([0.2, 0.5, 0.3]), LABELS)
    expected = {"accuracy": 3 / 8, "balanced_accuracy": 1 / 3, "worst_class_accuracy": 0}
    assert scores == pytest.approx(expected)
    first_of_equals = majority_scores(np.log([0.4, 0.4, 0.2]), LABELS)
    assert first_of_equals["accuracy"] == 4 / 8


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_a_user_error_that_counts_the_samples(value):
    logits = LOGITS.copy()
    logits[[1, 1, 6], [0, 2, 1]] = value
    with pytest.raises(UserError, match=r"^2 samples have no finite logits"):
        classification_scores(logits, LABELS)
