"""Small data sets and finished runs, made once, which cases copy and damage."""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from tests.idx_files import write_mnist
from tests.trust.cases import run
from tests.trust.commands import COMMANDS, Command
from tests.trust.faults import watch
from tests.trust.zygote import run_forked


@dataclass(frozen=True)
class Workshop:
    """What was built, below one folder."""

    root: Path

    @classmethod
    def build(cls, root: Path, needs: set[str]) -> "Workshop":
        """Builds what is needed and what that needs, in children, and returns it."""
        root.mkdir(parents=True, exist_ok=True)
        done: set[str] = set()
        wanted = _closure(needs)
        while wanted - done:
            ready = sorted(name for name in wanted - done if set(_needs(name)) <= done)
            jobs = [lambda send, name=name: _build(name, root) for name in ready]
            for number, report in run_forked(jobs, at_once=2, limit=120):
                if report.status:
                    raise RuntimeError(f"workshop: {ready[number]}: {report.sent or report}")
            done |= set(ready)
        for folder in root.glob("*/part"):
            _tidy(folder)
        return cls(root)

    def words(self, name: str, out: Path, data: Path | None = None) -> list[str]:
        return COMMANDS[name].words(self.root, out, data)

    def copy(self, inner: str, target: Path) -> Path:
        """A copy of a folder or file of the workshop."""
        source = self.root / inner
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, target)
        return target


def _needs(name: str) -> tuple[str, ...]:
    return BUILDERS[name][1]


def _closure(needs: set[str]) -> set[str]:
    found = set(needs)
    for name in needs:
        found |= _closure(set(_needs(name)))
    return found


def _build(name: str, root: Path) -> None:
    """Builds one thing; what it prints is kept in NAME.txt."""
    os.chdir(root)
    with open(root / f"{name}.txt", "w", buffering=1) as sys.stdout:
        BUILDERS[name][0](root)


def _tidy(folder: Path) -> None:
    """What a kill leaves behind is the business of `kills`."""
    for path in folder.rglob("*.partial*"):
        path.unlink()


def mnist(root: Path) -> None:
    """MNIST's files; validation digits begin at 50,000."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50_200, 28, 28), np.uint8)
    labels = np.arange(len(images)) % 10
    write_mnist(root / "mnist", (images, labels), (images[:200], labels[:200]))


def pictures(root: Path) -> None:
    """A folder of one's own with two classes, each picture with a box."""
    rng = np.random.default_rng(1)
    lines = ["image,x0,y0,x1,y1"]
    for part, count in (("train", 5), ("test", 3)):
        for name in ("cat", "owl"):
            (root / "pictures" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(0, 256, (24, 32, 3), np.uint8)
                Image.fromarray(pixels).save(root / f"pictures/{part}/{name}/{i}.png")
                lines.append(f"{part}/{name}/{i}.png,3,4,{20 + i},18")
    (root / "pictures/boxes.csv").write_text("\n".join(lines) + "\n")


def photograph(root: Path) -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (40, 50, 3), np.uint8)
    Image.fromarray(pixels).save(root / "photograph.png")


def table(root: Path) -> None:
    rng, y = np.random.default_rng(3), np.arange(60) % 3
    lines = [
        f"{a},{b},{k:.0f}"
        for a, b, k in np.column_stack([rng.normal(size=(60, 2)) + y[:, None], y]).tolist()
    ]
    (root / "table.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")


def maps(root: Path) -> None:
    """Six saved maps with boxes, ranks and masks, and what their evaluation writes."""
    rng = np.random.default_rng(4)
    (root / "maps/cam").mkdir(parents=True)
    (root / "maps/masks").mkdir()
    lines, ranks = ["image,width,height,x0,y0,x1,y1,label,mask"], ["image,rank"]
    for i in range(6):
        np.save(root / f"maps/cam/p{i}.npy", rng.normal(size=(7, 7)).astype(np.float32))
        mask = (rng.random((16, 20)) > 0.5) * np.uint8(255)
        Image.fromarray(mask).save(root / f"maps/masks/p{i}.png")
        lines.append(f"p{i}.jpg,20,16,2,3,{9 + i},12,{i % 2},masks/p{i}.png")
        ranks.append(f"p{i},{i % 3}")
    (root / "maps/boxes.csv").write_text("\n".join(lines) + "\n")
    (root / "maps/cam/predictions.csv").write_text("\n".join(ranks) + "\n")


def report_runs(root: Path) -> None:
    """What `scripts.report` shows, as if three experiments had written it."""
    from tests.scripts.report_runs import write_runs

    write_runs(root / "report")


def weights(root: Path) -> None:
    """The weights that `infocam frozen` takes by itself, as a file, and a run with that file."""
    import torch

    from mi_common.weights import efficientnet_lite0_state_dict

    torch.save(efficientnet_lite0_state_dict(), root / "weights.pt")
    words = COMMANDS["infocam frozen"].words(root, root / "weighted/whole")
    run("infocam.train", *words, "--weights", root / "weights.pt")


def retrained(root: Path) -> None:
    """A new last layer on the features of pc/whole."""
    words = COMMANDS["pc train"].words(root, root / "retrained/whole")
    run("pc_softmax.train", *words, "--init", root / "pc/whole", "--epochs", 1, "--retrain-head")


def archive(root: Path) -> None:
    from tests.trust.inputs_archives import TREE, zip_of

    (root / "tiny.zip").write_bytes(zip_of(TREE))


def leave_after(suffix: str, count: int) -> None:
    """Ends this process at once when a file with such a name gets its name for the time `count`."""
    seen = [0]

    def hook(event: str, args: tuple) -> None:
        if event == "os.rename" and str(args[1]).endswith(suffix):
            seen[0] += 1
            if seen[0] > count:
                os._exit(0)

    sys.addaudithook(hook)


def _whole(command: Command, root: Path) -> None:
    """FOLDER/whole, and FOLDER/measured.json: how many seconds and writes it takes."""
    out = root / command.folder / "whole"
    data = root / command.data if command.data else out
    if not command.has_output_dir:
        out.mkdir(parents=True)
    started, count = time.perf_counter(), watch([out, data])
    run(command.entry, *command.words(root, out))
    measured = {"seconds": time.perf_counter() - started, "points": count["points"]}
    (root / command.folder / "measured.json").write_text(json.dumps(measured))


def _part(command: Command, root: Path) -> None:
    """FOLDER/part: what the command leaves when it dies in the middle."""
    leave_after(*command.part)
    run(command.entry, *command.words(root, root / command.folder / "part"))


BUILDERS: dict[str, tuple[Callable[[Path], None], tuple[str, ...]]] = {
    "mnist": (mnist, ()),
    "pictures": (pictures, ()),
    "photograph": (photograph, ()),
    "table": (table, ()),
    "maps": (maps, ()),
    "report": (report_runs, ()),
    "archive": (archive, ()),
    "weights": (weights, ("pictures",)),
    "retrained": (retrained, ("pc",)),
}
for _command in COMMANDS.values():
    BUILDERS[_command.folder] = (partial(_whole, _command), _command.needs)
    if _command.resumes:
        BUILDERS[f"{_command.folder} part"] = (partial(_part, _command), _command.needs)
