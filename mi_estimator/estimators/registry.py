"""The estimators by name, and the settings that they take.

To add an estimator: write a class with the interface of `mi_estimator.estimators.base.Estimator`,
add its name to a tuple below, and build it in `build_estimator`. The module imports no library, so
that `--help` is fast; tests compare its names with what the classes implement.
"""

from dataclasses import dataclass, replace

OBJECTIVES = ("softmax", "pc-softmax", "softmax-log-k")
CLASSIFIERS = (
    "logistic-regression",
    "lda",
    "shrunk-lda",
    "qda",
    "regularised-qda",
    "gradient-boosting",
    "extra-trees",
    "nearest-neighbours",
)
BOUNDS = ("mine", "nwj", "infonce", "smile")
NEIGHBOUR_METHODS = ("ross", "mixed-ksg")

NETWORKS = ("auto", *OBJECTIVES, *BOUNDS)  # use the device and take images; others the CPU
CROSS_ENTROPY = ("auto", "pc-softmax", "softmax", *CLASSIFIERS)  # H(Y) minus a log-loss
CROSS_FITTED = (*CROSS_ENTROPY, *BOUNDS)
FROM_SAMPLES = (*CROSS_FITTED, *NEIGHBOUR_METHODS)
ESTIMATORS = ("oracle", "auto", *OBJECTIVES, *CLASSIFIERS, *BOUNDS, *NEIGHBOUR_METHODS)
CANDIDATES = ("pc-softmax", *CLASSIFIERS)  # of `auto`


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters: the fields up to `bias_sd` of `ClassifierMI`, `k` of `NeighbourMI`.

    `val_fraction` and `bias_sd` are also those of `SklearnMI`; the last two are those of
    `StackedMI`, which uses the others for its candidates. None stands for the value of `for_size`.
    """

    epochs: int | None = None
    batch_size: int | None = None
    lr: float = 2e-3
    weight_decay: float = 1e-2
    val_fraction: float = 0.15
    members: int | None = None
    hidden: tuple[int, ...] = (100, 100, 100)
    bias_sd: float = 1.0
    k: int = 3
    candidates: tuple[str, ...] = CANDIDATES
    select_features: bool = True

    def for_size(self, n: int) -> "Settings":
        """With the default epochs, batch size and members for n training samples.

        Up to 10,000 samples they are 50, 100 and 4. Beyond, batches grow to at most 1,000 samples,
        a training takes at most 20,000 steps and eight million samples, and from 20,000 and 100,000
        samples on there are two networks and one: their errors fall with n.
        """
        batch_size = self.batch_size or min(max(100, n // 100), 1000)
        epochs = min(50, 20_000 * batch_size // n, 8_000_000 // n)
        members = 4 if n <= 20_000 else 2 if n <= 100_000 else 1
        return replace(
            self,
            batch_size=batch_size,
            epochs=self.epochs or max(epochs, 1),
            members=self.members or members,
        )


def build_estimator(name: str, runtime, seed: int, settings: Settings):
    """The estimator of a name in ESTIMATORS; a task computes the oracle itself.

    `runtime` is the `mi_common.runtime.Runtime` of networks.
    """
    options = {"runtime": runtime, "seed": seed} | vars(settings)
    k = options.pop("k")
    del options["candidates"], options["select_features"]
    if name in OBJECTIVES:
        from mi_estimator.estimators.classifier import ClassifierMI

        return ClassifierMI(name, **options)
    if name in BOUNDS:
        from mi_estimator.estimators.critics import CriticMI

        return CriticMI(name, **options)
    if name in CLASSIFIERS:
        from mi_estimator.estimators.baselines import SklearnMI

        shared = {"val_fraction": settings.val_fraction, "bias_sd": settings.bias_sd}
        return SklearnMI(name, seed=seed, **shared)
    if name == "auto":
        from mi_estimator.estimators.stack import StackedMI

        return StackedMI(runtime=runtime, seed=seed, settings=settings)
    from mi_estimator.estimators.neighbours import NeighbourMI

    return NeighbourMI(name, seed=seed, k=k)
