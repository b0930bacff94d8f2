"""Training, scores and tables of `pc_softmax.compare`."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mi_common.fingerprints import file_fingerprint
from mi_common.records import RunFolder, prepare_output
from mi_common.runtime import Runtime
from mi_common.tables import (
    formatted,
    holm,
    paired_differences,
    summarise,
    to_markdown,
    write_csv,
    write_tables,
)
from pc_softmax import metrics
from pc_softmax.data import ImbalancedData, load_data
from pc_softmax.metrics import SCORES
from pc_softmax.names import COMPARED_LOSSES
from pc_softmax.plots import plot_per_class
from pc_softmax.predictions import Predictions
from pc_softmax.recipes import HEADS, DataSettings, Settings, default_head
from pc_softmax.training import build_classifier, first_stage, train

COLUMNS = ["dataset", "test_set", "loss", "rule", "seed", *SCORES, "n_train", "n_test", "seconds"]
KEY = ["dataset", "loss", "seed"]
RULES = ("as trained", "prior subtracted", "prior added", "tau-normalised")
TEXT = {"dataset": None, "test_set": None, "loss": COMPARED_LOSSES, "rule": RULES}
TUNED_COLUMNS = [*COLUMNS[:3], "head", "lr", *COLUMNS[3:]]
TUNED_TEXT = TEXT | {"head": HEADS}
SETTING = ["dataset", "test_set"]
BASELINES, TESTED = ("softmax", "pc-softmax"), "balanced_accuracy"
# Flags of `compare` that are not of `train`.
OWN_FLAGS = ("losses", "seeds", "cluster", "tune", "tune_rates", "tune_seeds", "tune_fraction")


def train_flags(flags: Mapping[str, Any], loss: str, seed: int, folder: Path) -> dict[str, Any]:
    """The flags of `pc_softmax.train` for one loss and seed, from those of the comparison."""
    shared = {k: v for k, v in flags.items() if k not in OWN_FLAGS}
    shared |= {"loss": loss, "seed": seed, "drw": None, "init": None}
    shared |= {"output_dir": folder, "retrain_head": loss == "crt"}
    if loss == "ldam-drw":
        shared |= {"loss": "ldam", "drw": flags["epochs"] * 4 // 5}
    if loss == "crt":
        shared |= {"loss": "softmax", "init": folder.with_name(f"softmax-{seed}")}
    shared["head"] = shared.get("head") or default_head(shared["loss"])
    return shared


def load(settings: DataSettings) -> ImbalancedData:
    return load_data(**vars(settings))


@functools.lru_cache(maxsize=1)
def _images(
    images: Callable[[DataSettings], ImbalancedData], settings: DataSettings, fingerprints: tuple
) -> ImbalancedData:
    """Reads the images once for all jobs of a process; other fingerprints are other images."""
    return images(settings)


def finished_run(
    flags: dict,
    fingerprints: dict[str, str],
    description: dict,
    runtime: Runtime,
    *,
    images: Callable[[DataSettings], ImbalancedData] = load,
) -> RunFolder:
    """Trains a network, or goes on with its run, which has predictions then.

    `flags` are those of the `pc_softmax.train` that makes the same run; `fingerprints` and
    `description` are those of `pc_softmax.training`.
    """
    run, settings = RunFolder(flags["output_dir"]), Settings.from_flags(flags)
    init = {}
    if settings.init is not None:
        init = {"init": file_fingerprint(first_stage(settings.init).checkpoint_file)}
    # "init" may differ: the first stage's folder moves with the comparison's.
    output_options = {"resume": True, "overwrite": False, "extendable": ("init",)}
    output_options |= {"data": fingerprints | init, "description": description}
    prepare_output(run.path, flags, **output_options)
    if not run.finished:
        data = _images(images, settings.data, tuple(sorted(fingerprints.items())))
        train(settings, data, build_classifier(settings, data, runtime), run)
    run.require_files("predictions.npz")
    return run


def train_one(
    loss: str, flags: dict, fingerprints: dict[str, str], description: dict, runtime: Runtime
) -> list[dict]:
    """Trains one loss with one seed and scores it; rows of results.csv, with head and rate.

    Arguments are as those of `finished_run`.
    """
    run = finished_run(flags, fingerprints, description, runtime)
    result = run.result()
    shared = {name: flags[name] for name in ("dataset", "head", "lr", "seed")} | {"loss": loss}
    shared |= {name: result[name] for name in ("n_train", "seconds")}
    predictions = Predictions.load(run.path / "predictions.npz")
    rows = []
    for name, (logits, labels) in predictions.tests.items():
        for rule, changed in by_rule(predictions, logits, loss).items():
            scores = result["test_sets"][name]
            if rule != "as trained":
                scores = metrics.classification_scores(changed, labels) | {"n_test": len(labels)}
            rows.append(shared | {"test_set": name, "rule": rule} | scores)
    return rows


def by_rule(predictions: Predictions, logits: np.ndarray, loss: str) -> dict[str, np.ndarray]:
    """(N, K) logits whose argmax is the prediction, by name of the rule, one of RULES."""
    rules = {"as trained": logits}
    if np.ptp(predictions.logit_log_prior) > 1e-4:  # weights leave rounding errors
        rules["prior subtracted"] = predictions.pc_softmax_logits(logits)
    else:
        rules["prior added"] = logits + predictions.log_prior
    if loss == "softmax" and predictions.head is not None:
        norms, bias = predictions.head
        rules["tau-normalised"] = (logits - bias) / norms
    return rules


def tables(rows: pd.DataFrame, predictions: Predictions) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores in percent with the majority class beside them, and differences to softmax."""
    tuned = [name for name in ("head", "lr") if name in rows]
    by = [*SETTING, "loss", *tuned, "rule"]
    shown = formatted(summarise(rows, by, SCORES), SCORES, scale=100)
    majority = []
    for name, (_, labels) in predictions.tests.items():
        scores = metrics.majority_scores(predictions.log_prior, labels)
        row = {"dataset": rows["dataset"].iloc[0], "test_set": name, "loss": "majority class"}
        row |= dict.fromkeys([*tuned, "rule", "n"], "") | {
            k: f"{100 * v:.2f}" for k, v in scores.items()
        }
        majority.append(row)
    order = {name: i for i, name in enumerate(predictions.tests)}
    shown = pd.concat([shown, pd.DataFrame(majority)])
    shown = shown.sort_values("test_set", key=lambda names: names.map(order), kind="stable")
    return shown, differences_to_baselines(rows)


