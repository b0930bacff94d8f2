"""Files are whole or not there, and one process at a time writes into a folder."""

import errno
import os
import resource
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from folders import FLAGS, names, prepare
from processes import ended, read_line, started

from mi_common import cli, files
from mi_common.errors import UserError
from mi_common.files import lock, release_locks, save_arrays, write_json, write_text
from mi_common.records import RunFolder
from mi_common.results import ResultsFile


def add_rows(path: Path, value: float) -> None:
    results = ResultsFile(path, ["seed", "value"], ["seed"], text={})
    first = len(results.frame)
    results.add([{"seed": first + i, "value": value + i / 7} for i in range(100)])


def save_checkpoint(path: Path, value: float) -> None:
    RunFolder(path.parent).save_epoch({"model": torch.full((500,), value), "metrics": []})


OLD = f".old.npz.{files._HOST}-{2**22 + 1}.partial.npz"  # no process has such a number
WRITERS = {
    "a.txt": lambda path, value: write_text(path, f"{value} " * 500),
    "a.json": lambda path, value: write_json(path, {"values": [value] * 500}),
    "a.npz": lambda path, value: save_arrays(path, a=np.sqrt(value * np.arange(500))),
    "results.csv": add_rows,
    "checkpoint.pt": save_checkpoint,
}


@pytest.fixture
def failing_disk(monkeypatch):
    """A function that makes one step of each write fail from then on, until it gets None."""
    allowed, steps = resource.getrlimit(resource.RLIMIT_FSIZE), (os.fsync, os.replace)
    failing = [None]

    def sync(descriptor):
        kind = "folder" if os.path.isdir(f"/dev/fd/{descriptor}") else "file"
        if failing[0] == f"sync of the {kind}":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        steps[0](descriptor)

    def rename(*paths):
        if failing[0] == "rename":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        steps[1](*paths)

    def fail(step: str | None) -> None:
        failing[0] = step
        most = 1000 if step == "write" else allowed[0]  # bytes of a file, then the kernel says no
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, allowed[1]))

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", rename)
    yield fail
    fail(None)


@pytest.mark.parametrize("step", ["write", "sync of the file", "rename", "sync of the folder"])
@pytest.mark.parametrize("name", WRITERS)
def test_a_disk_that_fails_leaves_the_old_file_or_the_new_one(tmp_path, failing_disk, name, step):
    paths = [tmp_path / side / name for side in ("good", "bad")]
    for path in paths:
        WRITERS[name](path, 1.0)
    old, before = paths[1].read_bytes(), names(tmp_path)
    WRITERS[name](paths[0], 2.0)
    failing_disk(step)
    with pytest.raises(OSError) as error:
        WRITERS[name](paths[1], 2.0)
    failing_disk(None)
    assert error.value.errno == (errno.EFBIG if step == "write" else errno.ENOSPC)
    new = paths[0].read_bytes()
    assert len(old) > 1000 and old != new
    # Only the last step comes after the new file has its name.
    assert paths[1].read_bytes() == (new if step == "sync of the folder" else old)
    assert names(tmp_path) == before


@pytest.mark.parametrize("name", WRITERS)
def test_content_is_synced_before_the_rename_and_the_folder_after_it(tmp_path, monkeypatch, name):
    path, calls = tmp_path / "run" / name, []
    sync, rename = os.fsync, os.replace

    def recorded_sync(descriptor):
        target = Path(os.path.realpath(f"/dev/fd/{descriptor}"))
        content = None if target.is_dir() else target.read_bytes()
        calls.append(("sync", target, content))
        sync(descriptor)

    def recorded_rename(source, target):
        calls.append(("rename", Path(source), Path(target)))
        rename(source, target)

    monkeypatch.setattr(os, "fsync", recorded_sync)
    monkeypatch.setattr(os, "replace", recorded_rename)
    WRITERS[name](path, 1.0)
    partial = calls[0][1]
    assert partial.parent == path.parent and partial.match(".*.partial*")
    assert calls[:3] == [
        ("sync", partial, path.read_bytes()),
        ("rename", partial, path),
        ("sync", path.parent, None),
    ]


