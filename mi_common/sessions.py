"""Which commands wrote into an output folder, and for how long: `sessions` in its config.json.

A session is one command that wrote into the folder, the first one or one with `--resume`; one that
ends with an error before it writes a file, or is killed before, leaves none. It holds

    started     UTC, to the second
    seconds     until the command ended, None before; of a folder inside another, its own time
    finished    whether the command, or the training run, ended without an error
    and what differs from the command, versions, commit and hardware in config.json itself

`mi_common.records.prepare_output` begins a session, `mi_common.cli.entry` ends it. This module is
light, because every entry imports it.
"""

import contextlib
import functools
import time
from datetime import datetime, timezone
from pathlib import Path

from mi_common import files
from mi_common.errors import UserError

_open: dict[Path, float] = {}  # starts on the clock of `time.monotonic`, by folder
_command_started: float | None = None  # until a session counts from it


def start_command() -> None:
    """The first folder of this command counts its seconds from now, others from their `begin`."""
    global _command_started
    _command_started = time.monotonic()


def begin(folder: Path, config: dict, environment: dict) -> None:
    """Writes config.json of a locked folder with one more session.

    Where there is a config.json, that waits for the first other file, or for a good end.

    Args:
        config: its content so far, with the environment of the first session.
        environment: command, versions, commit and hardware of this session.
    """
    global _command_started
    started, _command_started = _command_started or time.monotonic(), None
    now = datetime.now(timezone.utc).timestamp() - (time.monotonic() - started)
    session = {name: value for name, value in environment.items() if config.get(name) != value}
    session["started"] = datetime.fromtimestamp(now, timezone.utc).isoformat(timespec="seconds")
    session |= {"seconds": None, "finished": False}
    sessions = [*config.get("sessions", []), session]
    path = folder / "config.json"
    write = functools.partial(files.write_json, path, config | {"sessions": sessions})
    if path.exists():
        files.call_before_first_write(folder, write)
    else:
        write()
    _open[folder.resolve()] = started


def end(folder: Path, *, finished: bool) -> None:
    """Ends the session of a folder, if there is one and the folder is still locked.

    UserError if config.json is gone or damaged.
    """
    started = _open.pop(folder.resolve(), None)
    if started is None or not files.is_locked(folder):
        return
    if write := files.take_call(folder):
        if not finished:
            return
        write()
    config = files.read_json(folder / "config.json")
    config["sessions"][-1] |= {
        "seconds": round(time.monotonic() - started, 1),
        "finished": finished,
    }
    files.write_json(folder / "config.json", config)


def end_all(*, finished: bool) -> None:
    """Ends all sessions of this process; after an error, a full disk raises no second one."""
    for folder in list(_open):
        with contextlib.suppress(*() if finished else (OSError, UserError)):
            end(folder, finished=finished)
