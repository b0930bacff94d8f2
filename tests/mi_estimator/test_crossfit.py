"""Calibration, validation split, cross-fitting: known answers, slow versions, and no peeking."""

import math

import pytest
import torch
from torch import Tensor

from mi_common.calibration import fit_calibration
from mi_common.errors import UserError
from mi_common.information import log_prior_from_labels, pc_softmax_loss, select_label
from mi_estimator.estimators import classifier as estimators
from mi_estimator.estimators.base import Estimator
from mi_estimator.estimators.classifier import ClassifierMI, validation_split
from mi_estimator.estimators.crossfit import CrossFit, cross_fit
from mi_estimator.samples import check_folds


def drawn(n: int, scale: float, bias: list, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Logits f whose calibrated form is scale * f + bias, labels drawn from that, the prior."""
    generator = torch.Generator().manual_seed(seed)
    log_prior = torch.tensor([0.5, 0.3, 0.2]).double().log()
    logits = 1.5 * torch.randn(n, 3, generator=generator, dtype=torch.float64)
    posterior = (scale * logits + torch.tensor(bias) + log_prior).softmax(dim=1)
    labels = torch.multinomial(posterior, 1, generator=generator).squeeze(1)
    return logits, labels, log_prior


@pytest.mark.parametrize("scale", [0.4, 1.0, 2.5])
@pytest.mark.parametrize("bias", [[0.0, 0.0, 0.0], [0.8, -0.5, -0.3]])
def test_calibration_recovers_temperature_and_bias(scale, bias):
    logits, labels, log_prior = drawn(40_000, scale, bias)
    found_scale, found_bias = fit_calibration(logits.float(), labels, log_prior.float())
    assert found_scale.item() == pytest.approx(scale, rel=0.04)
    assert found_bias.tolist() == pytest.approx(bias, abs=0.05)  # the prior makes its sum zero


def test_calibration_lowers_the_loss_to_that_of_the_truth():
    logits, labels, log_prior = drawn(5000, 0.3, [0.8, -0.5, -0.3])
    scale, bias = fit_calibration(logits, labels, log_prior)
    fresh, fresh_labels, _ = drawn(40_000, 0.3, [0.8, -0.5, -0.3], seed=1)

    def loss(scale: float, bias: Tensor | float) -> float:
        return pc_softmax_loss(scale * fresh + bias, fresh_labels, log_prior).item()

    truth = loss(0.3, torch.tensor([0.8, -0.5, -0.3]))
    assert loss(scale, bias) == pytest.approx(truth, abs=0.003)
    assert loss(1.0, 0.0) > truth + 0.3


def test_calibration_leaves_few_samples_and_good_logits_alone():
    none = fit_calibration(torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), torch.zeros(3))
    assert none[0].item() == 1 and none[1].tolist() == [0, 0, 0]
    log_prior = torch.full((3,), 1 / 3).log()
    scale, bias = fit_calibration(torch.eye(3) * 2, torch.arange(3), log_prior)
    assert 1 < scale.item() < 2  # the likelihood alone would let it grow without end
    assert bias.tolist() == pytest.approx([0, 0, 0], abs=1e-4)
    logits, labels, log_prior = drawn(20_000, 1.0, [0.0, 0.0, 0.0])
    scale, bias = fit_calibration(logits, labels, log_prior)
    assert abs(scale.item() - 1) < 0.03 and bias.abs().max() < 0.05


def test_the_validation_split_takes_its_share_of_each_class():
    labels = torch.tensor([0] * 40 + [1] * 19 + [2] * 6 + [3])
    labels = labels[torch.randperm(66, generator=torch.Generator().manual_seed(5))]
    train, back = validation_split(labels, 0.15, seed=0)
    assert torch.bincount(labels[back], minlength=4).tolist() == [6, 2, 1, 0]
    assert torch.bincount(labels[train]).tolist() == [34, 17, 5, 1]  # one of three or more
    assert torch.cat((train, back)).sort().values.tolist() == list(range(66))
    again = validation_split(labels, 0.15, seed=0)
    assert torch.equal(train, again[0]) and torch.equal(back, again[1])
    assert back.tolist() != validation_split(labels, 0.15, seed=1)[1].tolist()


@pytest.mark.parametrize("fraction", [-0.1, 1.0, float("nan")])
def test_a_validation_set_is_a_part_of_the_samples(fraction):
    with pytest.raises(UserError, match=f"val_fraction {fraction}: .* from 0 to below 1"):
        validation_split(torch.arange(20) % 2, fraction, 0)


def test_every_sample_of_a_class_is_validated_with_equally_often():
    labels = torch.arange(20) % 2
    times = torch.zeros(20)
    for seed in range(400):
        times[validation_split(labels, 0.3, seed)[1]] += 1
    assert times.sum() == 400 * 6
    assert (times / 400 - 0.3).abs().max() < 0.09  # four standard errors


def noise(n: int, num_classes: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 10, generator=generator)
    return x, torch.randint(num_classes, (n,), generator=generator)


def test_the_kept_weights_are_those_of_the_best_epoch(cpu, monkeypatch):
    losses, keepers = [], []

    class Recorder(estimators._BestEpoch):
        def __call__(self) -> bool:
            keepers[:] = [self]
            ratio = self.estimator.log_ratio(self.x)
            losses.append(-select_label(ratio, self.y).mean().item())
            super().__call__()
            return False  # all epochs, also those after it would stop

    monkeypatch.setattr(estimators, "_BestEpoch", Recorder)
    x, y = noise(300, 3, seed=2)
    estimator = ClassifierMI(
        runtime=cpu, epochs=12, members=1, batch_size=50, val_fraction=0.25
    ).fit(x, y)
    assert len(losses) == 12 and losses.index(min(losses)) < 11
    (keeper,) = keepers
    _, back = validation_split(y, 0.25, estimator.seed)
    assert torch.equal(keeper.x, x[back]) and torch.equal(keeper.y, y[back])
    log_prior = log_prior_from_labels(y, 3)
    logits = estimator._logits(x[back])
    assert pc_softmax_loss(logits, y[back], log_prior).item() == pytest.approx(min(losses))
    scale, bias = fit_calibration(logits, y[back], log_prior)
    assert estimator.scale_.item() == scale.item() and estimator.bias_.tolist() == bias.tolist()
    calibrated = pc_softmax_loss(scale * logits + bias, y[back], log_prior).item()
    assert calibrated <= min(losses) + 1e-6
    assert -estimator.estimate(x[back], y[back]).value == pytest.approx(calibrated, abs=1e-6)


class Stub(Estimator):
    """Knows which rows it was fitted on (feature 0 is the row); its scores depend on the seed."""

    def __init__(self, seed: int, made: list):
        self.seed, self.asked = seed, []
        made.append(self)

    is_cross_entropy = True

    def train(self, x: Tensor, y: Tensor, num_classes: int) -> "Stub":
        self.rows, self.num_classes = x[:, 0].long().tolist(), num_classes
        self.labels = y.tolist()
        return self

    def terms(self, x: Tensor, y: Tensor) -> Tensor:
        raise AssertionError("the log ratios suffice")

    def log_ratio(self, x: Tensor) -> Tensor:
        rows = x[:, 0].long()
        self.asked.append(rows.tolist())
        table = torch.randn(
            100, self.num_classes, generator=torch.Generator().manual_seed(self.seed)
        )
        return table[rows]


STUB_LABELS = torch.tensor([0, 1, 2] * 8 + [0, 0, 1])


def fit_stubs(log_prior: Tensor | None = None) -> tuple[CrossFit, list[Stub], Tensor]:
    made, y = [], STUB_LABELS
    x = torch.stack((torch.arange(27.0), torch.zeros(27)), dim=1)
    found = cross_fit(lambda seed: Stub(seed, made), x, y, folds=3, seed=40, log_prior=log_prior)
    return found, made, y


@pytest.fixture
def stubbed() -> tuple[CrossFit, list[Stub], Tensor]:
    return fit_stubs()


def test_every_sample_is_scored_once_by_a_classifier_that_never_saw_it(stubbed):
    found, made, y = stubbed
    assert [stub.seed for stub in made] == [40, 41, 42]
    scored = []
    for fold, stub in enumerate(made):
        tested = next(rows for rows in stub.asked if rows != stub.rows)
        assert not set(tested) & set(stub.rows)
        assert sorted(tested + stub.rows) == list(range(27))
        assert stub.labels == y[stub.rows].tolist() and stub.num_classes == 3
        assert sorted(tested) == (found.folds == fold).nonzero().flatten().tolist()
        counts = torch.bincount(y[tested])  # 10, 9 and 8 samples on three folds
        assert ((counts - torch.bincount(y) / 3).abs() < 1).all()
        scored += tested
    assert sorted(scored) == list(range(27))


@pytest.mark.parametrize("prior", [None, (0.6, 0.3, 0.1)])
def test_ratio_values_and_accuracy_as_computed_slowly(prior):
    """With a known prior, each class counts for its probability and not for its samples."""
    log_prior = None if prior is None else torch.tensor(prior, dtype=torch.float64).log()
    found, made, y = fit_stubs(log_prior)
    counts = torch.bincount(y).tolist()
    used = prior or [count / 27 for count in counts]
    training, accuracy = [], 0.0
    for fold, stub in enumerate(made):
        table = torch.randn(100, 3, generator=torch.Generator().manual_seed(stub.seed)).tolist()
        # Whatever constant a row of scores has, the ratio has a mean of one under the prior.
        log_s = [
            math.log(sum(p * math.exp(f) for p, f in zip(used, r, strict=True))) for r in table
        ]
        own, seen = [table[i][y[i]] - log_s[i] for i in stub.rows], stub.labels
        if prior is None:
            training.append(sum(own) / len(own))
        else:
            classes = [[v for v, k in zip(own, seen, strict=True) if k == c] for c in range(3)]
            means = [sum(values) / len(values) for values in classes]
            training.append(sum(p * mean for p, mean in zip(used, means, strict=True)))
        for i in (found.folds == fold).nonzero().flatten().tolist():
            row = [table[i][k] - log_s[i] for k in range(3)]
            assert found.log_ratio[i].tolist() == pytest.approx(row, abs=1e-6)
            assert found.pointwise[i].item() == pytest.approx(row[y[i]], abs=1e-6)
            posterior = [row[k] + math.log(used[k]) for k in range(3)]
            assert found.log_posterior[i].tolist() == pytest.approx(posterior, abs=1e-6)
            assert sum(map(math.exp, posterior)) == pytest.approx(1)
            hit = posterior.index(max(posterior)) == y[i]
            accuracy += hit * used[y[i]] / counts[y[i]]
    assert found.training_value == pytest.approx(sum(training) / 3)
    assert found.accuracy == pytest.approx(accuracy) and 0.1 < accuracy < 0.9
    assert found.log_prior.exp().tolist() == pytest.approx(used)
    assert found.prior_is_known == (prior is not None)
    assert found.log_ratio.dtype == torch.float64 and torch.equal(found.labels, y)


def test_a_class_with_fewer_samples_than_folds_is_named():
    y = torch.tensor([0] * 9 + [1] * 4 + [2] * 5 + [3] * 2)
    message = r"fewer samples than --folds 5: cat \(4\), eel \(2\); use fewer folds"
    with pytest.raises(UserError, match=message):
        check_folds(y, 5, ["bat", "cat", "dog", "eel"])
    with pytest.raises(UserError, match=r"--folds 3: 3 \(2\); use fewer folds"):
        cross_fit(lambda seed: Stub(seed, []), torch.zeros(20, 2), y, folds=3, seed=0)
    check_folds(y, 2)


def test_the_interval_takes_the_larger_of_sampling_error_and_spread_of_the_folds():
    """Terms 0 and 1 in turn; with the second fold lifted by ten, the folds' means differ more."""
    terms, folds = torch.arange(40).remainder(2).double(), torch.arange(2).repeat_interleave(20)
    labels = torch.arange(40) // 2 % 2
    ratio = torch.zeros(40, 2, dtype=torch.float64)
    log_prior = torch.full((2,), 0.5).double().log()

    def half_width(pointwise: Tensor) -> float:
        found = CrossFit(ratio, log_prior, False, labels, folds, pointwise, 0.0).estimate()
        assert found.value == pytest.approx(pointwise.mean().item())
        return (found.upper - found.lower) / 2

    assert half_width(terms) == pytest.approx(1.959964 * terms.std().item() / 40**0.5)
    # Means of 0.5 and 10.5: their standard deviation is 10 / sqrt 2, that of their mean 5.
    assert half_width(terms + 10 * folds) == pytest.approx(1.959964 * 5)
