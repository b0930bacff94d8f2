"""Scores a trained network under any class prior at test time, without training again.

    python -m pc_softmax.evaluate runs/pc_softmax/mnist-pc-softmax-0
    python -m pc_softmax.evaluate runs/pc_softmax/mnist-pc-softmax-0 --target-prior em --shift

Reads `predictions.npz` of the run alone. Target priors: `argmax` (of the logits as they are),
`uniform`, `train`, `em` and `bbse` (estimated from the unlabelled test set), or those in a file.
`em` uses calibrated logits if every class has at least ten validation samples.
`--shift` resamples a test set to class priors from the training data's to their reverse.

Writes `scores.csv`, `table` (.md, .tex), `per_class.csv`, `confusion.csv`, `confusion.png`,
`reliability.png` and `result.json`; with `--shift` also `shift` (.csv, .md, .tex, .png).
"""

import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix
from tqdm import tqdm

from mi_common import cli
from mi_common.annotation_lines import brief
from mi_common.errors import UserError
from mi_common.files import write_atomically, write_json
from mi_common.records import check_output, prepare_output
from mi_common.tables import to_markdown, write_tables
from pc_softmax.metrics import (
    calibration_table,
    majority_scores,
    mutual_information,
    per_class_table,
    posterior_scores,
)
from pc_softmax.names import ESTIMATED_PRIORS, TARGET_PRIORS
from pc_softmax.plots import plot_confusion, plot_reliability, plot_shift
from pc_softmax.predictions import Predictions
from pc_softmax.priors import (
    bbse_prior,
    em_prior,
    label_frequencies,
    label_shifts,
    normalised_log,
    posterior_under,
    read_prior,
    sample_shifted,
    total_variation,
)

ORACLE = "oracle: known prior"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


_number = "{:.4f}".format
SHOWN = {  # how the scores are called and written in table.md, in this order
    "n_test": ("samples", str),
    "accuracy": ("accuracy", _percent),
    "majority_accuracy": ("accuracy of the majority class", _percent),
    "balanced_accuracy": ("balanced accuracy", _percent),
    "worst_class_accuracy": ("worst class", _percent),
    "macro_f1": ("macro-F1", _percent),
    "many_shot_accuracy": ("many-shot classes, > 100 training samples", _percent),
    "medium_shot_accuracy": ("medium-shot classes, 20 to 100", _percent),
    "few_shot_accuracy": ("few-shot classes, < 20", _percent),
    "nll": ("NLL, nats", _number),
    "brier": ("Brier score", _number),
    "ece": ("ECE, 15 bins", _percent),
    "mutual_information": ("mutual information under test label frequencies, nats", _number),
    "mi_lower": ("95 % interval, from", _number),
    "mi_upper": ("95 % interval, to", _number),
    "label_entropy": ("H(Y) of the test labels, nats", _number),
    "prior_total_variation": ("total variation, estimated prior to test labels", _number),
}


def target_log_prior(target: str, predictions: Predictions, logits: np.ndarray) -> np.ndarray:
    """(K,) log prior of a --target-prior, for test samples with the given PC-softmax logits.

    Raises:
        UserError: `bbse` without a validation part, an estimate that fails, a file that is none.
    """
    num_classes = logits.shape[1]
    if target == "argmax":
        return predictions.logit_log_prior
    if target == "uniform":
        return normalised_log(np.ones(num_classes))
    if target == "train":
        return predictions.log_prior
    if target == "em":
        return em_prior(predictions.calibrated(logits), predictions.log_prior)
    if target == "bbse":
        if predictions.validation is None:
            raise UserError("bbse needs held-out training samples: train with --val-fraction")
        held_out, labels = predictions.validation
        held_out = predictions.pc_softmax_logits(held_out).argmax(axis=1)
        return bbse_prior(held_out, labels, logits.argmax(axis=1), num_classes)
    if not os.path.exists(target):  # Path.exists raises for a name that is too long
        raise UserError(
            f"--target-prior {brief(target)}: neither {', '.join(TARGET_PRIORS)} nor a file"
        )
    return read_prior(Path(target), predictions.class_names)


@dataclass(frozen=True)
class Evaluated:
    """One test set under one target prior.

    Attributes:
        prior: (K,) the target prior.
        log_posterior: (N, K).
        labels: (N,).
        scores: the line of scores.csv.
    """

    prior: np.ndarray
    log_posterior: np.ndarray
    labels: np.ndarray
    scores: dict[str, float]


