"""Data sets, QuaPy's methods, and tables of `scripts.label_shift_quapy`.

Both libraries get the same posteriors of the same validation and test images.
"""

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from tqdm import tqdm

from mi_common.errors import UserError
from mi_common.tables import interval_half_width, mean_with_interval, number
from pc_softmax.adapter import Adapter
from pc_softmax.predictions import Predictions
from pc_softmax.priors import posterior_under
from pc_softmax.shifts import label_shifts, resample, sample_shifted
from scripts.finished_runs import read_config
from scripts.label_shift import Method, adapter_methods, score

SEED = 1  # of the data; with 0, the candidates of pc_softmax.calibration were chosen
RATIOS = (10, 50, 100)  # along and against the training classes, beside 1
MOST_KERNELS = 2_000_000  # pairs of validation and test samples that KDEy may compare
Samples = tuple[np.ndarray, np.ndarray]


def digits() -> tuple[np.ndarray, Samples, Samples]:
    """Noisy 8 x 8 digits of scikit-learn, by logistic regression; 180 validation images."""
    x, y = load_digits(return_X_y=True)
    x = x + np.random.default_rng(SEED).normal(scale=6, size=x.shape)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    return _trained(classifier, x, y, train=719, validation=180)


def tabular() -> tuple[np.ndarray, Samples, Samples]:
    """A made-up table of five classes, by naive Bayes; 700 validation samples."""
    x, y = make_classification(
        6_000,
        n_features=20,
        n_informative=10,
        n_redundant=6,
        n_classes=5,
        weights=[0.4, 0.25, 0.15, 0.12, 0.08],
        random_state=SEED,
    )
    return _trained(GaussianNB(), x, y, train=1_000, validation=700)


def _trained(
    classifier: BaseEstimator, x: np.ndarray, y: np.ndarray, *, train: int, validation: int
) -> tuple[np.ndarray, Samples, Samples]:
    """(K,) training counts, then PC-softmax logits and labels of validation and test samples."""
    split = {"stratify": y, "random_state": SEED, "train_size": train}
    x, x_rest, y, y_rest = train_test_split(x, y, **split)
    split |= {"stratify": y_rest, "train_size": validation}
    x_validation, x_test, y_validation, y_test = train_test_split(x_rest, y_rest, **split)
    classifier.fit(x, y)
    counts = np.bincount(y)

    def logits(x: np.ndarray) -> np.ndarray:
        return classifier.predict_log_proba(x).clip(-700) - np.log(counts / counts.sum())

    return counts, (logits(x_validation), y_validation), (logits(x_test), y_test)


def of_run(folder: Path) -> tuple[np.ndarray, Samples, Samples]:
    """A run of `pc_softmax.train --val-fraction` on MNIST; its official test images."""
    saved = Predictions.load(folder / "predictions.npz")
    dataset = read_config(folder)["flags"].get("dataset")
    if dataset != "mnist" or saved.validation is None or "official" not in saved.tests:
        raise UserError(
            f"{folder}: not a run on MNIST with --val-fraction and the official test set"
        )
    validation = saved.validation_logits, saved.validation[1]
    return saved.counts, validation, (saved.test_logits["official"], saved.tests["official"][1])


class GivenPosteriors(BaseEstimator):
    """A classifier whose features are posteriors already."""

    def fit(self, x: np.ndarray, y: np.ndarray) -> "GivenPosteriors":
        self.classes_ = np.arange(x.shape[1])
        return self

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        return x

    def predict(self, x: np.ndarray) -> np.ndarray:
        return x.argmax(axis=1)


