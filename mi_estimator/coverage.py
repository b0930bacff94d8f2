"""Does the 95 % interval cover, and does the test of independence reject 5 %? A simulation.

    python -m mi_estimator.coverage --replicates 300

Each replicate draws new samples, cross-fits, and forms the interval of the held-out value. What the
interval is to cover is the estimator's own expected held-out value, which the mean over replicates
estimates; I(X;Y) itself lies above it. On independent features and labels, the share of replicates
whose permutation p-value is at most 0.05 is the test's size. Writes `coverage.csv`, a row a task.
"""

import pandas as pd
import torch
from scipy import stats
from tqdm import tqdm

from common import cli, runtime
from common.information import log_prior_from_labels
from common.records import prepare_output, write_atomically
from common.runtime import Runtime
from common.tables import to_markdown
from mi_estimator.crossfit import cross_fit
from mi_estimator.distributions import GaussianClasses
from mi_estimator.estimators import MIEstimate
from mi_estimator.registry import CROSS_FITTED, build_estimator
from mi_estimator.zoo import ConcentricClasses, Independent

TASKS = {
    "gaussian-d2": GaussianClasses(2),
    "concentric-d5": ConcentricClasses(5),
    "independent-k2": Independent(2, dim=5),
    "independent-k10": Independent(10, dim=5),
}


def run_replicate(
    name: str, replicate: int, estimator: str, n: int, permutations: int, device: Runtime
) -> dict:
    """One cross-fitted estimate with its interval, and its p-value."""
    task = TASKS[name]
    generator = torch.Generator().manual_seed(1000 * replicate + list(TASKS).index(name))
    x, y = task.sample(n, generator)
    training = {"epochs": 20, "batch_size": 50, "lr": 5e-3, "weight_decay": 1e-2, "held_back": 0.15}

    def build(seed: int):
        return build_estimator(estimator, device, seed, training)

    found = cross_fit(build, x, y, folds=5, seed=replicate)
    log_prior = log_prior_from_labels(y, task.num_classes).double()
    estimate = MIEstimate.from_pointwise(found.pointwise(log_prior))
    return {
        "task": name,
        "replicate": replicate,
        "estimate": estimate.value,
        "lower": estimate.lower,
        "upper": estimate.upper,
        "p_value": found.permutation_p_value(permutations, replicate),
    }


def coverage(rows: pd.DataFrame) -> pd.DataFrame:
    """A line a task: share covered and share rejected, each with its exact 95 % interval."""
    lines = []
    for name, group in rows.groupby("task", sort=False):
        expected = group["estimate"].mean()
        covered = int(((group["lower"] <= expected) & (expected <= group["upper"])).sum())
        rejected = int((group["p_value"] <= 0.05).sum())
        n, truth = len(group), TASKS[name].mutual_information()[0]
        covered_low, covered_high = stats.binomtest(covered, n).proportion_ci()
        rejected_low, rejected_high = stats.binomtest(rejected, n).proportion_ci()
        lines.append(
            {
                "task": name,
                "replicates": n,
                "truth": truth,
                "expected_value": expected,
                "spread": group["estimate"].std(),
                "mean_half_width": ((group["upper"] - group["lower"]) / 2).mean(),
                "covered": covered / n,
                "covered_low": covered_low,
                "covered_high": covered_high,
                "rejected": rejected / n,
                "rejected_low": rejected_low,
                "rejected_high": rejected_high,
                "above_truth": float((group["lower"] > truth).mean()),
            }
        )
    return pd.DataFrame(lines)


def get_parser() -> cli.Parser:
    parser = cli.Parser("Simulate the coverage of the interval and the size of the test.")
    cli.add_common_arguments(
        parser, output_dir="runs/mi_coverage", seed=False, data=False, resume=False
    )
    parser.add_argument(
        "--tasks", nargs="+", choices=list(TASKS), default=list(TASKS), help="tasks"
    )
    parser.add_argument(
        "--replicates", type=cli.positive_int, default=300, help="data sets drawn of each task"
    )
    parser.add_argument(
        "--samples", type=cli.positive_int, default=500, help="samples of a data set"
    )
    parser.add_argument("--permutations", type=cli.positive_int, default=199, help="of each test")
    parser.add_argument(
        "--estimator", choices=CROSS_FITTED, default="pc-softmax", help="what is cross-fitted"
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    prepare_output(args.output_dir, vars(args), overwrite=args.overwrite)
    print(f"mi_estimator: {device.describe()}, writing {args.output_dir}", flush=True)
    jobs = [
        (name, replicate, args.estimator, args.samples, args.permutations, device)
        for name in args.tasks
        for replicate in range(args.replicates)
    ]
    done = runtime.run_jobs(run_replicate, jobs, runtime=device, num_workers=args.num_workers)
    rows = pd.DataFrame(list(tqdm(done, total=len(jobs), disable=None)))
    rows = rows.sort_values(["task", "replicate"])
    found = coverage(rows)
    folder = args.output_dir
    write_atomically(folder / "replicates.csv", lambda path: rows.to_csv(path, index=False))
    write_atomically(folder / "coverage.csv", lambda path: found.to_csv(path, index=False))
    print(to_markdown(found.round(4)))
    print(f"wrote {folder}/coverage.csv and replicates.csv")


if __name__ == "__main__":
    main()
