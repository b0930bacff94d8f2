"""The stack of calibrated classifiers: its weights, its features, and what it must not see."""

import dataclasses

import pytest
import torch
from scipy.optimize import minimize

from mi_common.errors import UserError
from mi_common.information import select_label
from mi_estimator.estimators import stack
from mi_estimator.estimators.classifier import validation_split
from mi_estimator.estimators.registry import CANDIDATES, CLASSIFIERS, Settings
from mi_estimator.estimators.stack import StackedMI, informative_features, pool_weights
from mi_estimator.tasks.gaussians import GaussianClasses
from mi_estimator.tasks.vectors import ConcentricClasses, Independent, NoisyXor

FAST = Settings(candidates=CLASSIFIERS)
SMALL = dataclasses.replace(FAST, epochs=3, members=2, hidden=(16,), candidates=CANDIDATES)


def samples(task, n: int, seed: int):
    return task.sample(n, torch.Generator().manual_seed(seed))


def test_the_weights_maximise_the_posterior():
    """Against a general optimiser of the same concave function."""
    ratios = torch.randn(4, 200, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def objective(theta):
        log_weights = torch.log_softmax(torch.from_numpy(theta), dim=0)
        value = torch.logsumexp(ratios + log_weights[:, None], dim=0).sum()
        return -(value + stack.PSEUDO_COUNT * log_weights.sum()).item()

    best = torch.from_numpy(minimize(objective, [0.0] * 4, tol=1e-10).x).softmax(dim=0)
    torch.testing.assert_close(pool_weights(ratios, steps=3000), best, atol=1e-3, rtol=0)
    shift = 5 * torch.randn(200, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(pool_weights(ratios + shift), pool_weights(ratios))


def test_the_log_ratio_is_the_weighted_mixture_of_the_candidates():
    x, y = samples(GaussianClasses(2), 400, 0)
    estimator = StackedMI(settings=SMALL).fit(x, y)
    mixture = sum(
        weight * estimator.candidates_[name][0].log_ratio(x).double().exp()
        for name, weight in estimator.weights_.items()
    )
    torch.testing.assert_close(estimator.log_ratio(x).exp(), mixture)
    normalised = (estimator.log_ratio(x) + estimator.log_prior_).exp().sum(dim=1)
    torch.testing.assert_close(normalised, torch.ones_like(normalised), atol=1e-5, rtol=0)
    assert sum(estimator.weights_.values()) == pytest.approx(1)
    assert list(estimator.weights_.values()) == sorted(estimator.weights_.values(), reverse=True)
    assert estimator.score(x, y) == pytest.approx(
        select_label(estimator.log_ratio(x), y).mean().item()
    )


@pytest.mark.parametrize(
    ("task", "best"),
    [
        (GaussianClasses(3), {"lda", "shrunk-lda", "logistic-regression", "qda"}),
        (ConcentricClasses(5), {"qda", "regularised-qda"}),
        (NoisyXor(0.1), {"gradient-boosting", "extra-trees", "nearest-neighbours"}),
    ],
    ids=["linear", "quadratic", "neither"],
)
def test_the_weight_goes_to_those_whose_family_holds_the_truth(task, best):
    x, y = samples(task, 3000, 0)
    estimator = StackedMI(settings=FAST).fit(x, y)
    assert sum(estimator.weights_.get(name, 0) for name in best) > 0.6
    x, y = samples(task, 5000, 1)
    oracle = select_label(task.log_ratio(x), y).mean().item()
    assert oracle - 0.05 < estimator.estimate(x, y).value < oracle + 0.002


def test_nothing_is_read_into_independent_samples():
    x, y = samples(Independent(3, dim=10), 600, 0)
    estimator = StackedMI(settings=FAST).fit(x, y)
    x, y = samples(Independent(3, dim=10), 20_000, 1)
    assert -0.02 < estimator.estimate(x, y).value < 0.002


def test_few_informative_features_among_many_are_selected_and_used():
    base, noise = samples(GaussianClasses(3), 1000, 0), torch.randn(1000, 57)
    x, y = torch.cat([noise, base[0]], dim=1), base[1]
    assert set(informative_features(x, y, 0).tolist()) >= {57, 58, 59}
    assert len(informative_features(x, y, 0)) <= 6
    assert len(informative_features(noise, y, 0)) <= 3
    selected = dataclasses.replace(FAST, candidates=("qda",))
    estimator = StackedMI(settings=selected).fit(x, y)
    assert estimator.weights_["selected features: qda"] > 0.9


def test_half_the_members_are_trained_and_on_the_selected_features_alone(monkeypatch):
    base, noise = samples(GaussianClasses(3), 300, 0), torch.randn(300, 9)
    settings = dataclasses.replace(SMALL, candidates=("pc-softmax", "lda"), members=4)
    wide = StackedMI(settings=settings).fit(torch.cat([base[0], noise], dim=1), base[1])
    narrow = StackedMI(settings=settings).fit(*base)
    assert list(narrow.candidates_) == ["pc-softmax", "lda", "label-frequencies"]
    selected = ["selected features: pc-softmax", "selected features: lda"]
    assert list(wide.candidates_) == ["lda", *selected, "label-frequencies"]
    monkeypatch.setattr(stack, "WIDE", 11)
    wider = StackedMI(settings=settings).fit(torch.cat([base[0], noise], dim=1), base[1])
    assert list(wider.candidates_) == ["pc-softmax", "lda", *selected, "label-frequencies"]
    assert narrow.candidates_["pc-softmax"][0].members == 2
    assert wide.candidates_[selected[0]][0].members == 2


def test_images_are_for_the_network_alone():
    images, labels = torch.rand(40, 1, 12, 12), torch.arange(40) % 2
    estimator = StackedMI(settings=SMALL).fit(images, labels)
    assert set(estimator.weights_) == {"pc-softmax", "label-frequencies"}


def test_label_frequencies_alone_remain_without_information():
    settings, alone = dataclasses.replace(FAST, candidates=("lda",)), 0
    for seed in range(10):
        x, y = samples(Independent(5, dim=20), 400, seed)
        estimator = StackedMI(settings=settings).fit(x, y)
        alone += estimator.weights_["label-frequencies"] == 1
        if estimator.weights_["label-frequencies"] == 1:
            assert estimator.log_ratio(x).abs().max() == 0
    assert alone >= 8
    informed = StackedMI(settings=settings).fit(*samples(GaussianClasses(3), 400, 0))
    assert informed.weights_["label-frequencies"] < 0.1


@pytest.mark.parametrize(("mean", "beats"), [(0.05, False), (0.2, True)])
def test_a_mixture_must_gain_a_standard_error(mean, beats):
    """The standard error of these gains is 0.1."""
    gains = mean + torch.tensor([1.0, -1.0], dtype=torch.float64).repeat(50)
    assert stack.beats_label_frequencies(gains) == beats


def test_a_gain_of_few_samples_is_kept():
    """One of a thousand samples gains 1, the others lose a little: below a standard error."""
    gains = torch.full((1000,), -1e-6, dtype=torch.float64)
    gains[0] = 1.0
    assert gains.mean() < gains.std() / 1000**0.5 and stack.beats_label_frequencies(gains)
    assert not stack.beats_label_frequencies(-gains.repeat(10))


def test_a_candidate_that_cannot_be_trained_is_listed_with_its_reason():
    x, y = samples(GaussianClasses(8), 100, 0)
    x[:, 1] = x[:, 0]  # no covariance is regular
    estimator = StackedMI(settings=FAST).fit(x, y)
    assert "qda" in estimator.skipped_["qda"] and "qda" not in estimator.weights_
    only = dataclasses.replace(FAST, candidates=("qda",))
    with pytest.raises(UserError, match="no candidate"):
        StackedMI(settings=only).fit(x, y)


def test_candidates_train_on_the_training_part_alone():
    """Validation samples with wild features and labels change calibration and weights only."""
    x, y = samples(GaussianClasses(2), 500, 0)
    train, validation = validation_split(y, 0.15, 0)
    moved = x.clone()
    moved[validation] = 50.0
    settings = dataclasses.replace(FAST, candidates=("lda",))
    first, second = (StackedMI(settings=settings).fit(values, y) for values in (x, moved))
    (one, _), (other, _) = first.candidates_["lda"], second.candidates_["lda"]
    torch.testing.assert_close(one._logits(x), other._logits(x))
    assert len(train) + len(validation) == 500


def test_it_is_deterministic_given_the_seed():
    x, y = samples(GaussianClasses(2), 300, 0)
    first, again, other = (StackedMI(settings=SMALL, seed=seed).fit(x, y) for seed in (0, 0, 1))
    assert torch.equal(first.log_ratio(x), again.log_ratio(x))
    assert not torch.equal(first.log_ratio(x), other.log_ratio(x))


@pytest.mark.parametrize(("fraction", "labels"), [(0.0, [0, 1] * 50), (0.15, [0, 0, 1, 1])])
def test_a_stack_needs_a_validation_set(fraction, labels):
    x = torch.randn(len(labels), 2, generator=torch.Generator().manual_seed(0))
    settings = dataclasses.replace(FAST, val_fraction=fraction)
    with pytest.raises(UserError, match=r"auto: .*(--val-fraction|few)"):
        StackedMI(settings=settings).fit(x, torch.tensor(labels))


def test_a_candidate_named_twice_counts_once():
    x, y = samples(GaussianClasses(2), 200, 0)
    once, twice = (
        StackedMI(settings=dataclasses.replace(FAST, candidates=names)).fit(x, y)
        for names in (("lda", "qda"), ("lda", "qda", "lda"))
    )
    assert twice.weights_ == once.weights_


@pytest.mark.parametrize(
    ("candidates", "x", "message"),
    [
        (("lda", "ross"), torch.rand(20, 2), "'ross': use some of pc-softmax"),
        (("auto",), torch.rand(20, 2), "'auto': use some of pc-softmax"),
        ((), torch.rand(20, 2), "no candidates; use some of pc-softmax"),
        (("lda",), torch.rand(20, 1, 8, 8), "no candidates; use pc-softmax for images"),
    ],
)
def test_candidates_must_be_classifiers(candidates, x, message):
    estimator = StackedMI(settings=dataclasses.replace(FAST, candidates=candidates))
    with pytest.raises(UserError, match=message):
        estimator.fit(x, torch.arange(20) % 2)
