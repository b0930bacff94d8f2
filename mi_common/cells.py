"""Many independent cells of one results.csv: compute what is missing, keep each as it is done."""

from collections.abc import Callable

import pandas as pd

from mi_common.results import ResultsFile
from mi_common.runtime import Runtime
from mi_common.workers import run_jobs


def run_cells(
    function: Callable[..., list[dict]],
    jobs: dict[tuple, tuple],
    results: ResultsFile,
    *,
    runtime: Runtime,
    num_workers: int,
    cluster: str | None = None,
) -> pd.DataFrame:
    """Computes the cells that `results` lacks, writes the rows of each at once, shows the progress.

    Args:
        function: `function(*job)` returns the rows of a cell; picklable, as the jobs are.
        jobs: arguments by cell; the cell is named by its values of the columns `results.key`.
        runtime, num_workers, cluster: see `run_jobs`.

    Returns:
        The rows of all cells in the order of `jobs`, also those of an earlier run.
    """
    missing = [key for key in jobs if key not in results]
    finished = run_jobs(
        function,
        [jobs[key] for key in missing],
        runtime=runtime,
        num_workers=num_workers,
        cluster=cluster,
        names=[_name(results, key) for key in missing],
    )
    for rows in finished:
        results.add(rows)
    return results.select(list(jobs))


def _name(results: ResultsFile, key: tuple) -> str:
    """`mnist softmax seed 0`: text as it is, numbers after the names of their columns."""
    pairs = zip(results.key, key, strict=True)
    return " ".join(
        str(value) if column in results.text else f"{column} {value}" for column, value in pairs
    )
