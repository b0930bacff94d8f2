"""Run folders: written whole or not at all, and never silently overwritten.

A run folder holds

    config.json      what the run is: the entry script that wrote it, its flags, class names and
                     counts, fingerprints of its data, command, versions, commit, hardware;
                     see `RunFolder.require_entry`; and the commands that wrote it, see
                     `mi_common.sessions`
    metrics.jsonl    a line an epoch
    checkpoint.pt    all that training needs to go on
    result.json      written last: its presence means that the run is finished
    .lock            so that one process at a time writes into the folder
    .written         the names of all files that were written, which --overwrite may delete
"""

import io
import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

import torch

from mi_common import files, sessions
from mi_common.environment import environment
from mi_common.errors import UserError

# Flags that may differ when a run is resumed: they change its results by rounding at most. The
# content of the data folder is compared by its fingerprint.
_IGNORED_ON_RESUME = {"resume", "overwrite", "output_dir", "data_dir", "device", "num_workers"}
_IGNORED_ON_RESUME |= {"cluster", "retry_failed"}
_OTHER_FOLDER = "choose another --output-dir"


def check_output(
    folder: Path,
    flags: dict,
    *,
    overwrite: bool,
    resume: bool | None = None,
    extendable: tuple[str, ...] = (),
    data: dict | None = None,
    adds_to: str | None = None,
) -> None:
    """Raises the errors of `prepare_output`, without writing; locks a folder that has content.

    Args:
        flags: resolved flags, for config.json. Paths among them are inputs, except --output-dir.
        resume: None if the script cannot continue an earlier run.
        extendable: flags that may differ when a run is resumed, such as `seeds`.
        data: fingerprints of the data by name; None if unknown yet.
        adds_to: an entry, to whose earlier output the script adds files, whatever the flags were.

    UserError if the folder has content and neither flag is given, unless the entry `adds_to` wrote
    it; for `overwrite` of a folder that is a link, holds an input, or holds a file that no script
    wrote; for `resume` with changed flags or data; if another process writes into the folder.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file; {_OTHER_FOLDER}")
    if not folder.exists() or all(_is_left_over(path) for path in folder.iterdir()):
        return
    config = folder / "config.json"
    if adds_to is not None and not overwrite and config.exists():
        if files.read_json(config, remedy=_OTHER_FOLDER).get("entry") != adds_to:
            raise UserError(f"{folder}: not an output of {adds_to}; {_OTHER_FOLDER}")
        files.lock(folder)
        return
    if not (overwrite or resume):
        choices = "--overwrite" if resume is None else "--resume, --overwrite"
        raise UserError(f"{folder} exists; use {choices} or another --output-dir")
    if not config.exists():
        done = "not deleted" if overwrite else "it cannot be resumed"
        raise UserError(f"{folder} has no config.json, so no run wrote it: {done}")
    earlier = files.read_json(config, remedy=_OTHER_FOLDER)
    known = {"command", "python", "torch"} <= earlier.keys()
    if not (known and isinstance(earlier.get("flags"), dict)):
        raise UserError(f"{config}: not written by this project; {_OTHER_FOLDER}")
    if overwrite:
        _check_overwrite(folder, flags)
    else:
        ignored = {*_IGNORED_ON_RESUME, *extendable}
        before, now = (_with_dashes(f, ignored) for f in (earlier["flags"], _as_json(flags)))
        if changes := _changes(before, now):
            raise UserError(f"--resume {folder}: flags changed ({changes})")
        if data is not None and (changes := _changes(earlier.get("data", {}), _as_json(data))):
            raise UserError(
                f"--resume {folder}: the data changed ({changes}); restore them or use --overwrite"
            )
    files.lock(folder)


def _is_left_over(path: Path) -> bool:
    """Whether this is a lock, a list of files or an unfinished file, all without content."""
    return path.name in (files.LOCK, files.WRITTEN) or path.match(".*.partial*")


def _check_overwrite(folder: Path, flags: dict) -> None:
    if folder.is_symlink():
        raise UserError(f"--overwrite {folder}: it is a link; give the folder itself")
    for path in _inputs(flags):
        # A link inside the folder may lead to a file outside of it.
        link_parents = [parent.resolve() for parent in Path(os.path.abspath(path)).parents]
        if folder.resolve() in (path.resolve(), *path.resolve().parents, *link_parents):
            raise UserError(f"--overwrite {folder}: holds the input {path}; choose another folder")
    written = files.written_files(folder)
    for path in folder.rglob("*"):
        if not (_is_folder(path) or _is_left_over(path) or path in written):
            raise UserError(f"--overwrite {folder}: no script wrote {path}; move it first")
    for inner_lock in list(folder.rglob(f"*/{files.LOCK}")):  # of the runs of a comparison
        files.lock(inner_lock.parent)
        files.release_locks(inner_lock.parent)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _inputs(flags: dict) -> Iterator[Path]:
    """The existing paths among flags of any type, without the output."""
    for name, value in flags.items():
        for text in value if isinstance(value, list | tuple) else [value]:
            is_path = isinstance(text, Path) or (isinstance(text, str) and os.path.exists(text))
            if is_path and name != "output_dir":
                yield Path(text)


def _with_dashes(flags: dict, ignored: set[str]) -> dict:
    return {f"--{k.replace('_', '-')}": v for k, v in flags.items() if k not in ignored}


def _changes(earlier: dict, now: dict) -> str:
    return ", ".join(
        f"{name} {earlier.get(name)} -> {now.get(name)}"
        for name in sorted(earlier.keys() | now.keys())
        if earlier.get(name) != now.get(name)
    )


def prepare_output(
    folder: Path,
    flags: dict,
    *,
    overwrite: bool,
    data: dict | None = None,
    description: dict | None = None,
    **options,
) -> None:
    """Makes an output folder with its config.json, or continues in the folder of an earlier run.

    The folder is locked until `mi_common.files.release_locks`. Options and errors are those of
    `check_output`.

    Args:
        description: further entries of config.json; see `RunFolder.require_entry`.
    """
    check_output(folder, flags, overwrite=overwrite, data=data, **options)
    folder.mkdir(parents=True, exist_ok=True)
    files.lock(folder)
    # Again, because another process may have been faster.
    check_output(folder, flags, overwrite=overwrite, data=data, **options)
    if overwrite:
        # Without result.json, nothing counts as finished. Without the last two, no flag would
        # accept what an interruption leaves.
        first, last = ("result.json",), ("config.json", files.WRITTEN)
        for path in sorted(folder.iterdir(), key=lambda p: (p.name not in first, p.name in last)):
            if _is_folder(path):
                shutil.rmtree(path)
            elif path.name != files.LOCK:
                path.unlink()
    files.remove_partial_files(folder)
    config, now = folder / "config.json", environment()
    if config.exists():
        content = files.read_json(config)
    else:
        known = {"flags": flags} | ({} if data is None else {"data": data})
        content = _as_json((description or {}) | known) | now
    if not (folder / "result.json").exists():  # a finished run has no further session
        sessions.begin(folder, content, now)


def _as_json(values: dict) -> dict:
    return json.loads(json.dumps(values, default=str))


def _checksum(values: dict) -> int:
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


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

    def config(self, key: str) -> dict:
        """The "flags" or "data" fingerprints of the run; UserError if it is not finished."""
        value = self._read_config().get(key)
        if not isinstance(value, dict):
            raise UserError(f"{self.path}/config.json: no {key} in it; train again")
        return value

    def require_entry(self, entry: str, *, keys: tuple[str, ...] = ()) -> dict:
        """All of config.json, of a finished run of one entry script.

        `keys` must be in it beside "entry" and the dict "flags". "class_names" are a list of texts,
        "class_counts" a list of as many whole numbers above 0. UserError if the folder holds no
        finished run, one of another entry, or one that lacks the keys.
        """
        config = self._read_config()
        if (actual := config.get("entry") or "an unknown script") != entry:
            raise UserError(f"{self.path}: written by {actual}; give a run of {entry}")
        names, counts = config.get("class_names", []), config.get("class_counts", [])
        good = isinstance(config.get("flags"), dict) and config.keys() >= set(keys)
        good = good and isinstance(names, list) and all(isinstance(name, str) for name in names)
        good = good and isinstance(counts, list)
        good = good and all(type(count) is int and count > 0 for count in counts)
        if not good or (names and counts and len(names) != len(counts)):
            raise UserError(f"{self.path}/config.json: damaged, it is incomplete; train again")
        return config

    def _read_config(self) -> dict:
        if not self.finished:
            raise UserError(f"{self.path} holds no finished run: there is no result.json in it")
        return files.read_json(self.path / "config.json")

    def save_result(self, result: dict) -> None:
        """Writes result.json, whose presence means that the run is finished, with a checksum."""
        result = _as_json(result)
        sessions.end(self.path, finished=True)
        files.write_json(self.result_file, result | {"checksum": _checksum(result)})

    def result(self) -> dict:
        """The dict of `save_result`; UserError for a damaged file."""
        result = files.read_json(self.result_file)
        if result.pop("checksum", None) != _checksum(result):
            raise files.damaged_file(self.result_file)
        return result

    def require_files(self, *names: str) -> None:
        """UserError for a missing or damaged file of a finished run."""
        if missing := [name for name in names if not (self.path / name).exists()]:
            raise UserError(f"{self.path}: no {', '.join(missing)}; train again with --overwrite")
        for file in (self.path / name for name in names if name.endswith((".npz", ".pt"))):
            try:
                files.verify_archive(file)
            except UserError as error:
                raise UserError(f"{file}: damaged; train again with --overwrite") from error

    def save_epoch(self, checkpoint: dict) -> None:
        """Writes a checkpoint, and its `metrics`, a dict an epoch, as text."""
        buffer = io.BytesIO()  # torch turns a full disk into an error that does not say so
        torch.save(checkpoint, buffer)
        files.write_archive(self.checkpoint_file, buffer)
        self.restore_metrics(checkpoint["metrics"])

    def load_checkpoint(self) -> dict | None:
        """The last checkpoint, on the CPU, or None; UserError for a damaged or foreign file."""
        if not self.checkpoint_file.exists():
            return None
        files.verify_archive(self.checkpoint_file)
        try:
            checkpoint = torch.load(self.checkpoint_file, map_location="cpu", weights_only=True)
        except Exception as error:  # pickle's own and torch's many
            raise files.damaged_file(self.checkpoint_file) from error
        parts = checkpoint if isinstance(checkpoint, dict) else {}
        model, metrics = parts.get("model"), parts.get("metrics")
        good = isinstance(model, dict) and all(isinstance(v, torch.Tensor) for v in model.values())
        if not (good and isinstance(metrics, list) and all(isinstance(v, dict) for v in metrics)):
            raise UserError(f"{self.checkpoint_file}: not a checkpoint of this project; delete it")
        return checkpoint

    def restore_metrics(self, metrics: list[dict]) -> None:
        """Writes metrics.jsonl again if it differs from the checkpoint."""
        text = "".join(json.dumps(line) + "\n" for line in metrics)
        if not self.metrics_file.exists() or self.metrics_file.read_bytes() != text.encode():
            files.write_text(self.metrics_file, text)
