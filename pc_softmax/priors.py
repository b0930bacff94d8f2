"""Class priors at test time: known, read from a file, or estimated without labels.

PC-softmax logits f(x) do not depend on the class prior: softmax(f + log t) is the posterior under
any prior t. Log priors are (K,) float64 arrays.
"""

import csv
import io
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import nnls

from mi_common.annotation_lines import brief
from mi_common.errors import UserError
from mi_common.information import log_posterior, log_prior_from_counts

EM_TOLERANCE, EM_STEPS = 1e-8, 10_000
SUM_WEIGHT = 1e3  # of the equation that a prior sums to one, beside equations of size one
BYTES_A_LINE = 1000  # at most, in a file of priors, in addition to the name of the class


def posterior_under(logits: np.ndarray, log_target_prior: np.ndarray) -> np.ndarray:
    """(N, K) log p_t(y | x) from (N, K) PC-softmax logits and a (K,) log prior t."""
    return log_posterior(torch.from_numpy(logits), torch.from_numpy(log_target_prior)).numpy()


def normalised_log(weights: np.ndarray) -> np.ndarray:
    """(K,) positive weights -> (K,) log probabilities."""
    return log_prior_from_counts(torch.from_numpy(weights), dtype=torch.float64).numpy()


def label_frequencies(labels: np.ndarray, num_classes: int) -> np.ndarray:
    """(N,) labels -> (K,) shares that sum to one."""
    return np.bincount(labels, minlength=num_classes) / len(labels)


