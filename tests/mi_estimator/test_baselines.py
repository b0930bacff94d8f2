"""scikit-learn's classifiers as estimators: exact values, log-loss by hand, one-line failures."""

import math

import pytest
import torch
from sklearn.metrics import log_loss
from torch import Tensor

from mi_common.calibration import fit_calibration
from mi_common.errors import UserError
from mi_common.information import (
    log_prior_from_labels,
    pointwise_mutual_information,
    select_label,
)
from mi_estimator.estimators import baselines
from mi_estimator.estimators.baselines import CLASSIFIERS, SklearnMI
from mi_estimator.estimators.classifier import validation_split
from mi_estimator.tasks.suites import SUITES

NAMES = list(CLASSIFIERS)
RANDOM = ["gradient-boosting", "extra-trees"]
LINEAR = ["logistic-regression", "lda"]


def two_samples(name: str, n: int = 20_000) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training and test samples of a task of the paper."""
    draw = SUITES["paper"][name].distribution.sample
    return *draw(n, torch.Generator().manual_seed(0)), *draw(n, torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("task_name", ["gaussian-d2-balanced", "gaussian-d1-imbalanced"])
def test_all_come_near_the_truth_where_their_family_holds_it(name, task_name):
    """One covariance for all classes: linear scores are exact, and trees approach them."""
    task = SUITES["paper"][task_name].distribution
    x, y, x_test, y_test = two_samples(task_name)
    estimate = SklearnMI(name, val_fraction=0.15).fit(x, y).estimate(x_test, y_test)
    oracle = select_label(task.log_ratio(x_test), y_test).mean().item()
    slack = 0.003 if name in ("logistic-regression", "lda", "shrunk-lda", "qda") else 0.06
    assert oracle - slack < estimate.value < oracle + 0.001
    assert estimate.value == pytest.approx(task.mutual_information()[0], abs=0.06)
    assert estimate.lower < estimate.value < estimate.upper < task.label_entropy


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("num_classes", [2, 3])
def test_the_value_is_h_of_y_minus_log_loss(name, num_classes):
    """Two classes have decision functions of their own shape in scikit-learn."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(num_classes, (600,), generator=generator)
    x = torch.randn(600, 2, generator=generator) + y[:, None]
    estimator = SklearnMI(name).fit(x[:400], y[:400])
    estimate = estimator.estimate(x[400:], y[400:])
    prior = torch.bincount(y[:400]).double() / 400
    probabilities = estimator.model_.predict_proba(estimator._inputs(x[400:]))
    if not hasattr(estimator.model_, "decision_function"):
        probabilities = 0.97 * probabilities + 0.03 * prior.numpy()
    cross_entropy = log_loss(y[400:], probabilities)
    expected = -prior[y[400:]].log().mean().item() - cross_entropy
    assert estimate.value == pytest.approx(expected, abs=1e-6)
    assert estimate.pointwise.shape == (200,) and estimate.pointwise.dtype == torch.float64
    assert estimator.log_ratio(x[400:]).shape == (200, num_classes)
    normalised = (estimator.log_ratio(x[400:]) + prior.log()).exp().sum(dim=1)
    torch.testing.assert_close(normalised, torch.ones_like(normalised))


def test_concentric_classes_are_seen_by_all_but_the_linear():
    """X | Y is N(0, 1) or N(0, 25): QDA's family holds the truth, a line sees nothing."""
    generator = torch.Generator().manual_seed(0)
    y = torch.randint(2, (20_000,), generator=generator)
    x = torch.randn(20_000, 1, generator=generator) * (1 + 4 * y[:, None])
    density = torch.distributions.Normal(0.0, torch.tensor([1.0, 5.0])).log_prob(x).exp()
    oracle = (select_label(density, y) / density.mean(dim=1)).log()[10_000:].mean().item()
    values = {
        name: SklearnMI(name).fit(x[:10_000], y[:10_000]).estimate(x[10_000:], y[10_000:]).value
        for name in NAMES
    }
    assert oracle > 0.25
    assert values["qda"] == pytest.approx(oracle, abs=0.003)
    assert values["gradient-boosting"] == pytest.approx(oracle, abs=0.02)
    assert [values[name] for name in LINEAR] == pytest.approx([0, 0], abs=0.003)


@pytest.mark.parametrize("name", NAMES)
def test_independence_reads_no_information(name):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4000, 2, generator=generator)
    y = torch.randint(3, (4000,), generator=generator)
    value = SklearnMI(name).fit(x[:2000], y[:2000]).estimate(x[2000:], y[2000:]).value
    assert value < 0.003  # the bound of a classifier that learnt noise lies below 0
    assert value > (-0.02 if hasattr(CLASSIFIERS[name](0), "decision_function") else -0.3)
    calibrated = SklearnMI(name, val_fraction=0.15).fit(x[:2000], y[:2000])
    assert -0.01 < calibrated.estimate(x[2000:], y[2000:]).value < 0.003


# The draws of the other two depend on the order of the samples.
@pytest.mark.parametrize("name", [n for n in NAMES if n not in RANDOM])
def test_scale_place_and_order_do_not_matter(name):
    x, y, x_test, y_test = two_samples("gaussian-d2-imbalanced", n=2000)
    x, x_test = x.double(), x_test.double()
    reference = SklearnMI(name).fit(x, y).estimate(x_test, y_test)
    moved = SklearnMI(name).fit(1024 * x - 512, y).estimate(1024 * x_test - 512, y_test)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    permuted = SklearnMI(name).fit(x[order], y[order]).estimate(x_test[order], y_test[order])
    assert moved.value == pytest.approx(reference.value, abs=1e-4)
    torch.testing.assert_close(permuted.pointwise, reference.pointwise[order], atol=1e-3, rtol=0)


