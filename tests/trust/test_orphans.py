"""Each command that starts processes, hit by SIGKILL or SIGTERM: none of them lives on."""

import contextlib
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.mi_common.processes import alive, ended, started, wait_until
from tests.trust.workshop import Workshop
from tests.trust.zygote import import_everything

pytestmark = pytest.mark.slow

TAG = "PCS_ORPHANS"  # in the environment of the command and of all that it starts
SECONDS = 10  # after the signal, within which all processes end
PATIENCE = 60  # seconds until the processes are there: other work may share the cores

_COMMON = "--device cpu --num-workers 2 --output-dir {out}"
_FINE_TUNED = (
    "--dataset folder --data-dir {shop}/pictures --network timm:mobilenetv3_small_050 "
    "--weights none --image-size 32 --no-freeze-backbone --batch-size 4 --epochs 100000"
)


def children(process: psutil.Popen) -> list[psutil.Process]:
    try:
        return alive(psutil.Process(process.pid).children())
    except psutil.NoSuchProcess:
        return []


def a_worker(process, out: Path) -> bool:
    """It has just been started and imports for seconds; another child may be a short command."""
    with contextlib.suppress(psutil.Error):
        return any("spawn_main" in " ".join(child.cmdline()) for child in children(process))
    return False


def two_children(process, out: Path) -> bool:
    return len(children(process)) == 2


def two_workers_at_work(process, out: Path) -> bool:
    """The imports start one thread more; the one that watches the parent comes after them."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(child.num_threads() > 2 for child in children(process)) == 2
    return False


def an_epoch_is_over(process, out: Path) -> bool:
    return (out / "checkpoint.pt").exists()


@dataclass(frozen=True)
class Busy:
    """A command that runs for minutes.

    Attributes:
        words: of the command, after `python -m`; {shop} is the workshop, {out} its output folder.
        ready: whether its processes are as the signal is to find them.
        says: what SIGTERM makes it print, on one line; None for torchrun, which has its own way.
    """

    words: str
    ready: Callable[[psutil.Popen, Path], bool]
    says: str | None = "terminated; finished parts are kept, go on with --resume"


COMMANDS = {
    "benchmark": Busy(
        f"mi_estimator.benchmark --suite small-sample --epochs 100000 {_COMMON}",
        two_workers_at_work,
    ),
    "coverage": Busy(
        "mi_estimator.coverage --tasks independent-k2 --estimator lda --replicates 4000 "
        f"--samples 60 --permutations 199 {_COMMON}",
        two_workers_at_work,
    ),
    "compare": Busy(f"pc_softmax.compare --dataset digits --epochs 100000 {_COMMON}", a_worker),
    "infocam evaluate": Busy(
        "infocam.evaluate {shop}/infocam/whole --data-dir {shop}/mnist --test-images 200 "
        f"--faithfulness 200 {_COMMON}",
        a_worker,
        "terminated; run the command again",
    ),
    "pc train": Busy(f"pc_softmax.train {_FINE_TUNED} {_COMMON}", two_children),
    "infocam train": Busy(f"infocam.train {_FINE_TUNED} --val-per-class 2 {_COMMON}", two_children),
    "torchrun": Busy(
        "torch.distributed.run --standalone --nproc-per-node 2 -m pc_softmax.train "
        "--dataset digits --epochs 100000 --device cpu --num-workers 0 --output-dir {out}",
        an_epoch_is_over,
        None,
    ),
}


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    import_everything()
    root = tmp_path_factory.mktemp("orphans") / "shop"
    return Workshop.build(root, {"mnist", "pictures", "infocam"}).root


def processes_of(tag: str) -> list[psutil.Process]:
    """All living processes that have the tag, whoever their parent is."""
    tagged = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(TAG) == tag:
                tagged.append(process)
    return alive(tagged)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["KILL", "TERM"])
@pytest.mark.parametrize("name", COMMANDS)
def test_no_process_outlives_the_command(name, number, shop, tmp_path):
    command, out = COMMANDS[name], tmp_path / "out"
    words = command.words.format(shop=shop, out=out).split()
    tag = str(tmp_path)
    with started("-m", *words, env={TAG: tag}) as process:
        try:
            wait_until(lambda: process.poll() is not None or command.ready(process, out), PATIENCE)
            assert process.poll() is None, process.communicate()[1]
            assert len(processes_of(tag)) >= 2
            process.send_signal(number)
            wait_until(lambda: not processes_of(tag), SECONDS)
        finally:
            for left in processes_of(tag):  # those of torchrun lead sessions of their own
                left.kill()
        status, _, errors = ended(process)
    if number == signal.SIGKILL:
        assert status == -signal.SIGKILL
    elif command.says:
        assert (status, errors) == (143, [command.says])
