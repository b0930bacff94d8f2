"""The findings of the report in words, computed from the rows of the runs.

A finding says better or worse only where the 95 % interval of the paired difference excludes zero.
"""

import math
from dataclasses import dataclass

import pandas as pd

from mi_common.tables import number, paired_differences, summarise, with_half_width


@dataclass(frozen=True)
class Finding:
    """A sentence with its numbers, and what follows from them in a word or two."""

    verdict: str
    headline: str
    detail: str


def verdict_of(low: float, high: float) -> str:
    """What the 95 % interval of a difference says of a method against another one."""
    if math.isnan(low):
        return "one seed, no verdict"
    if low <= 0 <= high:
        return "no difference shown"
    return "better" if low > 0 else "worse"


def of_information(rows: pd.DataFrame, labels: dict[str, tuple[float, int]]) -> list[Finding]:
    """Estimates against exact values, against softmax, and with log K in place of H(Y).

    Args:
        rows: of the benchmark's results.csv, without failed ones.
        labels: H(Y) in nats and the number of classes of each task.
    """
    columns = ["task", "estimator", "seed", "estimate", "truth"]
    means = summarise(rows[columns], ["task", "estimator", "truth"], ["estimate"])
    means = means.set_index("task")
    ours, softmax = (means[means["estimator"] == name] for name in ("pc-softmax", "softmax"))
    error = (ours["estimate"] - ours["truth"]).abs()
    worst = ours.loc[error.idxmax()]
    findings = [
        Finding(
            "measured",
            f"PC-softmax reads mutual information within {error.max():.4f} nat of the exact value "
            f"in each of {len(ours)} settings.",
            f"Farthest at {error.idxmax()}: {_mean(worst, 'estimate', 4)}, exact "
            f"{worst['truth']:.4f}. Seeds: {worst['n']}. The estimate is a lower bound, on samples "
            "that did not train the network.",
        )
    ]
    paired = paired_differences(rows[columns[:4]], ["task"], "estimator", "softmax", ["estimate"])
    paired = paired[paired["estimator"] == "pc-softmax - softmax"]
    largest = paired.loc[paired["estimate"].abs().idxmax()]
    apart = (paired["estimate"].abs() > paired["estimate_ci"]).sum()
    one_seed = paired["estimate_ci"].isna().all()
    findings.append(
        Finding(
            "one seed, no verdict" if one_seed else f"differs in {apart} of {len(paired)} settings",
            f"Softmax with H(Y) added and PC-softmax differ by at most "
            f"{abs(largest['estimate']):.5f} nat.",
            f"Largest paired difference at {largest['task']}: "
            f"{_mean(largest, 'estimate', 5, sign=True)} nat. A setting counts as "
            "different where the interval excludes zero; one in twenty does so by chance.",
        )
    )
    log_k_adds = {task: math.log(classes) - entropy for task, (entropy, classes) in labels.items()}
    excess = {
        task: softmax["estimate"][task] + log_k_adds[task] - labels[task][0]
        for task in softmax.index
        if log_k_adds[task] > 1e-9
    }
    if excess:
        task = max(excess, key=excess.get)
        entropy, reading = labels[task][0], labels[task][0] + excess[task]
        place = "above" if excess[task] > 0 else "below"
        findings.append(
            Finding(
                "measured",
                "With log K in place of H(Y), as the original code has it, softmax would read "
                f"{reading:.4f} nats at {task}.",
                f"Exact: {softmax['truth'][task]:.4f}. The reading is {place} H(Y) = "
                f"{entropy:.4f}, the largest value that is possible.",
            )
        )
    return findings


def of_imbalance(rows: pd.DataFrame) -> list[Finding]:
    """PC-softmax against softmax as trained, and with its log prior subtracted, by test set.

    `rows` are those of results.csv of the comparison; the last test set is in the headline.
    """
    score = "balanced_accuracy"
    names = rows["loss"] + ", " + rows["rule"]
    rows = rows.assign(method=names, **{score: 100 * rows[score]})
    rows = rows[["test_set", "method", "seed", score]]
    means = summarise(rows, ["test_set", "method"], [score]).set_index(["test_set", "method"])
    ours, findings = "pc-softmax, as trained", []
    for rule, name in (
        ("as trained", "softmax"),
        ("prior subtracted", "softmax with its log prior subtracted"),
    ):
        baseline = f"softmax, {rule}"
        pairs = paired_differences(rows, ["test_set"], "method", baseline, [score])
        pairs = pairs[pairs["method"] == f"{ours} - {baseline}"].set_index("test_set")
        texts = [
            f"{test_set}: {_mean(means.loc[(test_set, ours)], score, 2)} % against "
            f"{_mean(means.loc[(test_set, baseline)], score, 2)} %, paired difference "
            f"{_mean(pair, score, 2, sign=True)} ({_verdict(pair, score)})"
            for test_set, pair in pairs.iterrows()
        ]
        last = pairs.iloc[-1]
        findings.append(
            Finding(
                _verdict(last, score),
                f"PC-softmax against {name}: {_mean(last, score, 2, sign=True)} points of "
                f"balanced accuracy, test set {pairs.index[-1]}.",
                f"{'. '.join(texts)}. Seeds: {last['n']}.",
            )
        )
    return findings


def of_localisation(rows: pd.DataFrame, differences: pd.DataFrame) -> list[Finding]:
    """The contrasts against CAM and the centred box, over the images of one run.

    Both arguments hold rows of an evaluation: results.csv and differences.csv.
    """
    chosen = "region_rule == 'off' and threshold_rule == 'validation'"
    rows, differences = (of.query(chosen).set_index("method") for of in (rows, differences))
    names = ("gt_known", "gt_known_low", "gt_known_high")

    def against(method: str, baseline: str) -> tuple[str, str]:
        row = differences.loc[f"{method} - {baseline}"]
        mean, low, high = (100 * row[name] for name in names)
        verdict = verdict_of(low, high)
        mean, low, high = (_points(value) for value in (mean, low, high))
        return verdict, f"{mean} points ({low} to {high})"

    def share(method: str) -> str:
        mean, low, high = (100 * rows.loc[method, name] for name in names)
        return f"{mean:.1f} % ({low:.1f} to {high:.1f})"

    findings = []
    for method, name in (("infocam", "infoCAM"), ("infocam+", "infoCAM+")):
        if method not in rows.index:
            continue
        verdict, text = against(method, "cam")
        findings.append(
            Finding(
                verdict,
                f"{name} against CAM: {text} of boxes that hit, given the label.",
                f"{name} {share(method)}, CAM {share('cam')}, a centred box {share('centre-box')} "
                f"of {differences['n'].iloc[0]:,} test images, paired; against the centred box "
                f"{against(method, 'centre-box')[1]}. Thresholds are from validation images. The "
                "intervals are over the images of one network: other networks may differ.",
            )
        )
    return findings


def _verdict(row: pd.Series, metric: str) -> str:
    return verdict_of(row[metric] - row[f"{metric}_ci"], row[metric] + row[f"{metric}_ci"])


def _points(value: float) -> str:
    return number(value, 1, sign=True).replace("-", "−")


def _mean(row: pd.Series, metric: str, digits: int, *, sign: bool = False) -> str:
    """With half of the 95 % interval, or alone of a single seed."""
    text = with_half_width(row[metric], row[f"{metric}_ci"], digits, sign=sign)
    return text.replace("-", "−")
