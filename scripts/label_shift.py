"""Simulated classifiers under label shift, and the cells of `scripts.label_shift_simulation`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mi_common.errors import UserError
from mi_common.tables import interval_half_width
from pc_softmax.adapter import Adapter
from pc_softmax.priors import label_frequencies, normalised_log, total_variation
from pc_softmax.shifts import long_tailed_prior

QUALITIES = ("calibrated", "over-confident", "biased")
# The training set is balanced, or it is imbalanced and the network trained by one of two losses.
TRAININGS = ("balanced", "pc-softmax", "softmax")
TRAINING_RATIO = 10
MOST_VALIDATION = 20_000  # samples; larger validation sets are left out
TEST_REPEATS = {50: 10, 500: 2}  # test sets drawn for one validation set; one of other sizes
SEPARATIONS = {2: 2.1, 10: 1.45, 100: 2.2}  # of class means, for accuracies from 80 to 95 %
LARGEST_LOSS = 0.3  # points of accuracy that a method may lose to the argmax in a cell
NOT_CALIBRATED = "em, not calibrated"
METHODS = ("em", NOT_CALIBRATED, "bbse", "pacc", "auto")
CELL = ["classes", "classifier", "training", "validation", "test", "shift", "ratio", "method"]


@dataclass(frozen=True)
class Classifier:
    """Gaussian classes in at most ten dimensions, and logits that distort their log densities.

    `over-confident`: noise is added and the result multiplied by 2.5. `biased`: every class has a
    factor of its own around 1.8, and a bias with standard deviation 1.3, so that a temperature
    cannot correct them and one with biases can only in part.

    Attributes:
        means: (K, d) of the classes, unit covariance.
        quality: one of QUALITIES.
        factors, biases: (K,) of the biased classifier.
    """

    means: np.ndarray
    quality: str
    factors: np.ndarray
    biases: np.ndarray

    @classmethod
    def draw(cls, num_classes: int, quality: str, rng: np.random.Generator) -> "Classifier":
        means = rng.normal(size=(num_classes, min(num_classes, 10)))
        means *= SEPARATIONS[num_classes]
        if num_classes == 2:  # two random points may be anywhere, these are as far as on average
            means *= SEPARATIONS[2] * np.sqrt(2) / np.linalg.norm(means[0] - means[1])
        factors = 1.8 * (1 + 0.25 * rng.normal(size=num_classes))
        return cls(means, quality, factors, 1.8 * 0.7 * rng.normal(size=num_classes))

    def sample(self, counts: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """(K,) counts -> (N, K) PC-softmax logits and (N,) labels."""
        labels = np.repeat(np.arange(len(counts)), counts)
        x = self.means[labels] + rng.normal(size=(len(labels), self.means.shape[1]))
        logits = x @ self.means.T - (self.means**2).sum(axis=1) / 2
        if self.quality == "over-confident":
            logits = 2.5 * (logits + 0.7 * rng.normal(size=logits.shape))
        elif self.quality == "biased":
            centred = logits - logits.mean(axis=1, keepdims=True)
            logits = self.factors * centred + self.biases
        return logits, labels


def settings(
    counts: np.ndarray, ratios: list[float], rng: np.random.Generator
) -> Iterator[tuple[str, float, np.ndarray]]:
    """Names, ratios and (K,) log priors of the test sets, along and against the training counts.

    Balanced classes have no order; theirs is drawn.
    """
    balanced = len(set(counts.tolist())) == 1
    order = rng.permutation(len(counts)) if balanced else counts
    for ratio in ratios:
        yield "uniform" if ratio == 1 else "forward", ratio, long_tailed_prior(order, ratio)
        if ratio != 1 and not balanced:
            yield "backward", ratio, long_tailed_prior(order, ratio, backward=True)


Method = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def score(
    methods: dict[str, Method], logits: np.ndarray, labels: np.ndarray
) -> dict[str, tuple[float, float]]:
    """Total variation and accuracy of each method; NaN where it gives no estimate.

    A method takes (N, K) PC-softmax logits and returns a (K,) prior and (N,) predicted classes.
    Names of the same method share one estimate.
    """
    truth = label_frequencies(labels, logits.shape[1])
    scores: dict[Method, tuple[float, float]] = {}
    for method in dict.fromkeys(methods.values()):
        try:
            prior, predicted = method(logits)
        except UserError:
            scores[method] = np.nan, np.nan
        else:
            accuracy = (predicted == labels).mean() if np.isfinite(prior).all() else np.nan
            scores[method] = total_variation(prior, truth), float(accuracy)
    return {name: scores[method] for name, method in methods.items()}


def by_adapter(adapter: Adapter, target: str) -> Method:
    """The method of a target prior, for `score`."""

    def method(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        adapted = adapter.adapt(logits, target)
        return np.exp(adapted.log_prior), adapted.log_posterior.argmax(axis=1)

    return method


def adapter_methods(adapter: Adapter) -> dict[str, Method]:
    """METHODS by name, for `score`."""
    plain = Adapter(adapter.log_prior, adapter.logit_log_prior, adapter.class_names, None)
    targets = (*(name for name in METHODS if name not in (NOT_CALIBRATED, "auto")), "argmax")
    methods = {name: by_adapter(adapter, name) for name in targets}
    methods |= {NOT_CALIBRATED: by_adapter(plain, "em")}
    methods |= {"auto": methods[adapter.resolved("auto")]}
    return {name: methods[name] for name in METHODS}


def validation_counts(num_classes: int, training: str, per_class: int) -> np.ndarray:
    """(K,) validation samples in the ratios of the training classes; the rarest has `per_class`."""
    log_prior = _training_log_prior(num_classes, training)
    return np.rint(per_class * np.exp(log_prior - log_prior.min())).astype(int)


def _training_log_prior(num_classes: int, training: str) -> np.ndarray:
    ratio = 1 if training == "balanced" else TRAINING_RATIO
    return long_tailed_prior(np.arange(num_classes, 0, -1), ratio)


def simulate(
    num_classes: int,
    quality: str,
    training: str,
    per_class: int,
    tests: list[int],
    ratios: list[float],
    *,
    seed: int,
) -> list[dict]:
    """Rows of one drawn classifier and validation set: gains for each test set and method.

    The gain of accuracy, in points, is that on the network's own argmax: of logits without a prior
    if it is trained by PC-softmax, with that of the training data if by softmax.
    """
    rng = np.random.default_rng(seed)
    classifier = Classifier.draw(num_classes, quality, rng)
    counts = validation_counts(num_classes, training, per_class)
    log_prior = _training_log_prior(num_classes, training)
    in_logits = log_prior if training == "softmax" else normalised_log(np.ones(num_classes))
    names = list(map(str, range(num_classes)))
    adapter = Adapter(log_prior, in_logits, names, classifier.sample(counts, rng))
    methods, rows = adapter_methods(adapter), []
    for size in tests:
        warned = {name: bool(_warnings(adapter, name, size)) for name in METHODS}
        for shift, ratio, target in settings(counts, ratios, rng):
            for _ in range(TEST_REPEATS.get(size, 1)):
                logits, labels = classifier.sample(rng.multinomial(size, np.exp(target)), rng)
                plain = ((logits + in_logits).argmax(axis=1) == labels).mean()
                for name, (distance, accuracy) in score(methods, logits, labels).items():
                    cell = [num_classes, quality, training, per_class, size, shift, ratio, name]
                    row = dict(zip(CELL, cell, strict=True)) | {"gain": 100 * (accuracy - plain)}
                    row |= {"total_variation": 100 * distance, "warned": warned[name]}
                    rows.append(row | {"draw": seed})
    return rows


def _warnings(adapter: Adapter, method: str, size: int) -> list[str]:
    if method == NOT_CALIBRATED:
        return ["not calibrated"]
    notes = adapter.notes(method, size)
    return [note for note in notes if not note.startswith("auto is")]


def _mean(values: pd.Series) -> float:
    return values.mean(skipna=False)


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """One row per cell of the grid and method: means over draws, with intervals of the gains.

    NaN where the method gives no estimate in one of the draws.
    """
    values = ["gain", "total_variation", "warned"]
    draws = rows.groupby([*CELL, "draw"], sort=False)[values].agg(_mean)
    grouped = draws.groupby(CELL, sort=False)
    table = grouped.agg(_mean)
    table["gain_ci"] = grouped["gain"].agg(interval_half_width)
    table["draws"] = grouped.size()
    return table.reset_index()


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """By number of classes, classifier and validation samples: means over the cells of the grid.

    Total variation of each method in percent, empty where it gives no estimate in some cell (bbse
    if its matrix is singular), then the gain of `auto` on the network's own argmax in points, that
    of its worst cell, and how many cells lose more than LARGEST_LOSS points in the mean over draws
    although at most half of the draws warned; significantly, if the 95 % interval of that mean
    excludes a smaller loss.
    """
    lines = []
    groups = ["classes", "classifier", "validation"]
    for names, cells in table.groupby(groups, sort=True):
        line = dict(zip(groups, names, strict=True))
        for method, values in cells.groupby("method", sort=False)["total_variation"]:
            if method != "auto":
                mean = "" if values.hasnans else f"{values.mean():.2f}"
                line[f"{method}: total variation"] = mean
        auto = cells[cells["method"] == "auto"]
        below = (auto["gain"] < -LARGEST_LOSS) & (auto["warned"] <= 0.5)
        significant = below & (auto["gain"] + auto["gain_ci"] < -LARGEST_LOSS)
        line |= {"auto: gain": f"{auto['gain'].mean():+.2f}"}
        line |= {"least": f"{auto['gain'].min():+.2f}"}
        line |= {"warned": f"{100 * auto['warned'].mean():.0f} %"}
        line |= {f"below -{LARGEST_LOSS} without warning": f"{below.sum()} of {len(auto)}"}
        lines.append(line | {"significantly": significant.sum()})
    return pd.DataFrame(lines)
