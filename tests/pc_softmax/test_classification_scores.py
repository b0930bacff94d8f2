"""Scores by hand, against scikit-learn and scipy."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, f1_score, log_loss

from mi_common.errors import UserError
from pc_softmax import plots
from pc_softmax.metrics import (
    calibration_table,
    classification_scores,
    expected_calibration_error,
    majority_scores,
    mutual_information,
    per_class_accuracy,
    per_class_table,
    posterior_scores,
    shot_accuracies,
)
from pc_softmax.plots import plot_confusion

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


def random_posterior(n: int = 300, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet(np.full(k, 0.5), size=n)
    labels = np.array(
        [rng.choice(k, p=row) for row in posterior**0.5 / (posterior**0.5).sum(1)[:, None]]
    )
    return np.log(posterior), labels


def test_scores_of_a_posterior_by_hand():
    posterior = np.array([[0.7, 0.2, 0.1], [0.5, 0.3, 0.2], [0.1, 0.1, 0.8]])
    scores = posterior_scores(np.log(posterior), np.array([0, 1, 2]), np.array([200, 50, 10]))
    assert scores == pytest.approx(
        {
            "accuracy": 2 / 3,
            "balanced_accuracy": 2 / 3,
            "worst_class_accuracy": 0,
            "macro_f1": (2 / 3 + 0 + 1) / 3,
            "nll": -(math.log(0.7) + math.log(0.3) + math.log(0.8)) / 3,
            "brier": (0.09 + 0.04 + 0.01 + 0.25 + 0.49 + 0.04 + 0.01 + 0.01 + 0.04) / 3,
            "ece": (0.3 + 0.5 + 0.2) / 3,  # each in a bin of its own
            "many_shot_accuracy": 1,
            "medium_shot_accuracy": 0,
            "few_shot_accuracy": 1,
        }
    )


def test_scores_of_a_posterior_are_scikit_learns_and_the_slow_sum():
    log_posterior, labels = random_posterior()
    scores = posterior_scores(log_posterior, labels, np.full(4, 50))
    predicted = log_posterior.argmax(axis=1)
    assert scores["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    assert scores["nll"] == pytest.approx(log_loss(labels, np.exp(log_posterior)), rel=1e-6)
    brier = ((np.exp(log_posterior) - np.eye(4)[labels]) ** 2).sum(axis=1).mean()
    assert scores["brier"] == pytest.approx(brier)
    assert scores["accuracy"] == pytest.approx((predicted == labels).mean())


def test_macro_f1_is_of_the_classes_that_are_there():
    log_posterior = np.log(0.1 + 0.6 * np.eye(4)[[0, 0, 1, 3]])
    scores = posterior_scores(log_posterior, np.array([0, 0, 1, 1]), np.full(4, 50))
    assert scores["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_prior_without_a_class_gives_it_an_infinite_nll_and_leaves_the_other_scores():
    with np.errstate(divide="ignore"):
        log_posterior = np.log([[0.8, 0.2, 0], [0.4, 0.6, 0]])
    scores = posterior_scores(log_posterior, np.array([0, 2]), np.full(3, 50))
    assert scores["nll"] == math.inf
    assert scores["accuracy"] == 0.5
    assert scores["brier"] == pytest.approx((0.04 + 0.04 + 0.16 + 0.36 + 1) / 2)


def test_calibration_bins_are_closed_above_and_empty_ones_count_nothing():
    top = np.array([0.6, 0.6, 0.61, 1.0, 1.0])  # 0.6 is the upper edge of bin 8 of 15
    log_posterior = np.log(np.column_stack([top, 1 - top + 1e-300]))
    labels = np.array([0, 1, 0, 0, 1])
    table = calibration_table(log_posterior, labels)
    assert table["count"].tolist() == [0] * 8 + [2, 1, 0, 0, 0, 0, 2]
    filled = table[table["count"] > 0]
    assert filled["confidence"].tolist() == pytest.approx([0.6, 0.61, 1])
    assert filled["accuracy"].tolist() == [0.5, 1, 0.5]
    assert table["accuracy"].isna().sum() == 12
    expected = (2 * 0.1 + 0.39 + 2 * 0.5) / 5
    assert expected_calibration_error(log_posterior, labels) == pytest.approx(expected)


def test_ece_is_the_slow_sum_over_bins():
    log_posterior, labels = random_posterior()
    confidence, predicted = np.exp(log_posterior).max(axis=1), log_posterior.argmax(axis=1)
    total = 0
    for b in range(15):
        own = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if own.any():
            gap = (predicted[own] == labels[own]).mean() - confidence[own].mean()
            total += own.mean() * abs(gap)
    assert total > 0.05
    assert expected_calibration_error(log_posterior, labels) == pytest.approx(total)


def test_shots_are_split_at_20_and_100_training_samples_and_average_classes():
    labels = np.array([0, 1, 1, 1, 2, 3, 4])
    logits = np.eye(6)[[0, 1, 0, 0, 2, 0, 4]]
    counts = np.array([101, 100, 20, 19, 1, 5000])
    assert shot_accuracies(logits, labels, counts) == pytest.approx(
        {
            "many_shot_accuracy": 1,  # class 5 is not in the test set
            "medium_shot_accuracy": (1 / 3 + 1) / 2,
            "few_shot_accuracy": 1 / 2,
        }
    )
    many = shot_accuracies(logits, labels, counts + 1000)
    assert many == pytest.approx({"many_shot_accuracy": (1 + 1 / 3 + 1 + 0 + 1) / 5})


def test_mutual_information_is_label_entropy_minus_cross_entropy_under_the_test_frequencies():
    log_posterior, labels = random_posterior()
    frequencies = np.bincount(labels) / len(labels)
    logits = log_posterior + np.random.default_rng(1).normal(size=(300, 1))
    weighted = np.exp(logits) * frequencies
    posterior = weighted / weighted.sum(axis=1, keepdims=True)
    values = np.log(posterior[np.arange(300), labels] / frequencies[labels])
    found = mutual_information(logits, labels)
    assert found["mutual_information"] == pytest.approx(values.mean())
    entropy = -(frequencies * np.log(frequencies)).sum()
    assert found["label_entropy"] == pytest.approx(entropy)
    assert values.mean() == pytest.approx(entropy - log_loss(labels, posterior))
    interval = stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / math.sqrt(300))
    assert (found["mi_lower"], found["mi_upper"]) == pytest.approx(interval)


def test_mutual_information_of_a_sure_network_is_the_entropy_of_the_labels_that_are_there():
    labels = np.array([0, 0, 0, 2])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    found = mutual_information(500 * np.eye(3)[labels], labels)
    assert found["mutual_information"] == pytest.approx(entropy)
    assert found["label_entropy"] == pytest.approx(entropy)
    useless = mutual_information(np.ones((4, 3)), labels)
    assert [useless[name] for name in ("mutual_information", "mi_lower", "mi_upper")] == (
        pytest.approx([0, 0, 0], abs=1e-12)
    )


def test_table_of_classes_by_hand():
    logits = np.hstack([LOGITS, np.full((8, 1), -1.0)])
    table = per_class_table(logits, LABELS, np.array([9, 5, 2, 1]), ["a", "b", "c", "d"])
    assert list(table.columns) == ["class", "train_count", "n", "accuracy", "precision"]
    assert table["n"].tolist() == [4, 3, 1, 0]
    assert table["accuracy"].tolist() == pytest.approx([3 / 4, 1 / 3, 1, math.nan], nan_ok=True)
    assert table["precision"].tolist() == pytest.approx(
        [3 / 4, 1 / 2, 1 / 2, math.nan], nan_ok=True
    )
    assert table["train_count"].tolist() == [9, 5, 2, 1]


def test_confusions_have_numbers_in_percent_of_the_true_class_up_to_20_classes(monkeypatch):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    counts = np.array([[997, 3, 0], [60, 40, 0], [0, 0, 0]])
    plot_confusion({"official": counts}, list("abc"), Path("x.png"))
    panel = drawn[0].axes[0]
    shown = {text.get_position(): (text.get_text(), text.get_color()) for text in panel.texts}
    assert shown.pop((1, 0)) == ("0.3", "black")
    assert shown == {(0, 0): ("100", "white"), (0, 1): ("60", "white"), (1, 1): ("40", "white")}
    assert [label.get_text() for label in panel.get_yticklabels()] == list("abc")
    many = np.eye(21, dtype=int)
    plot_confusion({"a": many, "b": many}, [str(k) for k in range(21)], Path("x.png"))
    assert not drawn[1].axes[0].texts and not len(drawn[1].axes[1].get_xticks())
