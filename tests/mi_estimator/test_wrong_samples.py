"""Samples, names and numbers that no estimator can use: one check for all of them."""

import math

import pytest
import torch

from mi_common.errors import UserError
from mi_estimator.estimators.baselines import SklearnMI
from mi_estimator.estimators.classifier import ClassifierMI
from mi_estimator.estimators.critics import CriticMI
from mi_estimator.estimators.neighbours import NeighbourMI

X = torch.randn(6, 2, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 2, 0, 1, 2])
BROKEN = X.clone()
BROKEN[3, 1] = math.inf
KINDS = {
    "classifier": lambda: ClassifierMI(epochs=1, hidden=(4,)),
    "critic": lambda: CriticMI("nwj", epochs=1, hidden=(4,)),
    "scikit-learn": lambda: SklearnMI("lda"),
    "neighbours": NeighbourMI,
}
WRONG = [
    (X, [0, 1, 2, 0, 1], "6 samples but 5 labels"),  # not scored against the first five
    (X, [0, 1, 2], "6 samples but 3 labels"),
    (X, [0] * 7, "6 samples but 7 labels"),
    (X, [0.5, 1, 2, 0, 1, 2], "Unknown label type: continuous"),
    (X, [0, 1, 2, 0, 1, math.nan], r"label of sample 5 \(from 0\) is missing"),
    (X[:, 0], Y, r"features of shape \(6,\)"),
    (X[:0], [], "0 samples: at least 2"),
    (X[:1], [0], "1 samples: at least 2"),
    (BROKEN, Y, r"sample 3 \(from 0\) holds NaN or infinity"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("x", "y", "message"), WRONG)
def test_wrong_samples_are_user_errors_of_fit_and_of_estimate(kind, x, y, message):
    with pytest.raises(UserError, match=message):
        KINDS[kind]().fit(x, torch.as_tensor(y), num_classes=3)
    fitted = KINDS[kind]().fit(X, Y)
    with pytest.raises(UserError, match=message):
        fitted.estimate(x, torch.as_tensor(y))


@pytest.mark.parametrize("kind", ["classifier", "critic", "scikit-learn"])
def test_a_trained_estimator_needs_samples_of_every_class_and_knows_no_other(kind):
    message = r"classes \[2\] have no training samples"
    with pytest.raises(UserError, match=message):
        KINDS[kind]().fit(X, torch.tensor([0, 1, 1, 0, 1, 0]), num_classes=3)
    with pytest.raises(UserError, match="label 3: not among the classes 0, 1, 2"):
        KINDS[kind]().fit(X, torch.tensor([0, 1, 2, 0, 1, 3]), num_classes=3)
    with pytest.raises(UserError, match="label -1: not among the classes 0, 1, 2"):
        KINDS[kind]().fit(X, Y).estimate(X, [0, 1, 2, 0, 1, -1])
    with pytest.raises(UserError, match="label 3: not among the classes 0, 1, 2"):
        KINDS[kind]().fit(X, Y).estimate(X, Y + 1)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ClassifierMI("mine"), "objective 'mine': use one of softmax, pc-softmax"),
        (lambda: CriticMI("dv"), "objective 'dv': use one of mine, nwj, infonce, smile"),
        (lambda: SklearnMI("svm"), "classifier 'svm': use one of logistic-regression, "),
    ],
)
def test_wrong_objectives_are_user_errors(build, message):
    with pytest.raises(UserError, match=message):
        build().fit(X, Y)


def test_images_must_be_large_enough_for_the_network():
    labels = torch.arange(6) % 2
    with pytest.raises(UserError, match="images of 7 x 20 pixels: at least 8 x 8"):
        ClassifierMI(epochs=1).fit(torch.rand(6, 1, 7, 20), labels)
    estimator = ClassifierMI(epochs=1, members=1).fit(torch.rand(6, 1, 8, 8), labels)
    assert estimator.log_ratio(torch.rand(6, 1, 8, 8)).shape == (6, 2)


def test_a_critic_that_overflows_says_so(cpu):
    critic = CriticMI("nwj", runtime=cpu, epochs=1, members=1).fit(X, Y)
    with torch.no_grad():
        list(critic.network_.parameters())[-1].fill_(1000)  # exp overflows even in float64
    with pytest.raises(UserError, match="nwj: the bound is not finite; use a lower --lr"):
        critic.estimate(X, Y)
    x = torch.randn(1000, 1, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UserError, match="the loss is"):
        CriticMI("nwj", runtime=cpu, epochs=6, batch_size=500, lr=100.0, members=1).fit(
            x, Y.repeat(167)[:1000]
        )
