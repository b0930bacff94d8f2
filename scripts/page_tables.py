"""The tables of the pages, made of the rows in `resources/`; see `scripts.make_tables`.

Each function takes the rows of the CSV files that its marker names, and returns the table as shown.
"""

import pandas as pd

from infocam.scoring import tables as localisation
from mi_common.tables import formatted, interval_half_width, summarise
from mi_estimator.benchmark_report import estimate_table, rmse_table
from mi_estimator.tasks.suites import SUITES
from pc_softmax.comparison import TESTED, differences_to_baselines
from pc_softmax.metrics import SCORES
from scripts import gpu_timings, pages, plain_timings, provenance

NOT_SHOWN = ["shrunk-lda", "regularised-qda", "nearest-neighbours"]  # of the hard tasks
SHOWN_SHIFTS = (
    ("forward", 50),
    ("forward", 10),
    ("uniform", 1),
    ("backward", 10),
    ("backward", 50),
)
ESTIMATED = ("em", "bbse", "pacc")
QUAPY_DATA = {"mnist": "MNIST", "digits": "noisy digits", "tabular": "made-up table"}
SHOWN_CELLS = ((2, (1, 3, 10, 100)), (10, (1, 3, 10, 100)), (100, (3, 10)))
OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD"}
EVERY_OPTION = "propagated infocam, mean box, prior map, adaptive threshold"
QUARTERS_OF = (  # title, optimiser, map and method of the columns
    ("centre-box", "adamw", "7x7", "centre-box"),
    ("cam, AdamW, 7x7", "adamw", "7x7", "cam"),
    ("infocam, AdamW, 7x7", "adamw", "7x7", "infocam"),
    ("infocam, SGD, 14x14", "sgd", "14x14", "infocam"),
    ("every option, SGD, 14x14", "sgd", "14x14", EVERY_OPTION),
)
PERCENTAGES = ["gt_known", "gt_known_low", "gt_known_high", "top1_loc"]


def files() -> pd.DataFrame:
    """The files in `resources/` and where their rows are from."""
    return provenance.files_table(pages.ROOT / "resources")


def paper_estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Estimates of the paper's tasks beside the exact and the original's values, in nats."""
    return estimate_table(rows, SUITES["paper"])


def hard_errors(rows: pd.DataFrame) -> pd.DataFrame:
    return table_errors(rows).drop(columns=NOT_SHOWN)


def table_errors(rows: pd.DataFrame) -> pd.DataFrame:
    """Root mean square errors in nats."""
    errors = rmse_table(rows)
    return errors[errors["task"] != "seconds a run"]


def class_scores(rows: pd.DataFrame, metrics: list[str] = SCORES) -> pd.DataFrame:
    """Scores of losses and rules in percent; one column for each metric and test set."""
    rows = rows.drop(columns=[name for name in SCORES if name not in metrics])
    summary = summarise(rows, ["test_set", "loss", "rule"], metrics)
    cells = formatted(summary, metrics, scale=100).set_index(["loss", "rule", "test_set"])
    columns = {
        f"{test_set}: {metric.replace('_', ' ')}": cells[metric].xs(test_set, level="test_set")
        for test_set in dict.fromkeys(rows["test_set"])
        for metric in metrics
    }
    return pd.DataFrame(columns).reset_index()


def accuracies(rows: pd.DataFrame) -> pd.DataFrame:
    """As `class_scores`; no worst class, which has as few as five images."""
    return class_scores(rows, ["accuracy", "balanced_accuracy"])


def balanced_differences(rows: pd.DataFrame, baseline: str = "pc-softmax") -> pd.DataFrame:
    """Paired differences of the balanced accuracy to a baseline in points, and Holm's p-values."""
    differences = differences_to_baselines(rows)
    ending = f" - {baseline}"
    shown = differences["loss"].str.endswith(ending) & differences["holm_p"].notna()
    differences = differences[shown].assign(loss=lambda d: d["loss"].str.removesuffix(ending))
    cells = differences.set_index(["loss", "test_set"])
    columns = {}
    for test_set in dict.fromkeys(rows["test_set"]):
        of_set = cells.xs(test_set, level="test_set")
        columns[f"{test_set}: minus {baseline}"] = of_set[TESTED].map(signed)
        columns[f"{test_set}: Holm's p"] = of_set["holm_p"].map(p_value)
    table = pd.DataFrame(columns).rename_axis("loss").reset_index()
    rule = table["loss"].str.partition(", ")[2].replace("", "as trained")
    table.insert(1, "rule", rule)
    return table.assign(loss=table["loss"].str.partition(", ")[0])


