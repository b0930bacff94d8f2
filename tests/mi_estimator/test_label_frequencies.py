"""What label frequencies cost, and known ones in their place: slow versions, caps, simulations."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mi_common.information import (
    entropy,
    log_prior_from_counts,
    pointwise_mutual_information,
    select_label,
)
from mi_estimator.estimate import main
from mi_estimator.estimators.base import MIEstimate
from mi_estimator.estimators.baselines import SklearnMI
from mi_estimator.estimators.crossfit import CrossFit, cross_fit
from mi_estimator.samples import read_samples
from mi_estimator.tasks.gaussians import IMBALANCED, GaussianClasses


def frequencies(labels: Tensor) -> Tensor:
    return log_prior_from_counts(torch.bincount(labels), dtype=torch.float64)


def crossed(scores: Tensor, labels: Tensor, log_prior: Tensor | None = None) -> CrossFit:
    """One fold whose estimator gave these PC-softmax logits."""
    known, folds = log_prior is not None, torch.zeros_like(labels)
    log_prior = log_prior if known else frequencies(labels)
    ratio = pointwise_mutual_information(scores.double(), log_prior)
    return CrossFit(ratio, log_prior, known, labels, folds, select_label(ratio, labels), 0.0)


def term(found: CrossFit) -> float:
    """What the correction adds, the same to each sample and to the training value."""
    corrected = found.with_miller_madow()
    added = corrected.pointwise - found.pointwise
    assert added.max() - added.min() < 1e-12
    assert corrected.training_value - found.training_value == pytest.approx(added[0].item())
    assert torch.equal(corrected.log_ratio, found.log_ratio)
    return added.mean().item()


def case(seed: int, n: int = 60, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels with at least two samples of every class, and a prior that is not theirs."""
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(n, classes, generator=generator, dtype=torch.float64)
    drawn = torch.randint(classes, (n - 2 * classes,), generator=generator)
    prior = 0.05 + torch.rand(classes, generator=generator, dtype=torch.float64)
    return scores, torch.cat((torch.arange(2 * classes) % classes, drawn)), (prior / prior.sum())


def test_miller_madow_agrees_with_a_slow_sum():
    scores, labels, _ = case(0)
    found = crossed(scores, labels)
    total = 0.0
    for row in found.log_posterior.exp().tolist():
        total += sum(q**2 / (labels.tolist().count(k) / 60) for k, q in enumerate(row))
    assert term(found) == pytest.approx((total / 60 - 1) / (2 * 60), abs=1e-12)


@pytest.mark.parametrize("sizes", [[10, 60], [5, 10, 15, 20, 20]])
def test_miller_madow_lies_between_all_and_nothing(sizes):
    labels = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    one_hot = torch.nn.functional.one_hot(labels).double()
    full = (len(sizes) - 1) / (2 * 70)
    told = crossed(one_hot.log(), labels)  # minus infinity for the other classes
    assert term(told) == pytest.approx(full)
    assert told.estimate().value == pytest.approx(entropy(told.log_prior).item())
    assert term(crossed(torch.zeros(70, len(sizes)), labels)) == pytest.approx(0)
    assert 0.01 * full < term(crossed(one_hot, labels)) < 0.9 * full


