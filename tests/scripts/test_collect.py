"""`scripts.collect` joins tables, says where each row is from, and refuses what it cannot say."""

import json
from pathlib import Path

import pandas as pd
import pytest

from mi_common import cli, records
from mi_common.errors import UserError
from mi_common.records import prepare_output
from scripts.collect import main
from scripts.provenance import AFTERWARDS, check_sidecar, digest

MACHINE = {"commit": "abc1234", "python": "3.11.7", "torch": "2.14.1", "cpu": "a CPU", "gpu": None}
COMMANDS = {"train": "python -m infocam.train", "evaluate": "python -m infocam.evaluate"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def make(monkeypatch):
    """Makes a run folder as an entry does."""

    def run(name, kind="evaluate", table="gt_known\n0.50\n", commit="abc1234", error=None, **flags):
        known = {"command": f"{COMMANDS[kind]} {name}", "commit": commit}
        monkeypatch.setattr(records, "environment", lambda: MACHINE | known)

        @cli.entry
        def entry(argv):
            prepare_output(Path(name), flags | {"output_dir": name}, overwrite=False, resume=True)
            if table is not None:
                Path(name, "results.csv").write_text(table)
            if error:
                raise error

        entry([])
        return name

    return run


def collect(*words):
    main([*map(str, words), "--output", "tables/rows.csv"])
    return pd.read_csv("tables/rows.csv", dtype=str), json.loads(
        Path("tables/rows.json").read_text()
    )


def test_rows_are_joined_with_flags_of_the_run_or_of_the_runs_that_it_read(make):
    for name, optimizer, layers in (("t0", "adamw", None), ("t1", "sgd", ["a", "b"])):
        make(name, "train", optimizer=optimizer, adl=layers, padding="zero")
    make("e0", runs=["t0"], padding=None, table="seed,gt_known\n0,0.50\n")
    make("e1", runs=["t1"], padding="reflect", table="seed,gt_known\n0,0.6\n1,0.70\n")
    rows, sidecar = collect(
        "e0", "e1", "--columns", "optimizer", "adl", "padding", "training.padding"
    )
    assert rows.columns.tolist() == [
        *("seed", "gt_known", "optimizer", "adl", "padding", "training_padding", "source")
    ]
    assert rows["gt_known"].tolist() == ["0.50", "0.6", "0.70"]  # as they were written
    assert rows["optimizer"].tolist() == ["adamw", "sgd", "sgd"]
    assert rows["adl"].fillna("").tolist() == ["", "a b", "a b"]
    assert rows["padding"].tolist() == ["zero", "reflect", "reflect"]
    assert set(rows["training_padding"]) == {"zero"}
    assert rows["source"].tolist() == ["e0", "e1", "e1"]
    assert list(sidecar["sources"]) == ["e0", "e1"]
    assert list(sidecar["sources"]["e1"]["inputs"]) == ["t1"]


def test_a_column_may_have_another_name_and_is_taken_from_the_table_where_it_is_there(make):
    make("e0", tune=["lr", "head"], table="head,lr,gt_known\ncosine,0.3,0.50\n")
    make("e1", tune=[], head="linear", lr=0.01)
    rows, _ = collect("e0", "e1", "--columns", "head", "lr", "tuned=tune")
    assert rows.fillna("").drop(columns=["gt_known", "source"]).to_dict("list") == {
        "head": ["cosine", "linear"],
        "lr": ["0.3", "0.01"],
        "tuned": ["lr head", ""],
    }


def test_the_sidecar_holds_each_command_with_commit_versions_hardware_and_seconds(make):
    make("t", "train")
    with pytest.raises(SystemExit):
        make("e", runs=["t"], error=UserError("interrupted"))
    make("e", runs=["t"], commit="def5678-dirty")
    _, sidecar = collect("e", "--holds", "boxes", "--page", "infocam/README.md#boxes")
    source = sidecar["sources"]["e"]
    assert source["entry"] == "infocam.evaluate"
    assert [session["commit"] for session in source["sessions"]] == ["abc1234", "def5678-dirty"]
    assert source["inputs"]["t"]["entry"] == "infocam.train"
    (session,) = source["inputs"]["t"]["sessions"]
    assert session["command"] == "python -m infocam.train t" and session["gpu"] is None
    assert session["cpu"] == "a CPU" and session["versions"]["torch"] == "2.14.1"
    assert session["seconds"] >= 0 and session["started"].endswith("+00:00")
    assert (sidecar["holds"], sidecar["recorded"]) == ("boxes", "by the runs")
    assert check_sidecar(Path("tables/rows.csv")) == sidecar


def test_overwriting_keeps_the_words_of_the_sidecar(make):
    collect(make("e"), "--holds", "boxes", "--page", "p#a")
    _, sidecar = collect("e", "--overwrite", "--page", "p#b")
    assert (sidecar["holds"], sidecar["page"]) == ("boxes", "p#b")


def test_another_table_is_taken(make):
    make("e")
    Path("e/differences.csv").write_text("a\n1\n")
    rows, _ = collect("e", "--table", "differences.csv")
    assert rows.to_dict("records") == [{"a": "1", "source": "e"}]


@pytest.fixture
def wrong(make, user_error):
    """What is refused, by name: words of the command, and a part of the message."""
    make("good", optimizer="sgd", runs=[])
    make("train", "train", optimizer="sgd")
    make("train2", "train", optimizer="adamw")
    make("both", runs=["train", "train2"])
    make("columns", table="other\n1\n")
    make("no-table", table=None)
    with pytest.raises(SystemExit):
        make("unfinished", error=UserError("interrupted"))
    make("gone", runs=["train", "moved"])
    make("started", init="moved")
    for name, cells in (("no-rows", ""), ("ragged", "a,b\n1,2\n3\n"), ("long", "a\n1,2\n")):
        make(name, table=cells)
    Path("foreign.csv").write_text("a\n1\n")
    Path("link").symlink_to("good")
    Path("empty").mkdir()
    for name, config in (("foreign", {"a": 1}), ("old", {"flags": {}, "command": "x"})):
        Path(name).mkdir()
        Path(name, "config.json").write_text(json.dumps(config))
    Path("tables").mkdir()
    return lambda *words: user_error(main, [*words, "--output", "tables/rows.csv"])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "none: no config.json, so it is no run"),
        (["empty"], "empty: no config.json, so it is no run"),
        (["foreign"], "not written by this project"),
        (["old"], "old: does not say when it was made; run it again"),
        (["good", "unfinished"], "unfinished: the last command that wrote there is unfinished"),
        (["good", "train"], "train: written by infocam.train, not infocam.evaluate"),
        (["good", "good"], "good: given twice"),
        (["good", "empty/../good"], "good: given twice"),
        (["link", "good"], "link: given twice"),
        (["gone"], "gone: read moved, which is missing or no run"),
        (["started"], "started: read moved, which is missing or no run"),
        (["no-rows"], "no-rows/results.csv: empty or no CSV table"),
        (["ragged"], "ragged/results.csv: damaged, rows do not fit its header"),
        (["long"], "long/results.csv: damaged, rows do not fit its header"),
        (["good", "--table", ""], "--table '': not the name of a CSV file"),
        (["good", "--table", "predictions.npz"], "--table 'predictions.npz': not the name"),
        (["good", "--table", "../foreign.csv"], "--table '../foreign.csv': not the name"),
        (["good", "--columns", "source=optimizer"], "--columns source=optimizer: give each"),
        (["good", "--columns", "=optimizer"], "--columns =optimizer: give each column a name"),
        (["good", "--columns", "a=optimizer", "a=runs"], "--columns a=runs: give each column"),
        (["no-table"], "no-table: no results.csv; --table is one of: none"),
        (["good", "--table", "x.csv"], "good: no x.csv; --table is one of: results.csv"),
        (["good", "columns"], "columns ['other', 'source'], not ['gt_known', 'source']"),
        (["good", "--columns", "lr"], "--columns lr: no such flag"),
        (["good", "--columns", "training.optimizer"], "--columns training.optimizer: no such flag"),
        (["both", "--columns", "optimizer"], "the runs that both read differ in it"),
    ],
)
def test_what_cannot_be_said_truly_is_refused_in_one_line(wrong, words, message):
    assert message in wrong(*words)
    assert list(Path("tables").iterdir()) == []


