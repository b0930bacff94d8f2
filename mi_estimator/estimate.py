"""How many nats do these features carry about this label? On your own table, or an image set.

    python -m mi_estimator.estimate FILE --label COLUMN
    python -m mi_estimator.estimate --dataset mnist

Cross-fitted: every sample is scored by a classifier that never saw it; a part of each training
fold chooses the epoch and calibrates. Writes `estimate.json`, `table` (.md, .tex), `pmi.csv` (the
pointwise mutual information of each sample), `classes.csv`, `pmi_by_class.png`, `calibration.png`.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from common import cli, runtime
from common.datasets import IDX_DATASETS, idx_images
from common.errors import UserError
from common.information import class_counts, entropy, log_prior_from_counts
from common.records import check_output, prepare_output, write_atomically, write_json
from common.tables import to_markdown, write_tables
from mi_estimator.baselines import CLASSIFIERS
from mi_estimator.crossfit import CrossFit, check_folds, cross_fit
from mi_estimator.estimators import MIEstimate
from mi_estimator.plots import plot_calibration, plot_pointwise_by_class
from mi_estimator.registry import CROSS_FITTED, build_estimator
from mi_estimator.samples import Samples, read_samples

PRIORS = ("plug-in", "miller-madow")


def image_samples(dataset: str, data_dir: Path, limit: int | None) -> Samples:
    """The training images of an image set, the first `limit` of them."""
    images, labels = idx_images(dataset, data_dir, "train")
    images, labels = images[:limit], labels[:limit]
    names = [str(k) for k in range(int(labels.max()) + 1)]
    return Samples(images.unsqueeze(1).float() / 255, labels, names, ["image"])


def label_prior(y: Tensor, known: list[float] | None) -> Tensor:
    """(K,) float64 log prior: the label frequencies, or the known one.

    Raises:
        UserError: a known prior of another length, with a zero, or that does not sum to one.
    """
    num_classes = int(y.max()) + 1
    if known is None:
        return log_prior_from_counts(class_counts(y, num_classes), dtype=torch.float64)
    if len(known) != num_classes or min(known) <= 0 or not abs(sum(known) - 1) <= 1e-6:
        raise UserError(
            f"--known-prior {' '.join(map(str, known))}: give {num_classes} probabilities above "
            "zero that sum to one, in the sorted order of the classes"
        )
    return torch.tensor(known, dtype=torch.float64).log()


def summary(found: CrossFit, log_prior: Tensor, correction: float, p_value: float | None) -> dict:
    """The content of estimate.json, in nats.

    Args:
        correction: what the entropy estimate adds to the plug-in entropy (Miller-Madow).
    """
    estimate = MIEstimate.from_pointwise(found.pointwise(log_prior) + correction)
    # A known prior is a statement on H(Y); with it the mean of -log p(y) over samples is noise.
    label_entropy = entropy(log_prior).item() + correction
    counts = class_counts(found.labels, found.log_posterior.shape[1])
    # Training values are relative to the label frequencies; this makes them relative to log_prior.
    frequencies = log_prior_from_counts(counts, dtype=torch.float64)
    shift = (frequencies - log_prior)[found.labels].mean().item() + correction
    return {
        "mutual_information": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "mutual_information_bits": estimate.value / math.log(2),
        "label_entropy": label_entropy,
        "share_of_label_entropy": estimate.value / label_entropy,
        "training_value": found.training_value + shift,
        "accuracy": found.accuracy,
        "majority_accuracy": (counts.max() / counts.sum()).item(),
        "p_value": p_value,
        "samples": len(found.labels),
        "classes": len(counts),
    }


def class_table(found: CrossFit, pointwise: Tensor, names: list[str]) -> pd.DataFrame:
    """A line a class: its mean pointwise mutual information, and its share of the estimate."""
    lines = []
    hit = found.log_posterior.argmax(dim=1) == found.labels
    for k, name in enumerate(names):
        own = found.labels == k
        lines.append(
            {
                "class": name,
                "samples": int(own.sum()),
                "mean_pmi": pointwise[own].mean().item(),
                "contribution": pointwise[own].sum().item() / len(pointwise),
                "accuracy": hit[own].double().mean().item(),
            }
        )
    return pd.DataFrame(lines)


def result_table(result: dict) -> pd.DataFrame:
    """Two columns for a reader, nats and bits side by side."""
    nats = "{:.4f} nats ({:.4f} bits)"

    def both(value: float) -> str:
        return nats.format(value, value / math.log(2))

    lines = {
        "mutual information": both(result["mutual_information"]),
        "95 % interval": f"{result['lower']:.4f} to {result['upper']:.4f} nats",
        "label entropy H(Y)": both(result["label_entropy"]),
        "I / H(Y)": f"{100 * result['share_of_label_entropy']:.1f} %",
        "on training samples": both(result["training_value"]),
        "held-out accuracy": f"{100 * result['accuracy']:.2f} %",
        "majority class": f"{100 * result['majority_accuracy']:.2f} %",
        "samples, classes": f"{result['samples']}, {result['classes']}",
    }
    if result["p_value"] is not None:
        lines["p-value of independence"] = f"{result['p_value']:.4g}"
    return pd.DataFrame(lines.items(), columns=["quantity", "value"])


def get_parser() -> cli.Parser:
    parser = cli.Parser("Estimate the mutual information of features and a label.")
    parser.add_argument("file", type=Path, nargs="?", help="a .csv, .parquet, .npz or .npy file")
    cli.add_common_arguments(parser, output_dir=None, workers=False, resume=False)
    parser.add_argument("--label", help="label column of the file (.npy: its number)")
    parser.add_argument(
        "--drop-constant", action="store_true", help="leave out constant columns, not stop at them"
    )
    parser.add_argument("--dataset", choices=list(IDX_DATASETS), help="image set instead of a file")
    parser.add_argument(
        "--max-samples", type=cli.positive_int, help="first images to use of an image set"
    )
    parser.add_argument(
        "--estimator", choices=CROSS_FITTED, default="pc-softmax", help="what is cross-fitted"
    )
    parser.add_argument("--folds", type=cli.positive_int, default=5, help="folds, at least 2")
    parser.add_argument(
        "--held-back",
        type=cli.fraction,
        default=0.15,
        help="share of each training fold that chooses the epoch and calibrates",
    )
    parser.add_argument(
        "--permutations",
        type=cli.non_negative_int,
        default=0,
        help="permutations of the test of independence; 0 leaves it out",
    )
    entropy_flags = parser.add_mutually_exclusive_group()
    entropy_flags.add_argument(
        "--entropy", choices=PRIORS, default="plug-in", help="estimate of H(Y)"
    )
    entropy_flags.add_argument(
        "--known-prior", type=float, nargs="+", help="known class probabilities, classes sorted"
    )
    cli.add_training_arguments(parser, epochs=50, batch_size=100, lr=2e-3, weight_decay=1e-2)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    if (args.file is None) == (args.dataset is None):
        raise UserError("give a FILE with --label COLUMN, or --dataset NAME, and not both")
    if args.folds < 2:
        raise UserError(f"--folds {args.folds}: at least 2")
    if args.dataset and (args.label or args.drop_constant):
        raise UserError("--label and --drop-constant are for a FILE, not for --dataset")
    if args.dataset and args.estimator in CLASSIFIERS:
        raise UserError(f"--estimator {args.estimator}: images need softmax or pc-softmax")
    if args.file and args.max_samples:
        raise UserError("--max-samples is for --dataset")
    device = runtime.from_flags(args)
    if args.dataset:
        samples = image_samples(args.dataset, args.data_dir, args.max_samples)
    else:
        samples = read_samples(args.file, args.label, drop_constant=args.drop_constant)
    check_folds(samples.y, args.folds, samples.class_names)
    log_prior = label_prior(samples.y, args.known_prior)
    folder = args.output_dir or Path("runs/mi_estimator") / (args.dataset or args.file.stem)
    check_output(folder, vars(args), overwrite=args.overwrite)
    print(f"mi_estimator: {device.describe()}, seed {args.seed}, writing {folder}", flush=True)

    names = ("epochs", "batch_size", "lr", "weight_decay", "held_back")
    training = {name: getattr(args, name) for name in names}
    found = cross_fit(
        lambda seed: build_estimator(args.estimator, device, seed, training),
        samples.x,
        samples.y,
        folds=args.folds,
        seed=args.seed,
    )
    p_value = None
    if args.permutations:
        p_value = found.permutation_p_value(args.permutations, args.seed)
    correction = 0.0
    if args.entropy == "miller-madow":
        correction = (len(log_prior) - 1) / (2 * len(samples.y))
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_estimate(samples, found, log_prior, correction, p_value, folder)


def write_estimate(
    samples: Samples,
    found: CrossFit,
    log_prior: Tensor,
    correction: float,
    p_value: float | None,
    folder: Path,
) -> None:
    """Prints and writes everything that an estimate consists of."""
    result = summary(found, log_prior, correction, p_value)
    pointwise = found.pointwise(log_prior) + correction
    names = np.array(samples.class_names)
    rows = pd.DataFrame(
        {
            "sample": np.arange(len(pointwise)),
            "label": names[found.labels.numpy()],
            "predicted": names[found.log_posterior.argmax(dim=1).numpy()],
            "pmi_nats": pointwise.numpy(),
            "fold": found.folds.numpy(),
        }
    )
    classes = class_table(found, pointwise, samples.class_names)
    write_atomically(folder / "pmi.csv", lambda path: rows.to_csv(path, index=False))
    write_atomically(folder / "classes.csv", lambda path: classes.to_csv(path, index=False))
    plot_pointwise_by_class(rows, samples.class_names, folder / "pmi_by_class.png")
    plot_calibration(found.log_posterior, found.labels, folder / "calibration.png")
    write_tables(result_table(result), folder / "table")
    write_json(folder / "estimate.json", result)
    print(to_markdown(result_table(result)))
    if len(classes) <= 20:
        print(to_markdown(classes))
    print(f"wrote {folder}/estimate.json, table, pmi.csv, classes.csv and two figures")


if __name__ == "__main__":
    main()
