"""Run folders and result files: whole or not at all, and never silently overwritten."""

import json

import pandas as pd
import pytest
import torch
from folders import FLAGS, names, prepare
from hypothesis import given
from hypothesis import strategies as st

from mi_common.errors import UserError
from mi_common.records import RunFolder
from mi_common.results import ResultsFile


def test_new_and_empty_folders_get_a_config_with_flags_versions_and_hardware(tmp_path):
    prepare(tmp_path)  # empty
    prepare(tmp_path / "a/b", resume=True)  # resuming nothing is a start
    for folder in (tmp_path, tmp_path / "a/b"):
        config = json.loads((folder / "config.json").read_text())
        assert config["flags"] == FLAGS
        assert config["torch"].split("+")[0] == torch.__version__.split("+")[0]
        assert {"command", "commit", "python", "numpy", "timm", "cpu", "gpu"} < set(config)


def test_existing_folder_is_refused_and_left_as_it_is(tmp_path):
    prepare(tmp_path)
    (tmp_path / "precious.txt").write_text("kept")
    before = (tmp_path / "config.json").read_text()
    with pytest.raises(UserError, match="use --resume, --overwrite or another --output-dir"):
        prepare(tmp_path, {"lr": 9})
    assert (tmp_path / "config.json").read_text() == before
    assert (tmp_path / "precious.txt").read_text() == "kept"


def test_a_file_in_the_folders_place_is_refused(tmp_path):
    (tmp_path / "run").write_text("kept")
    for kind in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(UserError, match="is a file"):
            prepare(tmp_path / "run", **kind)
    assert (tmp_path / "run").read_text() == "kept"
    with pytest.raises(NotADirectoryError):  # one line by `mi_common.cli.entry`
        prepare(tmp_path / "run" / "below")


def test_resume_refuses_changed_flags_and_names_them(tmp_path):
    prepare(tmp_path)
    with pytest.raises(UserError, match=r"flags changed \(--epochs 3 -> 4, --lr 0.1 -> 0.2\)"):
        prepare(tmp_path, FLAGS | {"lr": 0.2, "epochs": 4}, resume=True)
    with pytest.raises(UserError, match="--new-flag None -> 1"):
        prepare(tmp_path, FLAGS | {"new_flag": 1}, resume=True)
    with pytest.raises(UserError, match=r"--seeds \[0, 1\] -> \[0\]"):
        prepare(tmp_path, FLAGS | {"seeds": [0]}, resume=True)


def test_resume_accepts_what_does_not_change_the_computation(tmp_path):
    prepare(tmp_path, FLAGS | {"paths": (tmp_path,)})  # tuples and paths are compared as in JSON
    moved = FLAGS | {"device": "cuda", "output_dir": "y", "seeds": [2], "paths": (tmp_path,)}
    prepare(tmp_path, moved, resume=True, extendable=("seeds",))


def test_a_folder_without_config_is_no_run(tmp_path):
    (tmp_path / "cat.png").write_text("kept")
    for flag in ("overwrite", "resume"):
        with pytest.raises(UserError, match=r"no config\.json"):
            prepare(tmp_path, **{flag: True})
    assert names(tmp_path) == {"cat.png"}


def test_a_run_is_finished_by_its_result_and_only_then_has_a_config(tmp_path):
    run = RunFolder(tmp_path / "run")
    prepare(run.path)
    assert not run.finished
    assert run.load_checkpoint() is None
    with pytest.raises(UserError, match=r"no finished run: there is no result\.json"):
        run.config("flags")
    run.save_result({"accuracy": 0.5})
    assert run.finished
    assert run.config("flags") == FLAGS
    assert run.result() == {"accuracy": 0.5}


DESCRIPTION = {"entry": "x.train", "class_names": ["Hen", "Cat"], "class_counts": [3, 1]}


def described(folder, **changes) -> RunFolder:
    """A finished run, whose config.json says something else of it; None leaves a key out."""
    run = RunFolder(folder)
    prepare(run.path, description=DESCRIPTION)
    config = json.loads((folder / "config.json").read_text()) | changes
    config = {key: value for key, value in config.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(config))
    run.save_result({})
    return run


def test_a_run_says_what_it_is(tmp_path):
    config = described(tmp_path).require_entry("x.train", keys=tuple(DESCRIPTION))
    assert config["flags"] == FLAGS and config.items() >= DESCRIPTION.items()


@pytest.mark.parametrize(
    "changes, part",
    [
        ({"entry": "y.train"}, "y.train"),
        ({"entry": None}, "unknown"),
        ({"entry": ["x.train"]}, "x.train"),
        ({"flags": None}, "train again"),
        ({"class_names": None}, "train again"),
        ({"class_names": "Hen"}, "train again"),
        ({"class_names": ["Hen"]}, "train again"),
        ({"class_names": ["Hen", 1]}, "train again"),
        ({"class_counts": None}, "train again"),
        ({"class_counts": [3, 0]}, "train again"),
        ({"class_counts": [3, 1.0]}, "train again"),
        ({"class_counts": [3, True]}, "train again"),
    ],
)
def test_other_runs_are_refused_in_one_line(tmp_path, changes, part):
    with pytest.raises(UserError, match=str(tmp_path)) as error:
        described(tmp_path, **changes).require_entry("x.train", keys=tuple(DESCRIPTION))
    assert part in str(error.value) and len(str(error.value).splitlines()) == 1


