"""The numbers that stand in sentences of the pages, by name, from the rows in `resources/`.

Names are paths: `mnist/official/pc-softmax - softmax` is a paired difference, in points, on one
test set, `boxes/adamw/7x7/gt_known/infocam` a score in percent. Numbers are texts as shown.
`python -m scripts.make_tables --values TEXT` prints those whose names contain TEXT.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from mi_common.errors import UserError
from mi_common.tables import interval_half_width, mean_with_interval, number
from mi_estimator.benchmark_report import errors_and_failures
from mi_estimator.tasks.suites import PUBLISHED
from pc_softmax.comparison import with_rules_in_names
from scripts import page_values_boxes as of_boxes
from scripts.label_shift import LARGEST_LOSS
from scripts.page_value_texts import Values, over_seeds, rounded_up
from scripts.pages import apply, read_rows

ENDINGS = {"balanced_accuracy": "", "accuracy": " accuracy", "worst_class_accuracy": " worst"}
SHARES = [f"{name}{end}" for name in ("covered", "rejected") for end in ("", "_low", "_high")]
SHARES += ["covers_mean_estimate", "above_truth", "below_truth"]


def compute_values(folder: Path) -> dict[str, str]:
    """All numbers by name; UserError names the file whose rows do not fit."""

    def of(function: Callable[..., Values], *names: str, **options: str) -> list[tuple[str, str]]:
        rows = [read_rows(folder / f"{name}.csv") for name in names]
        listed = lambda *rows, **options: list(function(*rows, **options))  # noqa: E731
        try:
            return apply(function.__name__, listed, *rows, **options)
        except UserError as error:
            files = " and ".join(f"{folder.name}/{name}.csv" for name in names)
            raise UserError(f"{files}: {error}") from error

    return unique(
        [
            *of(paper_task, "mi_estimator"),
            *of(errors, "mi_hard", suite="hard"),
            *of(errors, "mi_tables", suite="tables"),
            *of(interval_counts, "mi_hard", "mi_tables"),
            *of(without_information, "mi_zero"),
            *of(coverage, "mi_coverage"),
            *of(by_training_images, "pc_softmax_classes"),
            *of(class_accuracies, "pc_softmax_tiny_imagenet", dataset="tiny"),
            *of(mnist_accuracies, "pc_softmax_mnist", "pc_softmax_fair"),
            *of(tuned_accuracies, "pc_softmax_fair"),
            *of(shifts, "pc_softmax_shift"),
            *of(prior_estimates, "label_shift_quapy"),
            *of(simulated_shifts, "label_shift_simulation"),
            *of(better_recipes, "pc_softmax_fair_tuning"),
            *of(of_boxes.boxes, "infocam_tiny_imagenet"),
            *of(of_boxes.plain_cam_by_sgd, "infocam_tiny_imagenet"),
            *of(of_boxes.box_options, "infocam_boxes_over_seeds"),
            *of(of_boxes.box_options, "infocam_boxes_twice"),
            *of(of_boxes.box_heads, "infocam_box_head"),
            *of(of_boxes.edge_bands, "infocam_edge_bands"),
            *of(of_boxes.field_protocol, "infocam_tiny_imagenet"),
            *of(of_boxes.digits, "infocam_scattered_digits"),
            *of(of_boxes.fine_tuned, "infocam_fine_tuned"),
        ]
    )


def unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Values by name; UserError for a name with two values."""
    values = {}
    for name, value in pairs:
        if values.setdefault(name, value) != value:
            raise UserError(f"{name} is {values[name]} by some rows and {value} by others")
    return values


def paper_task(rows: pd.DataFrame) -> Values:
    """Estimates in nats, and their largest errors over the eight tasks."""
    for (task, estimator), group in rows.groupby(["task", "estimator"]):
        yield f"mi/{task}/{estimator}", mean_with_interval(group["estimate"], 4)
    means = rows.groupby(["task", "estimator"])[["estimate", "truth"]].mean()
    errors = (means["estimate"] - means["truth"]).unstack()
    exact = means["truth"].unstack()["oracle"]
    networks = errors[["softmax", "pc-softmax"]]
    yield "mi/largest error", rounded_up(networks.abs().max(axis=None), 3)
    difference = (networks["softmax"] - networks["pc-softmax"]).abs().max()
    yield "mi/softmax and pc-softmax differ", rounded_up(difference, 4)
    imbalanced = errors[errors.index.str.endswith("-imbalanced")]
    yield "mi/log k error", number(imbalanced["softmax-log-k"].mean(), 2)
    published = {task: value for (task, name), value in PUBLISHED.items() if name == "pc-softmax"}
    gaps = [exact[task] - value for task, value in published.items()]
    yield "mi/least gap of the original", number(min(gaps), 2)
    yield "mi/largest gap of the original", number(max(gaps), 2)
    log_k = [value - exact[task] for (task, name), value in PUBLISHED.items() if "log-k" in name]
    yield "mi/original log k/lowest error", number(min(log_k), 2)
    yield "mi/original log k/highest error", number(max(log_k), 2)
    for task, value in PUBLISHED.items():
        yield f"mi/{'/'.join(task)}/original", f"{value:.3f}"
    for task, truth in exact.items():
        yield f"mi/{task}/exact", f"{truth:.4f}"


