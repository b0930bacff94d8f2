"""The estimators by name, behind one interface: `.fit(x, y)` then `.estimate(x, y)`."""

from common.runtime import Runtime
from mi_estimator.baselines import CLASSIFIERS, SklearnMI
from mi_estimator.critics import BOUNDS, CriticMI
from mi_estimator.estimators import OBJECTIVES, ClassifierMI
from mi_estimator.neighbours import NEIGHBOUR_METHODS, NeighbourMI

# Those that know log q(k | x) of every class, which cross-fitting and its test need.
CROSS_FITTED = ("pc-softmax", "softmax", *CLASSIFIERS)
ESTIMATORS = ("oracle", *OBJECTIVES, *CLASSIFIERS, *BOUNDS, *NEIGHBOUR_METHODS)


def build_estimator(name: str, runtime: Runtime, seed: int, training: dict):
    """An estimator of a name of ESTIMATORS (the oracle is the task's own).

    Args:
        training: epochs, batch_size, lr, weight_decay and held_back of networks; a critic has no
            calibration and holds nothing back.
    """
    if name in OBJECTIVES:
        return ClassifierMI(name, runtime=runtime, seed=seed, **training)
    if name in BOUNDS:
        training = {key: value for key, value in training.items() if key != "held_back"}
        return CriticMI(name, runtime=runtime, seed=seed, **training)
    if name in CLASSIFIERS:
        return SklearnMI(name, runtime=runtime, seed=seed)
    return NeighbourMI(name, runtime=runtime, seed=seed)
