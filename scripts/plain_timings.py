"""The timings of `scripts.speed --parts plain`: stages beside their plain versions, on a CPU.

All in CPU seconds of one thread, which count alike on a busy machine. A stage and its plain version
take turns, in a process of their own.
"""

import contextlib
import functools
import io
import resource
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from infocam.scoring.metrics import Evaluator
from infocam.scoring.protocols import Protocol
from mi_common import engine, runtime
from mi_common.environment import environment
from mi_common.tables import to_markdown, write_csv, write_tables
from mi_common.workers import worker_pool
from pc_softmax.data import load_data
from pc_softmax.networks import PaperNet
from scripts import timings

COLUMNS = ("what", "plain_version", "cpu_seconds", "plain", "ratio", "memory_gb", "note")
IMAGES, MAPS, SIDE_OF_MATRIX = 200, 60, 2048
Stage = tuple[Callable[[], object], Callable[[], object] | None]


def mnist(data_dir: Path) -> Stage:
    """An epoch of the paper's run."""
    resolved = runtime.setup("cpu")
    digits = load_data("mnist", data_dir, imbalance="paper").train
    network = PaperNet().to(memory_format=torch.channels_last)
    images = network.spec.normalise(digits.images)
    batches = engine.TensorBatches(images, digits.labels, batch_size=64, seed=0, runtime=resolved)
    ours = functools.partial(timings.fit, network, batches, 10, 1)
    return ours, functools.partial(timings.plain_epoch, images, digits.labels, resolved)


def features(data_dir: Path) -> Stage:
    """`cached_features` of JPEG files; the forward pass of the network as it is."""
    runtime.setup("cpu")
    ours = functools.partial(timings.time_features, IMAGES)
    return ours, functools.partial(timings.time_forward, IMAGES)


def head(data_dir: Path) -> Stage:
    """An epoch of a head on cached features; the same with the features computed anew."""
    inputs = torch.randn(IMAGES, timings.FEATURES, generator=torch.Generator().manual_seed(0))
    ours = functools.partial(timings.time_head, inputs.half(), 1, runtime.setup("cpu"))

    def plain() -> tuple[float, ...]:
        with timings.clocks() as spent:
            ours()
        return tuple(map(sum, zip(spent, timings.time_features(IMAGES), strict=True)))

    return ours, plain


def boxes(data_dir: Path, side: int) -> Stage:
    """The boxes of maps at 1,000 thresholds and their overlaps; the boxes by OpenCV alone."""
    maps, sizes = timings.smooth_maps(MAPS, side), np.full((MAPS, 2), side)
    truths = [np.array([[side // 4, side // 4, 3 * side // 4, 3 * side // 4]])] * MAPS

    def ours() -> None:
        evaluator = Evaluator(Protocol("", None, timings.THRESHOLDS, "inclusive"))
        evaluator.accumulate(maps, truths, sizes)

    return ours, lambda: [timings.plain_opencv(values, side) for values in maps]


def evaluation(data_dir: Path) -> Stage:
    return functools.partial(timings.time_evaluation, IMAGES, 1), None


def matrices(data_dir: Path) -> Stage:
    a, b = torch.rand(2, SIDE_OF_MATRIX, SIDE_OF_MATRIX).unbind()
    return lambda: a @ b, None


ON_MAPS = f"{MAPS} maps, overlaps included"
STAGES = {  # builder, what, plain version, note
    "matrices": (matrices, "matrix multiplication, fp32", "", "the bound of this machine"),
    "mnist": (mnist, "MNIST: one epoch, fp32", "DataLoader and SGD of PyTorch", "16,500 images"),
    "head": (head, "head on cached features: one epoch", "no cache", f"{IMAGES} images"),
    "features": (
        features,
        "cached features of JPEG files, EfficientNet-Lite0",
        "forward pass alone, of images in memory",
        f"{IMAGES} images",
    ),
    "boxes 64": (
        functools.partial(boxes, side=64),
        "boxes at 1,000 thresholds, 64 x 64",
        "OpenCV for each threshold",
        ON_MAPS,
    ),
    "boxes 224": (
        functools.partial(boxes, side=224),
        "boxes at 1,000 thresholds, 224 x 224",
        "OpenCV for each threshold",
        ON_MAPS,
    ),
    "evaluation": (evaluation, "evaluation from cached maps", "", f"{IMAGES} images, 10 methods"),
}


def measure(stage: str, data_dir: Path, repeats: int) -> dict[str, float]:
    """CPU seconds, the least of some runs, the median ratio of pairs of runs, and peak memory."""
    torch.set_num_threads(1)
    ours, plain = STAGES[stage][0](data_dir)

    def cpu_seconds(run: Callable) -> float:
        with timings.clocks() as spent, contextlib.redirect_stdout(io.StringIO()):
            returned = run()
        # Some runs time themselves, without what they prepare.
        return returned[1] if isinstance(returned, tuple) else spent[1]

    cpu_seconds(ours)
    row = {"memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}
    pairs = [(cpu_seconds(ours), plain and cpu_seconds(plain)) for _ in range(repeats)]
    row["cpu_seconds"] = min(pair[0] for pair in pairs)
    if plain:
        row["plain"] = min(pair[1] for pair in pairs)
        row["ratio"] = statistics.median(b / a for a, b in pairs)
    return row


def write_stages(stages: list[str], data_dir: Path, repeats: int, folder: Path) -> None:
    """Writes plain.csv, .md and .tex anew after each row."""
    machine, rows = environment()["cpu"], []
    for stage in stages:
        _, what, plain_version, note = STAGES[stage]
        with worker_pool(1) as pool:
            row = pool.submit(measure, stage, data_dir, repeats).result()
        if stage == "matrices":
            note += f": {2 * SIDE_OF_MATRIX**3 / row['cpu_seconds'] / 1e9:.0f} GFLOP/s"
        named = {"what": what, "plain_version": plain_version, "note": note}
        rows.append(row | named | {"machine": machine})
        table = pd.DataFrame(rows, columns=[*COLUMNS, "machine"])
        write_csv(table, folder / "plain.csv")
        write_tables(shown(table), folder / "plain")
        print(to_markdown(shown(table[-1:])).splitlines()[-1], flush=True)
    print(f"wrote {folder}/plain.csv, plain.md and plain.tex")


def shown(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as a page shows them."""
    texts = rows[list(COLUMNS)].astype(object).fillna("")
    forms = {"cpu_seconds": "{:.3g}", "plain": "{:.3g}", "ratio": "{:.2f}", "memory_gb": "{:.2f}"}
    for name, form in forms.items():
        texts[name] = [form.format(value) if pd.notna(value) else "" for value in rows[name]]
    names = {
        "plain_version": "plain version",
        "cpu_seconds": "CPU seconds",
        "memory_gb": "memory, GB",
    }
    return texts.rename(columns=names)
