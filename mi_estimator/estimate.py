"""How many nats do these features carry about this label? On your own table, or an image set.

    python -m mi_estimator.estimate FILE --label COLUMN
    python -m mi_estimator.estimate FILE --label COLUMN --features A B C
    python -m mi_estimator.estimate --dataset mnist

Cross-fitted: every sample is scored by a network that was not trained on it; a part of each fold's
training samples chooses the epoch and calibrates. Nearest neighbours need no training and use all
samples. All columns but the label are features unless flags say otherwise. A row index or an id can
reveal the label: a column without a name is an error, one that looks like an index gives a warning.
Writes `estimate.json`, `table` (.md, .tex), `pmi.csv` (the pointwise mutual information of each
sample), `classes.csv`, `pmi_by_class.png` and, but for neighbours, `calibration.png`.
"""

import math
import shlex
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mi_common import cli, runtime
from mi_common.datasets import IMAGE_SETS, image_tensors
from mi_common.errors import UserError
from mi_common.files import write_atomically, write_json
from mi_common.information import class_counts, entropy, log_prior_from_counts
from mi_common.records import check_output, prepare_output
from mi_common.tables import to_markdown, write_tables
from mi_estimator.estimators.critics import BOUNDS
from mi_estimator.estimators.crossfit import TRAINING, CrossFit, check_folds, cross_fit
from mi_estimator.estimators.neighbours import NEIGHBOUR_METHODS, NeighbourFit
from mi_estimator.estimators.registry import CROSS_ENTROPY, FROM_SAMPLES, build_estimator
from mi_estimator.plots import plot_calibration, plot_pointwise_by_class
from mi_estimator.samples import Samples, read_samples
from mi_estimator.table_files import listed

ENTROPIES = ("plug-in", "miller-madow")


def image_samples(dataset: str, data_dir: Path, limit: int | None) -> Samples:
    """The training images of an image set, the first `limit` of them."""
    found = image_tensors(dataset, data_dir, "train")
    images, labels = found.images[:limit], found.labels[:limit]
    return Samples(images, labels, found.class_names[: int(labels.max()) + 1], ["image"])


def index_warning(names: list[str]) -> str:
    """One line about features that number the rows."""
    flag = " ".join(map(shlex.quote, names[:20]))
    return (
        f"warning: columns {listed(names)} number the rows, as an index or id does; where rows are "
        f"or were sorted by the label, they give it away; leave them out with --drop {flag}"
    )


def known_log_prior(known: list[float], num_classes: int) -> Tensor:
    """(K,) float64.

    Raises:
        UserError: a prior of another length, with a zero, or that does not sum to one.
    """
    if len(known) != num_classes or min(known) <= 0 or not abs(sum(known) - 1) <= 1e-6:
        raise UserError(
            f"--known-prior {' '.join(map(str, known))}: give {num_classes} probabilities above "
            "zero that sum to one, in the sorted order of the classes"
        )
    return torch.tensor(known, dtype=torch.float64).log()


def summary(
    found: CrossFit | NeighbourFit, *, miller_madow: bool = False, p_value: float | None = None
) -> dict:
    """The content of estimate.json, in nats; None for what neighbours do not know.

    Args:
        miller_madow: whether H(Y) gets its (K - 1) / 2N; see `CrossFit.with_miller_madow`.
    """
    estimate, crossed = found.estimate(), isinstance(found, CrossFit)
    counts = class_counts(found.labels, int(found.labels.max()) + 1)
    frequencies = log_prior_from_counts(counts, dtype=torch.float64)
    log_prior = found.log_prior if crossed else frequencies
    label_entropy = entropy(log_prior).item()
    if miller_madow:
        label_entropy += (len(counts) - 1) / (2 * len(found.labels))
    return {
        "mutual_information": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "mutual_information_bits": estimate.value / math.log(2),
        "label_entropy": label_entropy,
        "share_of_label_entropy": estimate.value / label_entropy,
        "training_value": found.training_value if crossed else None,
        "accuracy": found.accuracy if crossed else None,
        "majority_accuracy": log_prior.exp().max().item(),
        "p_value": p_value,
        "samples": len(found.labels),
        "classes": len(counts),
    }