def with_rules_in_names(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose `loss` is `LOSS, RULE`, or LOSS alone as trained."""
    rules = np.where(rows["rule"] == "as trained", "", ", " + rows["rule"])
    return rows.assign(loss=rows["loss"] + rules)


def differences_to_baselines(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired differences to softmax and to PC-softmax in points, empty if there are none.

    `holm_p` is the p-value of a paired t test of the balanced accuracy, by Holm's method for all
    differences to one baseline on one test set. The rule "prior added" is not for balanced classes
    and has none.
    """
    if "softmax" not in set(rows["loss"]):
        return pd.DataFrame()
    rows = with_rules_in_names(rows).drop(columns=["rule", "head", "lr"], errors="ignore")
    tables = []
    for baseline in BASELINES:
        if baseline not in set(rows["loss"]):
            continue
        table = paired_differences(rows, SETTING, "loss", baseline, SCORES, test=TESTED)
        tested = ~table["loss"].str.contains(", prior added - ", regex=False)
        for _, family in table[tested].groupby(SETTING):
            table.loc[family.index, "holm_p"] = holm(family[f"{TESTED}_p"])
        tables.append(table.drop(columns=f"{TESTED}_p"))
    differences = pd.concat(tables, ignore_index=True)
    if differences.empty:
        return differences
    differences = differences[[*SETTING, "loss", "n", "holm_p", *differences.columns[4:-1]]]
    return formatted(differences, SCORES, scale=100)


def class_rows(predictions: dict[str, list[Predictions]], seeds: list[int]) -> pd.DataFrame:
    """Training and test samples, accuracy and precision by loss, seed, test set, rule and class.

    `predictions` are the runs of each loss, one a seed.
    """
    tables = []
    for loss, runs in predictions.items():
        for seed, run in zip(seeds, runs, strict=True):
            for test_set, (logits, labels) in run.tests.items():
                for rule, changed in by_rule(run, logits, loss).items():
                    confusion = metrics.confusion_counts(changed, labels)
                    table = metrics.class_table(confusion, run.counts, run.class_names)
                    described = {"test_set": test_set, "loss": loss, "rule": rule, "seed": seed}
                    tables.append(table.assign(**described)[[*described, *table]])
    return pd.concat(tables, ignore_index=True)


def write_comparison(rows: pd.DataFrame, folders: dict[str, list[Path]], folder: Path) -> None:
    """Prints and writes the tables of results.csv, and draws the accuracy of each class.

    `folders` are the run folders of each loss; a UserError names one that has lost a file.
    """
    for run in (RunFolder(path) for paths in folders.values() for path in paths):
        run.require_entry("pc_softmax.train")
        run.result()  # its errors
        run.require_files("predictions.npz", "indices.npz", "checkpoint.pt")
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
    seeds = [RunFolder(path).config("flags")["seed"] for path in next(iter(folders.values()))]
    write_csv(class_rows(predictions, seeds), folder / "per_class.csv")
    accuracies = {name: {} for name in first.tests}
    for name, by_loss in accuracies.items():
        for loss, runs in predictions.items():
            confusions = [metrics.confusion_counts(*run.tests[name]) for run in runs]
            by_loss[loss] = [metrics.class_accuracies(confusion) for confusion in confusions]
    plot_per_class(accuracies, first.counts, folder / "per_class.png")
