"""Estimators of mutual information on fake CUDA tensors: forward passes, losses, log ratios.

Each is fitted on the CPU, where values decide on classes and epochs, and then moved as `fit` would
have placed it.
"""

import pytest
import torch
from fake_cuda import CUDA, assert_on_cuda, fake_cuda
from torch.nn.functional import one_hot

from mi_common.runtime import Runtime
from mi_estimator.estimators import critics
from mi_estimator.estimators.classifier import OBJECTIVES, ClassifierMI
from mi_estimator.estimators.critics import BOUNDS, CriticMI

CLASSES, MEMBERS = 3, 2
# A CUDA autocast warns where there is no GPU, even if it is to do nothing.
pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type:UserWarning")


def samples(kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(30) % CLASSES
    shape = (30, 4) if kind == "features" else (30, 1, 8, 8)
    return torch.randn(shape, generator=generator), labels


def moved_estimator(name: str, kind: str) -> ClassifierMI:
    """Fitted for an epoch with all of its parts on the device that a GPU's fit has there."""
    build = CriticMI if name in BOUNDS else ClassifierMI
    cpu = Runtime(torch.device("cpu"))
    estimator = build(name, runtime=cpu, epochs=1, hidden=(8,), members=MEMBERS, val_fraction=0.2)
    estimator.fit(*samples(kind))
    estimator.runtime_ = Runtime(CUDA)
    with fake_cuda():
        estimator.network_.to(CUDA)
        estimator.log_prior_ = estimator.log_prior_.to(CUDA)
        if name == "mine":
            estimator._log_average = estimator._log_average.to(CUDA)
    return estimator


@pytest.fixture
def counts_without_values(monkeypatch) -> None:
    """How many classes a count has is a value to `bincount`, and so unknown to fake tensors."""

    real = torch.bincount

    def bincount(labels: torch.Tensor, minlength: int = 0) -> torch.Tensor:
        return one_hot(labels, minlength).sum(dim=0) if minlength else real(labels)

    monkeypatch.setattr(torch, "bincount", bincount)


@pytest.mark.parametrize(
    ("name", "kind"),
    [*((name, "features") for name in (*OBJECTIVES, *BOUNDS)), ("pc-softmax", "images")],
)
def test_log_ratios_come_back_to_the_cpu(name, kind):
    estimator, (x, _) = moved_estimator(name, kind), samples(kind)
    with fake_cuda():
        assert_on_cuda(estimator.network_(x.to(CUDA)), 30, CLASSES)
        ratios = estimator.log_ratio(x)
        assert (ratios.device, tuple(ratios.shape)) == (torch.device("cpu"), (30, CLASSES))
        with pytest.raises(RuntimeError, match="device"):
            estimator.network_(x)


@pytest.mark.parametrize("name", [*OBJECTIVES, *BOUNDS])
def test_training_losses_stay_on_the_device(name, counts_without_values):
    estimator, (x, y) = moved_estimator(name, "features"), samples("features")
    with fake_cuda():
        logits = estimator.network_.train()(x.to(CUDA))
        assert_on_cuda(logits, 30 * MEMBERS, CLASSES)
        assert_on_cuda(estimator._loss(logits, y.to(CUDA).repeat(MEMBERS)))


@pytest.mark.parametrize("name", ["softmax", "pc-softmax", "mine", "nwj", "smile"])
def test_labels_on_the_cpu_are_an_error_of_every_training_loss(name):
    estimator, (x, y) = moved_estimator(name, "features"), samples("features")
    with fake_cuda(), pytest.raises(RuntimeError, match="device"):
        estimator._loss(estimator.network_.train()(x.to(CUDA)), y.repeat(MEMBERS))


@pytest.mark.parametrize("prior_device", ["cpu", CUDA])
def test_bounds_follow_the_logits(prior_device, counts_without_values):
    with fake_cuda():
        logits = torch.randn(6, CLASSES, device=CUDA)
        labels = torch.randint(CLASSES, (6,), device=CUDA)
        log_prior = torch.randn(CLASSES, device=prior_device)
        for bound in (
            critics.pc_softmax_bound,
            critics.donsker_varadhan_bound,
            critics.nwj_bound,
            critics.smile,
            critics.jensen_shannon_bound,
        ):
            assert_on_cuda(bound(logits, labels, log_prior), 6)
        assert_on_cuda(critics.infonce_bound(logits, labels), 6)


@pytest.mark.parametrize("name", BOUNDS)
def test_terms_of_test_samples_are_on_the_cpu(name, counts_without_values):
    estimator, (x, y) = moved_estimator(name, "features"), samples("features")
    with fake_cuda():
        terms = estimator._terms(estimator._logits(x).double(), y)
        assert (terms.device, tuple(terms.shape)) == (torch.device("cpu"), (30,))
