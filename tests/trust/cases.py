"""One attack: what is done to the project, what would be right, and what came of it.

case = Case("a flipped bit", act=lambda: read(path), right=lambda answer: answer.value == truth)
outcome, detail = judge(case)
"""

import hashlib
import importlib
import json
import os
import re
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mi_common import cli
from mi_common.files import LOCK, WRITTEN

ERROR_LINE = re.compile(r"(?:error|[\w.-]+(?: -m [\w.]+)?: error): \S.*")


@dataclass(frozen=True)
class Answer:
    """What an act that ended well gave back, and what it printed, stderr included."""

    value: object
    printed: str


@dataclass(frozen=True)
class Case:
    """An attack of one kind.

    Attributes:
        what: the attack in words.
        act: calls a reader or an entry's `main`.
        right: True for the right answer, anything else tells what is wrong with it; None where only
            an error is right.
        must_read: whether an error is a fault too: the input is a valid one.
        kept: files and folders that must be afterwards as they were before.
        kept_by_errors: the same, where the act ends with an error; tables may have grown.
        after: says what is wrong afterwards, whatever the act did; None for nothing.
    """

    what: str
    act: Callable[[], object]
    right: Callable[[Answer], object] | None = None
    must_read: bool = False
    kept: tuple[Path, ...] = ()
    kept_by_errors: tuple[Path, ...] = ()
    after: Callable[[], str | None] = field(default=lambda: None)


@dataclass(frozen=True)
class Kind:
    """A kind of attack.

    Attributes:
        make: (random generator, empty folder, workshop) -> a case; it writes the case's files.
        needs: what the workshop has to hold, see `workshop.BUILDERS`.
        share: how many cases, relative to other kinds.
    """

    make: Callable[[np.random.Generator, Path, object], Case]
    needs: tuple[str, ...] = ()
    share: float = 1.0


def run(entry: str, *words: object) -> None:
    """Calls the `main` of an entry such as "pc_softmax.train"."""
    importlib.import_module(entry).main([str(word) for word in words])


def judge(case: Case) -> tuple[str, str]:
    """Acts, and names the outcome with its detail. It takes over stdout and stderr for good."""
    before = {path: contents(path) for path in (*case.kept, *case.kept_by_errors)}
    value, failure, status = None, "", 0
    text = {"mode": "w+", "encoding": "utf-8"}  # as strict as a terminal's
    with (
        tempfile.TemporaryFile(**text) as out,
        tempfile.TemporaryFile(**text, errors="backslashreplace") as err,
    ):
        _redirect(out, 1)
        _redirect(err, 2)
        sys.stdout, sys.stderr = out, err
        try:
            # As under an entry: what it makes one line of counts as one.
            value = cli.entry(lambda argv: case.act())([])
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            failure = traceback.format_exc()
        printed, errors = _text(out), _text(err)
    for path, content in before.items():
        if path in case.kept_by_errors and not (failure or status):
            continue
        may_grow = path in case.kept_by_errors
        if lost := differences(content, contents(path), may_grow=may_grow):
            return "lost", f"{path.name}: {', '.join(lost[:3])}"
    if failure:
        return "traceback", failure
    if complaint := case.after():
        return "silently_wrong", complaint
    if status:
        return _judge_error(status, errors, case.must_read)
    told = " ".join(f"accepted: {str(value)[:300]} {printed[-300:]}".split())
    if case.right is None:
        return "silently_wrong", told
    try:
        good = case.right(Answer(value, printed + errors))
    except Exception:
        return "silently_wrong", traceback.format_exc()
    if isinstance(good, bool | np.bool_) and good:
        return "fine", ""
    return "silently_wrong", f"{good or ''} {told}"


def _judge_error(status: int, errors: str, must_read: bool) -> tuple[str, str]:
    lines = errors.splitlines()
    if status != 2 or len(lines) != 1 or not ERROR_LINE.fullmatch(lines[0]):
        return "traceback", f"status {status}, {len(lines)} lines on stderr:\n{errors[-1500:]}"
    return "wrongly_refused" if must_read else "clear_error", lines[0]


def _redirect(file, descriptor: int) -> None:
    os.dup2(file.fileno(), descriptor)  # of libraries too, and of children


def _text(file) -> str:
    file.flush()
    return Path(f"/proc/self/fd/{file.fileno()}").read_text(errors="replace")


def contents(path: Path) -> dict[str, str | bytes]:
    """What tells each file at or below a path from a changed one; links are not followed.

    Locks come and go, and hold nothing. The list of what was written grows.
    """
    found = {}
    for each in [path, *sorted(path.rglob("*"))] if path.is_dir() else [path]:
        if each.suffix == ".lock" or each.name in (LOCK, WRITTEN):
            continue
        if each.is_symlink():
            found[str(each)] = f"link to {os.readlink(each)}"
        elif each.is_file():
            data = each.read_bytes()
            whole = each.suffix == ".csv" or each.name == "config.json"
            found[str(each)] = data if whole else hashlib.sha256(data).digest()
        elif each.is_dir():
            found[str(each)] = "folder"
    return found


def differences(before: dict, after: dict, *, may_grow: bool = False) -> list[str]:
    """What was there and is gone or changed; what is new or unfinished does not count.

    Args:
        may_grow: a table may have got more lines, and config.json the session that added them.
    """
    changed = {name for name, content in before.items() if after.get(name) != content}
    changed = {name for name in changed if ".partial" not in name}
    if may_grow:
        tables = {name for name in changed if name.endswith(".csv") and name in after}
        grown = {n for n in tables if set(before[n].splitlines()) <= set(after[n].splitlines())}
        if grown:
            grown |= {name for name in changed if _has_more_sessions(name, before, after)}
        changed -= grown
    return [f"{name} {'changed' if name in after else 'gone'}" for name in sorted(changed)]


def _has_more_sessions(name: str, before: dict, after: dict) -> bool:
    if Path(name).name != "config.json" or name not in after:
        return False
    try:
        first, second = json.loads(before[name]), json.loads(after[name])
        return first == second | {"sessions": second["sessions"][: len(first["sessions"])]}
    except (ValueError, TypeError, LookupError):
        return False


def pick(rng: np.random.Generator, options):
    """One of a sequence, as it is; NumPy's `choice` would make arrays of tuples and texts."""
    options = list(options)
    return options[rng.integers(len(options))]