def sample_table(found: CrossFit | NeighbourFit, names: list[str]) -> pd.DataFrame:
    """A line a sample: the content of pmi.csv."""
    names = np.array(names)
    columns = {"sample": np.arange(len(found.labels)), "label": names[found.labels.numpy()]}
    if isinstance(found, CrossFit):
        columns["predicted"] = names[found.log_posterior.argmax(dim=1).numpy()]
        columns["fold"] = found.folds.numpy()
    return pd.DataFrame(columns | {"pmi_nats": found.pointwise.numpy()})


def class_table(found: CrossFit | NeighbourFit, names: list[str]) -> pd.DataFrame:
    """A line a class: its mean pointwise mutual information, and its share of the estimate."""
    lines = []
    for k, name in enumerate(names):
        own = found.labels == k
        mean = found.pointwise[own].mean().item()
        line = {"class": name, "samples": int(own.sum()), "mean_pmi": mean}
        if isinstance(found, CrossFit):
            line["contribution"] = (found.class_weights[k] * own.sum()).item() * mean
            hit = found.log_posterior[own].argmax(dim=1) == k
            line["accuracy"] = hit.double().mean().item()
        else:
            line["contribution"] = own.double().mean().item() * mean
        lines.append(line)
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
    }
    if result["training_value"] is not None:
        lines["on training samples"] = both(result["training_value"])
        lines["held-out accuracy"] = f"{100 * result['accuracy']:.2f} %"
    lines["majority class"] = f"{100 * result['majority_accuracy']:.2f} %"
    lines["samples, classes"] = f"{result['samples']}, {result['classes']}"
    if result["p_value"] is not None:
        lines["p-value of independence"] = f"{result['p_value']:.4g}"
    return pd.DataFrame(lines.items(), columns=["quantity", "value"])


