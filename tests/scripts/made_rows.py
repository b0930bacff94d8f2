"""Small made-up rows as in `resources/`, for the tests of the pages' numbers and tables.

The 95 % interval of two values d apart is their mean ± 12.7062 d / 2, by Student's t with one
degree of freedom; that of three values d apart ± 4.3027 d / √3 = 2.4841 d.
"""

import io

import pandas as pd


def table(text: str) -> pd.DataFrame:
    """Rows of CSV; spaces behind a comma and at the start of a line do not count."""
    return pd.read_csv(io.StringIO(text), skipinitialspace=True)


BOXES = {"dataset": "t", "network": "n", "loss": "l", "protocol": "infocam", "region": 1}
BOXES |= {"region_rule": "off", "threshold_rule": "validation", "optimizer": "adamw", "map": "7x7"}


def box_rows(*lines: tuple) -> pd.DataFrame:
    """Rows of localisation: a method, its GT-known scores by seed, and other changed columns.

    Top-1 localisation is 0.1 less. The interval is from 0.01 below to 0.02 above. The accuracy is
    0.75, and 0.01 more with each seed.
    """
    rows = []
    for method, scores, *changed in lines:
        for seed, score in enumerate(scores):
            row = BOXES | {"method": method, "seed": seed, "accuracy": 0.75 + seed / 100}
            for name, value in (("gt_known", score), ("top1_loc", score - 0.1)):
                row |= {name: value, f"{name}_low": value - 0.01, f"{name}_high": value + 0.02}
            row |= {"top5_loc": score - 0.05}
            rows.append(row | (changed[0] if changed else {}))
    return pd.DataFrame(rows)


FINE, SGD = {"map": "14x14"}, {"optimizer": "sgd"}
REGION = {"region_rule": "validation", "region": 3}
LOCALISATION = box_rows(
    ("infocam", (0.60, 0.62)),
    ("cam", (0.50, 0.50)),
    ("infocam", (0.70, 0.70), FINE),
    ("infocam", (0.72, 0.74), FINE | REGION),
    ("cam", (0.50, 0.50), REGION | {"region": 1}),  # chosen, but off with each seed
    ("centre-box", (0.55, 0.55)),
    ("centre-box", (0.55, 0.55), FINE),
    ("cam", (0.52, 0.52), FINE),
    ("infocam", (0.65, 0.65), SGD),
    ("cam", (0.64, 0.66), SGD),
    ("centre-box", (0.55, 0.55), SGD),
    ("infocam", (0.99, 0.99), {"threshold_rule": "oracle"}),
    ("infocam", (0.98, 0.97), {"protocol": "wsol"}),
)
