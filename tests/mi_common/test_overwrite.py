"""What --overwrite and --resume refuse: a user's folder, an input, other data."""

import json
import shutil
from pathlib import Path

import pytest
from folders import FLAGS, names, prepare
from processes import read_line, started

from mi_common.errors import UserError
from mi_common.files import WRITTEN, lock, release_locks, write_text
from mi_common.records import check_output

HOLD = """
import sys, time
from pathlib import Path
from mi_common.files import lock
lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(600)
"""


def write(run: Path, name: str) -> None:
    """As a script writes a file into its folder."""
    lock(run)
    write_text(run / name, "ours")
    release_locks(run)


@pytest.fixture
def run(tmp_path) -> Path:
    """A finished run folder with things in it."""
    folder = tmp_path / "run"
    prepare(folder)
    (folder / "pictures/cats").mkdir(parents=True)
    (folder / "pictures/cats/a.png").write_text("mine")
    write_text(folder / "results.csv", "a,y\n")
    release_locks()
    return folder


def test_overwrite_refuses_a_folder_that_holds_an_input(run, tmp_path):
    (tmp_path / "linked").symlink_to(run / "pictures")
    (run / "out").symlink_to(tmp_path)
    before = names(run)
    for flags in (
        {"table": run / "results.csv"},
        {"weights": str(run / "results.csv")},
        {"tables": [Path("none.csv"), run / "results.csv"]},
        {"data_dir": run / "pictures"},
        {"data_dir": run},
        {"data_dir": run / "features"},  # not there yet
        {"data_dir": run / "pictures/../pictures/cats"},
        {"data_dir": tmp_path / "linked/cats"},
        {"data_dir": run / "out"},
    ):
        with pytest.raises(
            UserError, match=r"--overwrite .*run: holds the input .*another folder$"
        ):
            prepare(run, flags | {"output_dir": run}, overwrite=True)
        assert names(run) == before and (run / "pictures/cats/a.png").read_text() == "mine"


def test_overwrite_deletes_what_is_inside_and_nothing_else(run, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious.txt").write_text("mine")
    shutil.rmtree(run / "pictures")
    write(run, "overlays/00000.png")
    write(run, "table.md")
    (run / "table.md").unlink()
    (run / "table.md").symlink_to(outside / "precious.txt")
    around = {"data_dir": tmp_path, "output_dir": run}
    prepare(run, around, overwrite=True)
    assert names(run) == {"config.json"}
    assert names(outside) == {"precious.txt"}


@pytest.mark.parametrize("name", ["notes.md", "config.json.bak", "sub/result.json", "a\nb.png"])
def test_overwrite_refuses_a_folder_with_a_file_that_no_script_wrote(run, name):
    shutil.rmtree(run / "pictures")
    (run / name).parent.mkdir(exist_ok=True)
    (run / name).write_text("mine")
    with pytest.raises(UserError, match=f"no script wrote .*{name}; move it"):
        prepare(run, overwrite=True)
    assert (run / name).read_text() == "mine" and (run / "results.csv").exists()
    (run / name).unlink()
    write(run, name)
    prepare(run, overwrite=True)
    assert names(run) <= {"config.json", "sub"}


def test_overwrite_refuses_where_the_list_of_what_was_written_is_gone_or_damaged(run):
    shutil.rmtree(run / "pictures")
    write(run, "a.png")
    written = (run / WRITTEN).read_text()
    for content in (None, "", "\0", written[:-2], written.replace("a.png", "b.png"), "5\n[]\n{}"):
        (run / WRITTEN).unlink(missing_ok=True)
        if content is not None:
            (run / WRITTEN).write_text(content)
        with pytest.raises(UserError, match="no script wrote"):
            prepare(run, overwrite=True)
    (run / WRITTEN).write_text(written + '\n"half')
    write(run, "c.png")
    prepare(run, overwrite=True)
    assert names(run) == {"config.json"}


def test_an_interrupted_overwrite_leaves_no_finished_run(run, monkeypatch):
    shutil.rmtree(run / "pictures")
    for name in ("checkpoint.pt", "metrics.jsonl", "result.json"):
        write(run, name)
    unlink = Path.unlink

    def stop_at_the_second(path, **options):
        if not (run / "result.json").exists():
            raise KeyboardInterrupt
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            prepare(run, overwrite=True)
    release_locks()
    assert names(run) == {"config.json", "results.csv", "checkpoint.pt", "metrics.jsonl"}
    prepare(run, overwrite=True)
    assert names(run) == {"config.json"}


def test_overwrite_refuses_a_link_and_leaves_what_it_points_to(run, tmp_path):
    (tmp_path / "link").symlink_to(run)
    before = names(run)
    with pytest.raises(UserError, match=r"--overwrite .*link: it is a link; give the folder itse"):
        prepare(tmp_path / "link", overwrite=True)
    assert names(run) == before


@pytest.mark.parametrize(
    "content",
    [
        {"name": "my npm package"},
        {"flags": ["--x"], "command": "x", "python": "3", "torch": "2"},
        [1, 2],
        None,
        "{",
    ],
)
def test_a_foreign_config_means_a_foreign_folder(run, content):
    (run / "config.json").write_text(content if content == "{" else json.dumps(content))
    before = names(run)
    for how in ("resume", "overwrite"):
        with pytest.raises(UserError, match=r"run/config\.json: .*choose another --output-dir$"):
            prepare(run, **{how: True})
    assert names(run) == before


def test_overwrite_refuses_a_folder_with_another_process_s_run_in_it(run):
    shutil.rmtree(run / "pictures")
    (run / "inner").mkdir()
    with started("-c", HOLD, run / "inner") as process:
        assert read_line(process) == "held"
        before = names(run)
        with pytest.raises(UserError, match=r"run/inner: another run writes there"):
            prepare(run, overwrite=True)
        assert names(run) == before
        process.kill()
    prepare(run, overwrite=True)
    assert names(run) == {"config.json"}


def test_resume_refuses_other_data_and_names_the_part(tmp_path):
    data = {"train": "8 images, aa", "test": "4 images, bb"}
    prepare(tmp_path, data=data)
    prepare(tmp_path, data=dict(data), resume=True)
    check_output(tmp_path, FLAGS, overwrite=False, resume=True)  # not known yet
    changes = {
        "train 8 images, aa -> 9 images, cc": data | {"train": "9 images, cc"},
        "test 4 images, bb -> None": {"train": data["train"]},
        "init None -> dd": data | {"init": "dd"},
    }
    for said, changed in changes.items():
        with pytest.raises(UserError, match=f"{said}.*--overwrite"):
            prepare(tmp_path, data=changed, resume=True)