def quapy_methods(log_prior: np.ndarray, validation: Samples, test_size: int) -> dict[str, Method]:
    """QuaPy's estimators by name, fitted to the posteriors of the validation samples.

    EMQ decides by its own posteriors, which its calibration changes; the others by those given,
    under the estimated prior.
    """
    from quapy.method.aggregative import ACC, EMQ, PACC, KDEyML

    posterior = np.exp(posterior_under(validation[0], log_prior))
    given = {"classifier": GivenPosteriors(), "val_split": (posterior, validation[1])}
    quantifiers = {"EMQ": EMQ(**given)}
    for calibration in ("ts", "bcts", "vs"):
        named = {"calib": calibration, "on_calib_error": "backup"}
        quantifiers[f"EMQ, {calibration}"] = EMQ(**given, **named)
    quantifiers |= {"ACC": ACC(**given), "PACC": PACC(**given)}
    if test_size * len(posterior) <= MOST_KERNELS:
        quantifiers["KDEy"] = KDEyML(**given, random_state=0)

    def method(quantifier: BaseEstimator) -> Method:
        def estimate(logits: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                test = np.exp(posterior_under(logits, log_prior))
                prior = quantifier.predict(test)
                if isinstance(quantifier, EMQ):
                    return prior, quantifier.predict_proba(test).argmax(axis=1)
            with np.errstate(divide="ignore"):
                return prior, (logits + np.log(prior)).argmax(axis=1)

        return estimate

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for quantifier in quantifiers.values():
            quantifier.fit(posterior, validation[1])
    return {f"QuaPy {name}": method(quantifier) for name, quantifier in quantifiers.items()}


def compare(
    counts: np.ndarray,
    validation: Samples,
    test: Samples,
    *,
    resamples: int,
    seed: int,
    with_quapy: bool,
) -> Iterator[dict]:
    """Rows of one data set: total variation and gain of each method, shift and resample.

    Validation and test samples are resampled class by class; the test samples of a resample then
    give subsets with the shifted priors. Gains are in points, on the argmax of PC-softmax logits.
    """
    log_prior, names = np.log(counts / counts.sum()), list(map(str, range(len(counts))))
    rng = np.random.default_rng(seed)
    shifts = list(label_shifts(counts, rng, ratios=RATIOS))
    for draw in tqdm(range(resamples), desc="resamples", disable=None):
        rows = resample(validation[1], rng)
        drawn = validation[0][rows], validation[1][rows]
        adapter = Adapter(log_prior, np.full(len(counts), -np.log(len(counts))), names, drawn)
        methods = adapter_methods(adapter)
        if with_quapy:
            methods |= quapy_methods(log_prior, drawn, len(test[1]))
        for shift, ratio, shifted in shifts:
            rows = resample(test[1], rng)
            rows = rows[sample_shifted(test[1][rows], shifted, rng)]
            logits, labels = test[0][rows], test[1][rows]
            plain = (logits.argmax(axis=1) == labels).mean()
            for name, (distance, accuracy) in score(methods, logits, labels).items():
                row = {"shift": shift, "ratio": ratio, "resample": draw, "n": len(labels)}
                row |= {"method": name, "total_variation": 100 * distance}
                yield row | {"gain": 100 * (accuracy - plain)}


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Means over resamples of each data set, shift and method, and the worst resample.

    `failed` counts the resamples without an estimate, which the other columns leave out.
    """
    grouped = rows.groupby(["data", "shift", "ratio", "method"], sort=False)
    table = grouped[["n", "total_variation", "gain"]].mean()
    table["n"] = table["n"].astype(int)
    for name in ("total_variation", "gain"):
        table[f"{name}_ci"] = grouped[name].agg(lambda values: interval_half_width(values.dropna()))
    table["worst_total_variation"] = grouped["total_variation"].max()
    table["least_gain"] = grouped["gain"].min()
    table["failed"] = grouped["gain"].agg(lambda values: values.isna().sum())
    return table.reset_index()


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """A line for each data set and method: means over shifts, intervals over resamples.

    `worst resample` is the largest total variation of a resample, `least gain of a shift` the least
    mean over resamples, `failed` the number of test sets without an estimate, which the means leave
    out. The last lines are means over the data sets, of methods that are in all.
    """
    lines, rows = [], rows.assign(of=rows["data"])
    everywhere = rows.groupby("method")["data"].nunique() == rows["data"].nunique()
    together = rows[rows["method"].map(everywhere)].assign(data="mean")
    parts = [rows, together] if rows["data"].nunique() > 1 else [rows]
    for (data, method), group in pd.concat(parts).groupby(["data", "method"], sort=False):
        by_resample = group.groupby("resample")[["total_variation", "gain"]].mean().dropna()
        cells = {"data": data, "method": method, "failed": group["gain"].isna().sum()}
        cells["total variation"] = mean_with_interval(by_resample["total_variation"], 2)
        cells["gain"] = mean_with_interval(by_resample["gain"], 2, sign=True)
        cells["worst resample"] = f"{by_resample['total_variation'].max():.2f}"
        by_shift = group.groupby(["of", "shift", "ratio"])["gain"].mean()
        lines.append(cells | {"least gain of a shift": number(by_shift.min(), 2, sign=True)})
    return pd.DataFrame(lines)
