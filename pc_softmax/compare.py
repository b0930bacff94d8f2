"""Losses side by side over seeds: mean, 95 % interval and paired difference to softmax.

    python -m pc_softmax.compare --dataset mnist --losses softmax pc-softmax --seeds 0 1 2
    python -m pc_softmax.compare --dataset tiny-imagenet --losses softmax pc-softmax ldam-drw crt

Trains every loss with every seed (`pc_softmax.train`, a run folder each). `ldam-drw` is LDAM with
class weights in the last fifth of the epochs, `crt` a new last layer on softmax's features. Each
run is scored by two rules, and softmax by a third:

    as trained          argmax of the logits
    prior subtracted    of logits that hold a class prior: argmax without it, for balanced classes
    prior added         of logits that hold none: argmax with the training prior
    tau-normalised      the last layer's weights divided by their length (tau = 1)

Writes `results.csv` (a row a test set, loss, rule and seed), `table` and `differences` (`.md`,
`.tex`) and `per_class.png`.
"""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from mi_common import cli, runtime
from mi_common.errors import UserError
from mi_common.fingerprints import file_fingerprint
from mi_common.records import RunFolder, check_output, prepare_output
from mi_common.results import ResultsFile
from mi_common.runtime import Runtime
from mi_common.tables import formatted, paired_differences, summarise, to_markdown, write_tables
from mi_common.workers import run_jobs
from pc_softmax.losses import LOSSES
from pc_softmax.metrics import (
    SCORES,
    classification_scores,
    majority_scores,
    per_class_accuracy,
)
from pc_softmax.models import finished_checkpoint
from pc_softmax.plots import plot_per_class
from pc_softmax.predictions import Predictions
from pc_softmax.recipes import add_arguments, read_data, set_defaults, train_options
from pc_softmax.train import build_model, check_loss, fingerprints, train

COMPARED = (*LOSSES, "ldam-drw", "crt")
COLUMNS = ["dataset", "test_set", "loss", "rule", "seed", *SCORES, "n_train", "n_test", "seconds"]
KEY = ["dataset", "loss", "seed"]
TEXT = ("dataset", "test_set", "loss", "rule")
SETTING = ["dataset", "test_set"]


