"""Cross-fitting: every sample is scored by a classifier that never saw it.

found = cross_fit(lambda seed: ClassifierMI(runtime=runtime, seed=seed), x, y, folds=5, seed=0)
estimate = MIEstimate.from_pointwise(found.pointwise(log_prior))
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from common.errors import UserError
from common.information import class_counts, log_prior_from_labels, select_label


@dataclass(frozen=True)
class CrossFit:
    """What the classifiers of all folds say of the samples that they did not see.

    Attributes:
        log_posterior: (N, K) float64 log q(k | x) under the label frequencies of the training fold.
        labels: (N,).
        folds: (N,) number of the fold that held the sample out.
        training_value: mean over folds of the training samples' pointwise mutual information. The
            held-out and the training value bracket I(X;Y) when the model can represent it.
    """

    log_posterior: Tensor
    labels: Tensor
    folds: Tensor
    training_value: float

    def pointwise(self, log_prior: Tensor) -> Tensor:
        """(N,) held-out log q(y | x) - log p(y) in nats, for a (K,) log prior."""
        return select_label(self.log_posterior, self.labels) - log_prior[self.labels]

    @property
    def accuracy(self) -> float:
        """Share of samples whose most likely class is the label."""
        return (self.log_posterior.argmax(dim=1) == self.labels).double().mean().item()

    def permutation_p_value(self, permutations: int, seed: int) -> float:
        """P-value of independence: labels are permuted within folds, classifiers stay.

        A classifier knows nothing of its held-out labels, so under independence these are
        exchangeable given it and no permutation needs training. The value is
        (1 + how many permutations reach the estimate) / (1 + permutations).
        """
        generator = torch.Generator().manual_seed(seed)
        observed = select_label(self.log_posterior, self.labels).mean()
        order = self.folds.argsort(stable=True)
        reached = 0
        for _ in range(permutations):
            shuffled = torch.randperm(len(order), generator=generator)
            shuffled = shuffled[self.folds[shuffled].argsort(stable=True)]
            values = self.log_posterior[order, self.labels[shuffled]]
            reached += int(values.mean() >= observed - 1e-12)
        return (1 + reached) / (1 + permutations)


def cross_fit(build: Callable, x: Tensor, y: Tensor, *, folds: int, seed: int) -> CrossFit:
    """Trains a classifier a fold and scores the samples that it was not given.

    Args:
        build: seed -> an estimator with `fit` and `pointwise_mutual_information`.
        x, y: samples and labels 0..K-1; folds keep the share of each class.

    Raises:
        UserError: a class with fewer samples than folds.
    """
    num_classes = int(y.max()) + 1
    check_folds(y, folds)
    log_posterior = torch.empty(len(y), num_classes, dtype=torch.float64)
    fold_of = torch.empty(len(y), dtype=torch.int64)
    training = []
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed).split(y, y)
    for fold, (train, test) in enumerate(splits):
        train, test = torch.from_numpy(train), torch.from_numpy(test)
        estimator = build(seed + fold).fit(x[train], y[train], num_classes=num_classes)
        log_prior = log_prior_from_labels(y[train], num_classes).double()
        ratio = estimator.pointwise_mutual_information(x[test]).double()
        log_posterior[test] = ratio + log_prior
        fold_of[test] = fold
        own = estimator.pointwise_mutual_information(x[train]).double()
        training.append(select_label(own, y[train]).mean().item())
    return CrossFit(log_posterior, y, fold_of, sum(training) / len(training))


def check_folds(y: Tensor, folds: int, names: list[str] | None = None) -> None:
    """UserError for a class with fewer samples than folds: some fold could not score it."""
    counts = class_counts(y, int(y.max()) + 1)
    rare = (counts < folds).nonzero().flatten().tolist()
    if rare:
        shown = ", ".join(f"{names[k] if names else k} ({counts[k]})" for k in rare[:10])
        raise UserError(
            f"classes with fewer samples than --folds {folds}: {shown}; use fewer folds, merge "
            "these classes or remove their samples"
        )
