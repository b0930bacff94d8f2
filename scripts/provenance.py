"""Where rows come from: the commands that wrote a run folder, and the sidecar file of a table.

Beside each `NAME.csv` of collected rows stands `NAME.json`:

    holds      what the rows are, in words            page       the section that shows them
    recorded   RECORDED or AFTERWARDS                 sha256     of NAME.csv
    sources    by run folder, which the column `source` of the rows names where there are several:
      entry      the script that wrote them
      sessions   its commands, one or more with `--resume`: command, commit, versions, cpu, gpu,
                 started (UTC), seconds (null of one that was killed before the last)
      inputs     the run folders that it read, with their sessions
"""

import csv
import hashlib
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from mi_common.environment import LIBRARIES
from mi_common.errors import UserError
from mi_common.files import read_json, write_json
from scripts.finished_runs import RUN_FLAGS, read_config, read_inputs
from scripts.input_files import read_rows

RECORDED, AFTERWARDS = "by the runs", "afterwards"
SOURCE = "source"
PICTURES = "pictures.json"
FIELDS = ("holds", "page", "recorded", "sha256", "sources")
SESSION_FIELDS = {"command": str, "commit": str, "versions": dict, "cpu": str, "gpu": str}
SESSION_FIELDS |= {"started": str, "seconds": (int, float)}
PLACE_FLAGS = ("output_dir", "overwrite", "resume")  # where and how a run was written
TRAINING = "training."  # before the name of a flag of the runs that were read


def sidecar_of(table: Path) -> Path:
    return table.with_suffix(".json")


def digest(table: Path) -> str:
    return hashlib.sha256(table.read_bytes()).hexdigest()


def note_pictures(folder: Path, files: dict[str, list[Path]]) -> None:
    """Adds to PICTURES in the folder of pictures: the digest of each file that a picture shows."""
    noted = read_json(folder / PICTURES) if (folder / PICTURES).is_file() else {}
    drawn = {
        name: {path.name: digest(path) for path in sorted(paths)} for name, paths in files.items()
    }
    write_json(folder / PICTURES, dict(sorted((noted | drawn).items())))


def check_pictures(folder: Path) -> None:
    """UserError if a file of rows has changed since a picture of it was drawn."""
    for name, digests in read_json(folder / PICTURES).items():
        for file, noted in digests.items():
            if digest(folder / file) != noted:
                text = f"drawn from an earlier {file}; resources/README.md says which command"
                raise UserError(f"{name}: {text} draws it again")


def entry_of(config: dict) -> str:
    """Such as `infocam.evaluate`."""
    words = shlex.split(config["command"])[1:]  # without `python`
    return config.get("entry") or next(word for word in words if word != "-m")


def sessions_of(config: dict) -> list[dict]:
    """The commands that wrote a run, with all of SESSION_FIELDS."""
    sessions = []
    for session in config["sessions"]:
        known = config | session
        versions = {name: known.get(name) for name in ("python", *LIBRARIES)}
        shown = {name: known.get(name) for name in SESSION_FIELDS}
        sessions.append(shown | {"versions": versions})
    return sessions


def source_of(config: dict, inputs: dict[str, dict]) -> dict:
    """An entry of `sources` in a sidecar."""
    read = {
        path: {"entry": entry_of(config), "sessions": sessions_of(config)}
        for path, config in inputs.items()
    }
    return {"entry": entry_of(config), "sessions": sessions_of(config), "inputs": read}


def settings_of(config: dict, inputs: dict[str, dict]) -> list[dict]:
    """The flags of a run and of the runs that it read, without the names of their folders."""

    def flags(config: dict, *ignored: str) -> dict:
        return {name: value for name, value in config["flags"].items() if name not in ignored}

    of_inputs = [flags(read, *PLACE_FLAGS) for read in inputs.values()]
    return [flags(config, *PLACE_FLAGS, *RUN_FLAGS), *of_inputs]