def evaluate(predictions: Predictions, test_set: str, target: str) -> Evaluated:
    """Scores one test set; errors as in `target_log_prior`."""
    raw, labels = predictions.tests[test_set]
    logits = predictions.pc_softmax_logits(raw)
    log_prior = target_log_prior(target, predictions, logits)
    log_posterior = posterior_under(logits, log_prior)
    scores = {"n_test": len(labels)}
    scores |= posterior_scores(log_posterior, labels, predictions.counts)
    scores["majority_accuracy"] = majority_scores(predictions.log_prior, labels)["accuracy"]
    scores |= mutual_information(logits, labels)
    if target in ESTIMATED_PRIORS:
        truth = label_frequencies(labels, len(log_prior))
        scores["prior_total_variation"] = total_variation(np.exp(log_prior), truth)
    return Evaluated(np.exp(log_prior), log_posterior, labels, scores)


def shown_scores(found: dict[str, Evaluated], target: str) -> pd.DataFrame:
    """A line a score, a column a test set; first of all the target prior."""
    lines = [{"score": "target prior"} | dict.fromkeys(found, target)]
    for key, (name, form) in SHOWN.items():
        values = {test_set: each.scores.get(key) for test_set, each in found.items()}
        if any(value is not None for value in values.values()):
            cells = {k: "" if v is None else form(v) for k, v in values.items()}
            lines.append({"score": name} | cells)
    return pd.DataFrame(lines)


def shift_table(
    predictions: Predictions, test_set: str, generator: np.random.Generator
) -> tuple[pd.DataFrame, list[str]]:
    """Accuracy under each target prior on subsets of a test set with shifted class priors.

    Args:
        test_set: the one to draw from; it must hold every class.

    Returns:
        The rows of shift.csv, with NaN where a prior could not be estimated, and the reasons for
        that. The oracle knows the label frequencies of the subset, to which the total variation
        is measured as well.
    """
    raw, labels = predictions.tests[test_set]
    logits = predictions.pc_softmax_logits(raw)
    targets = [t for t in TARGET_PRIORS if t != "bbse" or predictions.validation is not None]
    lines, failures = [], []
    shifts = list(label_shifts(predictions.counts, generator))
    for shift, ratio, log_prior in tqdm(shifts, desc="shifts", disable=None):
        rows = sample_shifted(labels, log_prior, generator)
        truth = label_frequencies(labels[rows], logits.shape[1])
        line = {"shift": shift, "ratio": ratio, "n": len(rows)}
        distances = {}
        for target in (*targets, ORACLE):
            try:
                found = np.log(truth)
                if target != ORACLE:
                    found = target_log_prior(target, predictions, logits[rows])
                predicted = posterior_under(logits[rows], found).argmax(axis=1)
                line[target] = accuracy_score(labels[rows], predicted)
            except UserError as error:
                failures.append(f"{shift}, {ratio:.0f}: {error}")
                line[target], found = np.nan, np.full_like(truth, np.nan)
            if target in ESTIMATED_PRIORS:
                distances[f"{target}_total_variation"] = total_variation(np.exp(found), truth)
        lines.append(line | distances)
    return pd.DataFrame(lines), failures


