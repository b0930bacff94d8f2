"""Attacks on what earlier commands wrote: run folders, checkpoints, predictions, result tables."""

import os
import pickle
from functools import partial
from pathlib import Path

import torch

from tests.trust.cases import Answer, Case, Kind, pick, run
from tests.trust.commands import COMMANDS
from tests.trust.sameness import stale, unlike
from tests.trust.spoilers import ABSURD_JSON, Hostile, code_ran, damage, spoil


def agrees(whole: Path, out: Path, answer: Answer, *, but: tuple[str, ...] = ()) -> object:
    """Whether the output is that of an undisturbed run; what differs if it is not."""
    found = [name for name in unlike(whole, out) if name.split()[0] not in but] + stale(out)
    return True if not found else found[:5]


def resume_case(rng, folder: Path, shop, *, command: str, own: str, files: tuple[str, ...]) -> Case:
    """An unfinished run, one file of it damaged, and --resume."""
    out = shop.copy(f"{own}/part", folder / "out")
    name = pick(rng, files)
    if name == "result.json":  # says that the run is finished, which it is not
        what, data = "result.json out of nowhere", pick(rng, (*ABSURD_JSON, b'{"test_sets": {}}'))
        (out / name).write_bytes(data)
    elif rng.random() < 0.02:
        what, name = "nothing", ""
    else:
        what = spoil(rng, out / name, shop, own)
    # What is lost with its lines is when the epochs ran.
    but = ("metrics.jsonl",) if name == "metrics.jsonl" else ()
    if "/" in name and (out / name).is_file():  # of a finished part, which need not be read again
        but = (name,)
    act = partial(run, COMMANDS[command].entry, *shop.words(command, out), "--resume")
    right = partial(agrees, shop.root / own / "whole", out, but=but)
    marker = partial(code_ran, folder / "marker")
    return Case(what, act, right, what == "nothing", (), (out,), marker)


def reading(undisturbed: Path, read: Path, what: str, entry: str, *words: object) -> Case:
    """An entry that reads a damaged file or folder beside `out`, which must be as undisturbed."""
    act, marker = partial(run, entry, *words), partial(code_ran, read.parent / "marker")
    right = partial(agrees, undisturbed / "whole", read.parent / "out")
    return Case(what, act, right, what == "nothing", (read,), after=marker)


def use_case(rng, folder: Path, shop, *, command: str, own: str, files: tuple, result: str) -> Case:
    """A finished run, one file of it damaged, and a command that reads it."""
    copy, out = shop.copy(f"{own}/whole", folder / "whole"), folder / "out"
    what = spoil(rng, copy / pick(rng, files), shop, own) if rng.random() > 0.03 else "nothing"
    words = [w.replace(str(shop.root / own / "whole"), str(copy)) for w in shop.words(command, out)]
    return reading(shop.root / result, copy, what, COMMANDS[command].entry, *words)


def finished_case(rng, folder: Path, shop, *, command: str, own: str) -> Case:
    """A finished run, a file of it missing or damaged, and --resume."""
    out = shop.copy(f"{own}/whole", folder / "out")
    told = scores_in((shop.root / f"{own}.txt").read_text())
    files = [path for path in sorted(out.glob("[!.]*")) if path.is_file()]
    what, lost = "nothing", pick(rng, files)
    if rng.random() < 0.3:  # it says afterwards that it wrote them all
        lost.unlink()
        what = f"no {lost.name}"
    elif rng.random() < 0.95:
        what = spoil(rng, out / pick(rng, ("result.json", "result.json", "config.json")), shop, own)

    def right(answer: Answer) -> object:
        there = lost.exists() or lost.name == "metrics.jsonl" or "no " not in what
        return there and scores_in(answer.printed) == told

    act = partial(run, COMMANDS[command].entry, *shop.words(command, out), "--resume")
    return Case(what, act, right, what == "nothing", (), (out,))


def scores_in(printed: str) -> list[str]:
    """The lines that say a result."""
    return [line for line in printed.splitlines() if line.startswith("|") or "accuracy" in line]


