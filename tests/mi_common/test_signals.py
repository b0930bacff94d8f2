"""Ctrl-C and SIGTERM: the status, one line, nobody and nothing left behind."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from processes import alive, descendants, ended, started, wait_until

SCRIPT = """
import sys, time
from pathlib import Path

import torch

from mi_common import cli
from mi_common.files import lock, write_atomically

KIND, FOLDER = sys.argv[1], Path(sys.argv[2])


def write_for_ever(partial):
    partial.write_text("half")
    time.sleep(600)


def job(name):
    (FOLDER / name).mkdir()
    lock(FOLDER / name)
    write_atomically(FOLDER / name / "a.txt", write_for_ever)


class Images(torch.utils.data.Dataset):
    def __len__(self):
        return 8

    def __getitem__(self, i):
        (FOLDER / f"{i}.reading").touch()
        time.sleep(1)
        return i


@cli.entry
def main(argv=None):
    parser = cli.Parser("Works for ever.")
    cli.add_common_arguments(parser, output_dir="x", resume=KIND != "reading")
    parser.parse_args([])
    lock(FOLDER)
    if KIND == "workers":
        from mi_common.runtime import Runtime
        from mi_common.workers import run_jobs

        jobs = [(name,) for name in "abcd"]
        list(run_jobs(job, jobs, runtime=Runtime(torch.device("cpu")), num_workers=2))
    if KIND == "reading":
        list(torch.utils.data.DataLoader(Images(), num_workers=2))
    job("a")


if __name__ == "__main__":
    main()
"""
KEPT = "finished parts are kept, go on with --resume"


@pytest.fixture
def busy(tmp_path):
    """Starts the script; `with busy("alone", 1) as (process, all of its processes)`."""
    path, folder = tmp_path / "script.py", tmp_path / "out"
    path.write_text(SCRIPT)
    folder.mkdir()

    def unfinished() -> list[Path]:
        return [*folder.rglob(".*.partial*"), *folder.glob("*.reading")]

    def start(kind: str):
        return started(path, kind, folder)

    start.unfinished = unfinished
    return start


def stopped(busy, kind: str, number: int, *, group: bool, parts: int = 2):
    """Status, lines on standard error, seconds until the end, processes and files left over."""
    with busy(kind) as process:
        wait_until(lambda: len(busy.unfinished()) == parts)
        everyone = descendants(process)
        begun = time.monotonic()
        (os.killpg if group else os.kill)(process.pid, number)
        status, _, errors = ended(process)
        seconds = time.monotonic() - begun
        wait_until(lambda: not alive(everyone), seconds=10)
    return status, errors, seconds, [path for path in busy.unfinished() if path.suffix == ".txt"]


@pytest.mark.parametrize(
    ("number", "group", "status", "said"),
    [(signal.SIGTERM, False, 143, "terminated"), (signal.SIGINT, True, 130, "interrupted")],
)
def test_a_signal_ends_the_workers_and_their_unfinished_files(busy, number, group, status, said):
    """Ctrl-C in a terminal reaches all processes; SIGTERM the first one alone."""
    found, errors, seconds, left = stopped(busy, "workers", number, group=group)
    assert (found, errors, left) == (status, [f"{said}; {KEPT}"], [])
    assert seconds < 3


@pytest.mark.parametrize(
    "number, status, said",
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_to_all_processes_that_read_images_is_one_line(busy, number, status, said):
    """torch raises an error for each reader that ends by a signal: that is not to be seen."""
    for group in (True, False):
        found, errors, seconds, _ = stopped(busy, "reading", number, group=group)
        assert (found, errors) == (status, [f"{said}; run the command again"])
        assert seconds < 6  # what is being read is read to its end
        for path in busy.unfinished():
            path.unlink()


def test_a_second_signal_changes_nothing(busy):
    with busy("alone") as process:
        wait_until(busy.unfinished)
        for _ in range(20):
            for number in (signal.SIGINT, signal.SIGTERM):
                process.send_signal(number)
        status, _, errors = ended(process)
    assert status in (130, 143)
    assert errors in ([f"interrupted; {KEPT}"], [f"terminated; {KEPT}"])
    assert busy.unfinished() == []


def loads_torch(process) -> bool:
    maps = psutil.Process(process.pid).memory_maps()
    return any("libtorch_cpu" in Path(each.path).name for each in maps)


@pytest.mark.parametrize("when", ["at once", "while torch is loaded"])
@pytest.mark.parametrize(
    "command", ["mi_estimator.benchmark --suite paper", "pc_softmax.train --dataset digits"]
)
def test_ctrl_c_during_the_imports_is_one_line(command, when, tmp_path):
    with started("-m", *command.split(), "--output-dir", tmp_path / "out") as process:
        if when == "at once":
            time.sleep(0.3)
        else:
            wait_until(lambda: loads_torch(process))
        process.send_signal(signal.SIGINT)
        status, _, errors = ended(process)
    assert status in (-signal.SIGINT, 130)  # the shell shows 130 for both
    assert len(errors) == 1 and errors[0].startswith("interrupted; ")
    assert not (tmp_path / "out").exists()