def errors(rows: pd.DataFrame, suite: str) -> Values:
    """Root mean square errors in nats, and relative to the truth in percent; ranks."""
    table, _ = errors_and_failures(rows)
    relative = table.div(rows.groupby(["task", "n_train"])["truth"].first(), axis=0)
    table = table.drop(columns="oracle", errors="ignore")
    ranks = table.dropna().rank(axis=1).mean()
    best = table.min(axis=1)
    for name in table:
        yield f"{suite}/{name}", number(table[name].mean(skipna=False), 3)
        yield f"{suite}/{name}/relative", f"{100 * relative[name].median():.2g}"
        yield f"{suite}/{name}/rank", number(ranks[name], 1)
        for size, of_size in table.groupby("n_train"):
            yield f"{suite}/{size}/{name}", number(of_size[name].mean(skipna=False), 3)
    worst_gap = (table["auto"] - best).max()
    yield f"{suite}/worst gap of auto", number(worst_gap, 3)
    yield f"{suite}/bound of gap of auto", rounded_up(worst_gap, 3)
    yield f"{suite}/lines", str(len(table))
    yield f"{suite}/auto is best", str((table["auto"].round(3) <= best.round(3)).sum())
    lead = (table["pc-softmax"] - table["auto"]).groupby("task").mean()
    yield f"{suite}/pc-softmax - auto", mean_with_interval(lead, 3)
    of_auto = rows[rows["estimator"] == "auto"]
    for size, error in (of_auto["estimate"] - of_auto["truth"]).groupby(of_auto["n_train"]):
        yield f"{suite}/{size}/auto/mean error", number(error.mean(), 3)
    truths = rows["truth"]
    yield f"{suite}/least truth", number(truths.min(), 3)
    yield f"{suite}/largest truth", number(truths.max(), 2)


def interval_counts(*suites: pd.DataFrame) -> Values:
    """How many intervals lie above the exact value, and how many below it."""
    rows = pd.concat(suites)
    rows = rows[rows["status"] == "ok"]
    above = rows["lower"] > rows["truth"] + rows["truth_error"]
    below = rows["upper"] < rows["truth"] - rows["truth_error"]
    yield "below/auto/percent", number(100 * below[rows["estimator"] == "auto"].mean(), 0)
    for name, of_estimator in above.groupby(rows["estimator"]):
        yield f"above/{name}", str(of_estimator.sum())
        yield f"above/{name}/rows", str(len(of_estimator))
        yield f"above/{name}/percent", number(100 * of_estimator.mean(), 0)


def without_information(rows: pd.DataFrame) -> Values:
    yield "zero/data sets", str(len(rows))
    yield "zero/below", str((rows["upper"] < 0).sum())
    yield "zero/exactly", str((rows["estimate"] == 0).sum())


def coverage(rows: pd.DataFrame) -> Values:
    """Shares of data sets in percent, some with the ends of their intervals."""
    for row in rows.to_dict("records"):
        for name in SHARES:
            yield f"coverage/{row['task']}/{name}", number(100 * row[name], 1)


def class_accuracies(rows: pd.DataFrame, dataset: str) -> Values:
    """Accuracies in percent by test set, loss and rule; balanced ones if nothing else is named.

    `pc-softmax` is the loss as trained, `softmax, prior subtracted` another rule.
    """
    for test_set, group in with_rules_in_names(rows).groupby("test_set"):
        for metric, ending in ENDINGS.items():
            by_seed = group.pivot(index="seed", columns="loss", values=metric)
            yield from over_seeds(f"{dataset}/{test_set}{ending}", by_seed, 2)


