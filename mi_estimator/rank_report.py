"""The report of a ranking: `rank.csv`, its table, `rank.json` and the bar chart."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from mi_common.files import write_json
from mi_common.information import entropy, log_prior_from_labels
from mi_common.plots import plain, save_figure
from mi_common.tables import holm, p_value, to_markdown, write_csv, write_tables
from mi_estimator.names import listed
from mi_estimator.ranking import KINDS

SHOWN = 40  # bars of the chart, and lines that are printed


def ranking_table(rows: pd.DataFrame, *, estimators: int) -> pd.DataFrame:
    """The content of rank.csv: one line per feature or group, the largest information first.

    Args:
        rows: of `ranking.rank_groups`, without that of all features.
        estimators: how many a feature may have been tested with. Which one tested it depends on the
            samples, so its p-value is multiplied by their number (Bonferroni) before Holm's
            correction over the features.
    """
    order = np.argsort(-rows[list(KINDS)].max(axis=1).to_numpy(), kind="stable")
    table = rows.iloc[order].reset_index(drop=True)
    columns = ["feature"]
    for kind in KINDS:
        table[f"{kind}_p_holm"] = holm(estimators * table[f"{kind}_p"])
        columns += [f"{kind}{end}" for end in ("", "_lower", "_upper", "_p", "_p_holm")]
    return table[[*columns, "estimator"]]


def printed_table(table: pd.DataFrame, titles: dict[str, str]) -> pd.DataFrame:
    """The printed table: estimates with their intervals in nats, corrected p-values."""
    printed = {"feature": [" ".join(name.split()) for name in table["feature"]]}
    for kind, title in titles.items():
        values = table[[kind, f"{kind}_lower", f"{kind}_upper"]].to_numpy()
        printed[title] = [f"{v:.4f} ({low:.4f} to {high:.4f})" for v, low, high in values]
        printed[f"p {title}"] = [p_value(p) for p in table[f"{kind}_p_holm"]]
    return pd.DataFrame(printed | {"estimator": table["estimator"]})


def plot_ranking(table: pd.DataFrame, titles: dict[str, str], path: Path) -> None:
    """Two horizontal bars with 95 % intervals for each of the first features of rank.csv."""
    shown = table.head(SHOWN)
    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.4 * len(shown)))
    positions = np.arange(len(shown))
    looks = {
        "alone": {"color": "0.85", "hatch": "///", "ecolor": "0.2"},
        "conditional": {"color": "0.3", "ecolor": "0.6"},
    }
    for shift, (kind, title) in zip((-0.2, 0.2), titles.items(), strict=True):
        half_width = (shown[f"{kind}_upper"] - shown[f"{kind}_lower"]) / 2
        axes.barh(
            positions + shift,
            shown[kind],
            0.4,
            xerr=half_width,
            error_kw={"elinewidth": 1},
            edgecolor="0.25",
            linewidth=0.5,
            label=title,
            **looks[kind],
        )
    axes.axvline(0, color="0.4", linewidth=1)
    axes.set_yticks(positions, [plain(str(name)) for name in shown["feature"]])
    axes.invert_yaxis()
    axes.margins(y=0.01)
    axes.set_xlabel("mutual information with the label (nats)")
    axes.legend(frameon=False, loc="lower right")
    if len(table) > SHOWN:
        axes.set_title(f"the first {SHOWN} of {len(table)} features")
    save_figure(figure, path)


def write_ranking(
    rows: pd.DataFrame, labels: torch.Tensor, given: list[str], folder: Path, *, estimators: int
) -> None:
    """Prints the ranking and writes its files.

    Args:
        rows: of `ranking.rank_groups`, that of all features last.
        labels: (N,) labels 0..K-1.
        given: names of the features on which all information is conditioned.
        estimators: see `ranking_table`.
    """
    total = rows.iloc[-1]
    table = ranking_table(rows.iloc[:-1], estimators=estimators)
    known = listed([plain(name) for name in given], 3)
    titles = {"alone": f"given {known}" if given else "alone", "conditional": "given all others"}
    printed = printed_table(table, titles)
    num_classes = int(labels.max()) + 1
    result = {
        "label_entropy": entropy(log_prior_from_labels(labels, num_classes)).item(),
        "samples": len(labels),
        "classes": num_classes,
        "given": given,
        "all_features": _entry(total, "alone"),
        "all_features_given": _entry(total, "conditional") if given else None,
        "features": table.to_dict("records"),
    }
    write_csv(table, folder / "rank.csv")
    write_tables(printed, folder / "rank")
    write_json(folder / "rank.json", result)
    plot_ranking(table, titles, folder / "rank.png")
    print(to_markdown(printed.head(SHOWN)))
    if len(table) > SHOWN:
        print(f"and {len(table) - SHOWN} more features in rank.csv")
    print(_sentence("I(all features; label)", total, "alone"))
    if given:
        print(_sentence(f"I(the others; label | {known})", total, "conditional"))
    files = "rank.csv, rank.md, rank.tex, rank.json, rank.png, results.csv"
    print(f"wrote to {folder}: {files}")


def _entry(row: pd.Series, kind: str) -> dict:
    names = {"": "value", "_lower": "lower", "_upper": "upper", "_p": "p_value"}
    entry = {name: float(row[f"{kind}{end}"]) for end, name in names.items()}
    return entry | {"estimator": row["estimator"]}


def _sentence(quantity: str, row: pd.Series, kind: str) -> str:
    value, low, high, p = (row[f"{kind}{end}"] for end in ("", "_lower", "_upper", "_p"))
    p = f"= {p_value(p)}".replace("= <", "<")
    return f"{quantity} = {value:.4f} nats ({low:.4f} to {high:.4f}), p {p}"
