"""Attacks every entry of the project and counts what came of it.

    python -m tests.trust.attack --inputs 3000 --kills 200 --seed 0 --output-dir runs/attack

Two parts. Inputs: damaged, hostile, absurd and unusual files and flags, each with what would be
right. Kills: signals, crashes at chosen writes, full disks, and two processes at once, each
followed by what a user would do next. A case depends on the seed, its kind and its number alone:

    python -m tests.trust.attack --seed 0 --only "table: CSV" --case 12

Writes `trust.csv`, a row a kind: how many were tried, went fine (the right result), ended with a
clear error (status 2, one line), with a traceback, hung, were silently wrong, lost something, or
were refused though valid. The exit status is 1 if any was of the last five kinds.
"""

import argparse
import csv
import functools
import gc
import os
import shlex
import shutil
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.trust.outcomes import FAILURES, OUTCOMES

# Before NumPy is imported: a fork has one thread, and sums must come out the same.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")
os.environ.setdefault("MPLBACKEND", "agg")

INPUT_SECONDS, KILL_SECONDS = 20.0, 150.0  # that a case may take
COLUMNS = ("kind", "tried", *OUTCOMES)


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description="Attack every entry and count what came of it.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--inputs", type=int, default=300, help="inputs, over all kinds")
    parser.add_argument("--kills", type=int, default=20, help="killed runs, over all kinds")
    parser.add_argument("--seed", type=int, default=0, help="of all cases")
    parser.add_argument("--output-dir", type=Path, help="new folder to write")
    parser.add_argument("--budget-seconds", type=float, help="begin no case after so many")
    parser.add_argument("--only", help="the kinds whose name begins so")
    parser.add_argument("--case", type=int, help="with --only: this number alone, told in full")
    parser.add_argument("--at-once", type=int, default=2, help="cases at a time")
    return parser


def shares(kinds: dict, total: int) -> list[tuple[str, int]]:
    """(kind, number) of `total` cases, in proportion to the kinds' shares, kinds interleaved."""
    whole = sum(kind.share for kind in kinds.values())
    counts = {name: int(total * kind.share / whole) for name, kind in kinds.items()}
    for name in list(kinds)[: total - sum(counts.values())]:
        counts[name] += 1
    cases = [
        (number / count, name, number) for name, count in counts.items() for number in range(count)
    ]
    return [(name, number) for _, name, number in sorted(cases)]


def perform(name: str, number: int, seed: int, kind, folder: Path, shop, send: Callable) -> None:
    """Makes one case in a folder of its own, in a child, and sends what came of it."""
    import numpy as np

    from tests.trust.cases import Case, judge

    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    folder.mkdir(parents=True)
    os.chdir(folder)
    case = kind.make(rng, folder, shop)
    if isinstance(case, Case):
        send(("what", case.what))
        send(("outcome", judge(case)))
    else:
        what, *outcome = case
        send(("what", what))
        send(("outcome", tuple(outcome)))


def outcome_of(report) -> tuple[str, str, str]:
    """What was done, the outcome and its detail, from a child's report.

    Raises:
        RuntimeError: the case itself could not be made.
    """
    sent = dict(report.sent)
    if "broken" in sent:
        raise RuntimeError(sent["broken"])
    what = sent.get("what", "")
    if "outcome" in sent:
        return what, *sent["outcome"]
    if report.hung:
        return what, "hang", f"still running after {report.seconds:.0f} s"
    return what, "traceback", f"died with status {report.status}"


def campaign(
    kinds: dict,
    cases: list[tuple[str, int]],
    seed: int,
    *,
    at_once: int,
    limit: float,
    until: float,
    work: Path,
    shop,
) -> Iterator[tuple[str, int, str, str, str]]:
    """Kind, number, what was done, outcome and detail of each case, as they end."""
    from tests.trust.zygote import run_forked

    begun = []

    def jobs():
        for name, number in cases:
            if time.monotonic() > until:
                return
            folder = work / f"{zlib.crc32(name.encode()):x}-{number}"
            begun.append((name, number, folder))
            yield functools.partial(perform, name, number, seed, kinds[name], folder, shop)

    for index, report in run_forked(jobs(), at_once=at_once, limit=limit):
        name, number, folder = begun[index]
        try:
            yield name, number, *outcome_of(report)
        except RuntimeError as error:
            raise RuntimeError(f"{name} {number} could not be made:\n{error}") from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def table(counts: dict[str, Counter]) -> list[dict]:
    return [
        {"kind": name, "tried": sum(own.values()), **{c: own[c] for c in COLUMNS[2:]}}
        for name, own in counts.items()
    ]


def write_table(rows: list[dict], file) -> None:
    writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def main(argv: list[str] | None = None) -> int:
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.output_dir and args.output_dir.exists():
        parser.error(f"--output-dir {args.output_dir} exists; use another folder")
    from mi_common import files, records, sessions
    from tests.trust.kinds import INPUTS, KILLS
    from tests.trust.workshop import Workshop
    from tests.trust.zygote import import_everything

    sessions.start_command()
    import_everything()
    gc.freeze()  # or each child would copy what it counts
    until = time.monotonic() + (args.budget_seconds or float("inf"))
    counts: dict[str, Counter] = {}
    with tempfile.TemporaryDirectory(prefix="trust-") as work:
        for part, kinds, total, limit in (
            ("inputs", INPUTS, args.inputs, INPUT_SECONDS),
            ("kills", KILLS, args.kills, KILL_SECONDS),
        ):
            kinds = {k: v for k, v in kinds.items() if k.startswith(args.only or "")}
            if not kinds or not total:
                continue
            cases = shares(kinds, total)
            if args.case is not None:
                cases = [(name, args.case) for name in kinds]
            counts |= {name: Counter() for name in kinds if any(name == c for c, _ in cases)}
            shop = Workshop.build(
                Path(work) / part, {need for k in kinds.values() for need in k.needs}
            )
            for name, number, what, outcome, detail in campaign(
                kinds,
                cases,
                args.seed,
                at_once=args.at_once,
                limit=limit,
                until=until,
                work=Path(work) / f"{part}-cases",
                shop=shop,
            ):
                counts[name][outcome] += 1
                tell(args, name, number, what, outcome, detail)
    rows = table(counts)
    write_table(rows, sys.stdout)
    if args.output_dir:
        records.prepare_output(args.output_dir, vars(args), overwrite=False)
        with (args.output_dir / "trust.csv").open("w", newline="") as file:
            write_table(rows, file)
        sessions.end_all(finished=True)
        files.release_locks()
    return int(any(row[outcome] for row in rows for outcome in FAILURES))


def tell(args, name: str, number: int, what: str, outcome: str, detail: str) -> None:
    """Prints what went wrong with the command that does it again; everything of a single case."""
    alone = args.case is not None
    if not alone and outcome not in FAILURES:
        return
    again = shlex.join(["--seed", str(args.seed), "--only", name, "--case", str(number)])
    shown = detail if alone else " | ".join(detail.strip().splitlines()[-3:])[-400:]
    print(
        f"{outcome}: {name}: {what}\n    python -m tests.trust.attack {again}\n    {shown}",
        flush=True,
    )


if __name__ == "__main__":
    sys.exit(main())
