"""Networks side by side, their common scale, and the best validation epoch."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mi_common.information import pc_softmax_loss, pointwise_mutual_information, select_label
from mi_estimator.estimators.classifier import ClassifierMI, _BestEpoch, validation_split
from mi_estimator.estimators.critics import CriticMI
from mi_estimator.estimators.networks import Members, Standardise, mlp
from mi_estimator.estimators.registry import Settings
from mi_estimator.tasks.gaussians import GaussianClasses

# One network, trained as in the paper, without validation set.
PAPER = {"members": 1, "val_fraction": 0.0, "lr": 5e-3, "weight_decay": 1e-4}


def networks(count: int) -> list[nn.Module]:
    torch.manual_seed(0)
    return [mlp(3, 4, (8,)) for _ in range(count)]


X = torch.randn(10, 3, generator=torch.Generator().manual_seed(1))
Y = torch.arange(10) % 4


def test_members_average_their_logits_and_train_on_their_own():
    parts = networks(3)
    members = Members(parts)
    logits = [part(X) for part in parts]
    torch.testing.assert_close(members.eval()(X), sum(logits) / 3)
    assert torch.equal(members.train()(X), torch.cat(logits))
    assert not torch.allclose(logits[0], logits[1])


@pytest.mark.parametrize(
    "estimator",
    [
        *(ClassifierMI(name) for name in ("softmax", "pc-softmax")),
        *(CriticMI(name) for name in ("nwj", "infonce", "smile")),
    ],
    ids=["softmax", "pc-softmax", "nwj", "infonce", "smile"],
)
def test_the_loss_of_all_members_is_the_mean_of_theirs(estimator):
    """So each has the gradient that it would have alone, but for a factor."""
    estimator.log_prior_ = (torch.bincount(Y) / 10).log()
    parts = networks(3)
    together = estimator._loss(Members(parts).train()(X), Y.repeat(3))
    alone = [estimator._loss(part(X), Y) for part in parts]
    assert together.item() == pytest.approx(sum(alone).item() / 3, abs=1e-6)
    gradient = torch.autograd.grad(together, list(parts[1].parameters()))
    own = torch.autograd.grad(alone[1], list(parts[1].parameters()))
    for found, expected in zip(gradient, own, strict=True):
        torch.testing.assert_close(3 * found, expected)


def drawn(n: int, seed: int) -> tuple[Tensor, Tensor]:
    return GaussianClasses(2).sample(n, torch.Generator().manual_seed(seed), exact_counts=True)


@pytest.mark.parametrize("objective", ["pc-softmax", "softmax"])
def test_an_estimator_of_members_averages_what_each_learned(objective, cpu):
    (x, y), (x_test, y_test) = drawn(300, 0), drawn(2000, 1)
    options = PAPER | {"runtime": cpu, "epochs": 3, "batch_size": 50, "hidden": (16,)}
    estimator = ClassifierMI(objective, **options | {"members": 3}).fit(x, y)
    scale, members = estimator.network_
    assert len(members) == 3
    log_prior = estimator.log_prior_
    shift = log_prior if objective == "softmax" else 0
    logits = [member(scale(x_test)).detach() - shift for member in members]
    ratio = estimator.log_ratio(x_test)
    expected = pointwise_mutual_information(sum(logits) / 3, log_prior)
    torch.testing.assert_close(ratio, expected, atol=1e-5, rtol=0)
    # The logarithm of a ratio is concave in its logits, so no estimate is below their mean.
    values = [-pc_softmax_loss(part, y_test, log_prior).item() for part in logits]
    assert estimator.estimate(x_test, y_test).value > sum(values) / 3
    # Adam divides out the factor 1/3 of the gradient: the first has learned as if alone.
    single = ClassifierMI(objective, **options).fit(x, y)
    alone = single.network_[1][0](scale(x_test)).detach() - shift
    torch.testing.assert_close(logits[0], alone, atol=0.01, rtol=0)
    assert (logits[1] - alone).abs().mean() > 0.1


BEYOND = 10  # from where on features grow as a logarithm


def slow_scale(column: list, values: list) -> list:
    """The median becomes 0, the quartiles -0.6745 and 0.6745 as of a standard normal."""
    low, middle, high = np.quantile(column, (0.25, 0.5, 0.75))
    spread = (high - low) / 1.349
    if high == low:
        spread = np.std(column)
    if spread < 1e-9:
        spread = 1
    scaled = [(value - middle) / spread for value in values]
    tail = [math.log1p(max(abs(z) - BEYOND, 0)) for z in scaled]
    return [math.copysign(min(abs(z), BEYOND) + t, z) for z, t in zip(scaled, tail, strict=True)]


def test_features_are_scaled_by_their_quartiles_and_far_values_by_a_logarithm():
    rng = np.random.default_rng(0)
    columns = {
        "normal": rng.normal(1000, 3, 501),
        "heavy tail": rng.standard_cauchy(501),
        "two values": rng.random(501) < 0.3,
        "rare": rng.random(501) < 0.05,  # more than half at zero
        "constant": np.full(501, 0.1),
    }
    x = torch.tensor(np.array(list(columns.values()), dtype=np.float32).T)
    scaled = Standardise(x)(x)
    for name, column, found in zip(columns, x.T.tolist(), scaled.T.tolist(), strict=True):
        assert found == pytest.approx(slow_scale(column, column), abs=1e-4), name
    assert scaled[:, 0].std().item() == pytest.approx(1, abs=0.15)
    assert scaled[:, 4].abs().max() < 1e-6
    # An outlier moves nobody else; nothing far is lost, as order and distance stay.
    x[0, 0] = 1e9
    torch.testing.assert_close(Standardise(x)(x)[1:], scaled[1:], atol=0.02, rtol=0)
    far = torch.tensor([-1e9, -1e3, -4, -3, -2.9, 0, 2.9, 3, 4, 1e3, 1e9])
    found = Standardise(X.reshape(-1, 1))(far[:, None]).flatten()
    assert (found.diff() > 0.05).all() and found.abs().max() < 40


def test_channels_are_scaled_to_mean_0_and_deviation_1_a_part_at_a_time():
    images = torch.rand(5000, 2, 3, 2, generator=torch.Generator().manual_seed(0))
    images[:, 1] = 50 + 9 * images[:, 1]
    scaled = Standardise(images)(images).double()
    assert scaled.mean((0, 2, 3)).tolist() == pytest.approx([0, 0], abs=1e-5)
    assert scaled.std((0, 2, 3), correction=0).tolist() == pytest.approx([1, 1], abs=1e-5)
    grey = torch.full((9, 1, 3, 3), 0.1)
    assert Standardise(grey)(grey).abs().max() < 1e-6


def test_the_scale_is_kept_with_the_weights():
    first, second = X, 5 * X + 2
    scale = Standardise(first)
    scale.load_state_dict(Standardise(second).state_dict())
    assert torch.equal(scale(second), Standardise(second)(second))


def test_bytes_give_the_estimate_of_floats(cpu):
    """A bright half says the class of 8 x 8 images with two channels."""
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(80) % 2
    x = torch.randint(100, (80, 2, 8, 8), generator=generator, dtype=torch.uint8)
    x[y == 1, :, :4] += 60
    assert torch.equal(Standardise(x)(x), Standardise(x.float())(x.float()))
    found = [
        ClassifierMI(runtime=cpu, epochs=2, batch_size=20, **PAPER | {"val_fraction": 0.2})
        .fit(images[:60], y[:60])
        .estimate(images[60:], y[60:])
        for images in (x, x.float(), x.numpy())
    ]
    assert found[0].value > 0.1
    for other in found[1:]:
        assert torch.equal(other.pointwise, found[0].pointwise)


class Scripted:
    """Stands for an estimator: epoch i scores the validation samples by the i-th row of terms."""

    def __init__(self, terms: list[Tensor]):
        self.terms, self.epoch = terms, -1
        self.network_ = nn.Linear(1, 1, bias=False)

    def _logits(self, x: Tensor) -> Tensor:
        return self.terms[self.epoch][x]

    def validation_terms(self, logits: Tensor, labels: Tensor) -> Tensor:
        return logits[labels]

    def run(self) -> tuple[int, float]:
        """After how many epochs training ends, and the epoch whose weights are kept."""
        order = torch.arange(len(self.terms[0]))
        best = _BestEpoch(self, order, order)
        while self.epoch + 1 < len(self.terms):
            self.epoch += 1
            nn.init.constant_(self.network_.weight, self.epoch)  # in place, as an optimiser does
            if best():
                break
        return self.epoch + 1, best.state["weight"].item()


NOISE = torch.randn(100, generator=torch.Generator().manual_seed(0)).double()
GOOD = 1 + NOISE
BAD = GOOD - 0.5 - 0.1 * NOISE.flip(0)  # a paired difference of 0.5 +- 0.01


def like(terms: Tensor, seed: int) -> Tensor:
    """Other terms, worse by 0.01 on average, which is less than a standard error of 0.02."""
    noise = torch.randn(100, generator=torch.Generator().manual_seed(seed)).double()
    return terms - 0.01 + 0.2 * (noise - noise.mean())


@pytest.mark.parametrize(
    ("terms", "epochs", "best"),
    [
        ([GOOD - 1, GOOD, BAD, BAD, BAD, GOOD + 1], 5, 1),
        ([GOOD, BAD, BAD, GOOD + 1, BAD, BAD, GOOD + 2], 7, 6),
        # A plateau between them, or a better epoch, starts the count anew.
        ([GOOD, BAD, BAD, like(GOOD, 1), BAD, BAD, like(GOOD, 2), BAD, BAD, BAD, BAD], 10, 0),
        ([GOOD, BAD, BAD, GOOD + 0.1, BAD, BAD, BAD, BAD], 7, 3),
        ([GOOD, *(like(GOOD, seed) for seed in range(30))], 31, 0),
        ([GOOD] * 30, 30, 0),  # the first of equals
        ([GOOD + 0.01 * epoch for epoch in range(30)], 30, 29),
    ],
)
def test_three_clearly_worse_epochs_in_a_row_end_training(terms, epochs, best):
    assert Scripted(terms).run() == (epochs, best)


@pytest.mark.parametrize(("factor", "epochs"), [(2.9, 20), (3.1, 4)])
def test_clearly_is_three_standard_errors_of_the_paired_difference(factor, epochs):
    """The terms themselves vary ten times as much as their difference does."""
    difference = 0.1 * (NOISE - NOISE.mean()) / NOISE.std()
    worse = 10 * NOISE - difference - factor * 0.1 / math.sqrt(100)
    assert Scripted([10 * NOISE, *[worse] * 19]).run() == (epochs, 0)


def test_a_network_that_learns_noise_stops_early_with_its_best_weights(cpu):
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(400, 10, generator=generator), torch.arange(400) % 4
    options = PAPER | {"runtime": cpu, "batch_size": 50, "members": 2, "lr": 0.01}
    options["val_fraction"] = 0.25
    estimator = ClassifierMI(epochs=60, **options).fit(x, y)
    assert 4 <= len(estimator.history_) < 30
    train, back = validation_split(y, 0.25, 0)
    terms = select_label(estimator.log_ratio(x[back]), y[back])
    assert -0.01 < terms.mean() < 0.05
    full = ClassifierMI(epochs=60, **options | {"val_fraction": 0.0}).fit(x[train], y[train])
    assert len(full.history_) == 60  # nobody is asked


@pytest.mark.parametrize(
    ("n", "epochs", "batch_size", "members"),
    [
        (100, 50, 100, 4),
        (10_000, 50, 100, 4),
        (20_001, 50, 200, 2),
        (100_001, 50, 1000, 1),
        (400_000, 20, 1000, 1),
        (10_000_000, 1, 1000, 1),
    ],
)
def test_the_size_of_a_training_follows_the_number_of_samples(n, epochs, batch_size, members):
    settings = Settings().for_size(n)
    assert (settings.epochs, settings.batch_size) == (epochs, batch_size)
    assert settings.members == members
    assert epochs * n <= 20_000 * batch_size
    given = Settings(7, 30, members=3).for_size(n)
    assert (given.epochs, given.batch_size, given.members) == (7, 30, 3)
