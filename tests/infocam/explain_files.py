"""What the tests of `infocam.explain` share: class names, and the files that a call writes."""

import pandas as pd

NAMES = ["Egyptian cat", "tabby", "tiger cat", "dog", "fox", "cow", "hen"]
COMMON = {"config.json", "boxes.csv", "boxes.json", "explain.html"}


def boxes(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "boxes.csv", dtype=str, keep_default_na=False)


def box_of_row(row: pd.Series) -> list[int]:
    return [int(row[side] or -1) for side in ("x0", "y0", "x1", "y1")]


def files(folder) -> set[str]:
    return {path.name for path in folder.glob("[!.]*")}
