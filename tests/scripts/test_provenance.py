"""The sidecar of a table: what it must hold, and the runs that it names."""

import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

from mi_common.errors import UserError
from scripts.collect import main
from scripts.finished_runs import RUN_FLAGS, is_finished
from scripts.provenance import (
    AFTERWARDS,
    check_pictures,
    check_sidecar,
    digest,
    entry_of,
    note_pictures,
)
from tests.test_commands import ENTRIES


@pytest.mark.parametrize(
    ("config", "entry"),
    [
        ({"command": "python -m infocam.evaluate runs/t"}, "infocam.evaluate"),
        ({"command": "python 'my runs/run_me.py' --seed 0"}, "my runs/run_me.py"),
        ({"command": "python -c --seed 0", "entry": "infocam.train"}, "infocam.train"),
    ],
)
def test_the_entry_of_a_command(config, entry):
    assert entry_of(config) == entry


@pytest.fixture
def collected(make_run):
    """The table of two runs, and a function that changes its sidecar."""
    make_run("t", "train")
    words = [make_run(f"e{seed}", runs=["t"], seed=seed) for seed in (0, 1)]
    main([*words, "--holds", "boxes", "--page", "p#a", "--output", "rows.csv"])
    table, sidecar = Path("rows.csv"), Path("rows.json")

    def change(function):
        content = json.loads(sidecar.read_text())
        function(content)
        sidecar.write_text(json.dumps(content))
        return table

    return change


def session_of(sidecar: dict) -> dict:
    return sidecar["sources"]["e1"]["inputs"]["t"]["sessions"][0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.update(holds=""), "no holds; collect the rows again, with --holds, --page"),
        (lambda s: s.pop("page"), "no page"),
        (lambda s: s.update(recorded="perhaps"), "recorded is 'by the runs' or 'afterwards'"),
        (lambda s: s.update(sha256="0"), "not the rows of rows.json; .* say in its `holds` what"),
        (lambda s: s["sources"].pop("e1"), "do not name the same runs: e1"),
        (lambda s: s["sources"].update(e2=s["sources"]["e1"]), "do not name the same runs: e2"),
        (lambda s: session_of(s).update(commit=None), "e1: no commit of a command"),
        (lambda s: session_of(s).pop("gpu"), "e1: no gpu of a command"),
        (lambda s: session_of(s).pop("seconds"), "e1: no seconds of a command"),
        (lambda s: session_of(s).update(seconds=None), "e1: no seconds of a command"),
        (lambda s: session_of(s).update(seconds="12"), "e1: no seconds of a command"),
        (lambda s: s["sources"]["e1"].update(sessions=[]), "e1: no entry, or no command"),
        (lambda s: s["sources"]["e1"].pop("inputs"), "sources are not as they were written"),
        (lambda s: s.update(sources=["e0", "e1"]), "sources are not as they were written"),
        (lambda s: s["sources"].update(e1="e1"), "sources are not as they were written"),
    ],
)
def test_the_check_sees_what_a_sidecar_lacks(collected, change, message):
    with pytest.raises(UserError, match=message):
        check_sidecar(collected(change))


def test_a_changed_row_is_seen_and_unknown_values_only_afterwards(collected):
    def unknown(sidecar):
        session_of(sidecar).update(commit=None, seconds=None)
        sidecar["recorded"] = AFTERWARDS

    table = collected(unknown)
    check_sidecar(table)
    table.write_text(table.read_text().replace("0.50", "0.51"))
    with pytest.raises(UserError, match=digest(table)):
        check_sidecar(table)


def test_a_table_without_rows_is_seen(collected):
    table = Path("rows.csv")
    table.write_text("")
    collected(lambda sidecar: sidecar.update(sha256=digest(table)))
    with pytest.raises(UserError, match=r"rows\.csv: no table"):
        check_sidecar(table)


def test_a_picture_that_is_older_than_its_rows_is_seen(tmp_path):
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("x\n1\n")
    note_pictures(tmp_path, {"both.png": [tmp_path / "b.csv", tmp_path / "a.csv"]})
    note_pictures(tmp_path, {"one.png": [tmp_path / "a.csv"]})
    check_pictures(tmp_path)
    (tmp_path / "b.csv").write_text("x\n2\n")
    with pytest.raises(UserError, match=r"both\.png: drawn from an earlier b\.csv"):
        check_pictures(tmp_path)
    note_pictures(tmp_path, {"both.png": [tmp_path / "b.csv"]})
    check_pictures(tmp_path)


def test_a_table_without_a_sidecar_is_seen(collected):
    Path("rows.json").unlink()
    with pytest.raises(UserError, match=r"no rows\.json beside it"):
        check_sidecar(Path("rows.csv"))


def test_seconds_of_a_command_that_was_killed_are_unknown_and_the_run_is_good(
    make_run, change_config
):
    with pytest.raises(SystemExit):
        make_run("e", error=UserError("interrupted"))
    change_config("e", seconds=None)
    make_run("e")
    main(["e", "--holds", "boxes", "--page", "p#a", "--output", "rows.csv"])
    killed, resumed = check_sidecar(Path("rows.csv"))["sources"]["e"]["sessions"]
    assert killed["seconds"] is None and resumed["seconds"] >= 0


def test_the_flags_that_take_runs_are_those_whose_runs_are_recorded():
    flags = set()
    for entry in ENTRIES:
        actions = {a.dest: a for a in importlib.import_module(entry).get_parser()._actions}
        if "output_dir" in actions:
            texts = {name: action.help for name, action in actions.items() if action.type is Path}
            flags |= {n for n, text in texts.items() if re.search(r"\.train\b|finished run", text)}
    assert flags == set(RUN_FLAGS)


@pytest.mark.parametrize(
    ("words", "finished_sessions", "finished"),
    [
        (["x.run", "a b", "ü"], [False, True], True),
        (["x.run", "a b", "ü"], [True, False], False),
        (["x.run", "a b"], [True], False),
        (["x.run", "a", "b", "ü"], [True], False),
    ],
)
def test_a_run_is_finished_if_its_last_command_ended_well_and_is_this_one(
    tmp_path, words, finished_sessions, finished
):
    sessions = [{"started": "2026", "finished": value} for value in finished_sessions]
    command = shlex.join(["python", "-m", "x.run", "a b", "ü"])
    config = {"command": command, "flags": {}, "sessions": sessions}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert is_finished(tmp_path, words) == finished
    assert not is_finished(tmp_path / "none", words)