def total_variation(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of absolute differences of two (K,) priors, from 0 to 1."""
    return float(np.abs(first - second).sum() / 2)


def em_prior(
    logits: np.ndarray, start_log_prior: np.ndarray, *, strength: float = 0.0
) -> np.ndarray:
    """The class prior under which unlabelled samples are most likely, by expectation-maximisation.

    Iterates t <- mean over samples of softmax(f + log t) (Saerens, Latinne and Decaestecker 2002).
    The log-likelihood is concave in t, so any positive start leads to its maximum. The iteration
    ends when no probability changes by more than `EM_TOLERANCE` in one step.

    With a `strength` c above zero, t is the maximum a posteriori under a Dirichlet prior with
    parameters 1 + c * start, as if c further samples had the classes of the start: no class
    vanishes because a small test set does not show it.

    (N, K) PC-softmax logits of the test samples, best calibrated (`pc_softmax.calibration`), and a
    (K,) log prior, such as that of the training data -> (K,) log prior; without `strength` the
    probability of an absent class is close to zero. UserError without convergence.
    """
    options = {"strength": strength, "tolerance": EM_TOLERANCE}
    prior = em_priors(logits, start_log_prior, np.ones((1, len(logits))), **options)[0]
    with np.errstate(divide="ignore"):
        return np.log(prior)


def em_priors(
    logits: np.ndarray,
    start_log_prior: np.ndarray,
    weights: np.ndarray,
    *,
    strength: float,
    tolerance: float,
    first: np.ndarray | None = None,
) -> np.ndarray:
    """The estimates of `em_prior` for several weightings of the same samples at once.

    (N, K) logits and (R, N) weights, such as how often each of R resamples draws a sample -> (R, K)
    probabilities. The iteration begins at the (K,) probabilities `first`, else at the start, and
    ends when none changes by more than the tolerance.
    UserError without convergence.
    """
    start = np.exp(start_log_prior)
    posterior = np.exp(posterior_under(logits, start_log_prior))
    total = weights.sum(axis=1, keepdims=True) + strength
    priors = np.tile(start if first is None else first, (len(weights), 1))
    for _ in range(EM_STEPS):
        ratios = priors / start
        # p_t(k | x) is proportional to the posterior under the start times these ratios.
        counts = ratios * ((weights / (ratios @ posterior.T)) @ posterior)
        updated = (counts + strength * start) / total
        change, priors = np.abs(updated - priors).max(), updated
        if change <= tolerance:
            return priors
    raise UserError(f"em: no convergence after {EM_STEPS} steps; use bbse or a known prior")


def bbse_prior(
    validation_predictions: np.ndarray,
    validation_labels: np.ndarray,
    test_predictions: np.ndarray,
    num_classes: int,
) -> np.ndarray:
    """The class prior that explains how often each class is predicted (Lipton et al. 2018).

    Black-box shift estimation solves C w = q for the ratios w of test to training class
    probabilities. C_ij is the share of validation samples that are of class j and predicted as i,
    and q_i is the share of test samples that are predicted as i. Negative ratios become zero.

    (M,) predicted and true classes of samples distributed as the training data, and (N,) predicted
    classes of the test samples -> (K,) log prior, minus infinity where the ratio is zero. UserError
    for a class without validation samples, or a singular C.
    """
    _require_samples("bbse", np.bincount(validation_labels, minlength=num_classes))
    source = label_frequencies(validation_labels, num_classes)
    confusion = np.zeros((num_classes, num_classes))
    np.add.at(confusion, (validation_predictions, validation_labels), 1 / len(validation_labels))
    if (rank := np.linalg.matrix_rank(confusion)) < num_classes:
        raise UserError(
            f"bbse: confusion matrix of rank {rank} for {num_classes} classes; use pacc or em"
        )
    ratios = np.linalg.solve(confusion, label_frequencies(test_predictions, num_classes))
    weights = np.clip(ratios, 0, None) * source
    with np.errstate(divide="ignore"):
        return np.log(weights / weights.sum())


def pacc_prior(
    validation_logits: np.ndarray,
    validation_labels: np.ndarray,
    test_logits: np.ndarray,
    log_prior: np.ndarray,
) -> np.ndarray:
    """The class prior that explains the mean posterior of the test samples.

    Probabilistic adjusted classify and count (Bella et al. 2010), or soft black-box shift
    estimation: w solves C w = q, where q is the mean posterior of the test samples and column j of
    C that of the validation samples of class j. It is the least-squares solution among priors,
    with the penalty |w - p|^2 / (10 n), where p is the given prior and n the least number of
    validation samples of a class: it also exists where C is singular. The estimate counts as N
    samples and p as one more, so that no class has probability zero.

    (M, K) and (N, K) PC-softmax logits, best calibrated, (M,) labels and a (K,) log prior, such as
    that of the training data -> (K,) log prior. UserError for a class without validation samples.
    """
    num_classes = len(log_prior)
    counts = np.bincount(validation_labels, minlength=num_classes)
    _require_samples("pacc", counts)
    responses = np.zeros((num_classes, num_classes))
    np.add.at(responses, validation_labels, np.exp(posterior_under(validation_logits, log_prior)))
    mean_posterior = np.exp(posterior_under(test_logits, log_prior)).mean(axis=0)
    prior, ridge = np.exp(log_prior), (10 * counts.min()) ** -0.5
    sides = [responses.T / counts, ridge * np.eye(num_classes), np.full(num_classes, SUM_WEIGHT)]
    goals = np.hstack([mean_posterior, ridge * prior, SUM_WEIGHT])
    weights, _ = nnls(np.vstack(sides), goals, maxiter=30 * num_classes)
    size = len(test_logits)
    return np.log((size * weights / weights.sum() + prior) / (size + 1))


def _require_samples(method: str, counts: np.ndarray) -> None:
    if (counts == 0).any():
        missing = np.flatnonzero(counts == 0)[:10].tolist()
        raise UserError(
            f"{method}: classes {missing} have no validation samples; train with a larger "
            "--val-fraction or use em"
        )


def read_prior(path: Path, class_names: list[str]) -> np.ndarray:
    """The (K,) log prior in a text file.

    It is a CSV file with the header `class,probability` and the classes in any order, or one
    probability a line in the order of the classes. Their sum may differ from one by 1e-4; they are
    normalised. UserError for anything else.
    """
    num_classes = len(class_names)
    texts = read_class_numbers(path, "probability", class_names)
    try:
        values = np.array([float(text) for text in texts])
    except ValueError as error:
        raise UserError(f"{path}: use the header class,probability or a number a line") from error
    if len(values) != num_classes:
        raise UserError(f"{path}: {len(values)} probabilities for {num_classes} classes")
    if not (values > 0).all():
        wrong = int(np.argmin(values > 0))
        name = brief(class_names[wrong])
        raise UserError(f"{path}: class '{name}' has {values[wrong]}; it must be above zero")
    if not abs(values.sum() - 1) <= 1e-4:
        raise UserError(f"{path}: the probabilities sum to {values.sum():.6g}; it must be one")
    return normalised_log(values)


def read_class_numbers(path: Path, column: str, class_names: list[str]) -> list[str]:
    """The texts in a file with a number for each class, in the order of the classes.

    It is a CSV file with the header `class,COLUMN` and the classes in any order, or one number a
    line in the order of the classes. UserError for a file that is no text or too long, a line of
    another width, and unknown, repeated and missing classes.
    """
    num_classes = len(class_names)
    limit = 4 * sum(map(len, class_names)) + BYTES_A_LINE * (num_classes + 1)
    try:
        with open(path, "rb") as file:
            content = file.read(limit + 1)
        text = io.StringIO(content.decode("utf-8-sig"), newline="")
        rows = [[cell.strip() for cell in row] for row in csv.reader(text) if row]
    except (OSError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as text ({type(error).__name__})") from error
    if len(content) > limit:
        raise UserError(f"{path}: over {limit} bytes, too long for {num_classes} numbers")
    if rows and rows[0] == ["class", column]:
        rows = _in_class_order(rows[1:], path, class_names)
    if any(len(row) != 1 for row in rows):
        raise UserError(f"{path}: use the header class,{column} or a number a line")
    return [text for (text,) in rows]


def _in_class_order(
    rows: list[list[str]], path: Path, class_names: list[str]
) -> list[tuple[str, ...]]:
    """Rows (class, number) -> rows (number,) in the order of the classes."""
    in_file, in_run = [row[0] for row in rows], [name.strip() for name in class_names]
    for problem, names in (
        ("give one number a line: two classes of the run are named", _repeated(in_run)),
        ("unknown class", [name for name in in_file if name not in set(in_run)]),
        ("no line for class", [name for name in in_run if name not in set(in_file)]),
        ("two lines for class", _repeated(in_file)),
    ):
        if names:
            raise UserError(f"{path}: {problem} '{brief(names[0])}'")
    by_name = {row[0]: tuple(row[1:]) for row in rows}
    return [by_name[name] for name in in_run]


def _repeated(names: list[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