def flag_value(folder: Path, config: dict, inputs: dict[str, dict], name: str) -> object:
    """The value of a flag: the run's own, or where it has none that of the runs it read.

    With TRAINING before its name it is that of the runs that were read alone. UserError if there is
    no such flag, or if the runs that were read differ in it.
    """
    flag, own = name.removeprefix(TRAINING), config["flags"]
    if not name.startswith(TRAINING) and own.get(flag) is not None:
        return _as_text(own[flag])
    values = [read["flags"][flag] for read in inputs.values() if flag in read["flags"]]
    if not values and (flag not in own or name.startswith(TRAINING)):
        raise UserError(f"--columns {name}: no such flag in {folder}/config.json or its inputs")
    if any(value != values[0] for value in values):
        raise UserError(f"--columns {name}: the runs that {folder} read differ in it")
    return _as_text(values[0] if values else None)


def _as_text(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value


def _read_cells(path: Path) -> pd.DataFrame:
    """The texts of a CSV table; UserError unless it has rows, all as long as its header."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            header, *rows = [row for row in csv.reader(file, strict=True) if row]
    except (ValueError, csv.Error) as error:  # ValueError: nothing in it, or not UTF-8
        raise UserError(f"{path}: empty or no CSV table; run its command again") from error
    if any(len(row) != len(header) for row in rows) or len(set(header)) != len(header):
        raise UserError(f"{path}: damaged, rows do not fit its header; run its command again")
    if not rows:
        raise UserError(f"{path}: a header without rows; run its command again")
    if SOURCE in header:
        raise UserError(f"{path}: has a column {SOURCE!r}, which is to name the run; rename it")
    return pd.DataFrame(rows, columns=header, dtype=str)


def join_tables(
    folders: list[Path], table: str, columns: dict[str, str]
) -> tuple[pd.DataFrame, dict[str, dict]]:
    """The rows of one table of several runs, and the `sources` of its sidecar.

    Args:
        table: the name of a CSV file in each folder.
        columns: names of columns to add where a table lacks them, and their flags; see
            `flag_value`.

    Cells are texts, as they were written. UserError for runs of different entries, for runs with
    equal flags, which are no independent seeds, for damaged tables and for tables with different
    columns.
    """
    if Path(table).name != table or Path(table).suffix != ".csv":
        raise UserError(f"--table {table!r}: not the name of a CSV file in the folders")
    frames, sources, settings = [], {}, []
    for folder in folders:
        config = read_config(folder)
        inputs = read_inputs(folder, config)
        path = folder / table
        if not path.is_file():
            tables = ", ".join(sorted(file.name for file in folder.glob("*.csv"))) or "none"
            raise UserError(f"{folder}: no {table}; --table is one of: {tables}")
        rows = _read_cells(path)
        for name, flag in columns.items():
            if name not in rows:
                value = flag_value(folder, config, inputs, flag)
                rows[name] = "" if value is None else str(value)
        if frames and set(rows.columns) != set(frames[0].columns):
            raise UserError(f"{path}: columns {list(rows.columns)}, not {list(frames[0].columns)}")
        frames.append(rows)
        sources[str(folder)] = source_of(config, inputs)
        if (other := sources[str(folders[0])]["entry"]) != sources[str(folder)]["entry"]:
            raise UserError(f"{folder}: written by {entry_of(config)}, not {other}; one at a time")
        if (flags := settings_of(config, inputs)) in settings:
            twin = folders[settings.index(flags)]
            raise UserError(f"{folder}: its flags are those of {twin}; give one of the two")
        settings.append(flags)
    if len(frames) > 1:
        for rows, folder in zip(frames, folders, strict=True):
            rows[SOURCE] = str(folder)
    return pd.concat(frames), sources


def check_sidecar(table: Path, *, fields: tuple[str, ...] = FIELDS) -> dict:
    """The sidecar of a table; UserError unless it is whole, is of these rows and names their runs.

    Where it was recorded afterwards, values may be unknown (null), but for the command.
    """
    path = sidecar_of(table)
    if not path.is_file():
        raise UserError(f"{table.name}: no {path.name} beside it; make both with scripts.collect")
    sidecar = read_json(path)
    if missing := [name for name in fields if not sidecar.get(name)]:
        remedy = "collect the rows again, with --holds, --page and --overwrite"
        raise UserError(f"{path.name}: no {missing[0]}; {remedy}")
    if sidecar["recorded"] not in (RECORDED, AFTERWARDS):
        raise UserError(f"{path.name}: recorded is {RECORDED!r} or {AFTERWARDS!r}")
    if sidecar["sha256"] != (sha256 := digest(table)):
        remedy = "collect them again, or say in its `holds` what was changed, and set this sha256"
        raise UserError(f"{table.name}: not the rows of {path.name}; {remedy}: {sha256}")
    afterwards = sidecar["recorded"] == AFTERWARDS
    try:
        for folder, source in sidecar["sources"].items():
            for run in (source, *source["inputs"].values()):
                _check_run(run, f"{path.name}: {folder}", afterwards=afterwards)
    except (AttributeError, LookupError, TypeError) as error:
        remedy = "collect the rows again"
        raise UserError(f"{path.name}: sources are not as they were written; {remedy}") from error
    rows = read_rows(table)
    named = set(rows[SOURCE]) if SOURCE in rows else set(list(sidecar["sources"])[:1])
    if named != set(sidecar["sources"]):
        wrong = min(map(str, named ^ set(sidecar["sources"])))
        raise UserError(f"{table.name}: rows and {path.name} do not name the same runs: {wrong}")
    return sidecar


def _check_run(run: dict, where: str, *, afterwards: bool) -> None:
    """UserError, or a LookupError or TypeError, unless its sessions have all of SESSION_FIELDS."""
    if not (run["entry"] and run["sessions"]):
        raise UserError(f"{where}: no entry, or no command in its sessions")
    for session in run["sessions"]:
        may_be_null = {"gpu"} if session is run["sessions"][-1] else {"gpu", "seconds"}
        if afterwards:
            may_be_null = SESSION_FIELDS.keys() - {"command"}
        for name, kind in SESSION_FIELDS.items():
            value = session.get(name)
            unknown = value is None and name in session and name in may_be_null
            if not (unknown or isinstance(value, kind)):
                raise UserError(f"{where}: no {name} of a command")


def files_table(folder: Path) -> pd.DataFrame:
    """All tables of a folder, from their sidecars; `folder` holds a page that links to theirs."""
    lines = []
    for table in sorted(folder.glob("*.csv")):
        sidecar = read_json(sidecar_of(table))
        sources = sidecar["sources"].values()
        runs = [run for source in sources for run in (source, *source["inputs"].values())]
        sessions = [session for run in runs for session in run["sessions"]]
        commits = [re.split("[ ,]", session["commit"] or "")[0] for session in sessions]
        machines = [session["gpu"] or session["cpu"] for session in sessions]
        entries = ", ".join(dict.fromkeys(f"`{source['entry']}`" for source in sources))
        lines.append(
            {
                "file": f"`{table.name}`",
                "holds": sidecar["holds"],
                "made by": f"[{entries}](../{sidecar['page']})",
                "commit": ", ".join(dict.fromkeys(filter(None, commits))),
                "machine": "; ".join(dict.fromkeys(filter(None, machines))),
                "seconds": _total_seconds(sources),
                "recorded": sidecar["recorded"],
            }
        )
    return pd.DataFrame(lines)


def _total_seconds(sources: Iterable[dict]) -> str:
    """Of all runs and of those that they read, each once; empty if none is known."""
    inputs = {path: run for source in sources for path, run in source["inputs"].items()}
    runs = [*sources, *inputs.values()]
    known = [s["seconds"] for run in runs for s in run["sessions"] if s["seconds"] is not None]
    return f"{sum(known):,.0f}" if known else ""