def get_parser() -> cli.Parser:
    parser = cli.Parser("Estimate the mutual information of features and a label.")
    parser.add_argument("file", type=Path, nargs="?", help="a .csv, .parquet, .npz or .npy file")
    cli.add_common_arguments(parser, output_dir=None, workers=False, resume=False)
    parser.add_argument("--label", help="label column of the file (.npy: its number)")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--features",
        metavar="NAME",
        nargs="+",
        help="the only columns to use (.npy: their numbers; .npz: x0 x1 ...), all if not given",
    )
    chosen.add_argument(
        "--drop",
        metavar="NAME",
        nargs="+",
        help="columns to leave out, such as an id; one without a name is 'Unnamed: 0'",
    )
    parser.add_argument(
        "--drop-constant", action="store_true", help="leave out constant columns, not stop at them"
    )
    parser.add_argument("--dataset", choices=IMAGE_SETS, help="image set instead of a file")
    parser.add_argument(
        "--max-samples", type=cli.positive_int, help="first images to use of an image set"
    )
    parser.add_argument(
        "--estimator", choices=FROM_SAMPLES, default="pc-softmax", help="what estimates"
    )
    parser.add_argument("--folds", type=cli.positive_int, default=5, help="folds, at least 2")
    parser.add_argument(
        "--held-back",
        type=cli.fraction,
        default=TRAINING["held_back"],
        help="share of each training fold that chooses the epoch and calibrates",
    )
    parser.add_argument(
        "--members",
        type=cli.count_to(1000),
        default=TRAINING["members"],
        help="networks whose logits are averaged",
    )
    parser.add_argument(
        "--permutations",
        type=cli.non_negative_int,
        default=0,
        help="permutations of the test of independence; 0 leaves it out",
    )
    entropy_flags = parser.add_mutually_exclusive_group()
    entropy_flags.add_argument(
        "--entropy",
        choices=ENTROPIES,
        default="plug-in",
        help="H(Y) of the label frequencies as they are, or corrected, and the estimate with it",
    )
    entropy_flags.add_argument(
        "--known-prior",
        type=float,
        nargs="+",
        help="class probabilities where they are known, classes sorted; samples are re-weighted",
    )
    recipe = {name: TRAINING[name] for name in ("epochs", "batch_size", "lr", "weight_decay")}
    cli.add_training_arguments(parser, **recipe)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    if (args.file is None) == (args.dataset is None):
        raise UserError("give a FILE with --label COLUMN, or --dataset NAME, and not both")
    if args.dataset and (args.label or args.features or args.drop or args.drop_constant):
        raise UserError(
            "--label, --features, --drop and --drop-constant are for a FILE, not for --dataset"
        )
    if args.dataset and args.estimator not in ("pc-softmax", "softmax", *BOUNDS):
        raise UserError(f"--estimator {args.estimator}: images need a network, such as pc-softmax")
    if args.estimator not in CROSS_ENTROPY and (args.known_prior or args.entropy != "plug-in"):
        raise UserError(
            f"--estimator {args.estimator}: it has no term H(Y); leave out --entropy, --known-prior"
        )
    if args.file and args.max_samples:
        raise UserError("--max-samples is for --dataset")
    device = runtime.from_flags(args)
    if args.dataset:
        samples = image_samples(args.dataset, args.data_dir, args.max_samples)
    else:
        samples = read_samples(
            args.file,
            args.label,
            features=args.features,
            drop=args.drop,
            drop_constant=args.drop_constant,
        )
    if args.estimator not in NEIGHBOUR_METHODS:
        check_folds(samples.y, args.folds, samples.class_names)
    log_prior = None
    if args.known_prior:
        log_prior = known_log_prior(args.known_prior, len(samples.class_names))
    folder = args.output_dir or Path("runs/mi_estimator") / (args.dataset or args.file.stem)
    check_output(folder, vars(args), overwrite=args.overwrite)
    print(f"mi_estimator: {device.describe()}, seed {args.seed}, writing {folder}", flush=True)
    print(f"features ({len(samples.feature_names)}): {listed(samples.feature_names)}", flush=True)
    if samples.index_like:
        print(index_warning(samples.index_like), file=sys.stderr)

    if args.estimator in NEIGHBOUR_METHODS:
        found = NeighbourFit.of(args.estimator, samples.x, samples.y, seed=args.seed)
    else:
        training = {name: getattr(args, name) for name in TRAINING}
        found = cross_fit(
            lambda seed: build_estimator(args.estimator, device, seed, training),
            samples.x,
            samples.y,
            folds=args.folds,
            seed=args.seed,
            log_prior=log_prior,
        )
    p_value = None
    if args.permutations:
        p_value = found.permutation_p_value(args.permutations, args.seed)
    miller_madow = args.entropy == "miller-madow"
    if miller_madow:
        found = found.with_miller_madow()
    result = summary(found, miller_madow=miller_madow, p_value=p_value)
    result["features"] = samples.feature_names
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_estimate(found, result, samples.class_names, folder)


def write_estimate(
    found: CrossFit | NeighbourFit, result: dict, class_names: list[str], folder: Path
) -> None:
    """Prints and writes everything that an estimate consists of."""
    rows, classes = sample_table(found, class_names), class_table(found, class_names)
    write_atomically(folder / "pmi.csv", lambda path: rows.to_csv(path, index=False))
    write_atomically(folder / "classes.csv", lambda path: classes.to_csv(path, index=False))
    plot_pointwise_by_class(rows, class_names, folder / "pmi_by_class.png")
    if isinstance(found, CrossFit):
        plot_calibration(found.log_posterior, found.labels, folder / "calibration.png")
    write_tables(result_table(result), folder / "table")
    write_json(folder / "estimate.json", result)
    print(to_markdown(result_table(result)))
    if len(classes) <= 20:
        print(to_markdown(classes))
    print(f"wrote {folder}/estimate.json, table, pmi.csv, classes.csv and figures")


if __name__ == "__main__":
    main()