@pytest.mark.parametrize("name", ["logistic-regression", "lda", "qda"])
def test_a_sure_mistake_costs_its_finite_log_loss(name):
    """predict_proba is almost 0 there; further out it rounds to 0, with an infinite log-loss."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    x = torch.randn(300, 1, generator=generator) + 20 * y[:, None]
    estimator = SklearnMI(name).fit(x, y)
    far = torch.tensor([[4e4], [4e4]])
    assert estimator.model_.predict_proba(estimator._inputs(far))[0, 0] < 1e-30
    terms = estimator.estimate(far, torch.tensor([0, 2])).pointwise
    assert -math.inf < terms[0] < -30
    assert name == "qda" or terms[1] == pytest.approx(math.log(3))


@pytest.mark.parametrize("name", RANDOM)
def test_a_seed_fixes_what_a_classifier_draws(name):
    x, y, x_test, y_test = two_samples("gaussian-d1-balanced", n=1000)
    first, again, other = (
        SklearnMI(name, seed=seed).fit(x, y).estimate(x_test, y_test) for seed in (0, 0, 1)
    )
    assert torch.equal(first.pointwise, again.pointwise)
    assert not torch.equal(first.pointwise, other.pointwise)


def test_calibration_uses_the_validation_set_alone():
    x, y, x_test, _ = two_samples("gaussian-d2-imbalanced", n=600)
    train, validation = validation_split(y, 0.15, 0)
    calibrated = SklearnMI("qda", val_fraction=0.15).fit(x, y)
    plain = SklearnMI("qda").fit(x[train], y[train])
    prior = log_prior_from_labels(y, 5).double()
    scale, bias = fit_calibration(plain.log_ratio(x[validation]), y[validation], prior)
    expected = pointwise_mutual_information(scale * plain.log_ratio(x_test) + bias, prior)
    torch.testing.assert_close(calibrated.log_ratio(x_test), expected, atol=1e-3, rtol=1e-3)


def test_an_overconfident_classifier_on_a_wide_table_is_calibrated():
    """LDA of 200 useless features: far below zero as it is, close to zero when calibrated."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(800, 200, generator=generator), torch.arange(800) % 4
    values = {
        fraction: SklearnMI("lda", val_fraction=fraction)
        .fit(x[:400], y[:400])
        .estimate(x[400:], y[400:])
        .value
        for fraction in (0, 0.15)
    }
    assert values[0] < -1
    assert -0.06 < values[0.15] < 0.03


def test_large_samples_train_slow_classifiers_on_a_part_that_holds_every_class(monkeypatch):
    monkeypatch.setitem(baselines.MAX_SAMPLES, "nearest-neighbours", 100)
    y = torch.cat([torch.zeros(990), torch.ones(9), torch.full((1,), 2.0)]).long()
    x = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0)) + y[:, None]
    estimator = SklearnMI("nearest-neighbours").fit(x, y)
    assert 100 <= estimator.model_.n_samples_fit_ <= 103
    assert list(estimator.model_.classes_) == [0, 1, 2]
    assert estimator.log_ratio(x).isfinite().all()


@pytest.mark.parametrize(
    ("name", "message"), [("gradient-boosting", "too slow"), ("extra-trees", "memory")]
)
def test_what_would_take_hours_or_all_memory_is_refused(name, message, monkeypatch):
    limit = "BOOSTING_WORK" if name == "gradient-boosting" else "TREE_VALUES"
    monkeypatch.setattr(baselines, limit, 100.0)
    with pytest.raises(UserError, match=message):
        SklearnMI(name).fit(X, Y)


X = torch.randn(12, 3, generator=torch.Generator().manual_seed(0))
Y = torch.arange(12) % 2
COLLINEAR = torch.cat([X, X[:, :1]], dim=1)


@pytest.mark.parametrize(
    "name, x, y, message",
    [
        ("qda", X[:8, :], Y[:8] * (torch.arange(8) > 2), "a class of 3 samples .* 3 feat"),
        ("qda", COLLINEAR, Y, "qda: .*(covariance|collinear)"),
        ("qda", X * 0, Y, "qda: .*(covariance|collinear)"),
        ("logistic-regression", X, Y * 0, "labels of 1 class, 0"),
        ("lda", X[:2], Y[:2], "lda: "),
    ],
)
def test_failures_are_one_line_user_errors(name, x, y, message):
    with pytest.raises(UserError, match=message) as caught:
        SklearnMI(name).fit(x, y)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "used"), [("logistic-regression", 8), ("lda", 4)])
def test_wide_tables_use_fewer_samples(name, used, monkeypatch):
    monkeypatch.setattr(baselines, "MAX_VALUES", 24.0)
    monkeypatch.setattr(baselines, "COVARIANCE_WORK", 36.0)
    sizes = []
    monkeypatch.setattr(SklearnMI, "_limit_work", lambda self, y, *_: sizes.append(len(y)))
    SklearnMI(name).fit(X, Y)
    assert sizes == [used]


def test_no_large_covariance_is_inverted(monkeypatch):
    monkeypatch.setattr(baselines, "MAX_COVARIANCE", 2)
    with pytest.raises(UserError, match="shrunk-lda: at most 2 features"):
        SklearnMI("shrunk-lda").fit(X, Y)
