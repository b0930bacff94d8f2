"""Run folders and result files: written whole or not at all, and never silently overwritten.

A run folder holds `config.json` (flags, command, versions, commit, hardware), `metrics.jsonl` (a
line an epoch), `checkpoint.pt` (all that is needed to go on) and `result.json`, written last: its
presence means that the run is finished.
"""

import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from common.errors import UserError

# Flags that may differ between a run and its resumption: they do not change what is computed.
_FREE_FLAGS = {"resume", "overwrite", "output_dir", "data_dir", "device", "num_workers"}


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Calls `write` on a temporary neighbour of `path` and renames it into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial{path.suffix}")
    try:
        write(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, value: dict) -> None:
    text = json.dumps(value, indent=2, default=str) + "\n"
    write_atomically(path, lambda partial: partial.write_text(text))


def save_arrays(path: Path, **arrays: np.ndarray) -> None:
    """Compressed `.npz`, written atomically."""
    write_atomically(path, lambda partial: np.savez_compressed(partial, **arrays))


def environment() -> dict:
    """Command, versions, commit and hardware of this process."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    cuda = torch.cuda.is_available()
    module = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["python", "-m", module.name] if module else ["python", sys.argv[0]]
    return {
        "command": shlex.join([*script, *sys.argv[1:]]),
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy", "timm")},
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # Linux; platform.processor() is empty on many of its kinds
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def check_output(
    folder: Path,
    flags: dict,
    *,
    overwrite: bool,
    resume: bool | None = None,
    extendable: tuple[str, ...] = (),
) -> None:
    """Whether `prepare_output` would accept the folder; it writes nothing.

    Args:
        flags: resolved flags, for config.json.
        resume: whether to go on with the folder's content; None where a script cannot.
        extendable: flags that may differ when the folder is resumed, such as `seeds`.

    Raises:
        UserError: the folder has content and neither flag was given; `overwrite` on a folder that
            no script wrote; `resume` with flags that differ from the earlier ones.
    """
    config = folder / "config.json"
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; choose another --output-dir")
    if not folder.exists() or not any(folder.iterdir()):
        return
    if overwrite:
        if not config.exists():
            raise UserError(f"{folder} has no config.json, so no run wrote it: not deleted")
        return
    if not resume:
        choices = "--overwrite" if resume is None else "--resume, --overwrite"
        raise UserError(f"{folder} exists; use {choices} or another --output-dir")
    if not config.exists():
        raise UserError(f"--resume {folder}: no config.json there, so no run wrote it")
    earlier, flags = json.loads(config.read_text())["flags"], _as_json(flags)
    changed = [
        f"--{name.replace('_', '-')} {earlier.get(name)} -> {flags.get(name)}"
        for name in sorted(set(earlier) | set(flags))
        if name not in {*_FREE_FLAGS, *extendable} and earlier.get(name) != flags.get(name)
    ]
    if changed:
        raise UserError(f"--resume {folder}: flags changed ({', '.join(changed)})")


def prepare_output(folder: Path, flags: dict, *, overwrite: bool, **options) -> None:
    """Makes an output folder with its config.json, or takes the one that `resume` goes on with.

    Options and errors are those of `check_output`.
    """
    check_output(folder, flags, overwrite=overwrite, **options)
    config = folder / "config.json"
    if overwrite and folder.exists():
        shutil.rmtree(folder)
    if config.exists():
        return
    try:
        write_json(config, {"flags": _as_json(flags), **environment()})
    except OSError as error:
        raise UserError(f"--output-dir {folder}: {error.strerror}") from error


def _as_json(flags: dict) -> dict:
    return json.loads(json.dumps(flags, default=str))


class RunFolder:
    """The files of one training run."""

    def __init__(self, path: Path):
        self.path = Path(path)
        self.metrics_file = self.path / "metrics.jsonl"
        self.checkpoint_file = self.path / "checkpoint.pt"
        self.result_file = self.path / "result.json"

    @property
    def finished(self) -> bool:
        return self.result_file.exists()

    def config(self) -> dict:
        """The flags of the run.

        Raises:
            UserError: the folder holds no finished run.
        """
        if not self.finished:
            raise UserError(f"{self.path} holds no finished run: there is no result.json in it")
        return json.loads((self.path / "config.json").read_text())["flags"]

    def result(self) -> dict:
        return json.loads(self.result_file.read_text())

    def metrics(self) -> list[dict]:
        """One dict an epoch, in order."""
        if not self.metrics_file.exists():
            return []
        return [json.loads(line) for line in self.metrics_file.read_text().splitlines()]

    def save_epoch(self, metrics: list[dict], checkpoint: dict) -> None:
        """Writes both atomically; the checkpoint last, as the one that counts."""
        lines = "".join(json.dumps(line) + "\n" for line in metrics)
        write_atomically(self.metrics_file, lambda partial: partial.write_text(lines))
        write_atomically(self.checkpoint_file, lambda partial: torch.save(checkpoint, partial))

    def load_checkpoint(self, device: torch.device | str = "cpu") -> dict | None:
        """The last checkpoint, or None before the first.

        Raises:
            UserError: the file cannot be read.
        """
        if not self.checkpoint_file.exists():
            return None
        try:
            return torch.load(self.checkpoint_file, map_location=device, weights_only=True)
        except Exception as error:
            raise UserError(
                f"{self.checkpoint_file} cannot be read ({type(error).__name__}); delete it to "
                "start the run afresh"
            ) from error


# From version 3 on, pandas reads every float as it was written without being asked.
_EXACT_FLOATS = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}


class ResultsFile:
    """A `results.csv` with a row a (setting, method, seed), added to one by one."""

    def __init__(self, path: Path, columns: list[str], key: list[str]):
        """
        Args:
            columns: of the file, in order.
            key: the columns that a computation is identified by; it may add several rows.

        Raises:
            UserError: the file is there with other columns.
        """
        self.path, self.columns, self.key = Path(path), columns, key
        self.frame = pd.DataFrame(columns=columns)
        if self.path.exists():
            try:
                self.frame = pd.read_csv(self.path, **_EXACT_FLOATS)
            except ValueError as error:
                raise UserError(f"{path}: not a table ({error}); delete it") from error
            if list(self.frame.columns) != columns:
                raise UserError(f"{path}: columns {list(self.frame.columns)}, not {columns}")

    def __contains__(self, key: tuple) -> bool:
        return tuple(map(str, key)) in self._positions()

    def select(self, keys: list[tuple]) -> pd.DataFrame:
        """The rows of the given keys, in their order."""
        positions = self._positions()
        return self.frame.iloc[[i for key in keys for i in positions.get(tuple(map(str, key)), [])]]

    def _positions(self) -> dict[tuple, list[int]]:
        positions: dict[tuple, list[int]] = {}
        for i, row in enumerate(self.frame[self.key].itertuples(index=False, name=None)):
            positions.setdefault(tuple(map(str, row)), []).append(i)
        return positions

    def add(self, rows: list[dict]) -> None:
        """Appends rows and rewrites the file atomically."""
        new = pd.DataFrame(rows, columns=self.columns)
        self.frame = new if self.frame.empty else pd.concat([self.frame, new], ignore_index=True)
        write_atomically(self.path, lambda partial: self.frame.to_csv(partial, index=False))