def test_a_file_is_not_replaced_without_being_asked(make, user_error):
    collect(make("e"))
    before = Path("tables/rows.csv").read_bytes()
    words = ["e", "--columns", "output_dir", "--output", "tables/rows.csv"]
    assert "tables/rows.csv exists; use --overwrite" in user_error(main, words)
    assert Path("tables/rows.csv").read_bytes() == before
    assert "ends with .csv" in user_error(main, ["e", "--output", "tables/rows.txt"])
    Path("tables/rows.csv").unlink()
    assert "tables/rows.json exists; use --overwrite" in user_error(main, words)


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("e/results.csv", "--output e/results.csv: inside the run e"),
        ("link/new.csv", "--output link/new.csv: inside the run e"),
        ("folder.csv", "--output folder.csv is a folder"),
        ("file/below/rows.csv", "--output file/below/rows.csv: file is a file"),
        ("config.csv", "--overwrite config.json: not of a table"),
    ],
)
def test_an_output_that_would_lose_something_or_cannot_be_is_refused(
    make, user_error, output, message
):
    make("e")
    Path("folder.csv").mkdir()
    Path("link").symlink_to("e")
    Path("file").touch()
    Path("config.json").write_text('{"a": 1}')
    files = ["e/results.csv", "file", "config.json"]
    before = [Path(file).read_bytes() for file in files]
    assert message in user_error(main, ["e", "--output", output, "--overwrite"])
    assert [Path(file).read_bytes() for file in files] == before
    assert not Path("e/results.json").exists() and not Path("config.csv").exists()


