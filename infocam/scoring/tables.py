"""From scores to printed tables: percent, differences over images, and means over seeds."""

import pandas as pd

from infocam.scoring.paired import ALL, NO_BASELINE, RULE, SETTING
from infocam.scoring.scores import INTERVALS, SCORES
from mi_common.tables import formatted, number, p_value, paired_differences, summarise

BASELINES = ("whole-image", "centre-box")
FAITHFULNESS = ("insertion", "deletion")
CHOSEN = ("exponent", "prior_weight", "mean_weight", "box_rule")  # on validation images
EARLIER = "earlier_exponent"  # chosen too, where there are two propagations


def _metrics(results: pd.DataFrame) -> list[str]:
    """The scores of which the results have values."""
    names = [name for name in (*SCORES, *FAITHFULNESS) if name in results]
    return [name for name in names if results[name].notna().any()]


def shown(results: pd.DataFrame) -> pd.DataFrame:
    """Table of one run: scores in percent, GT-known and top-1 localisation with intervals."""
    metrics = _metrics(results)
    table = results[["method", "region", *RULE]].copy()
    table["threshold"] = results["threshold"].map("{:.2f}".format)
    for name in metrics:
        table[name] = _percent(results[name])
        if name in ("gt_known", "top1_loc"):
            table[name] = with_ends(results, name)
    return table


def over_images(differences: pd.DataFrame) -> pd.DataFrame:
    """Table of the differences of one run (see `paired`), in points with intervals."""
    table = differences[["method", *RULE, "n"]].copy()
    for name in ("gt_known", "top1_loc"):
        if name in differences:
            table[name] = with_ends(differences, name)
    table = table.join(differences[["won", "lost"]])
    return table.assign(p=differences["p"].map(p_value))


def over_seeds(rows: pd.DataFrame) -> pd.DataFrame:
    """Table of `paired.over_images_and_seeds`: differences of all images in points."""
    rows = rows[(rows["baseline"] != NO_BASELINE) & (rows["property"] == ALL)]
    table = rows[[*SETTING, *RULE, "seeds", "n"]].copy()
    table.insert(len(SETTING), "method", rows["method"] + " - " + rows["baseline"])
    return table.assign(**{name: with_ends(rows, name) for name in ("gt_known", "top1_loc")})


def with_ends(rows: pd.DataFrame, name: str, *, sign: bool = False) -> pd.Series:
    """A fraction in percent with the ends of its 95 % interval; `sign` writes a plus, too."""
    mean, low, high = (_percent(rows[f"{name}{end}"], sign) for end in ("", "_low", "_high"))
    return mean + " (" + low + " to " + high + ")"


def _percent(values: pd.Series, sign: bool = False) -> pd.Series:
    texts = ["" if pd.isna(value) else number(100 * value, 1, sign=sign) for value in values]
    return pd.Series(texts, values.index, dtype=object)


def summary(results: pd.DataFrame) -> pd.DataFrame:
    """Table of several runs: mean ± half the 95 % interval over seeds, in percent."""
    metrics = _metrics(results)
    rows = results[results["region_rule"] != "fixed"]
    ends = [f"{name}_{end}" for name in INTERVALS for end in ("low", "high")]
    varying = [
        "run",
        "threshold",
        "region",
        "accuracy",
        "validation_gt_known",
        *CHOSEN,
        EARLIER,
        *ends,
    ]
    table = summarise(rows, [*SETTING, "method", *RULE], metrics, varying=varying)
    return formatted(table, metrics, digits=1, scale=100)


def differences(results: pd.DataFrame) -> pd.DataFrame:
    """Paired differences with the same seed, in points: to `cam`, and to the centre box."""
    metrics = [name for name in _metrics(results) if name in ("gt_known", "top1_loc", "top5_loc")]
    kept = [*SETTING, *RULE, "method", "seed", *metrics]
    maps = results[~results["method"].isin(BASELINES) & (results["region_rule"] != "fixed")]
    plain = results[(results["region_rule"] == "off") & (results["threshold_rule"] == "validation")]
    tables = []
    for rows, baseline in ((maps, "cam"), (plain, "centre-box")):
        if baseline in set(rows["method"]):
            table = paired_differences(rows[kept], [*SETTING, *RULE], "method", baseline, metrics)
            tables.append(formatted(table, metrics, digits=1, scale=100))
    return pd.concat(tables, ignore_index=True)