@dataclass(frozen=True)
class Job:
    """One loss with one seed: what a worker process needs to train and score it."""

    loss: str
    seed: int
    folder: Path
    args: Namespace
    data: dict[str, str]  # fingerprints
    device: Runtime

    def flags(self) -> Namespace:
        """The flags of `pc_softmax.train` that make the same run."""
        flags = {
            k: v for k, v in vars(self.args).items() if k not in ("losses", "seeds", "cluster")
        }
        flags |= {"loss": self.loss, "seed": self.seed, "drw": None, "init": None}
        flags |= {"output_dir": self.folder, "retrain_head": self.loss == "crt"}
        if self.loss == "ldam-drw":
            flags |= {"loss": "ldam", "drw": self.args.epochs * 4 // 5}
        if self.loss == "crt":
            flags |= {"loss": "softmax", "init": self.folder.with_name(f"softmax-{self.seed}")}
        return Namespace(**flags)


def train_one(job: Job) -> list[dict]:
    """Trains, or takes up the run in the job's folder, and scores it; rows for results.csv."""
    run, flags = RunFolder(job.folder), job.flags()
    data = job.data
    if flags.init is not None:
        data = data | {"init": file_fingerprint(finished_checkpoint(flags.init))}
    # The first stage's folder moves with the comparison.
    output_options = {"resume": True, "overwrite": False, "extendable": ("init",), "data": data}
    prepare_output(job.folder, vars(flags), **output_options)
    if not run.finished:
        images = read_data(flags, lambda text: None)
        model = build_model(flags, images, job.device)
        train(images, run, model, runtime=job.device, **train_options(flags))
    run.require_files("predictions.npz")
    result = run.result()
    shared = {"dataset": job.args.dataset, "loss": job.loss, "seed": job.seed}
    shared |= {name: result[name] for name in ("n_train", "seconds")}
    predictions = Predictions.load(job.folder / "predictions.npz")
    return [
        shared
        | {"test_set": name, "rule": rule, "n_test": len(labels)}
        | classification_scores(changed, labels)
        for name, (logits, labels) in predictions.tests.items()
        for rule, changed in by_rule(predictions, logits, job.loss).items()
    ]


def by_rule(predictions: Predictions, logits: np.ndarray, loss: str) -> dict[str, np.ndarray]:
    """(N, K) logits whose argmax is the prediction, by name of the rule."""
    rules = {"as trained": logits}
    if np.ptp(predictions.logit_log_prior) > 1e-4:  # weights leave rounding errors
        rules["prior subtracted"] = predictions.pc_softmax_logits(logits)
    else:
        rules["prior added"] = logits + predictions.log_prior
    if loss == "softmax":
        norms, bias = predictions.head
        rules["tau-normalised"] = (logits - bias) / norms
    return rules


def tables(rows: pd.DataFrame, predictions: Predictions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores in percent with the majority class beside them, and differences to softmax."""
    shown = formatted(summarise(rows, [*SETTING, "loss", "rule"], SCORES), SCORES, scale=100)
    majority = [
        {"dataset": rows["dataset"].iloc[0], "test_set": name, "loss": "majority class"}
        | {"rule": "", "n": ""}
        | {k: f"{100 * v:.2f}" for k, v in majority_scores(predictions.log_prior, labels).items()}
        for name, (_, labels) in predictions.tests.items()
    ]
    order = {name: i for i, name in enumerate(predictions.tests)}
    shown = pd.concat([shown, pd.DataFrame(majority)])
    shown = shown.sort_values("test_set", key=lambda names: names.map(order), kind="stable")
    if "softmax" not in set(rows["loss"]):
        return shown, pd.DataFrame()
    named = rows["loss"] + np.where(rows["rule"] == "as trained", "", ", " + rows["rule"])
    rows = rows.assign(loss=named).drop(columns="rule")
    differences = paired_differences(rows, SETTING, "loss", "softmax", SCORES)
    if differences.empty:
        return shown, differences
    return shown, formatted(differences, SCORES, scale=100)


def write_comparison(rows: pd.DataFrame, folders: dict[str, list[Path]], folder: Path) -> None:
    """Prints and writes the tables, and draws the accuracy of each class.

    Args:
        rows: of results.csv.
        folders: the run folders of each loss.
    """
    predictions = {
        loss: [Predictions.load(path / "predictions.npz") for path in paths]
        for loss, paths in folders.items()
    }
    first = next(iter(predictions.values()))[0]
    shown, differences = tables(rows, first)
    write_tables(shown, folder / "table")
    print("Percent, mean ± half the 95 % interval over seeds.\n")
    print(to_markdown(shown))
    if not differences.empty:
        write_tables(differences, folder / "differences")
        print("Paired differences in points, seed by seed.\n")
        print(to_markdown(differences))
    classes = np.arange(len(first.counts))
    accuracies = {
        name: {
            loss: [per_class_accuracy(*own.tests[name], classes) for own in runs]
            for loss, runs in predictions.items()
        }
        for name in first.tests
    }
    plot_per_class(accuracies, first.counts, folder / "per_class.png")


def get_parser() -> cli.Parser:
    parser = cli.Parser("Compare losses on imbalanced images over several seeds.")
    cli.add_common_arguments(parser, output_dir=None, seeds=[0, 1, 2])
    cli.add_cluster_argument(parser)
    add_arguments(parser)
    parser.add_argument(
        "--losses",
        nargs="+",
        choices=COMPARED,
        default=["softmax", "pc-softmax"],
        help="losses to train",
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    set_defaults(args)
    losses, seeds = list(dict.fromkeys(args.losses)), list(dict.fromkeys(args.seeds))
    if "crt" in losses and "softmax" not in losses:
        raise UserError("--losses crt: it starts from softmax's runs; add softmax")
    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/pc_softmax/compare-{args.dataset}")
    output_options = {
        "resume": args.resume,
        "overwrite": args.overwrite,
        "extendable": ("seeds", "losses"),
    }
    check_output(folder, vars(args), **output_options)
    data = read_data(args, print)
    output_options["data"] = data_fingerprints = fingerprints(
        Namespace(**vars(args), init=None), data
    )
    check_output(folder, vars(args), **output_options)
    jobs = [
        Job(loss, seed, folder / f"{loss}-{seed}", args, data_fingerprints, device)
        for loss in losses
        for seed in seeds
    ]
    for job in jobs:
        check_loss(job.flags(), data)
    first = next(job for job in jobs if job.loss != "crt")
    if not (args.resume and first.folder.exists()):
        # What cannot work, unreadable images too, must not leave a folder; and worker processes
        # would compute the same features side by side.
        build_model(first.flags(), data, device)
    prepare_output(folder, vars(args), **output_options)
    print(f"pc_softmax: {device.describe()}, seeds {seeds}, writing {folder}", flush=True)

    results = ResultsFile(folder / "results.csv", COLUMNS, KEY, text=TEXT)
    jobs = [job for job in jobs if (args.dataset, job.loss, job.seed) not in results]
    # The first stage of cRT is a run of softmax: that comes first.
    for stage in ([j for j in jobs if j.loss != "crt"], [j for j in jobs if j.loss == "crt"]):
        done = run_jobs(
            train_one,
            [(j,) for j in stage],
            runtime=device,
            num_workers=args.num_workers,
            cluster=args.cluster,
        )
        for rows in tqdm(done, total=len(stage), disable=None):
            results.add(rows)

    keys = [(args.dataset, loss, seed) for loss in losses for seed in seeds]
    folders = {loss: [folder / f"{loss}-{seed}" for seed in seeds] for loss in losses}
    write_comparison(results.select(keys), folders, folder)
    print(f"wrote {folder}/results.csv, table, differences, per_class.png and a folder each run")


if __name__ == "__main__":
    main()
