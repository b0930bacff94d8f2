"""The estimators by name, behind one interface: `.fit(x, y)` then `.estimate(x, y)`."""

from mi_common.runtime import Runtime
from mi_estimator.estimators.baselines import CLASSIFIERS, SklearnMI
from mi_estimator.estimators.classifier import OBJECTIVES, ClassifierMI
from mi_estimator.estimators.critics import BOUNDS, CriticMI
from mi_estimator.estimators.neighbours import NEIGHBOUR_METHODS, NeighbourMI

# H(Y) minus a log-loss, so that H(Y) may be given; with a term for each sample it was not fitted
# to; and all that need nothing but samples.
CROSS_ENTROPY = ("pc-softmax", "softmax", *CLASSIFIERS)
CROSS_FITTED = (*CROSS_ENTROPY, *BOUNDS)
FROM_SAMPLES = (*CROSS_FITTED, *NEIGHBOUR_METHODS)
ESTIMATORS = ("oracle", *OBJECTIVES, *CLASSIFIERS, *BOUNDS, *NEIGHBOUR_METHODS)


def build_estimator(name: str, runtime: Runtime, seed: int, training: dict):
    """An estimator of a name of ESTIMATORS (the oracle is the task's own).

    Args:
        training: epochs, batch_size, lr, weight_decay, held_back and members of networks.
    """
    if name in OBJECTIVES:
        return ClassifierMI(name, runtime=runtime, seed=seed, **training)
    if name in BOUNDS:
        return CriticMI(name, runtime=runtime, seed=seed, **training)
    if name in CLASSIFIERS:
        return SklearnMI(name, runtime=runtime, seed=seed)
    return NeighbourMI(name, runtime=runtime, seed=seed)