def simulated(task: GaussianClasses, n: int, repeats: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of each data set: the estimate of an oracle that knows only frequencies, the correction, and
    the mean under the true prior, which has no bias."""
    generator = torch.Generator().manual_seed(0)
    x, y = task.sample(n * repeats, generator)
    exact = task.log_ratio(x)
    rows = []
    for ratio, labels in zip(exact.split(n), y.split(n), strict=True):
        found = crossed(ratio, labels)
        mean = select_label(ratio, labels).mean().item()
        rows.append((found.estimate().value, term(found), mean))
    return torch.tensor(rows, dtype=torch.float64).unbind(dim=1)


@pytest.mark.parametrize("told", [True, False])
def test_the_corrected_mean_is_nearer_to_i_than_the_plug_in_mean(told):
    """Classes far apart, whose label is a function of the features; and overlapping ones."""
    offsets = (0.0, 40.0, -40.0, 80.0, -80.0) if told else (0.0, 2.0, -2.0, 4.0, -4.0)
    task = GaussianClasses(1, (3, 2, 2, 2, 1) if told else (1,) * 5, offsets)
    n, truth = 100, task.mutual_information()[0]
    plug_in, correction, unbiased = simulated(task, n, 800)
    assert unbiased.mean().item() == pytest.approx(truth, abs=0.01)
    # The same samples under the true prior take away what both means have by chance.
    plug_in = plug_in - unbiased
    error = 4 * (plug_in + correction).std().item() / 800**0.5
    assert abs((plug_in + correction).mean().item()) < error < 0.004
    assert plug_in.mean().item() < -0.006
    if told:
        assert truth == pytest.approx(task.label_entropy)
        assert correction.mean().item() == pytest.approx(4 / (2 * n))
    else:  # (K - 1) / 2N, right for H(Y), is too much here
        assert abs((plug_in + 4 / (2 * n)).mean().item()) > 2 * error


def slow_under_prior(pointwise: list, labels: list, prior: list) -> tuple[float, float]:
    value = variance = 0.0
    for k, p in enumerate(prior):
        own = [v for v, label in zip(pointwise, labels, strict=True) if label == k]
        mean = sum(own) / len(own)
        value += p * mean
        variance += p**2 * sum((v - mean) ** 2 for v in own) / (len(own) - 1) / len(own)
    return value, 1.959964 * math.sqrt(variance)


def test_under_prior_agrees_with_means_and_variances_class_by_class():
    scores, labels, prior = case(1)
    found = MIEstimate.under_prior(scores[:, 0].float(), labels, prior.log())
    value, half_width = slow_under_prior(scores[:, 0].tolist(), labels.tolist(), prior.tolist())
    assert found.value == pytest.approx(value, abs=1e-6)
    assert found.upper - found.value == pytest.approx(half_width, rel=1e-6)
    assert found.value - found.lower == pytest.approx(half_width, rel=1e-6)
    assert found.pointwise.dtype == torch.float64
    assert found.pointwise.tolist() == scores[:, 0].float().tolist()  # as they came


@pytest.mark.parametrize("missing", [0, 2])
def test_under_prior_leaves_out_a_class_without_samples(missing):
    """Of many samples, the training value uses a part, which may lack a rare class."""
    labels = torch.tensor([k for k in (0, 0, 1, 1, 1, 2, 2) if k != missing])
    prior = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    terms = torch.linspace(-1, 2, len(labels), dtype=torch.float64)
    present = [k for k in range(3) if k != missing]
    means = torch.stack([terms[labels == k].mean() for k in present])
    expected = (prior[present] * means).sum() / prior[present].sum()
    estimate = MIEstimate.under_prior(terms, labels, prior.log())
    assert estimate.value == pytest.approx(expected.item())


@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 6))
def test_an_estimate_under_a_known_prior_stays_below_its_entropy(seed, classes):
    scores, labels, prior = case(seed, classes=classes)
    found = crossed(4 * scores, labels, prior.log())
    cap = entropy(prior.log()).item()
    assert found.estimate().value <= cap + 1e-12
    told = 50.0 * torch.nn.functional.one_hot(labels, classes)
    assert crossed(told, labels, prior.log()).estimate().value == pytest.approx(cap)


def test_the_frequencies_as_known_prior_leave_all_but_the_interval():
    scores, labels, _ = case(2)
    plug_in, known = crossed(scores, labels), crossed(scores, labels, frequencies(labels))
    assert torch.equal(known.pointwise, plug_in.pointwise)
    assert known.estimate().value == pytest.approx(plug_in.estimate().value, abs=1e-12)
    # Their number is fixed, so differences between classes are no chance.
    assert known.estimate().upper < plug_in.estimate().upper
    assert known.accuracy == pytest.approx(plug_in.accuracy, abs=1e-12)
    p_values = [found.permutation_p_value(50, seed=3) for found in (known, plug_in)]
    assert 1 / 51 < p_values[0] == p_values[1]


class Oracle(SklearnMI):
    """Learns nothing: the exact log ratio of a task."""

    def __init__(self, task: GaussianClasses):
        self.task = task

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "Oracle":
        return self

    def log_ratio(self, x: Tensor) -> Tensor:
        return self.task.log_ratio(x)


@pytest.mark.parametrize("prior", [(0.2, 0.8), (0.99, 0.01), (0.5, 0.5)])
def test_independent_samples_read_zero_under_any_known_prior(prior):
    """Two classes in one place: the classifier says the prior, the ratio is one."""
    task = GaussianClasses(1, (3, 1), (1.0, 1.0))
    x, y = task.sample(200, torch.Generator().manual_seed(0))
    log_prior = torch.tensor(prior, dtype=torch.float64).log()
    found = cross_fit(lambda seed: Oracle(task), x, y, folds=2, seed=0, log_prior=log_prior)
    assert found.estimate().value == pytest.approx(0, abs=1e-14)
    assert found.estimate().upper == pytest.approx(0, abs=1e-14)
    assert found.training_value == pytest.approx(0, abs=1e-14)
    assert found.accuracy == pytest.approx(max(prior))
    assert cross_fit(lambda seed: Oracle(task), x, y, folds=2, seed=0).estimate().value < 1e-3


@pytest.mark.parametrize("sampled, known", [((1,) * 5, IMBALANCED), ((9, 1, 1, 1, 3), (1,) * 5)])
def test_samples_of_other_frequencies_give_i_of_the_known_prior(sampled, known):
    drawn, wanted = GaussianClasses(2, sampled), GaussianClasses(2, known)
    x, y = drawn.sample(20_000, torch.Generator().manual_seed(1))
    found, as_drawn = (
        cross_fit(lambda seed: Oracle(drawn), x, y, folds=2, seed=0, log_prior=log_prior)
        for log_prior in (wanted.log_prior, None)
    )
    truth, estimate = wanted.mutual_information()[0], found.estimate()
    error = (estimate.upper - estimate.lower) / 2 / 1.959964
    assert abs(estimate.value - truth) < 3 * error < 0.02
    assert found.training_value == pytest.approx(truth, abs=0.02)
    assert abs(as_drawn.estimate().value - truth) > 0.05
    ratio = wanted.log_ratio(x)
    torch.testing.assert_close(found.log_ratio, ratio, atol=1e-9, rtol=0)
    # The ratio alone is not enough, nor are the weights.
    assert abs(select_label(ratio, y).mean().item() - truth) > 0.02
    weighted = MIEstimate.under_prior(as_drawn.pointwise, y, wanted.log_prior)
    assert abs(weighted.value - truth) > 0.02


COUNTS = np.array([48, 59, 71])  # barbera, barolo, grignolino


@pytest.fixture(scope="module")
def lda(wine):
    """What the command cross-fits, under the frequencies or under a prior."""
    samples = read_samples(wine, "cultivar")

    def fit(prior: list | None = None) -> CrossFit:
        log_prior = None if prior is None else torch.tensor(prior, dtype=torch.float64).log()
        build = (lambda s: SklearnMI("lda", seed=s, val_fraction=0.15), samples.x, samples.y)
        return cross_fit(*build, folds=5, seed=0, log_prior=log_prior)

    return fit


def test_the_command_adds_miller_madow_to_h_and_its_share_to_the_estimate(plain, estimated, lda):
    corrected, own = estimated("--entropy", "miller-madow"), term(lda())
    full = (3 - 1) / (2 * 178)
    assert 0.8 * full < own < full  # the features all but tell the cultivar
    for name in ("mutual_information", "lower", "upper", "training_value"):
        assert corrected.result[name] == pytest.approx(plain.result[name] + own, abs=1e-12)
    cap = corrected.result["label_entropy"]
    assert cap == pytest.approx(plain.result["label_entropy"] + full, abs=1e-12)
    value = corrected.result["mutual_information"]
    assert corrected.result["share_of_label_entropy"] == pytest.approx(value / cap)
    assert corrected.result["mutual_information_bits"] == pytest.approx(value / math.log(2))
    assert corrected.pmi["pmi_nats"].mean() == pytest.approx(value)
    assert corrected.classes["contribution"].sum() == pytest.approx(value)
    for name in ("accuracy", "majority_accuracy"):
        assert corrected.result[name] == plain.result[name]


def test_the_command_weights_classes_by_a_known_prior(estimated, lda):
    prior = [0.1, 0.2, 0.7]
    run, found = estimated("--known-prior", *prior, "--permutations", 19), lda(prior)
    ratio = pointwise_mutual_information(
        lda().log_ratio, torch.tensor(prior, dtype=torch.float64).log()
    )
    expected = select_label(ratio, found.labels)
    assert run.pmi["pmi_nats"].to_numpy() == pytest.approx(expected.numpy(), abs=1e-12)
    value, half_width = slow_under_prior(expected.tolist(), found.labels.tolist(), prior)
    for name, number in (
        ("mutual_information", value),
        ("lower", value - half_width),
        ("upper", value + half_width),
        ("label_entropy", -sum(p * math.log(p) for p in prior)),
        ("training_value", found.training_value),
        ("majority_accuracy", 0.7),
        ("p_value", 1 / 20),
    ):
        assert run.result[name] == pytest.approx(number, abs=1e-8)
    assert run.result["training_value"] > run.result["mutual_information"]
    classes = run.classes.set_index("class")
    assert classes["contribution"].sum() == pytest.approx(value, abs=1e-12)
    assert classes["contribution"].to_numpy() == pytest.approx(prior * classes["mean_pmi"])
    assert run.result["accuracy"] == pytest.approx((prior * classes["accuracy"]).sum())
    assert list(classes["samples"]) == COUNTS.tolist()


@pytest.mark.parametrize(
    "prior", [["0.5", "0.5"], ["0.5", "0.5", "0"], ["0.5", "0.4", "0.2"], ["nan", "0.5", "0.5"]]
)
def test_a_known_prior_that_is_none_is_refused(wine, tmp_path, user_error, prior):
    flags = ["--label", "cultivar", "--estimator", "lda", "--output-dir", tmp_path / "out"]
    line = user_error(main, [wine, *flags, "--device", "cpu", "--known-prior", *prior])
    assert f"--known-prior {float(prior[0])}" in line and "give 3 probabilities above zero" in line
    assert not (tmp_path / "out").exists()
