"""Paired differences of methods over the images of one run.

All methods see the same images, so a difference is far more certain than the two scores.
"""

import numpy as np
import pandas as pd
from scipy import stats

from infocam.names import plain_method
from infocam.scoring.scores import HITS, resampled

RULE = ["region_rule", "threshold_rule"]
BASELINES = ("cam", "centre-box")


def image_differences(
    rows: pd.DataFrame, *, ranks: np.ndarray | None, weights: np.ndarray
) -> pd.DataFrame:
    """The scores of each method less those of `cam` and of the centre box, under equal rules.

    A refined method is compared with the plain one too; see `names.plain_method`.

    Args:
        rows: of `scores.score_rows`, with the columns method, `RULE` and `HITS`. A given region,
            with the rule "fixed", is left out.
        ranks: (N,) how many classes have a larger logit than the label; None without logits.
        weights: (N,) of the images in an average, summing to one.

    Returns:
        A row each with the columns method, such as "infocam - cam"; `RULE`; n; gt_known and
        top1_loc, fractions of one, with bootstrap intervals (_low, _high); won and lost, the images
        that only the method or only the baseline boxes right; p of the exact test of McNemar
        (1947). Without logits there is no top1_loc.
    """
    rows = rows[rows["region_rule"] != "fixed"]
    hits = {
        (line["method"], *(line[name] for name in RULE)): line[HITS]
        for line in rows.to_dict("records")
    }
    counts = resampled(len(weights)) * (weights * len(weights))
    total = counts.sum(axis=1)
    differences = []
    pairs = [((baseline, *key[1:]), key) for baseline in BASELINES for key in hits]
    pairs += [((plain_method(method), *rule), (method, *rule)) for method, *rule in hits]
    for base, key in dict.fromkeys(pairs):
        if base == key or base not in hits or key[0] == "centre-box":
            continue
        change = hits[key].astype(np.float32) - hits[base]
        won, lost = int((change > 0).sum()), int((change < 0).sum())
        line = {"method": f"{key[0]} - {base[0]}", **dict(zip(RULE, key[1:], strict=True))}
        line["n"] = len(change)
        values = {"gt_known": change}
        if ranks is not None:
            values["top1_loc"] = change * (ranks < 1)
        for name, value in values.items():
            low, high = np.percentile(counts @ value / total, (2.5, 97.5))
            scores = {name: weights @ value, f"{name}_low": low, f"{name}_high": high}
            line |= {column: round(float(score), 12) for column, score in scores.items()}
        p = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        differences.append(line | {"won": won, "lost": lost, "p": p})
    return pd.DataFrame(differences)
