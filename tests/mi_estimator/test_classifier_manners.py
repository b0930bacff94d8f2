"""scikit-learn's manners of an estimator, and where it runs when nobody says."""

import inspect
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone

from mi_common.runtime import Runtime, setup
from mi_estimator.estimators import classifier
from mi_estimator.estimators.classifier import ClassifierMI, validation_split
from mi_estimator.estimators.critics import BOUNDS, CriticMI, jensen_shannon_bound

X = torch.randn(60, 2, generator=torch.Generator().manual_seed(0))
Y = torch.arange(60) % 3
X[:, 0] += Y
TINY = {
    "epochs": 2,
    "batch_size": 20,
    "hidden": (8,),
    "lr": 0.01,
    "members": 1,
    "val_fraction": 0.0,
}


def test_parameters_are_those_of_the_signature_and_nothing_else():
    given = TINY | {"objective": "softmax", "members": 3, "seed": 7, "val_fraction": 0.2}
    given |= {"weight_decay": 0.1, "bias_sd": 0.5, "runtime": Runtime(torch.device("cpu"))}
    assert set(given) == set(inspect.signature(ClassifierMI).parameters)
    assert ClassifierMI(**given).get_params() == given
    assert ClassifierMI(**given).fit(X, Y).get_params() == given


def test_a_clone_has_the_parameters_and_not_the_fit(cpu):
    fitted = ClassifierMI("softmax", runtime=cpu, seed=3, **TINY).fit(X, Y)
    copied = clone(fitted)
    assert copied.get_params() == fitted.get_params() and copied is not fitted
    assert not hasattr(copied, "network") and not hasattr(copied, "runtime_")
    again = copied.fit(X, Y).estimate(X, Y)
    assert torch.equal(again.pointwise, fitted.estimate(X, Y).pointwise)


def test_parameters_that_are_set_are_those_of_the_next_fit(cpu):
    estimator = ClassifierMI(runtime=cpu, **TINY).fit(X, Y)
    assert len(estimator.history_) == 2
    assert estimator.set_params(epochs=3, objective="softmax", members=2) is estimator
    found = estimator.fit(X, Y).estimate(X, Y).value
    assert len(estimator.history_) == 3 and len(estimator.network_[1]) == 2
    made = ClassifierMI("softmax", runtime=cpu, **TINY | {"epochs": 3, "members": 2})
    assert made.fit(X, Y).estimate(X, Y).value == found
    with pytest.raises(ValueError, match=r"Invalid parameter .?depth"):
        estimator.set_params(depth=3)


def test_a_fitted_one_survives_pickling(cpu):
    fitted = ClassifierMI(runtime=cpu, **TINY | {"members": 2, "val_fraction": 0.2}).fit(X, Y)
    loaded = pickle.loads(pickle.dumps(fitted))
    assert torch.equal(loaded.estimate(X, Y).pointwise, fitted.estimate(X, Y).pointwise)


@pytest.mark.parametrize("kind", [ClassifierMI, CriticMI])
def test_without_a_runtime_it_is_a_gpu_if_there_is_one_in_fp32(kind):
    estimator = kind(**TINY).fit(X, Y)
    assert estimator.runtime is None
    assert estimator.runtime_ == setup() and estimator.runtime_.precision == "fp32"
    assert estimator.runtime_.device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    given = kind(runtime=estimator.runtime_, **TINY).fit(X, Y)
    assert given.estimate(X, Y).value == estimator.estimate(X, Y).value


def test_arrays_are_as_good_as_tensors(cpu):
    fitted = ClassifierMI(runtime=cpu, **TINY).fit(X.double().numpy(), Y.int().numpy())
    expected = ClassifierMI(runtime=cpu, **TINY).fit(X, Y).estimate(X, Y)
    estimate = fitted.estimate(X.tolist(), Y.numpy().astype(np.int16))
    assert torch.equal(estimate.pointwise, expected.pointwise)
    estimate = fitted.estimate(X, Y.float())
    assert torch.equal(estimate.pointwise, expected.pointwise)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_critic_keeps_the_epoch_that_its_bound_chooses(bound, cpu, monkeypatch):
    """of validation samples, as they are: nothing is calibrated."""
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(200, 5, generator=generator), torch.arange(200) % 2
    x[:, 0] += y
    _, back = validation_split(y, 0.3, 0)
    seen, original = [], CriticMI.validation_terms

    def recorded(self, logits, labels):
        if bound == "smile":  # whose estimate is no bound: what its critic maximises
            seen.append(jensen_shannon_bound(logits, labels, self.log_prior_).mean().item())
            assert abs(self.terms(x[back], labels).mean().item() - seen[-1]) > 1
        else:
            seen.append(self.terms(x[back], labels).mean().item())
        terms = original(self, logits, labels)
        assert terms.mean().item() == pytest.approx(seen[-1], abs=1e-6)
        return terms

    monkeypatch.setattr(CriticMI, "validation_terms", recorded)
    options = TINY | {"epochs": 12, "lr": 0.05, "val_fraction": 0.3}
    critic = CriticMI(bound, runtime=cpu, **options).fit(x, y)
    epochs, best = len(seen), max(seen)
    assert len(critic.history_) == epochs and seen.index(best) < epochs - 1
    recorded(critic, critic._logits(x[back]), y[back])
    assert seen[-1] == pytest.approx(best, abs=1e-6)
    assert critic.scale_ == 1 and critic.bias_.tolist() == [0, 0]


def test_large_images_are_scored_in_smaller_batches(monkeypatch):
    """10,000 images of 64 x 64 pixels would take 10 GB in the first layer."""
    images, labels = torch.rand(6, 3, 64, 64), torch.arange(6) % 2
    estimator = ClassifierMI(epochs=1, members=1).fit(images, labels)
    sizes = []
    whole = classifier.predict

    def predict(*arguments, batch_size, **options):
        sizes.append(batch_size)
        return whole(*arguments, batch_size=batch_size, **options)

    monkeypatch.setattr(classifier, "predict", predict)
    estimator.log_ratio(images)
    estimator = ClassifierMI(epochs=1, members=1).fit(torch.rand(6, 784), labels)
    assert sizes[0] * 32 * 64 * 64 * 4 < 1e9
    assert sizes[1:] and set(sizes[1:]) == {10_000}
