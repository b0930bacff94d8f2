"""config.json says which commands wrote into a folder, for how long, and how they ended."""

import json
import time
from datetime import datetime, timezone

import pytest
from folders import prepare

from mi_common import cli, records
from mi_common.errors import UserError
from mi_common.files import release_locks, write_text
from mi_common.records import RunFolder


def sessions_of(folder):
    return json.loads((folder / "config.json").read_text())["sessions"]


def entry(folder, *, before=0.0, error=None, **options):
    """An entry that prepares a folder after some seconds, and may end with an error."""

    @cli.entry
    def main(argv):
        time.sleep(before)
        prepare(folder, **options)
        if error is not None:
            raise error

    return main


def test_a_session_counts_from_the_start_of_its_command(tmp_path):
    entry(tmp_path / "out", before=0.3)([])
    (session,) = sessions_of(tmp_path / "out")
    assert 0.3 <= session["seconds"] < 5 and session["finished"] is True
    age = datetime.now(timezone.utc) - datetime.fromisoformat(session["started"])
    assert 0 <= age.total_seconds() < 10
    assert set(session) == {"started", "seconds", "finished"}  # the rest is that of config.json


def test_a_folder_inside_another_counts_its_own_time(tmp_path):
    @cli.entry
    def main(argv):
        time.sleep(0.3)
        prepare(tmp_path)
        prepare(tmp_path / "inner")

    main([])
    (outer,), (inner,) = sessions_of(tmp_path), sessions_of(tmp_path / "inner")
    assert outer["seconds"] >= 0.3 > inner["seconds"]


def test_each_command_adds_a_session_with_what_differs(tmp_path, monkeypatch):
    versions = {"command": "first", "commit": "a1", "torch": "2", "python": "3", "cpu": "x"}
    monkeypatch.setattr(records, "environment", lambda: versions)
    with pytest.raises(SystemExit):
        entry(tmp_path, error=UserError("wrong"))([])
    changed = versions | {"command": "second", "commit": "b2-dirty"}
    monkeypatch.setattr(records, "environment", lambda: changed)
    entry(tmp_path, resume=True)([])
    first, second = sessions_of(tmp_path)
    assert not first["finished"] and first["seconds"] >= 0 and "commit" not in first
    assert second["finished"] and second["commit"] == "b2-dirty" and "torch" not in second
    assert json.loads((tmp_path / "config.json").read_text())["commit"] == "a1"


def test_a_command_that_is_refused_before_it_writes_leaves_no_session(tmp_path):
    entry(tmp_path)([])
    before = (tmp_path / "config.json").read_bytes()
    with pytest.raises(SystemExit):
        entry(tmp_path, resume=True, error=UserError("damaged"))([])
    assert (tmp_path / "config.json").read_bytes() == before


@pytest.mark.parametrize("name", ["rows.csv", "inner/rows.csv"])
def test_a_command_that_writes_has_a_session_before_its_first_file(tmp_path, name):
    entry(tmp_path)([])

    @cli.entry
    def main(argv):
        prepare(tmp_path, resume=True)
        assert len(sessions_of(tmp_path)) == 1
        write_text(tmp_path / name, "x")
        assert [session["finished"] for session in sessions_of(tmp_path)] == [True, False]
        raise UserError("later")

    with pytest.raises(SystemExit):
        main([])
    first, second = sessions_of(tmp_path)
    assert first["finished"] and not second["finished"] and second["seconds"] >= 0


def test_a_training_run_is_finished_with_its_result_and_then_has_no_further_session(tmp_path):
    prepare(tmp_path)
    RunFolder(tmp_path).save_result({"seconds": 1})
    release_locks()
    for resumed in (False, True):
        if resumed:
            entry(tmp_path, resume=True)([])
        assert [session["finished"] for session in sessions_of(tmp_path)] == [True]


def test_without_an_end_a_session_is_unfinished(tmp_path):
    prepare(tmp_path)
    (session,) = sessions_of(tmp_path)
    assert session["seconds"] is None and session["finished"] is False
