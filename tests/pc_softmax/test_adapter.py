"""Posteriors under a target prior, from logits that validation samples have calibrated."""

import dataclasses
import re

import numpy as np
import pytest

from mi_common.errors import UserError
from pc_softmax import adapter as adapter_module
from pc_softmax.adapter import Adapter
from pc_softmax.decisions import class_frequencies, decide
from pc_softmax.evaluation import evaluate
from pc_softmax.predictions import Predictions
from pc_softmax.priors import posterior_under

MEANS = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 2.0]])
TRAIN, SHIFTED = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.3, 0.6])
SCALE, BIAS = 0.5, np.array([0.6, 0.0, -0.6])  # of the miscalibrated network


def sample(prior: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian classes: exact PC-softmax logits log p(x | k), and labels."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=count, p=prior)
    x = MEANS[labels] + rng.normal(size=(count, 2))
    return -((x[:, None] - MEANS) ** 2).sum(axis=2) / 2, labels


def predictions(*, distorted: bool, validation: bool) -> Predictions:
    splits = {"validation": sample(TRAIN, 5000, 0), "test": sample(SHIFTED, 5000, 1)}
    if distorted:
        splits = {name: ((f - BIAS) / SCALE, y) for name, (f, y) in splits.items()}
    return Predictions(
        np.log(TRAIN),
        np.array([70, 20, 10]),
        np.full(3, -np.log(3)),
        ["a", "b", "c"],
        {"test": splits["test"]},
        splits["validation"] if validation else None,
    )


def test_calibration_inverts_temperature_and_biases():
    distorted = predictions(distorted=True, validation=True)
    exact = sample(SHIFTED, 5000, 1)[0]
    assert distorted.adapter.calibration.name == "temperature and class biases"
    calibrated = distorted.adapter.calibration(distorted.test_logits["test"])
    # Differences of two classes, because a constant per sample has no meaning.
    difference = calibrated[:, 0] - calibrated[:, 2]
    assert difference == pytest.approx(exact[:, 0] - exact[:, 2], abs=0.35)
    assert np.abs((calibrated - exact) @ [1, -1, 0]).mean() < 0.15


@pytest.mark.parametrize(
    ("distorted", "validation", "low", "high"),
    [(False, False, 0, 0.02), (True, False, 0.05, 1), (True, True, 0, 0.02)],
)
def test_em_recovers_a_shifted_prior_from_miscalibrated_logits_only_with_validation_samples(
    distorted, validation, low, high
):
    saved = predictions(distorted=distorted, validation=validation)
    assert low < evaluate(saved, "test", "em").scores["prior_total_variation"] < high
    assert (saved.adapter.calibration.name == "none") != validation


@pytest.mark.parametrize("target", ["uniform", "train", "em", "auto"])
def test_predictions_are_those_of_calibrated_logits_but_argmax_is_the_networks_own(target):
    saved = predictions(distorted=True, validation=True)
    exact, _ = sample(SHIFTED, 5000, 1)
    logits, adapter = saved.test_logits["test"], saved.adapter
    adapted = adapter.adapt(logits, target)
    best = posterior_under(exact, adapted.log_prior)
    same = (adapted.log_posterior.argmax(axis=1) == best.argmax(axis=1)).mean()
    assert same > 0.98 > 0.9 > (logits.argmax(axis=1) == exact.argmax(axis=1)).mean()
    log_posterior = adapter.adapt(logits, "argmax").log_posterior
    assert log_posterior == pytest.approx(posterior_under(logits, np.full(3, -np.log(3))))


# Few validation samples.

FIVE = np.array([12, 9, 6, 3, 1])  # validation samples of five classes, 31 in all


def few(validation_counts: np.ndarray, seed: int) -> Predictions:
    """Exact logits of overlapping Gaussian classes; the test set has the training prior."""

    def drawn(counts: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        labels = np.repeat(np.arange(5), counts)
        return np.eye(5)[labels] + np.random.default_rng(seed).normal(size=(len(labels), 5)), labels

    return Predictions(
        np.log(FIVE / 31),
        9 * FIVE,
        np.full(5, -np.log(5)),
        list("abcde"),
        {"test": drawn(20 * FIVE, 1000)},
        drawn(validation_counts, seed),
    )


@pytest.mark.parametrize("seed", [13, 43, 65, 107])
def test_em_with_31_validation_samples_is_as_good_as_the_argmax(monkeypatch, seed):
    saved = few(FIVE, seed)
    plain = evaluate(saved, "test", "train").scores["accuracy"]
    assert plain == pytest.approx(0.60, abs=0.01)
    assert abs(evaluate(saved, "test", "em").scores["accuracy"] - plain) < 0.01


def test_calibration_on_31_validation_samples_loses_much_less_since_it_is_chosen(monkeypatch):
    monkeypatch.setattr(adapter_module, "MIN_CALIBRATION_SAMPLES", 1)
    losses = []
    for seed in (13, 43, 44, 65, 107):  # a fit with biases lost eight points or more with each
        saved = few(FIVE, seed)
        plain = evaluate(saved, "test", "train").scores["accuracy"]
        losses.append(plain - evaluate(saved, "test", "em").scores["accuracy"])
    assert np.mean(losses) < 0.015


LIMIT, ENOUGH = adapter_module.MIN_CALIBRATION_SAMPLES, adapter_module.ENOUGH_SAMPLES


@pytest.mark.parametrize(
    ("count", "auto", "said"),
    [
        (LIMIT - 1, "argmax", f"logits are not calibrated: fewer than {LIMIT} .* of e"),
        (LIMIT, "em", f"calibration is uncertain: fewer than {ENOUGH} .* of e"),
        (ENOUGH, "em", None),
    ],
)
def test_few_validation_samples_of_a_class_are_named_and_end_calibration(count, auto, said):
    counts = np.array([60, 60, 60, 60, count])
    logits, labels = few(counts, seed=0).validation
    adapter = Adapter(
        np.log(FIVE / 31), np.full(5, -np.log(5)), list("abcde"), (3 * logits, labels)
    )
    assert (adapter.calibration.name == "none") == (auto == "argmax")
    assert adapter.resolved("auto") == auto
    notes = adapter.notes("auto", 1000)
    assert notes.pop(0) == f"auto is {auto}"
    assert not notes if said is None else re.match(said, notes[0])
    assert adapter.notes("argmax", 3) == []


def test_where_auto_is_the_argmax_class_frequencies_are_those_of_em():
    saved = few(FIVE, seed=0)  # one validation sample of e
    logits = saved.test_logits["test"]
    files = list(map(str, range(len(logits))))
    options = {"replicates": 20, "seed": 0}
    auto, em = (decide(saved, logits, files, target=name, **options) for name in ("auto", "em"))
    assert auto.estimator == "em" and np.exp(auto.log_prior) == pytest.approx(np.full(5, 0.2))
    estimates = ["class", "estimate", "lower", "upper"]
    assert auto.frequencies[estimates].equals(em.frequencies[estimates])
    assert (auto.frequencies["lower"] < auto.frequencies["upper"]).all()
    assert "auto is argmax" in auto.notes
    assert "prior_total_variation" not in evaluate(saved, "test", "auto").scores


def test_failures_are_counted_by_resample():
    logits, labels = np.eye(3)[[0, 0, 1, 1, 2, 0]], np.array([0, 0, 1, 1, 2, 2])
    third = np.full(3, -np.log(3))
    counts = np.full(3, 2)
    saved = Predictions(
        third, counts, third, list("abc"), {"t": (logits, labels)}, (logits, labels)
    )
    options = {"replicates": 100, "generator": np.random.default_rng(0)}
    table, failures = class_frequencies(saved, logits, "bbse", **options)
    # With probability 1/4, both validation samples of c are the one that is predicted as a.
    assert len(failures) % 10 == 0 and 0 < len(failures) < 100
    assert np.isfinite(table["lower"]).all()


def test_a_note_names_the_classes_and_their_validation_samples():
    none = dataclasses.replace(few(FIVE, 0), validation=None).adapter.notes("em", 1000)
    assert none == ["logits are not calibrated; train with --val-fraction"]
    (note,) = few(FIVE, 0).adapter.notes("em", 1000)
    assert f"fewer than {LIMIT} validation samples of e (1); em may be wrong by more " in note
    (note,) = few(3 * FIVE, 0).adapter.notes("em", 1000)
    assert " of d (9), e (3); train with a larger --val-fraction or more images of these c" in note
    labels = np.array([0] * 10 + [1, 3, 3])
    names = ["same", "same", "line\nbreak", "d" * 50, "e", "f", "g", "h"]
    many = Adapter(
        np.full(8, -np.log(8)), np.full(8, -np.log(8)), names, (np.eye(8)[labels], labels)
    )
    classes = f"same (1) (1), line\\nbreak (2) (0), {'d' * 40}... (2), e (4) (0), f (5) (0)"
    assert f" of {classes} and 2 more; " in many.notes("em", 1000)[0]


def test_a_small_test_set_is_noted_for_estimated_priors_alone():
    adapter = predictions(distorted=False, validation=True).adapter
    few_tests = adapter_module.MIN_TESTS_PER_CLASS * 3 - 1
    for target in ("em", "bbse", "pacc"):
        (note,) = adapter.notes(target, few_tests)
        assert note.startswith(f"the estimated prior is uncertain: {few_tests} test samples for 3 ")
        assert adapter.notes(target, few_tests + 1) == []
    assert adapter.notes("uniform", few_tests) == []


@pytest.mark.parametrize("target", ["bbse", "pacc"])
def test_estimates_from_validation_samples_need_some(target):
    adapter = predictions(distorted=False, validation=False).adapter
    with pytest.raises(UserError, match=f"^{target} needs validation samples: train with --val-f"):
        adapter.adapt(np.eye(3), target)
    labels = np.array([0, 0, 2])
    without_a_class = dataclasses.replace(adapter, validation=(np.eye(3)[labels], labels))
    name = adapter.class_names[1]
    said = rf"^{target}: fewer than 1 validation samples of {name} \(0\); .*, or use auto$"
    with pytest.raises(UserError, match=said):
        without_a_class.adapt(np.eye(3), target)


def test_no_note_on_an_estimate_where_auto_is_the_argmax():
    adapter = few(FIVE, 0).adapter  # one validation sample of e
    uncertain = [
        any("prior is uncertain" in note for note in adapter.notes(target, 10))
        for target in ("auto", "em")
    ]
    assert uncertain == [False, True]
