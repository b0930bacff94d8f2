"""Posteriors under a target prior from PC-softmax logits, whoever trained them."""

import dataclasses
import functools
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mi_common.annotation_lines import brief
from mi_common.errors import UserError
from pc_softmax import calibration
from pc_softmax.calibration import Calibration
from pc_softmax.names import ESTIMATED_PRIORS, TARGET_PRIORS, VALIDATION_PRIORS
from pc_softmax.priors import (
    bbse_prior,
    em_prior,
    em_priors,
    normalised_log,
    pacc_prior,
    posterior_under,
    read_prior,
)
from pc_softmax.shifts import resample

# Validation samples that every class must have, by `scripts.label_shift_simulation`: with fewer,
# the logits are not calibrated, and `auto` takes the argmax; with fewer than ENOUGH, a note warns.
MIN_CALIBRATION_SAMPLES, ENOUGH_SAMPLES = 3, 10
MIN_TESTS_PER_CLASS = 10  # test samples per class under which estimates come with a note
EM_STRENGTH = 0.1  # of EM's Dirichlet prior, in samples per class
RESAMPLE_TOLERANCE = 1e-5  # change of a probability at which EM ends for a resample
MAX_LISTED = 5  # classes in a note


@dataclass(frozen=True)
class Adapted:
    """Predictions of test samples under a target prior.

    Attributes:
        target: one of TARGET_PRIORS but `auto`, or a file.
        log_prior: (K,) the target prior.
        log_posterior: (N, K) log probabilities under it.
    """

    target: str
    log_prior: np.ndarray
    log_posterior: np.ndarray


