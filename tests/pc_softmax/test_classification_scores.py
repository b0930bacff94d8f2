"""Scores by hand, against scikit-learn and scipy."""

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sklearn

from mi_common.errors import UserError
from pc_softmax import plots
from pc_softmax.metrics import (
    calibration_table,
    class_accuracies,
    class_table,
    classification_scores,
    confusion_counts,
    confusion_scores,
    expected_calibration_error,
    macro_f1,
    majority_scores,
    mutual_information,
    probability_scores,
    shot_accuracies,
)
from pc_softmax.plots import plot_confusion

# Class 0: 3 of 4 right, class 1: 1 of 3, class 2: 1 of 1; class 3 has no test sample.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2])
LOGITS = np.eye(4)[[0, 0, 0, 1, 1, 0, 2, 2]]


def test_scores_by_hand_do_not_count_a_class_without_test_samples():
    scores = {"accuracy": 5 / 8, "balanced_accuracy": 25 / 36, "worst_class_accuracy": 1 / 3}
    assert classification_scores(LOGITS, LABELS) == pytest.approx(scores)


def test_table_of_classes_by_hand():
    names, nan = ["a", "b", "c", "d"], math.nan
    table = class_table(confusion_counts(LOGITS, LABELS), np.array([9, 5, 2, 1]), names)
    assert table.drop(columns="precision").to_dict("list") == {
        "class": names,
        "train_count": [9, 5, 2, 1],
        "n": [4, 3, 1, 0],
        "accuracy": pytest.approx([3 / 4, 1 / 3, 1, nan], nan_ok=True),
    }
    assert table["precision"].tolist() == pytest.approx([3 / 4, 1 / 2, 1 / 2, nan], nan_ok=True)


@pytest.mark.filterwarnings("ignore:y_pred contains classes", "ignore:A single label was found")
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=30))
def test_scores_of_a_confusion_matrix_are_scikit_learns(pairs):
    labels, predicted = map(np.array, zip(*pairs, strict=True))
    present = np.unique(labels)
    confusion = confusion_counts(np.eye(5)[predicted], labels)
    recall, f1 = (
        score(labels, predicted, labels=present, average=None, zero_division=0)
        for score in (sklearn.recall_score, sklearn.f1_score)
    )
    assert class_accuracies(confusion)[present].tolist() == recall.tolist()
    assert confusion_scores(confusion) == {
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn.balanced_accuracy_score(labels, predicted),
        "worst_class_accuracy": recall.min(),
    }
    assert macro_f1(confusion) == f1.mean()


def test_majority_predicts_the_most_frequent_training_class_not_the_test_sets():
    scores = majority_scores(np.log([0.2, 0.5, 0.3]), LABELS)
    expected = {"accuracy": 3 / 8, "balanced_accuracy": 1 / 3, "worst_class_accuracy": 0}
    assert scores == pytest.approx(expected)
    assert majority_scores(np.log([0.4, 0.4, 0.2]), LABELS)["accuracy"] == 4 / 8  # first of equals


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error_that_counts_the_samples(value):
    logits = LOGITS.copy()
    logits[[1, 1, 6], [0, 2, 1]] = value
    with pytest.raises(UserError, match=r"^2 samples have no finite logits"):
        classification_scores(logits, LABELS)


