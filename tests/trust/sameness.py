"""Whether two folders hold the same results, but for times and for how the commands were written.

unlike(first, second)  ->  the names of files that differ or that only one of the two has
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from mi_common.files import LOCK, WRITTEN

# Locks, and what says when, how and in which order the command wrote.
IGNORED = {"config.json", LOCK, WRITTEN}
OF_THE_MOMENT = ("seconds", "command", "commit", "rng", "checksum")  # the last one of seconds too


def unlike(first: Path, second: Path) -> list[str]:
    """Names of files, relative to the folders; files that cannot be read are unlike."""
    names = {folder: _names(folder) for folder in (first, second)}
    found = [f"{name} (only one has it)" for name in sorted(names[first] ^ names[second])]
    for name in sorted(names[first] & names[second]):
        try:
            same = _same_file(first / name, second / name)
        except Exception as error:
            found.append(f"{name} ({type(error).__name__}: {error})")
            continue
        if not same:
            found.append(name)
    return found


def stale(folder: Path) -> list[str]:
    """Unfinished files and folders at any depth."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if ".partial" in p.name)


def _names(folder: Path) -> set[str]:
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.relative_to(folder).as_posix() for path in files if path.name not in IGNORED}


def _same_file(first: Path, second: Path) -> bool:
    if any(word in first.name for word in OF_THE_MOMENT):
        return True
    read = READERS.get(first.name) or READERS.get(first.suffix, Path.read_bytes)
    return same(read(first), read(second))


def _text(path: Path) -> str:
    """The lines that show no time."""
    text = path.read_text(encoding="utf-8")
    return "" if any(word in text for word in OF_THE_MOMENT) else text


def _table(path: Path) -> list:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    moment = (*OF_THE_MOMENT, "run")  # the path of a run
    kept = [column for column in frame if not any(word in column for word in moment)]
    # Rows may come in another order from several processes.
    return sorted([tuple(kept), *frame[kept].itertuples(index=False, name=None)])


def _arrays(path: Path) -> dict:
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def _settings_of_runs(path: Path) -> list:
    """The rule and the settings of each run, without its path."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [content["rule"], *content["chosen"].values()]


READERS = {  # by name or suffix
    "chosen.json": _settings_of_runs,
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
    ".csv": _table,
    ".npz": _arrays,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".pt": lambda path: torch.load(path, weights_only=True),
    ".md": _text,
    ".tex": _text,
    ".png": lambda path: np.asarray(Image.open(path)),
}


def same(first: object, second: object) -> bool:
    """Whether two values of plain types, arrays or tensors are equal, bit by bit."""
    if type(first) is not type(second):
        return False
    if isinstance(first, dict):
        first, second = (
            {k: v for k, v in each.items() if not any(word in str(k) for word in OF_THE_MOMENT)}
            for each in (first, second)
        )
        return first.keys() == second.keys() and all(same(first[k], second[k]) for k in first)
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(same, first, second))
    if isinstance(first, torch.Tensor):
        return same(first.detach().cpu().numpy(), second.detach().cpu().numpy())
    if isinstance(first, np.ndarray):
        alike = first.dtype == second.dtype and first.shape == second.shape
        return alike and first.tobytes() == second.tobytes()
    if isinstance(first, float) and math.isnan(first):
        return math.isnan(second)
    return first == second