WRITE_FOR_EVER = """
import sys, time
from pathlib import Path
from mi_common.files import lock, write_atomically
path = Path(sys.argv[1])
lock(path.parent)
def write(partial):
    partial.write_text("half")
    print("writing", flush=True)
    time.sleep(600)
write_atomically(path, write)
"""


def test_what_a_killed_process_left_is_removed_by_the_next_run_and_by_no_one_before(tmp_path):
    prepare(tmp_path)
    inner = tmp_path / "inner"
    for folder in (tmp_path / "plain", inner):
        folder.mkdir()
        (folder / OLD).touch()
        (folder / "kept.partial.txt").touch()
    write_text(inner / "a.txt", "old")
    with started("-c", WRITE_FOR_EVER, inner / "a.txt") as process:
        assert read_line(process) == "writing"
        half = f"inner/.a.txt.{files._HOST}-{process.pid}.partial.txt"
        held = {"config.json", "inner", "inner/a.txt", f"inner/{OLD}", half}
        held |= {"inner/kept.partial.txt", "plain", "plain/kept.partial.txt"}
        prepare(tmp_path, resume=True)
        assert names(tmp_path) == held
        process.kill()
        process.wait()
        assert names(tmp_path) == held
        prepare(tmp_path, resume=True)
    assert names(tmp_path) == held - {half, f"inner/{OLD}"}
    assert (inner / "a.txt").read_text() == "old"


PREPARE = f"""
import sys, time
from pathlib import Path
from mi_common.records import prepare_output
prepare_output(Path(sys.argv[1]), {FLAGS}, resume=False, overwrite=False)
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_is_one_process_s_until_that_is_killed(tmp_path, user_error):
    @cli.entry
    def main(argv):
        prepare(tmp_path / "run", **{argv[0]: True})

    with started("-c", PREPARE, tmp_path / "run") as process:
        assert read_line(process) == "held"
        config = (tmp_path / "run/config.json").read_text()
        for how in ("resume", "overwrite"):
            assert f"{tmp_path}/run: another run writes there" in user_error(main, [how])
        assert (tmp_path / "run/config.json").read_text() == config
        process.kill()
        assert ended(process)[0] == -signal.SIGKILL
        prepare(tmp_path / "run", resume=True)  # at once


def test_a_lock_is_given_up_by_release_locks_for_one_folder_or_for_all(tmp_path):
    taker = "import sys; from pathlib import Path; from mi_common.files import lock\n"
    taker += "for name in sys.argv[1:]:\n try: lock(Path(name)); print(1)\n"
    taker += " except ValueError: print(0)"
    folders = [tmp_path / name for name in "abc"]

    def free() -> str:
        with started("-c", taker, *folders) as process:
            return "".join(ended(process)[1])

    for folder in folders:
        folder.mkdir()
        lock(folder)
        lock(folder)  # again is no error
        (folder / OLD).touch()
    assert free() == "000"
    release_locks(folders[1])
    release_locks(folders[1])
    assert free() == "010"
    release_locks()
    assert free() == "111"
    assert [names(folder) for folder in folders] == [set()] * 3


def test_a_folder_that_vanished_does_not_hide_the_error_or_hold_the_others(tmp_path, user_error):
    @cli.entry
    def main(argv):
        for name in "ab":
            prepare(tmp_path / name)
        shutil.rmtree(tmp_path / "a")
        raise UserError("the real reason")

    assert user_error(main, []) == "error: the real reason"
    assert files._locks == {}


def test_a_folder_that_this_process_holds_stays_held_when_one_around_it_is_prepared(tmp_path):
    inner = tmp_path / "inner"
    prepare(tmp_path)
    prepare(inner)
    (inner / OLD).touch()
    prepare(tmp_path, resume=True)
    assert set(files._locks) == {tmp_path.resolve(), inner.resolve()}
    assert names(inner) == {"config.json", OLD}
    release_locks()
    assert names(inner) == {"config.json"} and files._locks == {}
