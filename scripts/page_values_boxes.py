"""The numbers of localisation that stand in sentences of the pages; see `scripts.page_values`."""

import numpy as np
import pandas as pd

from mi_common.tables import mean_with_interval, number
from scripts.page_tables_boxes import localisation_rows, plain_rows, without_test_choices
from scripts.page_value_texts import Values, over_seeds


def boxes(rows: pd.DataFrame) -> Values:
    """Localisation scores in percent by optimiser and map; differences in points.

    Where the region was chosen, `, region` is added to the method. `14x14 - 7x7` compares maps.
    """
    for optimizer in ("adamw", "sgd"):
        shown = localisation_rows(rows, optimizer)
        accuracy = shown.groupby("map")["accuracy"].mean()
        for size, value in accuracy.items():
            yield f"boxes/{optimizer}/{size}/accuracy", number(100 * value, 1)
        half = 50 * (shown["gt_known_high"] - shown["gt_known_low"])
        yield f"boxes/{optimizer}/bootstrap", number(half[shown["method"] == "infocam"].mean(), 1)
        off = shown["region_rule"] == "off"
        shown = shown.assign(method=shown["method"] + np.where(off, "", ", region"))
        for metric in ("gt_known", "top1_loc"):
            both = shown.pivot(index="seed", columns=["map", "method"], values=metric)
            for size in both.columns.unique("map"):
                yield from over_seeds(f"boxes/{optimizer}/{size}/{metric}", both[size], 1)
            if optimizer == "adamw":
                gains = both["14x14"] - both["7x7"]
                gains = gains.dropna(axis=1)
                yield from over_seeds(f"boxes/adamw/14x14 - 7x7/{metric}", gains, 1)


def plain_cam_by_sgd(rows: pd.DataFrame) -> Values:
    """CAM with heads by SGD minus infoCAM with heads by AdamW, on 7 x 7 maps, in points."""
    by_optimizer = {name: localisation_rows(rows, name) for name in ("adamw", "sgd")}
    for metric in ("gt_known", "top1_loc"):
        columns = {}
        for optimizer, method in (("sgd", "cam"), ("adamw", "infocam")):
            shown = by_optimizer[optimizer]
            shown = shown[(shown["map"] == "7x7") & (shown["region_rule"] == "off")]
            shown = shown[shown["method"] == method]
            columns[f"{method} by {optimizer}"] = shown.set_index("seed")[metric]
        yield from over_seeds(f"boxes/both/{metric}", pd.DataFrame(columns), 1)


def box_options(rows: pd.DataFrame) -> Values:
    """GT-known localisation or gain in percent, by optimiser, map, method and baseline."""
    for row in without_test_choices(rows).to_dict("records"):
        name = f"options/{row['optimizer']}/{row['map']}/{row['method']}"
        name += "" if row["baseline"] == "none" else f" - {row['baseline']}"
        for end in ("", "_low", "_high"):
            yield name + end, number(100 * row[f"gt_known{end}"], 1)


def box_heads(rows: pd.DataFrame) -> Values:
    """GT-known localisation in percent of heads trained on true boxes, and of infoCAM.

    By the optimiser of the run, whose features and maps the heads see.
    """
    for optimizer, of_run in rows.groupby("optimizer"):
        for inputs, group in of_run.groupby("inputs"):
            yield f"box head/{optimizer}/{inputs}", mean_with_interval(100 * group["gt_known"], 1)
        yield f"box head/{optimizer}/infocam", number(100 * of_run["infocam"].iloc[0], 1)


def fine_tuned(rows: pd.DataFrame) -> Values:
    """Localisation scores in percent, and the gain in points, without ADL."""
    shown = plain_rows(rows[rows["adl"].isna()])
    yield from by_method("fine-tuned", shown)


def edge_bands(rows: pd.DataFrame) -> Values:
    """GT-known localisation in percent by method, and its difference to infoCAM."""
    for row in rows.to_dict("records"):
        yield f"bands/{row['method']}", number(100 * row["gt_known"], 1)
        for end in ("", "_low", "_high"):
            yield f"bands/{row['method']}/gain{end}", number(100 * row[f"gain{end}"], 1)


def field_protocol(rows: pd.DataFrame) -> Values:
    for row in plain_rows(rows[rows["protocol"] == "wsol"]).to_dict("records"):
        for name in ("gt_known", "max_box_acc", "max_box_acc_v2"):
            yield f"wsol/{row['method']}/{name}", number(100 * row[name], 1)


def digits(rows: pd.DataFrame) -> Values:
    """Localisation scores in percent, those of the quick start's seed 0 too."""
    shown = plain_rows(rows)
    yield from by_method("digits", shown)
    yield from by_method("digits of seed 0", shown[shown["seed"] == 0])


def by_method(prefix: str, rows: pd.DataFrame) -> Values:
    for metric in ("gt_known", "top1_loc"):
        scores = rows.pivot(index="seed", columns="method", values=metric)
        yield from over_seeds(f"{prefix}/{metric}", scores, 1)
