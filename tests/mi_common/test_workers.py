"""Worker processes: their results, their errors, their memory, and their end with the parent."""

import os
import signal
from collections import namedtuple

import psutil
import pytest
from processes import alive, descendants, ended, started, wait_until

from mi_common import cli
from mi_common.process import PARENT
from mi_common.workers import WORKER_MEMORY, run_jobs

SCRIPT = """
import multiprocessing.util, signal, sys, time
from pathlib import Path

import torch

from mi_common import cli
from mi_common.errors import UserError
from mi_common.progress import Progress
from mi_common.runtime import Runtime
from mi_common.workers import run_jobs

FOLDER = Path(sys.argv[1])
if "fails" in sys.argv and __name__ == "__mp_main__":  # in a worker
    import no_such_module
if "half" in sys.argv and __name__ == "__main__":  # SIGTERM while a worker is half started
    spawn = multiprocessing.util.spawnv_passfds

    def spawn_and_stop(path, words, *others):
        process = spawn(path, words, *others)
        if "spawn_main" in str(words):
            signal.raise_signal(signal.SIGTERM)
        return process

    multiprocessing.util.spawnv_passfds = spawn_and_stop


def job(what):
    (FOLDER / f"{what}.begun").touch()
    if what == "mistake":
        raise UserError("--size 7: no; use 8")
    with Progress("", 1):
        (FOLDER / f"{what}.counting").touch()
    while what == "busy":
        pass
    return what, torch.get_num_threads()


@cli.entry
def main(argv):
    jobs = [(what,) for what in sys.argv[2:]]
    cpu = Runtime(torch.device("cpu"))
    for result in run_jobs(job, jobs, runtime=cpu, num_workers=2):
        print(*result, flush=True)


if __name__ == "__main__":
    main(None)
"""


@pytest.fixture
def script(tmp_path):
    """Starts the script with the given jobs, on two workers: `with script("busy") as process`."""
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    return lambda *jobs: started(path, tmp_path, *jobs)


def workers_of(process) -> list[psutil.Process]:
    """Without multiprocessing's process that counts semaphores."""
    found = [one for one in descendants(process) if "spawn_main" in " ".join(one.cmdline())]
    assert len(found) == 2
    return found


def test_workers_end_when_their_parent_is_killed(script, tmp_path):
    with script("busy", "waits") as process:
        wait_until(lambda: len([*tmp_path.glob("*.begun")]) == 2)
        everyone = descendants(process)
        assert len(workers_of(process)) == 2
        process.send_signal(signal.SIGKILL)
        seconds = wait_until(lambda: not alive(everyone), seconds=10)
        assert seconds < 5
        assert ended(process)[0] == -signal.SIGKILL


@pytest.mark.parametrize(
    "parent_of, status, output", [(os.getpid, 0, ["False"]), (os.getppid, 1, [])]
)
def test_a_worker_whose_parent_is_gone_ends_before_its_slow_imports(parent_of, status, output):
    code = "import sys, time, mi_common; time.sleep(1); print('torch' in sys.modules)"
    with started("-c", code, "--multiprocessing-fork", env={PARENT: str(parent_of())}) as process:
        assert ended(process) == (status, output, [])


def test_a_worker_that_the_system_kills_is_one_line(script, tmp_path):
    with script("busy", "waits", "x", "y") as process:
        wait_until(lambda: (tmp_path / "busy.begun").exists())
        everyone = descendants(process)
        workers_of(process)[0].kill()
        status, _, errors = ended(process)
        assert (status, errors) == (
            2,
            ["error: a worker process was killed, probably out of memory; use fewer --num-workers"],
        )
        wait_until(lambda: not alive(everyone), seconds=5)


def test_a_sigterm_while_workers_start_is_one_line(script):
    with script("half", "x") as process:
        assert ended(process) == (143, [], ["terminated; run the command again"])


def test_a_sigterm_of_busy_workers_is_one_line(script, tmp_path):
    with script("busy", "x") as process:
        wait_until(lambda: (tmp_path / "busy.counting").exists())
        process.send_signal(signal.SIGTERM)
        status, _, errors = ended(process)
    assert (status, errors) == (143, ["terminated; run the command again"])


def test_the_error_of_a_worker_whose_imports_fail_is_shown(script):
    with script("fails", "x") as process:
        status, results, errors = ended(process)
    assert (status, results) == (2, [])
    assert "ModuleNotFoundError: No module named 'no_such_module'" in errors
    assert errors[-1] == (
        "error: a worker process ended with exit status 1; its error is above this line"
    )


def test_results_come_as_they_are_done_and_a_mistake_in_a_job_is_one_line(script, tmp_path):
    with script("a", "b", "mistake", "busy", "c") as process:
        wait_until(lambda: (tmp_path / "a.begun").exists())
        everyone = descendants(process)
        status, results, errors = ended(process)
    assert (status, errors) == (2, ["error: --size 7: no; use 8"])
    assert sorted(results) == ["a 1", "b 1"]  # each on one thread
    wait_until(lambda: not alive(everyone), seconds=5)


def test_more_workers_than_memory_are_one_line_before_any_is_started(monkeypatch, user_error, cpu):
    Memory = namedtuple("Memory", "available")
    available = 4 * WORKER_MEMORY - 1
    monkeypatch.setattr(psutil, "virtual_memory", lambda: Memory(available))

    @cli.entry
    def main(argv):
        list(run_jobs(pow, [(2, 3)] * 9, runtime=cpu, num_workers=int(argv[0])))

    before = psutil.Process().children()
    line = "error: --num-workers 4: needs 3.6 GB of memory, 3.6 GB are available; use fewer"
    assert user_error(main, [4]) == line
    assert psutil.Process().children() == before
    # No more are started than there are jobs.
    assert list(run_jobs(pow, [(2, 3)], runtime=cpu, num_workers=1000)) == [8]
