"""Does the 95 % interval cover, and does the test of independence reject 5 %? A simulation.

    python -m mi_estimator.coverage --replicates 300

Each replicate draws new samples, cross-fits, and forms the interval. What it is to cover is the
expected value that the replicate's own networks would score on samples of no fold, measured here on
fresh ones; I(X;Y) itself lies above it. Beside that stands how often the interval covers the mean
of all replicates, which differs from it by the luck of a training set. On independent features and
labels, the share of replicates whose permutation p-value is at most 0.05 is the test's size. Writes
`coverage.csv`, a row a task, and `replicates.csv`.
"""

import pandas as pd
import torch
from scipy import stats
from tqdm import tqdm

from mi_common import cli, runtime
from mi_common.errors import UserError
from mi_common.files import write_atomically
from mi_common.information import select_label
from mi_common.memory import require_memory
from mi_common.records import prepare_output
from mi_common.results import ResultsFile
from mi_common.runtime import Runtime
from mi_common.tables import to_markdown
from mi_common.workers import run_jobs
from mi_estimator.estimators.crossfit import TRAINING, cross_fit
from mi_estimator.estimators.registry import CROSS_ENTROPY, build_estimator
from mi_estimator.tasks.vectors import GaussianClasses
from mi_estimator.tasks.zoo import ConcentricClasses, Independent

TASKS = {
    "gaussian-d2": GaussianClasses(2),
    "concentric-d5": ConcentricClasses(5),
    "independent-k2": Independent(2, dim=5),
    "independent-k10": Independent(10, dim=5),
}

COLUMNS = ["task", "replicate", "estimate", "lower", "upper", "expected_value", "p_value"]
KEY = ["task", "replicate"]


def expected_value(estimators: list, name: str, n: int = 20_000) -> float:
    """The mean over estimators of what each scores on average on the task, in nats.

    The oracle's terms on the same fresh samples are a control variate: what they have by chance
    above I(X;Y) is taken off.
    """
    task = TASKS[name]
    x, y = task.sample(n, torch.Generator().manual_seed(2**40 + list(TASKS).index(name)))
    oracle = select_label(task.pointwise_mutual_information(x), y)
    values = [(estimator.estimate(x, y).pointwise - oracle).mean() for estimator in estimators]
    return torch.stack(values).mean().item() + task.mutual_information()[0]


def run_replicate(
    name: str, replicate: int, estimator: str, n: int, permutations: int, device: Runtime
) -> dict:
    """One cross-fitted estimate with its interval, what it should cover, and its p-value."""
    generator = torch.Generator().manual_seed(1000 * replicate + list(TASKS).index(name))
    x, y = TASKS[name].sample(n, generator)
    training = TRAINING | {"epochs": 20, "batch_size": 50, "lr": 5e-3}
    estimators = []

    def build(seed: int):
        estimators.append(build_estimator(estimator, device, seed, training))
        return estimators[-1]

    found = cross_fit(build, x, y, folds=5, seed=replicate)
    estimate = found.estimate()
    return {
        "task": name,
        "replicate": replicate,
        "estimate": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "expected_value": expected_value(estimators, name),
        "p_value": found.permutation_p_value(permutations, replicate),
    }


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a task: shares of replicates, the first and the last with exact 95 % intervals."""
    lines = []
    for name, group in rows.groupby("task", sort=False):
        n, truth, mean = len(group), TASKS[name].mutual_information()[0], group["estimate"].mean()
        covered = group["expected_value"].between(group["lower"], group["upper"])
        rejected = group["p_value"] <= 0.05
        shares = {}
        for share, hits in (("covered", covered), ("rejected", rejected)):
            low, high = stats.binomtest(int(hits.sum()), n).proportion_ci()
            shares |= {share: hits.mean(), f"{share}_low": low, f"{share}_high": high}
        lines.append(
            {
                "task": name,
                "replicates": n,
                "truth": truth,
                "mean_estimate": mean,
                "spread": group["estimate"].std(),
                "mean_half_width": (group["upper"] - group["lower"]).mean() / 2,
                **shares,
                "covers_mean_estimate": (
                    (group["lower"] <= mean) & (mean <= group["upper"])
                ).mean(),
                "above_truth": (group["lower"] > truth).mean(),
            }
        )
    return pd.DataFrame(lines)


def get_parser() -> cli.Parser:
    parser = cli.Parser("Simulate the coverage of the interval and the size of the test.")
    cli.add_common_arguments(parser, output_dir="runs/mi_coverage", seed=False, data=False)
    cli.add_cluster_argument(parser)
    parser.add_argument(
        "--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="tasks"
    )
    parser.add_argument(
        "--replicates",
        type=cli.count_to(1_000_000),
        default=300,
        help="data sets drawn of each task",
    )
    parser.add_argument(
        "--samples", type=cli.positive_int, default=500, help="samples of a data set"
    )
    parser.add_argument("--permutations", type=cli.positive_int, default=199, help="of each test")
    parser.add_argument(
        "--estimator", choices=CROSS_ENTROPY, default="pc-softmax", help="what is cross-fitted"
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    folder, tasks = args.output_dir, list(dict.fromkeys(args.tasks))
    least = max(20 * TASKS[name].num_classes for name in tasks)
    if args.samples < least:
        raise UserError(f"--samples {args.samples}: at least {least}, so that no class is too rare")
    require_memory(args.samples * 100, f"--samples {args.samples}", "use fewer")
    prepare_output(
        folder,
        vars(args),
        resume=args.resume,
        overwrite=args.overwrite,
        extendable=("tasks", "replicates"),
    )
    print(f"mi_estimator: {device.describe()}, writing {folder}", flush=True)
    results = ResultsFile(folder / "replicates.csv", COLUMNS, KEY, text=("task",))
    keys = [(name, replicate) for name in tasks for replicate in range(args.replicates)]
    jobs = [
        (*key, args.estimator, args.samples, args.permutations, device)
        for key in keys
        if key not in results
    ]
    done = run_jobs(
        run_replicate, jobs, runtime=device, num_workers=args.num_workers, cluster=args.cluster
    )
    for row in tqdm(done, total=len(jobs), disable=None):
        results.add([row])
    found = coverage(results.select(keys))
    write_atomically(folder / "coverage.csv", lambda path: found.to_csv(path, index=False))
    print(to_markdown(found.round(4)))
    print(f"wrote {folder}/coverage.csv and replicates.csv")


if __name__ == "__main__":
    main()
