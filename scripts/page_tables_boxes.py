"""The tables of localisation on the pages, as those of `page_tables`."""

import pandas as pd

from infocam.scoring import tables as localisation
from infocam.scoring.tables import with_ends
from mi_common.tables import mean_with_interval

OPTIMIZERS = {"adamw": "AdamW", "sgd": "SGD"}
EVERY_OPTION = "propagated infocam, mean box, prior map, adaptive threshold"
QUARTERS_OF = (  # title, optimiser, map and method of the columns
    ("centre-box", "adamw", "7x7", "centre-box"),
    ("cam, AdamW, 7x7", "adamw", "7x7", "cam"),
    ("infocam, AdamW, 7x7", "adamw", "7x7", "infocam"),
    ("infocam, SGD, 14x14", "sgd", "14x14", "infocam"),
    ("every option, SGD, 14x14", "sgd", "14x14", EVERY_OPTION),
)


def without_test_choices(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows whose threshold is from validation images, and those without one."""
    return rows[rows["threshold_rule"].isin(["none", "validation"])]


def plain_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The row of each method and run with the threshold of validation images and region off."""
    return rows[rows["threshold_rule"].eq("validation") & rows["region_rule"].eq("off")]


def localisation_rows(rows: pd.DataFrame, optimizer: str) -> pd.DataFrame:
    """Rows of one optimiser by our protocol whose threshold is from validation images, or none.

    Without those whose region is chosen, but is off with each seed.
    """
    rows = rows[rows["optimizer"].eq(optimizer) & rows["protocol"].eq("infocam")]
    rows = without_test_choices(rows)
    largest_region = rows.groupby(["map", "method", "region_rule"])["region"].transform("max")
    averaged = rows["region_rule"].eq("validation") & (largest_region > 1)
    return rows[rows["region_rule"].eq("off") | averaged].drop(columns="optimizer")


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
    """Scores in percent, mean ± half the 95 % interval over seeds; of one seed over images."""
    rows = rows[rows["region_rule"].eq("off") & rows["threshold_rule"].ne("fixed")]
    if rows["seed"].nunique() == 1:
        return localisation.shown(rows).drop(columns=["region", "region_rule"])
    constant = ["dataset", "network", "loss", "map", "protocol", "region_rule"]
    return localisation.summary(rows).drop(columns=constant)


def fine_tuned(rows: pd.DataFrame) -> pd.DataFrame:
    """GT-known, then top-1 localisation, and infoCAM's gain, mean ± half the interval over seeds.

    All in percent; `adl` names the layers behind which there is ADL, and is empty without.
    """
    rows, lines = plain_rows(rows), []
    for adl, group in rows.groupby(rows["adl"].fillna("").ne("")):
        scores = 100 * group.pivot(index="seed", columns="method")[["gt_known", "top1_loc"]]
        accuracy = 100 * group.groupby("seed")["accuracy"].first()
        line = {"training": f"with{'' if adl else 'out'} ADL", "n": len(accuracy)}
        line["test accuracy"] = mean_with_interval(accuracy, 1)
        for method in ("centre-box", "cam", "infocam", "infocam+", "layer-cam"):
            texts = [
                mean_with_interval(scores[name, method], 1) for name in ("gt_known", "top1_loc")
            ]
            line[method] = ", ".join(texts)
        gain = scores["gt_known", "infocam"] - scores["gt_known", "cam"]
        lines.append(line | {"infocam minus cam": mean_with_interval(gain, 1, sign=True)})
    return pd.DataFrame(lines)


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
            table["last minus centre-box"] = with_ends(
                gains.loc[(optimizer, side, method)], "gt_known", sign=True
            )
    return pd.DataFrame(table).sort_index(ascending=[False, True]).reset_index()


def common_part(rows: pd.DataFrame) -> pd.DataFrame:
    """CAM, infoCAM and the gain in percent, by head and factor of its common part."""
    share = (100 * rows["map_share"]).map("{:.1f} %".format)
    table = rows[["head", "factor"]].assign(**{"share of CAM's variance": share})
    for name in ("cam", "infocam", "gain"):
        table[name] = with_ends(rows, name, sign=name == "gain")
    return table


def image_padding(rows: pd.DataFrame) -> pd.DataFrame:
    """Accuracy, centre box and infoCAM in percent by the padding of training and of maps."""
    rows, lines = plain_rows(rows), []
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
            line[f"minus {baseline}"] = text.get(baseline, "")
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