@dataclass(frozen=True)
class Adapter:
    """What is needed to use PC-softmax logits under another prior.

    Attributes:
        log_prior: (K,) log class frequencies of the training data.
        logit_log_prior: (K,) log prior under which the network's own argmax is taken: uniform for a
            network trained by PC-softmax, that of the training data for softmax.
        class_names: K names.
        validation: (M, K) PC-softmax logits and (M,) labels of samples distributed as the training
            data that the network was not trained on, or None.
        like: a calibration whose kind is fitted again; it is chosen by cross-validation if None.
        from_run: messages ask for --val-fraction in training; else for --validation of
            `pc_softmax.adjust`.
    """

    log_prior: np.ndarray
    logit_log_prior: np.ndarray
    class_names: list[str]
    validation: tuple[np.ndarray, np.ndarray] | None
    like: Calibration | None = None
    from_run: bool = True

    @functools.cached_property
    def calibration(self) -> Calibration:
        """That of `calibration.choose`; none without enough validation samples of every class."""
        if not self.calibrates:
            return Calibration.none(len(self.log_prior))
        if self.like is None:
            return calibration.choose(*self.validation)
        return calibration.fit_again(self.like, *self.validation)

    @functools.cached_property
    def sample_counts(self) -> np.ndarray:
        """(K,) validation samples of each class."""
        labels = [] if self.validation is None else self.validation[1]
        return np.bincount(labels, minlength=len(self.log_prior))

    @property
    def least_samples(self) -> int:
        return int(self.sample_counts.min())

    @property
    def calibrates(self) -> bool:
        """Whether every class has enough validation samples to calibrate the logits."""
        return self.least_samples >= MIN_CALIBRATION_SAMPLES

    def resolved(self, target: str) -> str:
        """The target prior that `auto` stands for; others are returned as they are."""
        if target != "auto":
            return target
        return "em" if self.calibrates else "argmax"

    def target_log_prior(self, target: str, logits: np.ndarray) -> np.ndarray:
        """(K,) log prior of a --target-prior, which is one of TARGET_PRIORS or a file.

        `em`, `bbse`, `pacc` and `auto` estimate it from (N, K) PC-softmax logits of the test
        samples, not calibrated. UserError for `bbse` or `pacc` without validation samples, a failed
        estimate, and neither a name nor a valid file.
        """
        target, validation = self.resolved(target), self.validation
        if target in VALIDATION_PRIORS and validation is None:
            raise UserError(f"{target} needs validation samples: {self._remedy}")
        if target in VALIDATION_PRIORS and self.least_samples == 0:
            raise UserError(f"{target}: {self._few(1)}; {self._remedy}, or use auto")
        match target:
            case "argmax":
                return self.logit_log_prior
            case "uniform":
                return normalised_log(np.ones(len(self.log_prior)))
            case "train":
                return self.log_prior
            case "em":
                return em_prior(self.calibration(logits), self.log_prior, strength=self._strength)
            case "bbse":
                predicted, labels = validation[0].argmax(axis=1), validation[1]
                return bbse_prior(predicted, labels, logits.argmax(axis=1), len(self.log_prior))
            case "pacc":
                arrays = self.calibration(validation[0]), validation[1], self.calibration(logits)
                return pacc_prior(*arrays, self.log_prior)
        if not os.path.exists(target):  # Path.exists raises for a name that is too long
            names = ", ".join(TARGET_PRIORS)
            raise UserError(f"--target-prior {brief(target)}: neither {names} nor a file")
        return read_prior(Path(target), self.class_names)

    def resampled_priors(
        self, target: str, logits: np.ndarray, draws: np.ndarray, first: np.ndarray
    ) -> np.ndarray:
        """The estimates of `target_log_prior` for R resamples of the test samples.

        (N, K) logits, (R, N) positions of the samples drawn and the (K,) estimate of all samples ->
        (R, K) probabilities. Those of `em` are within about a tenth of their standard deviation.
        UserErrors of `target_log_prior`.
        """
        if self.resolved(target) != "em":
            return np.exp([self.target_log_prior(target, logits[rows]) for rows in draws])
        weights = np.stack([np.bincount(rows, minlength=len(logits)) for rows in draws])
        options = {"strength": self._strength, "first": first, "tolerance": RESAMPLE_TOLERANCE}
        return em_priors(self.calibration(logits), self.log_prior, weights.astype(float), **options)

    @property
    def _strength(self) -> float:
        return EM_STRENGTH * len(self.log_prior)

    def adapt(self, logits: np.ndarray, target: str) -> Adapted:
        """Predictions of (N, K) PC-softmax logits, not calibrated; errors as `target_log_prior`.

        All but `argmax`, which takes the network's own decision, use calibrated logits.
        """
        target = self.resolved(target)
        return self.under(logits, target, self.target_log_prior(target, logits))

    def under(self, logits: np.ndarray, target: str, log_prior: np.ndarray) -> Adapted:
        """Predictions of (N, K) PC-softmax logits, not calibrated, under a known (K,) log prior."""
        logits = self.decision_logits(logits, target)
        return Adapted(target, log_prior, posterior_under(logits, log_prior))

    def decision_logits(self, logits: np.ndarray, target: str) -> np.ndarray:
        """(N, K) logits that a (K,) log prior is added to: calibrated, as they are for `argmax`."""
        return logits if self.resolved(target) == "argmax" else self.calibration(logits)

    def resampled(self, generator: np.random.Generator) -> "Adapter":
        """With a bootstrap sample of the validation samples, class by class.

        The kind of calibration stays, its numbers are fitted again.
        """
        if self.validation is None:
            return self
        rows = resample(self.validation[1], generator)
        drawn = tuple(array[rows] for array in self.validation)
        return dataclasses.replace(self, validation=drawn, like=self.calibration)

    def notes(self, target: str, test_samples: int) -> list[str]:
        """What to know before trusting predictions of so many test samples, one line each."""
        if target == "argmax":
            return []
        notes = [f"auto is {self.resolved(target)}"] if target == "auto" else []
        least, num_classes = self.least_samples, len(self.log_prior)
        estimated = target in ESTIMATED_PRIORS
        if estimated and self.validation is None:
            notes.append(f"logits are not calibrated; {self._remedy}")
        elif estimated and least < MIN_CALIBRATION_SAMPLES:
            few = self._few(MIN_CALIBRATION_SAMPLES)
            warning = "em may be wrong by more than its interval"
            notes.append(f"logits are not calibrated: {few}; {warning}; {self._remedy}")
        elif MIN_CALIBRATION_SAMPLES <= least < ENOUGH_SAMPLES:
            few = self._few(ENOUGH_SAMPLES)
            notes.append(f"calibration is uncertain: {few}; {self._remedy}")
        few_tests = test_samples < MIN_TESTS_PER_CLASS * num_classes
        if few_tests and self.resolved(target) in ESTIMATED_PRIORS:
            notes.append(
                f"the estimated prior is uncertain: {test_samples} test samples for {num_classes} "
                "classes; give more, or use uniform or train"
            )
        return notes

    @property
    def _remedy(self) -> str:
        """How to get more validation samples."""
        if self.from_run:
            if self.validation is None:
                return "train with --val-fraction"
            return "train with a larger --val-fraction or more images of these classes"
        return f"give {'' if self.validation is None else 'more with '}--validation"

    def _few(self, limit: int) -> str:
        """The classes with fewer validation samples than a limit."""
        names = unique_names(self.class_names)
        few = np.flatnonzero(self.sample_counts < limit)
        shown = [f"{brief(names[k], 40)} ({self.sample_counts[k]})" for k in few[:MAX_LISTED]]
        more = f" and {len(few) - MAX_LISTED} more" if len(few) > MAX_LISTED else ""
        return f"fewer than {limit} validation samples of {', '.join(shown)}{more}"


def unique_names(class_names: list[str]) -> list[str]:
    """K class names, with their numbers if two classes have the same name."""
    if len(set(class_names)) == len(class_names):
        return class_names
    return [f"{name} ({k})" for k, name in enumerate(class_names)]
