"""Named tasks: a distribution whose truth is known, with the sample sizes of its benchmark."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from mi_estimator.estimators.registry import Settings
from mi_estimator.tasks.gaussians import (
    IMBALANCED,
    GaussianClasses,
    OrthogonalClasses,
    RotatedGaussians,
)
from mi_estimator.tasks.images import BlobImages, NoisyMnist
from mi_estimator.tasks.joint import Distribution
from mi_estimator.tasks.mapped import Bent
from mi_estimator.tasks.table_suite import TABLES
from mi_estimator.tasks.vectors import (
    ConcentricClasses,
    Independent,
    NoisyXor,
    StudentClasses,
    UniformMixture,
)

BENCHMARK = Settings(50, 100, weight_decay=1e-4, members=4)
PAPER = Settings(20, 1000, lr=5e-3, weight_decay=1e-4, val_fraction=0.0, members=1)
PAPER_DIMENSIONS = (1, 2, 5, 10)


@dataclass(frozen=True)
class Task:
    """A distribution, default numbers of training and of new test samples, and settings."""

    distribution: Distribution
    n_train: int
    n_test: int = 100_000
    settings: Settings = BENCHMARK

    def reading_from(self, data_dir: Path) -> "Task":
        """The same task; a distribution that reads a data set reads it from `data_dir`."""
        if not hasattr(self.distribution, "data_dir"):
            return self
        distribution = dataclasses.replace(self.distribution, data_dir=Path(data_dir))
        return dataclasses.replace(self, distribution=distribution)


# Suite -> task name -> task; a name means the same task in all suites. Nothing is read or computed
# before a task is used. Wide samples have smaller test sets: 20,000 x 1,000 floats are 80 MB.
SUITES: dict[str, dict[str, Task]] = {
    "paper": {
        f"gaussian-d{dim}-{name}": Task(GaussianClasses(dim, counts), sum(counts), 1_000_000, PAPER)
        for name, counts in (("balanced", (10_000,) * 5), ("imbalanced", IMBALANCED))
        for dim in PAPER_DIMENSIONS
    },
    "hard": {
        "gaussian-d100": Task(RotatedGaussians(100), 10_000),
        "gaussian-d1000": Task(RotatedGaussians(1000), 10_000, 20_000),
        "orthogonal-k20": Task(OrthogonalClasses(20, 2.5), 10_000),
        "concentric-d5": Task(ConcentricClasses(5), 10_000),
        "xor-flip0.1": Task(NoisyXor(0.1), 10_000),
        "xor-d4-flip0.05": Task(NoisyXor(0.05, dim=4), 10_000),
        "uniform-mixture-m5": Task(UniformMixture(5), 10_000),
        "student-dof1": Task(StudentClasses(1.0), 10_000),
        "student-dof3-d5": Task(StudentClasses(3.0, dim=5), 10_000),
        "bent-gaussian-d5": Task(Bent(GaussianClasses(5)), 10_000),
        "rare0.005": Task(GaussianClasses(2, (199, 1), (0.0, 2.0)), 10_000),
    },
    "small-sample": {
        "gaussian-d2-n100": Task(GaussianClasses(2), 100),
        "gaussian-d100-n500": Task(RotatedGaussians(100), 500),
        "concentric-d5-n500": Task(ConcentricClasses(5), 500),
        "xor-flip0.1-n300": Task(NoisyXor(0.1), 300),
        "student-dof1-n200": Task(StudentClasses(1.0), 200),
        "rare0.02-n1000": Task(GaussianClasses(2, (49, 1), (0.0, 2.0)), 1_000),
        "independent-k2-n100": Task(Independent(2, dim=5), 100),
    },
    "many-classes": {
        "line-k100": Task(GaussianClasses(1, (1,) * 100, tuple(map(float, range(100)))), 10_000),
        "orthogonal-k100": Task(OrthogonalClasses(100, 3.0), 10_000),
        "orthogonal-k1000": Task(OrthogonalClasses(1000, 4.0), 20_000, 20_000),
        "uniform-mixture-m100": Task(UniformMixture(100), 10_000),
        "independent-k100-n1000": Task(Independent(100, dim=5), 1_000),
    },
    "images": {
        "blob-gaussian": Task(BlobImages(GaussianClasses(2)), 10_000, 20_000),
        "blob-concentric": Task(BlobImages(ConcentricClasses(2)), 10_000, 20_000),
        "blob-xor-flip0.1": Task(BlobImages(NoisyXor(0.1)), 10_000, 20_000),
        "mnist-flip0.2": Task(NoisyMnist(0.2), 10_000, 20_000),
    },
    "tables": {name: Task(distribution, 2_000, 50_000) for name, distribution in TABLES.items()},
}

# Estimates of the checkpoints that the paper's authors published, on new samples and by the
# authors' evaluation code, in nats, by (task, estimator) of the suite `paper`.
PUBLISHED = {
    (f"gaussian-d{dim}-{counts}", estimator): value
    for counts, estimator, values in (
        ("balanced", "pc-softmax", (0.978, 1.280, 1.481, 1.538)),
        ("imbalanced", "pc-softmax", (0.942, 1.212, 1.316, 1.340)),
        ("imbalanced", "softmax-log-k", (1.115, 1.313, 1.417, 1.368)),
    )
    for dim, value in zip(PAPER_DIMENSIONS, values, strict=True)
}