def mnist_accuracies(mnist: pd.DataFrame, fair: pd.DataFrame) -> Values:
    """As `class_accuracies`, of all seeds and of three; of all with the fixed other heads, too."""
    fixed = fair[fair["tuned"].isna()]
    fixed = fixed.assign(loss=fixed["loss"] + ", " + fixed["head"])
    yield from class_accuracies(pd.concat([mnist, fixed], ignore_index=True), "mnist")
    yield from class_accuracies(mnist[mnist["seed"] < 3], "mnist 3 seeds")


def by_training_images(rows: pd.DataFrame) -> Values:
    """Mean accuracy of the digits with as many training images, on the official test set."""
    rows = rows[rows["test_set"] == "official"]
    for count, group in with_rules_in_names(rows).groupby("train_count"):
        by_seed = group.pivot_table("accuracy", "seed", "loss")
        yield from over_seeds(f"digits of {count}", by_seed, 2)


def tuned_accuracies(rows: pd.DataFrame) -> Values:
    """As `class_accuracies`, of `tuned mnist/paper` and its like."""
    for names, group in rows[rows["tuned"].notna()].groupby(["dataset", "imbalance"]):
        yield from class_accuracies(group, f"tuned {'/'.join(names)}")


def shifts(rows: pd.DataFrame) -> Values:
    """Gains on the argmax in points: the mean, its interval over seeds, the least of a shift."""
    ratio = rows["ratio"].where(~rows["shift"].str.startswith("dirichlet"), 0)
    for name in ("uniform", "em", "bbse", "pacc"):
        gain = 100 * (rows[name] - rows["argmax"])
        by_shift = gain.groupby([rows["seed"], rows["shift"], ratio]).mean()
        by_seed = by_shift.groupby("seed").mean()
        half_width = interval_half_width(by_seed)
        yield f"shift/{name}", number(by_seed.mean(), 2)
        yield f"shift/{name}/low", number(by_seed.mean() - half_width, 2)
        yield f"shift/{name}/high", number(by_seed.mean() + half_width, 2)
        yield f"shift/{name}/least", number(by_shift.min(), 2)
        yield "shift/shifts", str(len(by_shift) // len(by_seed))


def prior_estimates(rows: pd.DataFrame) -> Values:
    """Total variation of EM against QuaPy's methods, in percent; gains on the argmax in points."""
    means = rows.groupby(["data", "method"])["total_variation"].mean()
    for data, of_data in means.groupby("data"):
        peers = of_data[of_data.index.get_level_values("method").str.startswith("QuaPy")]
        yield f"quapy/{data}/lead of the best peer", number(of_data[data, "em"] - peers.min(), 2)
    shifts = rows.set_index(["data", "shift", "ratio", "method"])["total_variation"].unstack()
    yield "quapy/shifts", str(len(shifts))
    yield "quapy/em is ahead of vs", str((shifts["em"] < shifts["QuaPy EMQ, vs"]).sum())
    for (data, method), gain in rows.groupby(["data", "method"])["gain"].mean().items():
        yield f"quapy/{data}/{method}/gain", number(gain, 1)


def simulated_shifts(rows: pd.DataFrame) -> Values:
    """Settings in which `auto` loses more than LARGEST_LOSS points on the argmax."""
    enough = (rows["validation"] >= 10) & (rows["test"] >= 10 * rows["classes"])
    cells = rows[enough & (rows["method"] == "auto")]
    lost = cells[cells["gain"] < -LARGEST_LOSS]
    yield "simulation/settings", str(len(cells))
    yield "simulation/settings that lose", str(len(lost))
    yield "simulation/largest loss", rounded_up(-cells["gain"].min(), 2)
    significant = lost["gain"] + lost["gain_ci"] < -LARGEST_LOSS
    yield "simulation/significant", str(significant.sum())


def better_recipes(rows: pd.DataFrame) -> Values:
    """How many losses have the better head, and the best rate of a linear head, on validation."""
    for names, group in rows[rows["status"] == "ok"].groupby(["dataset", "imbalance"]):
        scores = group.pivot_table("balanced_accuracy", ["loss", "head"], "lr")
        best = scores.max(axis=1).unstack()
        name = f"tuning/{'/'.join(names)}"
        yield f"{name}/losses", str(len(best))
        yield f"{name}/cosine is better", str((best["cosine"] > best["linear"]).sum())
        rates = scores.xs("linear", level="head").idxmax(axis=1)
        for rate in scores:
            yield f"{name}/linear best at {rate:g}", str((rates == rate).sum())