def test_epochs_are_saved_and_read_back(tmp_path):
    run = RunFolder(tmp_path)
    metrics = [{"epoch": 1, "loss": 0.1 + 0.2}, {"epoch": 2, "loss": -1e-9}]
    run.save_epoch({"model": {"w": torch.arange(3.0)}, "metrics": metrics})
    assert [json.loads(line) for line in run.metrics_file.read_text().splitlines()] == metrics
    assert run.load_checkpoint()["metrics"] == metrics
    assert run.load_checkpoint()["model"]["w"].tolist() == [0, 1, 2]
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "checkpoint.pt"}


def test_a_checkpoint_with_code_in_it_is_not_run(tmp_path):
    run = RunFolder(tmp_path)
    torch.save({"model": run, "metrics": []}, run.checkpoint_file)
    with pytest.raises(UserError, match=r"checkpoint\.pt: damaged.*with --resume$"):
        run.load_checkpoint()


COLUMNS = ["task", "method", "seed", "value", "status"]
KEY = ["task", "method", "seed"]
TEXT = {"task": ("a", "b", "c"), "method": None, "status": None}


def test_results_file_holds_what_was_added_in_this_and_in_earlier_sessions(tmp_path):
    path = tmp_path / "results.csv"
    first = ResultsFile(path, COLUMNS, KEY, text=TEXT)
    assert ("a", "pc", 0) not in first
    assert len(first.select([("a", "pc", 0)])) == 0
    failed = {"task": "a", "method": "pc", "seed": 0, "value": None, "status": "failed: why"}
    first.add([failed])
    done = {"task": "b", "method": "pc", "seed": 1, "status": "ok"}
    first.add([done | {"value": value} for value in (1.0, 2.0)])
    again = ResultsFile(path, COLUMNS, KEY, text=TEXT)
    assert ("a", "pc", 0) in again and ("b", "pc", 1) in again and ("b", "pc", "1") in again
    assert ("a", "pc", 1) not in again and ("b", "softmax", 1) not in again
    again.add([{"task": "c", "method": "pc", "seed": 0, "value": 3.5, "status": "ok"}])
    for results in (again, ResultsFile(path, COLUMNS, KEY, text=TEXT)):
        chosen = results.select([("c", "pc", 0), ("b", "pc", 1), ("z", "pc", 0)])
        assert chosen["value"].astype(float).tolist() == [3.5, 1.0, 2.0]
        assert chosen["task"].tolist() == ["c", "b", "b"]
    assert path.read_text().splitlines() == [
        "task,method,seed,value,status",
        "a,pc,0,,failed: why",
        "b,pc,1,1.0,ok",
        "b,pc,1,2.0,ok",
        "c,pc,0,3.5,ok",
    ]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=20))
def test_numbers_come_back_from_the_file_exactly(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("results") / "results.csv"
    results = ResultsFile(path, ["seed", "value"], ["seed"], text={})
    results.add([{"seed": i, "value": value} for i, value in enumerate(values)])
    assert ResultsFile(path, ["seed", "value"], ["seed"], text={}).frame["value"].tolist() == values


def test_results_file_with_other_columns_is_refused(tmp_path):
    path = tmp_path / "results.csv"
    pd.DataFrame({"seed": [1], "task": ["a"]}).to_csv(path, index=False)
    with pytest.raises(UserError, match=r"columns \['seed', 'task'\], not"):
        ResultsFile(path, COLUMNS, KEY, text=TEXT)
    path.write_text("")
    with pytest.raises(UserError, match=r"results\.csv"):
        ResultsFile(path, COLUMNS, KEY, text=TEXT)


@pytest.mark.parametrize("cell, text", [("b", "abc"), ("b", ""), ("pc", ""), ("b", "nan")])
def test_a_text_that_cannot_be_there_is_refused(tmp_path, cell, text):
    path = tmp_path / "results.csv"
    path.write_text("task,method,seed,value,status\na,pc,0,1.5,ok\nb,pc,0,1.5,ok\n")
    assert len(ResultsFile(path, COLUMNS, KEY, text=TEXT).frame) == 2
    path.write_text(path.read_text().replace(f"\n{cell},", f"\n{text},").replace(f",{cell},", ",,"))
    with pytest.raises(UserError, match=r"results\.csv: damaged"):
        ResultsFile(path, COLUMNS, KEY, text=TEXT)


def test_texts_that_look_like_missing_values_come_back(tmp_path):
    path = tmp_path / "results.csv"
    rows = [{"task": "a", "method": text, "seed": 0, "status": "ok"} for text in ("NA", "nan")]
    columns = ["task", "method", "seed", "status"]
    ResultsFile(path, columns, KEY, text=TEXT).add(rows)
    assert ("a", "NA", 0) in ResultsFile(path, columns, KEY, text=TEXT)


def test_an_infinite_number_is_refused_in_a_failed_row_too(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("seed,value,status\n0,1.5,ok\n1,,failed: slow\n")
    options = (["seed", "value", "status"], ["seed"])
    assert len(ResultsFile(path, *options, text={"status": None}).frame) == 2
    path.write_text(path.read_text().replace("1,,", "1,1e999,"))
    with pytest.raises(UserError, match=r"results\.csv"):
        ResultsFile(path, *options, text={"status": None})


def test_a_control_character_is_written_as_a_question_mark_and_refused_in_a_file(tmp_path):
    path, options = tmp_path / "results.csv", (["seed", "status"], ["seed"])
    results = ResultsFile(path, *options, text={"status": None})
    results.add([{"seed": 0, "status": "failed: a\x1bb"}])
    assert path.read_text() == "seed,status\n0,failed: a?b\n"
    assert len(ResultsFile(path, *options, text={"status": None}).frame) == 1
    path.write_text(path.read_text().replace("?", "\x01"))
    with pytest.raises(UserError, match=r"results\.csv"):
        ResultsFile(path, *options, text={"status": None})