def shown_shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracies in percent; nothing where a prior could not be estimated."""
    shown = rows.assign(ratio=rows["ratio"].round().astype(int))
    for column in rows.columns[3:]:
        scale, digits = (1, 4) if column.endswith("_total_variation") else (100, 2)
        shown[column] = [
            "" if math.isnan(value) else f"{scale * value:.{digits}f}" for value in rows[column]
        ]
    return shown


def write_evaluation(
    found: dict[str, Evaluated], predictions: Predictions, target: str, folder: Path
) -> None:
    """Prints the scores and writes everything but the shift; result.json is left to the caller."""
    names, counts = predictions.unique_names, predictions.counts
    scores = [{"test_set": k, "target_prior": target} | each.scores for k, each in found.items()]
    per_class, confusions, calibration = {}, {}, {}
    for name, each in found.items():
        per_class[name] = per_class_table(each.log_posterior, each.labels, counts, names)
        predicted = each.log_posterior.argmax(axis=1)
        confusions[name] = confusion_matrix(each.labels, predicted, labels=range(len(names)))
        calibration[name] = calibration_table(each.log_posterior, each.labels)
    true_class = pd.Index(names, name="true_class")
    frames = {k: pd.DataFrame(v, true_class, names) for k, v in confusions.items()}
    write_csv(pd.DataFrame(scores), folder / "scores.csv")
    write_csv(
        pd.concat(per_class, names=["test_set"]).reset_index("test_set"), folder / "per_class.csv"
    )
    write_csv(pd.concat(frames, names=["test_set"]), folder / "confusion.csv", index=True)
    plot_confusion(confusions, names, folder / "confusion.png")
    plot_reliability(calibration, folder / "reliability.png")
    shown = shown_scores(found, target)
    write_tables(shown, folder / "table")
    print("\n" + to_markdown(shown))


def write_shift(rows: pd.DataFrame, failures: list[str], test_set: str, folder: Path) -> None:
    """Prints the table of shifts, and writes it with its figure."""
    methods = [column for column in rows.columns[3:] if not column.endswith("_total_variation")]
    write_csv(rows, folder / "shift.csv")
    write_tables(shown_shifts(rows), folder / "shift")
    plot_shift(rows, methods, folder / "shift.png")
    print(f"Accuracy in percent on subsets of {test_set} with shifted class priors.")
    if "bbse" not in methods:
        print("Without bbse: that needs held-out training samples (train with --val-fraction).")
    for reason in failures:
        print(f"No estimate for {reason}")
    print("\n" + to_markdown(shown_shifts(rows)))


def write_csv(table: pd.DataFrame, path: Path, *, index: bool = False) -> None:
    write_atomically(path, lambda partial: table.to_csv(partial, index=index))


def result(found: dict[str, Evaluated], predictions: Predictions, target: str) -> dict:
    """The content of result.json; a score that is not finite, such as an infinite NLL, is null."""

    def finite(value: float) -> float | None:
        return value if math.isfinite(value) else None

    return {
        "target_prior": target,
        "uses_test_labels": ["mutual_information", "label_entropy", "prior_total_variation"],
        "test_sets": {
            name: {key: finite(value) for key, value in each.scores.items()}
            | {"prior": dict(zip(predictions.unique_names, each.prior.tolist(), strict=True))}
            for name, each in found.items()
        },
    }


def get_parser() -> cli.Parser:
    parser = cli.Parser("Score a trained network under any class prior at test time.")
    parser.add_argument("run", type=Path, help="folder that pc_softmax.train wrote")
    group = parser.add_argument_group("run")
    group.add_argument(
        "--seed", type=cli.seed_number, default=0, help="random seed of the samples of --shift"
    )
    group.add_argument(
        "--output-dir", type=Path, help="folder to write, RUN/evaluation if not given"
    )
    group.add_argument(
        "--overwrite", action="store_true", help="delete what is in the output folder first"
    )
    parser.add_argument(
        "--target-prior",
        metavar="{" + ",".join(TARGET_PRIORS) + ",FILE}",
        default="uniform",
        help="class prior to decide under; a FILE holds class,probability or a number a line",
    )
    parser.add_argument("--test-sets", nargs="+", help="what to score, all if not given")
    parser.add_argument(
        "--shift", action="store_true", help="also score subsets with shifted class priors"
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    folder = args.output_dir or args.run / "evaluation"
    if folder.resolve() in (args.run.resolve(), *args.run.resolve().parents):
        raise UserError(f"--output-dir {folder} holds the run itself; choose another folder")
    predictions = Predictions.load(args.run / "predictions.npz")
    names = list(dict.fromkeys(args.test_sets or predictions.tests))
    if unknown := [name for name in names if name not in predictions.tests]:
        raise UserError(f"--test-sets {unknown[0]}: the run has {', '.join(predictions.tests)}")
    check_output(folder, vars(args), overwrite=args.overwrite)
    print(f"pc_softmax: {args.run}, target prior {args.target_prior}, writing {folder}", flush=True)

    found = {name: evaluate(predictions, name, args.target_prior) for name in names}
    if args.shift:
        shifted = "official" if "official" in names else names[0]
        rows, failures = shift_table(predictions, shifted, np.random.default_rng(args.seed))
    if predictions.calibration_note and (args.shift or args.target_prior == "em"):
        print(f"Note: {predictions.calibration_note}.")
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_evaluation(found, predictions, args.target_prior, folder)
    if args.shift:
        write_shift(rows, failures, shifted, folder)
    write_json(folder / "result.json", result(found, predictions, args.target_prior))
    more = "shift, " if args.shift else ""
    print(f"wrote {folder}/scores.csv, table, per_class.csv, confusion, {more}result.json")


if __name__ == "__main__":
    main()
