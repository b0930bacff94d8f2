"""Losses side by side over seeds: mean, 95 % interval and paired difference.

    python -m pc_softmax.compare --dataset mnist --losses softmax pc-softmax --seeds 0 1 2

Trains every loss with every seed (`pc_softmax.train`, a run folder each), predicts by the argmax
of the logits, and writes `results.csv` (a row a test set, loss and seed), `table` and `differences`
(`.md`, `.tex`) and `per_class.png`.
"""

from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from common import cli, runtime
from common.records import ResultsFile, RunFolder, prepare_output
from common.runtime import Runtime
from common.tables import formatted, paired_differences, summarise, to_markdown, write_tables
from pc_softmax.losses import LOSSES
from pc_softmax.metrics import (
    SCORES,
    classification_scores,
    load_predictions,
    majority_scores,
    per_class_accuracy,
)
from pc_softmax.plots import plot_per_class
from pc_softmax.train import add_arguments, load_digits, train, training_options

COLUMNS = ["dataset", "test_set", "loss", "seed", *SCORES, "n_train", "n_test", "seconds"]
KEY = ["dataset", "loss", "seed"]
SETTING = ["dataset", "test_set"]


def train_one(
    dataset: str, data_dir: Path, folder: Path, loss: str, seed: int, options: dict, device: Runtime
) -> list[dict]:
    """Trains one loss with one seed, or takes up the run in `folder`; rows for results.csv."""
    run = RunFolder(folder)
    flags = {"dataset": dataset, "loss": loss, "seed": seed, "precision": device.precision}
    prepare_output(folder, flags | options, resume=True, overwrite=False)
    if not run.finished:
        data = load_digits(dataset, data_dir)
        train(data, run, loss=loss, seed=seed, runtime=device, **options)
    result = run.result()
    shared = {"dataset": dataset, "loss": loss, "seed": seed}
    shared |= {name: result[name] for name in ("n_train", "seconds")}
    return [shared | {"test_set": name} | scores for name, scores in result["test_sets"].items()]


def tables(rows: pd.DataFrame, log_prior, tests: dict) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores in percent with the majority class beside them, and differences to softmax."""
    shown = formatted(summarise(rows, [*SETTING, "loss"], SCORES), SCORES, scale=100)
    majority = [
        {"dataset": rows["dataset"].iloc[0], "test_set": name, "loss": "majority class", "n": ""}
        | {k: f"{100 * v:.2f}" for k, v in majority_scores(log_prior, labels).items()}
        for name, (_, labels) in tests.items()
    ]
    order = {name: i for i, name in enumerate(tests)}
    shown = pd.concat([shown, pd.DataFrame(majority)])
    shown = shown.sort_values("test_set", key=lambda names: names.map(order), kind="stable")
    if "softmax" not in set(rows["loss"]):
        return shown, pd.DataFrame()
    differences = paired_differences(rows, SETTING, "loss", "softmax", SCORES)
    if differences.empty:
        return shown, differences
    return shown, formatted(differences, SCORES, scale=100)


def write_comparison(rows: pd.DataFrame, predictions: dict, folder: Path) -> None:
    """Prints and writes the tables, and draws the accuracy of each class.

    Args:
        rows: of results.csv.
        predictions: what `load_predictions` reads, by loss and seed.
    """
    log_prior, tests = next(iter(predictions.values()))
    shown, differences = tables(with_adjusted_softmax(rows, predictions), log_prior, tests)
    write_tables(shown, folder / "table")
    print("Percent, mean ± half the 95 % interval over seeds; argmax of the logits.\n")
    print(to_markdown(shown))
    if not differences.empty:
        write_tables(differences, folder / "differences")
        print("Paired differences in points, seed by seed.\n")
        print(to_markdown(differences))
    classes = np.arange(len(log_prior))
    accuracies: dict[str, dict] = {name: {} for name in tests}
    for (loss, _), (_, own_tests) in predictions.items():
        for name, (logits, labels) in own_tests.items():
            accuracy = per_class_accuracy(logits, labels, classes)
            accuracies[name].setdefault(loss, []).append(accuracy)
    train_counts = np.rint(np.exp(log_prior) * rows["n_train"].iloc[0]).astype(int)
    plot_per_class(accuracies, train_counts, folder / "per_class.png")


def with_adjusted_softmax(rows: pd.DataFrame, predictions: dict) -> pd.DataFrame:
    """The rows, and those of softmax with the log class prior subtracted from its logits at test
    time (post-hoc adjustment, Menon et al. 2021): how much of a gain is the rule of decision."""
    adjusted = []
    for row in rows[rows["loss"] == "softmax"].to_dict("records"):
        log_prior, tests = predictions["softmax", row["seed"]]
        logits, labels = tests[row["test_set"]]
        scores = classification_scores(logits - log_prior, labels)
        adjusted.append(row | scores | {"loss": "softmax, prior subtracted"})
    return pd.concat([rows, pd.DataFrame(adjusted, columns=rows.columns)], ignore_index=True)


def get_parser() -> cli.Parser:
    parser = cli.Parser("Compare losses on the paper's imbalanced digits over several seeds.")
    cli.add_common_arguments(parser, output_dir=None, seeds=[0, 1, 2])
    add_arguments(parser)
    parser.add_argument(
        "--losses", nargs="+", choices=LOSSES, default=list(LOSSES), help="losses to train"
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/pc_softmax/compare-{args.dataset}")
    load_digits(args.dataset, args.data_dir)  # missing data must not leave an empty folder
    prepare_output(
        folder,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("seeds", "losses"),
    )
    seeds, losses = list(dict.fromkeys(args.seeds)), list(dict.fromkeys(args.losses))
    print(f"pc_softmax: {device.describe()}, seeds {seeds}, writing {folder}", flush=True)

    results = ResultsFile(folder / "results.csv", COLUMNS, KEY)
    keys = [(args.dataset, loss, seed) for loss in losses for seed in seeds]
    options = training_options(args)
    jobs = [
        (args.dataset, args.data_dir, folder / f"{loss}-{seed}", loss, seed, options, device)
        for _, loss, seed in keys
        if (args.dataset, loss, seed) not in results
    ]
    done = runtime.run_jobs(train_one, jobs, runtime=device, num_workers=args.num_workers)
    for rows in tqdm(done, total=len(jobs), disable=None):
        results.add(rows)

    predictions = {
        (loss, seed): load_predictions(folder / f"{loss}-{seed}" / "predictions.npz")
        for _, loss, seed in keys
    }
    write_comparison(results.select(keys), predictions, folder)
    print(f"wrote {folder}/results.csv, table, differences, per_class.png and a folder each run")


if __name__ == "__main__":
    main()
