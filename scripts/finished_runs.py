"""config.json of finished runs and of the runs that they read; whether a command's run is one.

    python -m scripts.finished_runs runs/digits infocam.evaluate runs/t --output-dir runs/digits

ends with status 0 if this command wrote the folder, ended well, and no run that it read has changed
since, so that `scripts/steps.sh` need not run it again; otherwise with status 1. This module is
light, because the shell scripts call it often.
"""

import shlex
import sys
from pathlib import Path

from mi_common.errors import UserError
from mi_common.files import read_json

RUN_FLAGS = ("run", "runs", "init")  # hold folders of runs


def read_config(folder: Path) -> dict:
    """config.json of a finished run; UserError for another folder and an unfinished run."""
    path = folder / "config.json"
    if not path.is_file():
        raise UserError(f"{folder}: no config.json, so it is no run; give output folders of runs")
    config = read_json(path)
    if not _is_of_a_run(config):
        raise UserError(f"{path}: not written by this project; give output folders of runs")
    sessions = config.get("sessions")
    last = sessions[-1] if isinstance(sessions, list) and sessions else None
    if not isinstance(last, dict) or not isinstance(last.get("started"), str):
        raise UserError(f"{folder}: does not say when it was made; run it again with --overwrite")
    if not last.get("finished"):
        remedy = "run its command again, with --resume where it has it"
        raise UserError(f"{folder}: the last command that wrote there is unfinished; {remedy}")
    return config


def _is_of_a_run(config: dict) -> bool:
    return isinstance(config.get("flags"), dict) and isinstance(config.get("command"), str)


def require_outside_runs(path: Path, flag: str) -> None:
    """UserError for a file to write, the value of a flag, inside a run folder, finished or not."""
    for folder in path.resolve().parents:
        config = folder / "config.json"
        if config.is_file() and _is_of_a_run(read_json(config)):
            raise UserError(f"{flag} {path}: inside the run {folder}; use another folder")


def read_inputs(folder: Path, config: dict) -> dict[str, dict]:
    """config.json of each run that a run read, by folder, from its RUN_FLAGS.

    UserError if one is missing or has changed since.
    """
    values = [config["flags"].get(flag) or [] for flag in RUN_FLAGS]
    paths = [path for value in values for path in ([value] if isinstance(value, str) else value)]
    if missing := [path for path in paths if not Path(path, "config.json").is_file()]:
        remedy = "put it back, or run the command of the former again"
        raise UserError(f"{folder}: read {missing[0]}, which is missing or no run; {remedy}")
    inputs = {path: read_config(Path(path)) for path in paths}
    for path, read in inputs.items():
        if read["sessions"][-1]["started"] > config["sessions"][-1]["started"]:
            raise UserError(f"{folder}: {path} has changed since it was read; run it again")
    return inputs


def is_finished(folder: Path, words: list[str]) -> bool:
    """Whether `python -m WORDS` wrote a run folder that `scripts.collect` accepts."""
    try:
        config = read_config(folder)
        read_inputs(folder, config)
    except UserError:
        return False
    return config["command"] == shlex.join(["python", "-m", *words])


if __name__ == "__main__":
    sys.exit(not is_finished(Path(sys.argv[1]), sys.argv[2:]))