def signed(text: str) -> str:
    return text if text.startswith("-") else f"+{text}"


def p_value(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def tuned(rows: pd.DataFrame, dataset: str, imbalance: str = "paper") -> pd.DataFrame:
    """Each loss with the rate and head that validation images chose, on the official test set."""
    rows = rows[(rows["tuned"] == "lr head") & (rows["test_set"] == "official")]
    rows = rows[rows["dataset"].eq(dataset) & rows["imbalance"].eq(imbalance)]
    rows = rows.drop(columns=["imbalance", "tuned"])
    by = ["loss", "rule", "head", "lr"]
    kept = rows[~rows["rule"].eq("prior added")]
    others = [name for name in SCORES if name != TESTED]
    scores = formatted(summarise(kept.drop(columns=others), by, [TESTED]), [TESTED], scale=100)
    table = scores.merge(balanced_differences(rows), how="left", on=["loss", "rule"], sort=False)
    table.columns = [*by, "n", "balanced accuracy", "minus PC-softmax", "Holm's p"]
    table = table.rename(columns={"lr": "learning rate"}).drop(columns="n")
    return table.fillna({"minus PC-softmax": "", "Holm's p": ""})


def shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracies in percent under each prior, errors of the estimated priors, least gains."""
    targets = ["argmax", "uniform", "train", *ESTIMATED, "oracle: known prior"]
    names = {"oracle: known prior": "true prior"}
    lines = []
    for shift, ratio in SHOWN_SHIFTS:
        group = rows[(rows["shift"] == shift) & rows["ratio"].round().eq(ratio)]
        by_seed = group.groupby("seed").mean(numeric_only=True)
        line = {"shift": shift, "ratio": ratio, "n": round(group["n"].mean())}
        line |= {names.get(name, name): f"{100 * group[name].mean():.2f}" for name in targets}
        for name in ESTIMATED:
            error = by_seed[f"{name}_total_variation"]
            line[f"{name}, total variation"] = f"{error.mean():.4f} ({error.max():.4f})"
        for name in ESTIMATED:
            least = 100 * (by_seed[name] - by_seed["argmax"]).min()
            line[f"{name}, least gain"] = f"{least:+.2f}"
        lines.append(line)
    return pd.DataFrame(lines)


def prior_estimates(rows: pd.DataFrame) -> pd.DataFrame:
    """Total variation in percent by method and data set, means over shifts; mean gain in points."""
    rows = rows[rows["method"] != "auto"]
    by_data = rows.groupby(["method", "data"], sort=False)[["total_variation", "gain"]].mean()
    table = by_data["total_variation"].unstack()[list(QUAPY_DATA)].rename(columns=QUAPY_DATA)
    table = table.dropna().assign(mean=lambda errors: errors.mean(axis=1))
    table["gain"] = by_data["gain"].unstack().mean(axis=1)
    return table.sort_values("mean").map("{:.2f}".format).reset_index()


def simulated_shifts(rows: pd.DataFrame) -> pd.DataFrame:
    """Total variation in percent and the gain of `auto` in points, means over the settings."""
    means = rows.groupby(["classes", "validation", "method"])[["total_variation", "gain"]].mean()
    lines = []
    for classes, sizes in SHOWN_CELLS:
        for size in sizes:
            cell = means.loc[(classes, size)]
            line = {"classes": classes, "validation samples": size}
            for method in ("em", "em, not calibrated", "bbse", "pacc"):
                line[method] = f"{cell.loc[method, 'total_variation']:.2f}"
            lines.append(line | {"gain of auto": f"{cell.loc['auto', 'gain']:+.2f}"})
    return pd.DataFrame(lines)


def without_test_choices(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose threshold is from validation images, and those without one."""
    return rows[rows["threshold_rule"].isin(["none", "validation"])]


def localisation_rows(rows: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """Rows of one optimiser by our protocol whose threshold is from validation images, or none.

    Without those whose region is chosen, but is off with each seed.
    """
    rows = rows[rows["optimizer"].eq(optimizer) & rows["protocol"].eq("infocam")]
    rows = without_test_choices(rows)
    widest = rows.groupby(["map", "method", "region_rule"])["region"].transform("max")
    chosen = rows["region_rule"].eq("validation") & (widest > 1)
    return rows[rows["region_rule"].eq("off") | chosen].drop(columns="optimizer")


def map_scores(rows: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """Localisation scores in percent, mean ± half the 95 % interval over seeds."""
    table = localisation.summary(localisation_rows(rows, optimizer))
    dropped = ["dataset", "network", "loss", "protocol", "threshold_rule", "n"]
    constant = [name for name in ("map", "region_rule") if table[name].nunique() == 1]
    return table.drop(columns=dropped + constant)


def map_differences(rows: pd.DataFrame, optimizer: str, methods: str) -> pd.DataFrame:
    """Paired differences in points to CAM and the centre box, with region off."""
    rows = localisation_rows(rows, optimizer)
    table = localisation.differences(rows[rows["region_rule"] == "off"])
    shown = [f"{name} - {base}" for base in ("cam", "centre-box") for name in methods.split(",")]
    table = table[table["method"].isin(shown)]
    return table[["map", "method", "n", "gt_known", "top1_loc", "top5_loc"]]


def digit_scores(rows: pd.DataFrame) -> pd.DataFrame:
    """Scores of the first seed in percent, with intervals of the bootstrap over images."""
    rows = rows[rows["seed"] == rows["seed"].min()]
    rows = rows[rows["region_rule"].eq("off") & rows["threshold_rule"].ne("fixed")]
    return localisation.shown(rows).drop(columns=["region", "region_rule"])


def fine_tuned(rows: pd.DataFrame) -> pd.DataFrame:
    """GT-known, then top-1 localisation, and infoCAM's gain, mean ± half the interval over seeds.

    All in percent; `adl` names the layers behind which there is ADL, and is empty without.
    """
    rows = rows[rows["threshold_rule"].eq("validation") & rows["region_rule"].eq("off")]
    lines = []
    for adl, group in rows.groupby(rows["adl"].fillna("").ne("")):
        scores = 100 * group.pivot(index="seed", columns="method")[["gt_known", "top1_loc"]]
        accuracy = 100 * group.groupby("seed")["accuracy"].first()
        line = {"training": f"with{'' if adl else 'out'} ADL", "n": len(accuracy)}
        line["test accuracy"] = with_half_width(accuracy)
        for method in ("centre-box", "cam", "infocam", "infocam+", "layer-cam"):
            texts = [with_half_width(scores[name, method]) for name in ("gt_known", "top1_loc")]
            line[method] = ", ".join(texts)
        gain = scores["gt_known", "infocam"] - scores["gt_known", "cam"]
        lines.append(line | {"infocam less cam": with_half_width(gain, sign=True)})
    return pd.DataFrame(lines)


def with_half_width(values: pd.Series, *, sign: bool = False) -> str:
    """The mean ± half of Student's 95 % interval; the mean alone of one value."""
    text = f"{values.mean():{'+' if sign else ''}.1f}"
    return text if len(values) < 2 else f"{text} ± {interval_half_width(values):.1f}"


def cpu_speed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `scripts.speed --parts plain`."""
    return plain_timings.shown(rows)


def gpu_speed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `scripts.speed --parts gpu`."""
    return gpu_timings.shown(rows)


def attack(rows: pd.DataFrame) -> pd.DataFrame:
    """Outcomes of the attack: of generated inputs, and of what happens while a script runs."""
    first = rows["kind"].eq("SIGKILL at a moment").idxmax()
    parts = {"generated inputs": rows[:first], "kills, full disks, two at once": rows[first:]}
    lines = []
    for name, kinds in parts.items():
        counts = kinds.drop(columns="kind").sum()
        texts = {key.replace("_", " "): f"{count:,}" for key, count in counts.items()}
        lines.append({"what": f"{name}, {len(kinds)} kinds"} | texts)
    return pd.DataFrame(lines)


def with_ends(rows: pd.DataFrame, name: str, *, sign: bool = False) -> pd.Series:
    """A fraction in percent with the ends of its 95 % interval."""
    number = "{:+.1f}" if sign else "{:.1f}"
    columns = (100 * rows[[name, f"{name}_low", f"{name}_high"]]).to_numpy()
    texts = [f"{number} ({number} to {number})".format(*values) for values in columns]
    return pd.Series(texts, rows.index)


def object_quarters(rows: pd.DataFrame) -> pd.DataFrame:
    """GT-known localisation in percent by quarters of the objects, and gains on the centre box."""
    keys = ["property", "quarter"]
    scores, gains = (
        rows[rows["baseline"] == baseline]
        .drop_duplicates(["optimizer", "map", "method", *keys])
        .set_index(["optimizer", "map", "method", *keys])
        .sort_index()
        for baseline in ("none", "centre-box")
    )
    table = {}
    for title, optimizer, side, method in QUARTERS_OF:
        known = 100 * scores.loc[(optimizer, side, method), "gt_known"]
        table[title] = known.map("{:.1f}".format)
        if method == EVERY_OPTION:
            table["last less centre-box"] = with_ends(
                gains.loc[(optimizer, side, method)], "gt_known", sign=True
            )
    return pd.DataFrame(table).sort_index(ascending=[False, True]).reset_index()


def common_part(rows: pd.DataFrame) -> pd.DataFrame:
    """CAM, infoCAM and the gain in percent, by head and factor of its common part."""
    table = rows[["head", "factor"]].assign(**{"share of CAM's variance": rows["map_share"]})
    table["share of CAM's variance"] = table["share of CAM's variance"].map("{:.1%}".format)
    for name in ("cam", "infocam", "gain"):
        table[name] = with_ends(rows, name, sign=name == "gain")
    return table


def image_padding(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, centre box and infoCAM in percent by the padding of training and of maps."""
    rows = rows[rows["threshold_rule"].eq("validation") & rows["region_rule"].eq("off")]
    lines = []
    for (trained, shown), group in rows.groupby(["training_padding", "padding"], sort=False):
        by_method = group.set_index("method")
        line = {"padding in training": trained, "of maps": shown}
        line["accuracy"] = f"{100 * group['accuracy'].iloc[0]:.1f}"
        ends = with_ends(by_method, "gt_known")
        lines.append(line | {name: ends[name] for name in ("centre-box", "infocam")})
    return pd.DataFrame(lines)


def box_options(rows: pd.DataFrame) -> pd.DataFrame:
    """GT-known localisation by method, optimiser and map, and the gain on infoCAM, in percent."""
    rows, columns = without_test_choices(rows), {}
    for (optimizer, side), group in rows.groupby(["optimizer", "map"], sort=False):
        group = group.drop_duplicates(["method", "baseline"])  # of two commands, the same
        scores, gains = (
            group[group["baseline"] == name].set_index("method") for name in ("none", "infocam")
        )
        known = (100 * scores["gt_known"]).map("{:.1f}".format)
        gain = ", " + with_ends(gains, "gt_known", sign=True)
        cells = known + gain.reindex(known.index, fill_value="")
        columns[f"{OPTIMIZERS[optimizer]}, {side}"] = cells
    return pd.DataFrame(columns).loc[_in_order(rows["method"])].fillna("").reset_index()


def best_boxes(rows: pd.DataFrame) -> pd.DataFrame:
    """The method with the most hits on validation images, by optimiser and map, in percent."""
    rows, lines = without_test_choices(rows), []
    for (optimizer, side), group in rows.groupby(["optimizer", "map"], sort=False):
        group = group.drop_duplicates(["method", "baseline"])
        by_method = group[group["baseline"] == "none"].set_index("method")
        best = by_method["validation_gt_known"].idxmax()
        line = {"head, map": f"{OPTIMIZERS[optimizer]}, {side}", "best on validation": best}
        line["validation"] = f"{100 * by_method.loc[best, 'validation_gt_known']:.1f}"
        line["test"] = with_ends(by_method.loc[[best]], "gt_known").iloc[0]
        gains = group[group["method"] == best].set_index("baseline")
        for baseline in ("infocam", "centre-box"):
            text = with_ends(gains, "gt_known", sign=True)
            line[f"less {baseline}"] = text.get(baseline, "")
        lines.append(line)
    return pd.DataFrame(lines)


def _in_order(methods: pd.Series) -> list[str]:
    """The methods, each once: baselines, plain, propagated, with options; no random maps.

    Of mean maps, which are alike, there is that of infoCAM alone. Single options are those of
    infoCAM; of the other contrasts there is every option together.
    """
    first = ["whole-image", "centre-box", "mean map of infocam"]
    left_out = ("mean map", "random")
    together = EVERY_OPTION.partition(", ")[2]
    kept = []
    for method in methods.unique():
        contrast, _, options = method.partition(", ")
        single = "infocam" in contrast.split() and ", " not in options
        shown = not options or options == together or single
        if shown and method not in first and not method.startswith(left_out):
            kept.append(method)
    kept.sort(key=lambda method: (", " in method, method.startswith("propagated")))
    return [method for method in first if method in set(methods)] + kept
