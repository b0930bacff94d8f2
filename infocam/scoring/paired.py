"""Paired differences of methods, over the images of one run and over images and seeds.

All methods see the same images, so a difference is far more certain than the two scores.
"""

from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pandas as pd
from scipy import stats

from infocam.names import TWICE, plain_method
from infocam.scoring.objects import quarters
from infocam.scoring.scores import HITS, Evaluation, resampled
from mi_common.errors import UserError

SETTING = ["dataset", "network", "map", "loss", "protocol"]
RULE = ["region_rule", "threshold_rule"]
BASELINES = ("cam", "infocam", "centre-box")  # and others of a refined method
NO_BASELINE = "none"  # of a score itself
PART = ["property", "quarter"]  # of the images; see `objects`
ALL = "all"  # images, in place of a property and a quarter of it


def image_differences(
    rows: pd.DataFrame, *, ranks: np.ndarray | None, weights: np.ndarray
) -> pd.DataFrame:
    """The scores of each method less those of its baselines, under equal rules.

    Args:
        rows: of `scores.score_rows`, with the columns method, `RULE` and `HITS`. A given region,
            with the rule "fixed", is left out.
        ranks: (N,) how many classes have a larger logit than the label; None without logits.
        weights: (N,) of the images in an average, summing to one.

    Returns:
        A row each with the columns method, such as "infocam - cam"; `RULE`; n; gt_known and
        top1_loc, fractions of one, with bootstrap intervals (_low, _high); won and lost, the images
        that only the method or only the baseline boxes right; p of the exact test of McNemar
        (1947) on these counts. Each image counts once in won, lost and p, whatever its weight.
        Without logits there is no top1_loc.
    """
    hits = _hits_by_key(rows)
    counts = resampled(len(weights)) * (weights * len(weights))
    total = counts.sum(axis=1)
    differences = []
    pairs = [(key, base) for key in hits for base in _baselines_of(key, hits)]
    for key, base in pairs:
        change = hits[key].astype(np.float32) - hits[base]
        won, lost = int((change > 0).sum()), int((change < 0).sum())
        line = {"method": f"{key[0]} - {base[0]}", **dict(zip(RULE, key[1:], strict=True))}
        line["n"] = len(change)
        values = {"gt_known": change}
        if ranks is not None:
            values["top1_loc"] = change * (ranks < 1)
        for name, value in values.items():
            low, high = np.percentile(counts @ value / total, (2.5, 97.5))
            line |= _with_ends(name, weights @ value, low, high)
        p = stats.binomtest(won, won + lost).pvalue if won + lost else 1.0
        differences.append(line | {"won": won, "lost": lost, "p": p})
    return pd.DataFrame(differences)


def interval_over_images_and_seeds(values: np.ndarray, weights: np.ndarray) -> tuple[float, ...]:
    """The mean of (S, N) values of S seeds on the same N images, and its 95 % interval's ends.

    The variance of the mean is the sum of two: that of the mean over images of the values' means
    over seeds, and that of the mean over seeds of the values' means over images. The interval is
    Student's with the degrees of freedom of Satterthwaite (1946). It is a little too wide, because
    what an image adds for one seed alone counts in both. One seed leaves the images.

    `weights` are (N,), of the images in an average, summing to one.
    """
    seeds, images = values.shape
    of_image, of_seed = values.mean(axis=0), values @ weights
    mean = of_seed.mean()
    by_images = weights**2 @ (of_image - mean) ** 2 * images / max(images - 1, 1)
    by_seeds = of_seed.var(ddof=1) / seeds if seeds > 1 else 0.0
    variance = by_images + by_seeds
    if variance == 0:
        return mean, mean, mean
    terms = by_images**2 / max(images - 1, 1) + by_seeds**2 / max(seeds - 1, 1)
    half = stats.t.ppf(0.975, variance**2 / terms) * variance**0.5
    return mean, mean - half, mean + half