def start_case(rng, folder: Path, shop) -> Case:
    """--init with a damaged first stage."""
    copy, out = shop.copy("pc/whole", folder / "stage"), folder / "out"
    what = spoil(rng, copy / pick(rng, TRAINED), shop, "pc")
    words = [*shop.words("pc train", out), "--init", copy, "--epochs", 1, "--retrain-head"]
    return reading(shop.root / "retrained", copy, what, "pc_softmax.train", *words)


def weights_case(rng, folder: Path, shop) -> Case:
    """--weights with a damaged file."""
    data, out = shop.copy("pictures", folder / "pictures"), folder / "out"
    weights = folder / "weights.pt"
    state = (shop.root / "weights.pt").read_bytes()
    how = pick(rng, ("damage", "damage", "damage", "foreign", "hostile", "pickle", "nothing"))
    marker = folder / "marker"
    if how == "damage":
        how, state = damage(rng, state)
    elif how == "foreign":
        state = (shop.root / "pc/whole/checkpoint.pt").read_bytes()
    elif how == "pickle":
        state = pickle.dumps(Hostile(marker))
    weights.write_bytes(state)
    if how == "hostile":
        torch.save({"a": Hostile(marker)}, weights)
    words = [*shop.words("infocam frozen", out, data), "--weights", weights]
    return reading(shop.root / "weighted", weights, how, "infocam.train", *words)


def cache_case(rng, folder: Path, shop) -> Case:
    """Cached features that rotted, and a training on them."""
    command, own = pick(rng, (("pc frozen", "pc-frozen"), ("infocam frozen", "infocam-frozen")))
    data, out = shop.copy("pictures", folder / "pictures"), folder / "out"
    files = [path for path in sorted((data / "features").rglob("*")) if path.is_file()]
    what = []
    for path in files if rng.random() < 0.7 else [pick(rng, files)]:
        how, rotten = damage(rng, path.read_bytes())
        times = path.stat()
        path.write_bytes(rotten)
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        what.append(f"{path.suffix}: {how}")
    act = partial(run, COMMANDS[command].entry, *shop.words(command, out, data))
    return Case("; ".join(what), act, partial(agrees, shop.root / own / "whole", out))


TRAINED = ("checkpoint.pt", "checkpoint.pt", "config.json", "result.json")
COMPARED = ("softmax-0/predictions.npz", "softmax-1/checkpoint.pt", "softmax-0/result.json")


def _resume(command: str, own: str, *files: str, share: float = 1.0) -> Kind:
    files = (*files, *files, "config.json") if files else (*TRAINED, "metrics.jsonl")
    make = partial(resume_case, command=command, own=own, files=files)
    return Kind(make, (own, f"{own} part", "pc", "infocam"), share)


def _finished(command: str, own: str, share: float = 1.0) -> Kind:
    return Kind(partial(finished_case, command=command, own=own), ("pc", "infocam"), share)


def _use(command: str, own: str, result: str, *files: str, share: float = 1.0) -> Kind:
    make = partial(use_case, command=command, own=own, files=files, result=result)
    return Kind(make, (own, result, "pc", "infocam"), share)


KINDS = {
    "resume: pc_softmax.train": _resume("pc train", "pc", share=2),
    "resume: infocam.train": _resume("infocam train", "infocam", share=2),
    "resume: frozen backbone": _resume("infocam frozen", "infocam-frozen"),
    "resume: benchmark": _resume("benchmark", "benchmark", "results.csv"),
    "resume: coverage": _resume("coverage", "coverage", "replicates.csv"),
    "resume: rank": _resume("rank", "rank", "results.csv"),
    "resume: compare": _resume("compare", "compare", "results.csv", *COMPARED, share=0.5),
    "finished: pc_softmax.train": _finished("pc train", "pc"),
    "finished: infocam.train": _finished("infocam train", "infocam", 0.5),
    "predictions.npz": _use("pc evaluate", "pc", "pc-evaluation", "predictions.npz", share=2),
    "run: infocam.evaluate": _use("infocam evaluate", "infocam", "infocam-evaluation", *TRAINED),
    "run: infocam.explain": _use("explain", "infocam", "explanation", *TRAINED),
    "run: --init": Kind(start_case, ("pc", "infocam", "retrained"), 0.5),
    "weights": Kind(weights_case, ("weights", "pc"), 0.5),
    "cached features": Kind(cache_case, ("pc-frozen", "infocam-frozen"), 1.5),
}