def random_posterior(n: int = 300, k: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    posterior = rng.dirichlet(np.full(k, 0.5), size=n)
    flatter = posterior**0.5 / (posterior**0.5).sum(axis=1, keepdims=True)
    return np.log(posterior), np.array([rng.choice(k, p=row) for row in flatter])


def test_scores_of_probabilities_are_scikit_learns_and_the_slow_sum():
    log_posterior, labels = random_posterior()
    scores = probability_scores(log_posterior, labels)
    assert scores["nll"] == pytest.approx(sklearn.log_loss(labels, np.exp(log_posterior)), rel=1e-6)
    brier = ((np.exp(log_posterior) - np.eye(4)[labels]) ** 2).sum(axis=1).mean()
    assert scores["brier"] == pytest.approx(brier)


def test_a_prior_without_a_class_gives_it_an_infinite_nll_and_leaves_the_brier_score():
    with np.errstate(divide="ignore"):
        log_posterior = np.log([[0.8, 0.2, 0], [0.4, 0.6, 0]])
    scores = probability_scores(log_posterior, np.array([0, 2]))
    assert scores == pytest.approx({"nll": math.inf, "brier": (0.04 + 0.04 + 0.16 + 0.36 + 1) / 2})
    log_posterior[1] = np.nan
    with pytest.raises(UserError, match=r"^1 samples have no finite logits"):
        probability_scores(log_posterior, np.array([0, 2]))


def test_calibration_bins_are_closed_above_and_empty_ones_count_nothing():
    top = np.array([0.6, 0.6, 0.61, 1.0, 1.0])  # 0.6 is the upper edge of bin 8 of 15
    log_posterior = np.log(np.column_stack([top, 1 - top + 1e-300]))
    table = calibration_table(log_posterior, np.array([0, 1, 0, 0, 1]))
    assert table["count"].tolist() == [0] * 8 + [2, 1, 0, 0, 0, 0, 2]
    filled = table[table["count"] > 0]
    assert filled["confidence"].tolist() == pytest.approx([0.6, 0.61, 1])
    assert filled["accuracy"].tolist() == [0.5, 1, 0.5]
    assert table["accuracy"].isna().sum() == 12
    expected = (2 * 0.1 + 0.39 + 2 * 0.5) / 5
    assert expected_calibration_error(table) == pytest.approx(expected)


def test_ece_is_the_slow_sum_over_bins():
    log_posterior, labels = random_posterior()
    confidence, predicted = np.exp(log_posterior).max(axis=1), log_posterior.argmax(axis=1)
    total = 0
    for b in range(15):
        inside = (confidence > b / 15) & (confidence <= (b + 1) / 15)
        if inside.any():
            gap = (predicted[inside] == labels[inside]).mean() - confidence[inside].mean()
            total += inside.mean() * abs(gap)
    assert total > 0.05
    table = calibration_table(log_posterior, labels)
    assert expected_calibration_error(table) == pytest.approx(total)


def test_shots_are_split_at_20_and_100_training_samples_and_average_classes():
    labels = np.array([0, 1, 1, 1, 2, 3, 4])
    confusion = confusion_counts(np.eye(6)[[0, 1, 0, 0, 2, 0, 4]], labels)
    counts = np.array([101, 100, 20, 19, 1, 5000])
    assert shot_accuracies(confusion, counts) == pytest.approx(
        {
            "many_shot_accuracy": 1,  # class 5 is not in the test set
            "medium_shot_accuracy": (1 / 3 + 1) / 2,
            "few_shot_accuracy": 1 / 2,
        }
    )
    many = shot_accuracies(confusion, counts + 1000)
    assert many == pytest.approx({"many_shot_accuracy": (1 + 1 / 3 + 1 + 0 + 1) / 5})


def test_mutual_information_is_label_entropy_minus_cross_entropy_under_the_test_frequencies():
    log_posterior, labels = random_posterior()
    frequencies = np.bincount(labels) / len(labels)
    logits = log_posterior + np.random.default_rng(1).normal(size=(300, 1))
    weighted = np.exp(logits) * frequencies
    posterior = weighted / weighted.sum(axis=1, keepdims=True)
    values = np.log(posterior[np.arange(300), labels] / frequencies[labels])
    scores = mutual_information(logits, labels)
    entropy = -(frequencies * np.log(frequencies)).sum()
    assert scores["label_entropy"] == pytest.approx(entropy)
    cross_entropy = sklearn.log_loss(labels, posterior)
    assert scores["mutual_information"] == pytest.approx(entropy - cross_entropy)
    interval = stats.norm.interval(0.95, values.mean(), values.std(ddof=1) / math.sqrt(300))
    assert (scores["mi_lower"], scores["mi_upper"]) == pytest.approx(interval)


def test_mutual_information_of_a_sure_network_is_the_entropy_of_the_labels_in_the_test_set():
    labels = np.array([0, 0, 0, 2])
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    scores = mutual_information(500 * np.eye(3)[labels], labels)
    assert scores["mutual_information"] == pytest.approx(entropy)
    assert scores["label_entropy"] == pytest.approx(entropy)
    useless = mutual_information(np.ones((4, 3)), labels)
    assert [useless[name] for name in ("mutual_information", "mi_lower", "mi_upper")] == (
        pytest.approx([0, 0, 0], abs=1e-12)
    )


def test_confusions_are_in_percent_of_the_true_class_with_numbers_up_to_20_classes(monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, *_, **__: figures.append(figure))
    counts = np.array([[997, 3, 0], [60, 40, 0], [0, 0, 0]])
    plot_confusion({"official": counts}, list("abc"), Path("x.png"))
    panel = figures[0].axes[0]
    shown = {text.get_position(): text.get_text() for text in panel.texts}
    assert shown == {(1, 0): "0.3", (0, 0): "100", (0, 1): "60", (1, 1): "40"}
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["a (1000)", "b (100)", "c (0)"]
    many = np.eye(21, dtype=int)
    plot_confusion({"a": many, "b": many}, [str(k) for k in range(21)], Path("x.png"))
    assert not figures[1].axes[0].texts and not len(figures[1].axes[1].get_xticks())
