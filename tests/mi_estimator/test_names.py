"""Names that the parsers know without an import, and devices: what is printed is what is used."""

import pytest
import torch

import mi_estimator
from mi_common.datasets import IMAGE_SETS
from mi_common.runtime import Runtime
from mi_estimator import estimators, names, replicates
from mi_estimator.estimators import baselines, classifier, critics, crossfit, neighbours, registry
from mi_estimator.estimators.base import Estimator, describe_devices, runtime_used
from mi_estimator.tasks.suites import SUITES

GPU = Runtime(torch.device("cuda:0"), "bf16")


def test_light_names_are_those_of_the_implementations():
    assert names.IMAGE_SETS == IMAGE_SETS
    assert tuple(SUITES) == names.SUITES
    assert tuple(replicates.TASKS) == names.COVERAGE_TASKS + names.WIDE_COVERAGE_TASKS
    assert tuple(classifier.OBJECTIVES) == registry.OBJECTIVES
    assert tuple(critics.BOUNDS) == registry.BOUNDS
    assert tuple(baselines.CLASSIFIERS) == registry.CLASSIFIERS
    assert tuple(neighbours.METHODS) == registry.NEIGHBOUR_METHODS


@pytest.mark.parametrize("name", registry.ESTIMATORS[1:])
def test_each_name_builds_an_estimator_of_that_name_with_the_settings(name, cpu):
    settings = registry.Settings(epochs=3, hidden=(7,), members=2, k=5)
    estimator = registry.build_estimator(name, cpu, 4, settings)
    assert isinstance(estimator, Estimator)
    if name == "auto":
        assert (estimator.settings, estimator.runtime, estimator.seed) == (settings, cpu, 4)
        return
    assert name in vars(estimator).values()
    assert estimator.is_cross_entropy == (name in (*registry.CROSS_ENTROPY, "softmax-log-k"))
    assert estimator.takes_images == (name in registry.NETWORKS)
    if name in registry.NETWORKS:
        assert (estimator.hidden, estimator.members, estimator.runtime) == ((7,), 2, cpu)
    assert name not in registry.NEIGHBOUR_METHODS or estimator.k == 5


def test_the_package_gives_its_main_classes_and_no_others():
    assert estimators.ClassifierMI is classifier.ClassifierMI
    assert all(getattr(estimators, name).__name__ == name for name in estimators.MODULES)
    with pytest.raises(AttributeError, match="Forest"):
        _ = estimators.Forest
    assert mi_estimator.estimate_mutual_information is crossfit.estimate_mutual_information
    with pytest.raises(AttributeError, match="cross_fit"):
        _ = mi_estimator.cross_fit


def test_estimators_that_are_no_networks_run_on_the_cpu_and_say_so(monkeypatch):
    monkeypatch.setattr("torch.cuda.get_device_name", lambda device: "a GPU")
    assert runtime_used(["lda", "oracle", "ross"], GPU) == Runtime(torch.device("cpu"))
    assert describe_devices(["lda", "ross"], GPU).startswith("cpu (")
    assert runtime_used(["lda", "mine"], GPU) == GPU
    assert describe_devices(["mine"], GPU) == GPU.describe()
    mixed = describe_devices(["lda", "mine", "ross"], GPU)
    assert mixed == f"{GPU.describe()}; lda, ross on the CPU"