def over_images_and_seeds(evaluations: Sequence[Evaluation]) -> pd.DataFrame:
    """Scores and their paired differences, over the images and the seeds of several runs.

    Args:
        evaluations: of runs that share their test images. Those of one `SETTING` differ in the
            seed.

    Returns:
        A row for each setting, method, rule, baseline and part of the images: `SETTING`; method;
        baseline, to which it is compared, or `NO_BASELINE`; `RULE`; property and quarter of the
        object (see `objects`), or `ALL`; seeds; n, images; validation_gt_known, the method's mean
        over seeds; gt_known and top1_loc, or their differences, fractions of one, with the ends of
        95 % intervals (_low, _high; see `interval_over_images_and_seeds`). Quarters are of
        validation thresholds.

    UserError for runs of one setting with different numbers of test images.
    """
    groups: dict[tuple, list[Evaluation]] = {}
    for part in evaluations:
        groups.setdefault(tuple(part.rows.iloc[0][SETTING]), []).append(part)
    lines = []
    for setting, group in groups.items():
        if len({len(part.weights) for part in group}) > 1:
            raise UserError("runs with different numbers of test images; give runs of one set")
        described = dict(zip(SETTING, setting, strict=True))
        lines += [described | line for line in _lines_of_setting(group)]
    return pd.DataFrame(lines)


def _lines_of_setting(group: list[Evaluation]) -> Iterator[dict]:
    """The rows of `over_images_and_seeds` of one setting."""
    weights = group[0].weights
    rows = pd.concat([part.rows for part in group])
    on_validation = rows.groupby(["method", *RULE])["validation_gt_known"].mean()
    hits = [_hits_by_key(part.rows) for part in group]
    scores = {key: np.stack([of_run[key] for of_run in hits]).astype(float) for key in hits[0]}
    is_top = np.stack([part.ranks < 1 for part in group])
    everywhere = np.ones(len(weights), bool)
    parts = {(ALL, ALL): everywhere}
    for name, values in (group[0].properties or {}).items():
        of_image = quarters(values)
        parts |= {(name, int(q) + 1): of_image == q for q in np.unique(of_image)}
    for key, values in scores.items():
        method, *rule = key
        changes = {base[0]: values - scores[base] for base in _baselines_of(key, scores)}
        for baseline, change in ({NO_BASELINE: values} | changes).items():
            described = {"method": method, "baseline": baseline}
            described |= dict(zip(RULE, rule, strict=True))
            for (name, quarter), inside in parts.items():
                if name != ALL and rule[1] != "validation":
                    continue
                line = described | dict(zip(PART, (name, quarter), strict=True))
                line |= {"seeds": len(group), "n": int(inside.sum())}
                line["validation_gt_known"] = round(on_validation[key], 12)
                share = weights[inside] / weights[inside].sum()
                for score, of_score in (("gt_known", change), ("top1_loc", change * is_top)):
                    mean_and_ends = interval_over_images_and_seeds(of_score[:, inside], share)
                    line |= _with_ends(score, *mean_and_ends)
                yield line


def _baselines_of(key: tuple, keys: Collection[tuple]) -> list[tuple]:
    """Those of `keys`, methods with their rules, with which the method of `key` is compared.

    They are `BASELINES`, the plain method of a refined one (see `names.plain_method`) and, for two
    propagations, the method of the first, all under the rules of `key`; for the centre box none.
    """
    method, *rule = key
    if method == "centre-box":
        return []
    names = dict.fromkeys([*BASELINES, plain_method(method), method.removeprefix(TWICE)])
    return [(name, *rule) for name in names if name != method and (name, *rule) in keys]


def _with_ends(name: str, mean: float, low: float, high: float) -> dict[str, float]:
    """Three columns, rounded because the order of a sum changes its last digits."""
    values = {name: mean, f"{name}_low": low, f"{name}_high": high}
    return {column: round(float(value), 12) for column, value in values.items()}


def _hits_by_key(rows: pd.DataFrame) -> dict[tuple, np.ndarray]:
    """(N,) hits by method and `RULE`, without those of a given region."""
    rows = rows[rows["region_rule"] != "fixed"]
    return {
        (line["method"], *(line[name] for name in RULE)): line[HITS]
        for line in rows.to_dict("records")
    }