def test_a_run_that_was_read_and_has_changed_since_is_refused(make, user_error):
    make("t", "train")
    make("e", runs=["t"])
    config = json.loads(Path("t/config.json").read_text())
    config["sessions"][-1]["started"] = "2999-01-01T00:00:00+00:00"
    Path("t/config.json").write_text(json.dumps(config))
    assert "t has changed since it was read" in user_error(main, ["e", "--output", "x.csv"])


@pytest.fixture
def collected(make):
    """The table of two runs, and a function that changes its sidecar."""
    make("t", "train")
    collect(make("e0", runs=["t"]), make("e1", runs=["t"]), "--holds", "boxes", "--page", "p#a")
    table, sidecar = Path("tables/rows.csv"), Path("tables/rows.json")

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
        (lambda s: s.update(holds=""), "no holds"),
        (lambda s: s.pop("page"), "no page"),
        (lambda s: s.update(recorded="perhaps"), "recorded is 'by the runs' or 'afterwards'"),
        (lambda s: s.update(sha256="0"), "not the rows of rows.json"),
        (lambda s: s["sources"].pop("e1"), "do not name the same runs: e1"),
        (lambda s: s["sources"].update(e2=s["sources"]["e1"]), "do not name the same runs: e2"),
        (lambda s: session_of(s).update(commit=None), "e1: no commit of a command"),
        (lambda s: session_of(s).pop("gpu"), "e1: no gpu of a command"),
        (lambda s: session_of(s).pop("seconds"), "e1: no seconds of a command"),
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


def test_a_table_without_a_sidecar_is_seen(collected):
    Path("tables/rows.json").unlink()
    with pytest.raises(UserError, match=r"no rows\.json beside it"):
        check_sidecar(Path("tables/rows.csv"))
