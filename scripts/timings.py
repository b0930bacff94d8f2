"""Timings of `scripts.speed` in seconds, and functions that `plain` and `gpu` timings use, too.

Each function `time_...` that yields rows is a part of the script; `write_rows` writes them.
"""

import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from infocam.localise import Maps, localise
from infocam.names import GRADIENT_METHODS, RANDOM
from infocam.scoring.protocols import PROTOCOLS
from mi_common import engine, runtime
from mi_common.environment import environment
from mi_common.errors import UserError
from mi_common.files import read_json
from mi_common.image_sets import ImageSet
from mi_common.tables import to_markdown, write_csv, write_tables
from mi_common.workers import worker_pool
from mi_estimator.tasks.gaussians import GaussianClasses
from pc_softmax.losses import PCSoftmaxLoss
from pc_softmax.networks import PaperNet

FEATURES, CLASSES, CELLS = 1280, 200, 7
CONTRASTS = ["cam", "infocam", "infocam+", "lowest:20", "similar", "posterior"]
COLUMNS = {"what": "{}", "seconds": "{:.3g}", "cpu_seconds": "{:.3g}"}  # and how a page shows them
COLUMNS |= {"memory_gb": "{:.2f}", "note": "{}"}
Row = dict[str, str | float]


def write_rows(rows: Iterable[Row], columns: dict[str, str], path: Path, *, on_gpu: bool) -> None:
    """Writes PATH.csv, .md and .tex anew after each row, so that a stop loses one row."""
    about, written = environment(), []
    machine = (on_gpu and about["gpu"]) or about["cpu"]
    for row in rows:
        written.append({**row, "machine": machine, "torch": about["torch"]})
        table = pd.DataFrame(written, columns=[*columns, "machine", "torch"])
        write_csv(table, path.with_suffix(".csv"))
        write_tables(shown(table, columns), path)
        print(to_markdown(shown(table[-1:], columns)).splitlines()[-1], flush=True)
    print(f"wrote {path}.csv, .md and .tex")


def shown(rows: pd.DataFrame, columns: dict[str, str]) -> pd.DataFrame:
    """The rows as a page shows them: formatted, empty cells where there is no number."""
    texts = {}
    for name, form in columns.items():
        title = name.replace("_gb", ", GB").replace("cpu", "CPU").replace("_", " ")
        texts[title] = [form.format(value) if pd.notna(value) else "" for value in rows[name]]
    return pd.DataFrame(texts, dtype=object)


def peak_memory() -> float:
    """The most memory in GB that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def alone(what: str, note: str, run: Callable, *arguments) -> Row:
    """A row of a `run` that returns seconds and CPU seconds, in a process of its own."""
    with worker_pool(1) as pool:
        (seconds, cpu_seconds), memory = pool.submit(_with_memory, run, arguments).result()
    row = {"what": what, "seconds": seconds, "cpu_seconds": cpu_seconds}
    return row | {"memory_gb": memory, "note": note}


def _with_memory(run: Callable, arguments: tuple) -> tuple:
    return run(*arguments), peak_memory()


@contextlib.contextmanager
def clocks() -> Iterator[list[float]]:
    """A list that holds the seconds and CPU seconds of the block, workers included, at its end."""
    started, before, spent = time.perf_counter(), _cpu_seconds(), []
    yield spent
    spent += [time.perf_counter() - started, _cpu_seconds() - before]


def _cpu_seconds() -> float:
    """Of this process and of its workers that have ended; finer than `os.times`."""
    uses = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(use.ru_utime + use.ru_stime for use in uses)


def plain_epoch(images: Tensor, labels: Tensor, device: runtime.Runtime) -> None:
    """An epoch of the same network with `DataLoader` and the defaults of PyTorch, in fp32."""
    network = PaperNet().to(device.device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5)
    loss = nn.CrossEntropyLoss()
    data = torch.utils.data.TensorDataset(images.contiguous(), labels)
    for inputs, targets in torch.utils.data.DataLoader(data, batch_size=64, shuffle=True):
        optimizer.zero_grad()
        loss(network(inputs.to(device.device)), targets.to(device.device)).backward()
        optimizer.step()


def epoch(model: nn.Module, batches: engine.TensorBatches, classes: int) -> None:
    """An epoch of the project's training loop."""
    device = batches.runtime
    loss = PCSoftmaxLoss.from_labels(batches.labels.cpu(), classes).to(device.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)
    engine.fit(model, batches, loss, optimizer, epochs=1, runtime=device)


def head_epoch(inputs: Tensor, device: runtime.Runtime) -> None:
    """An epoch of a linear head on (N, C) features."""
    labels = torch.arange(len(inputs)) % CLASSES
    batches = engine.TensorBatches(inputs, labels, batch_size=64, seed=0, runtime=device)
    head = nn.Linear(inputs.shape[1], CLASSES).to(device.device)
    with runtime.one_thread():  # as `pc_softmax.train` does
        epoch(head, batches, CLASSES)


def jpeg_files(folder: Path, count: int) -> ImageSet:
    """Writes blurred noise of 64 x 64 pixels as JPEG files."""
    colours = np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for path, pixels in zip(paths, colours, strict=True):
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(path)
    return ImageSet("pictures", paths, torch.zeros(count, dtype=torch.long), ["any"])


@contextlib.contextmanager
def mapped_features(shape: tuple[int, ...], rows_from: Callable[[int], np.ndarray]):
    """A float16 tensor in a memory-mapped file, filled by 1,000 rows at a time."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/features.npy"
        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for start in range(0, len(array), 1000):
            array[start : start + 1000] = rows_from(start)[: len(array) - start]
        array.flush()
        yield torch.from_numpy(np.load(path, mmap_mode="c"))


def time_file(samples: int) -> tuple[float, float]:
    """Seconds and CPU seconds of an epoch of a head over memory-mapped features."""

    def rows_from(start: int) -> np.ndarray:
        return np.random.default_rng(start).random((1000, FEATURES))

    with mapped_features((samples, FEATURES), rows_from) as inputs, clocks() as spent:
        head_epoch(inputs, runtime.setup("cpu"))
    return tuple(spent)


def time_memory() -> Iterator[Row]:
    what, note = "head on memory-mapped features, one epoch", "100,000 x 1,280"
    yield alone(what, note, time_file, 100_000)


def smooth_maps(count: int, seed: int) -> np.ndarray:
    """(count, 7, 7) maps of a blob under noise, as coarse as a network's."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(1, CELLS - 2, (2, count, 1, 1))
    blobs = np.exp(-((np.mgrid[:CELLS, :CELLS][:, None] - centres) ** 2).sum(axis=0) / 6)
    return (3 * blobs + 0.5 * rng.normal(size=blobs.shape)).astype(np.float32)


def time_evaluation(images: int, num_workers: int) -> tuple[float, float]:
    """Seconds and CPU seconds of an evaluation of all methods from cached maps."""

    def rows_from(start: int) -> np.ndarray:
        scales = np.random.default_rng(start).random((1000, FEATURES, 1, 1))
        return smooth_maps(1000, start)[:, None].clip(0) * scales

    def batches(data: ImageSet) -> Iterator[tuple[slice, Tensor]]:
        for start in range(0, images, 100):
            yield slice(start, start + 100), maps[start : start + 100].float()

    classes, names = [str(k) for k in range(CLASSES)], [str(i) for i in range(images)]
    labels, boxes = torch.arange(images) % CLASSES, [np.array([[16, 16, 47, 47]])] * images
    data = ImageSet("maps", [], labels, classes, boxes, np.full((images, 2), 64), names)
    classifier = SimpleNamespace(
        network=SimpleNamespace(head=nn.Linear(FEATURES, CLASSES)), feature_maps=batches
    )
    options, infocam = Maps([*CONTRASTS, *GRADIENT_METHODS, RANDOM], [1]), PROTOCOLS["infocam"]
    pool = worker_pool(num_workers) if num_workers > 1 else contextlib.nullcontext()
    quiet = contextlib.redirect_stdout(io.StringIO())
    shape = images, FEATURES, CELLS, CELLS
    with mapped_features(shape, rows_from) as maps, clocks() as spent, quiet, pool as workers:
        localise(classifier, data, options, infocam, misread=False, workers=workers)
    return tuple(spent)


def time_localisation(num_workers: int) -> Iterator[Row]:
    for images in (5_000, 10_000):
        what, note = f"evaluation from cached maps, {images:,} images", "10 methods, all thresholds"
        yield alone(what, f"{note}, {num_workers} workers", time_evaluation, images, num_workers)


def time_command(module: str, words: list, status: int = 0) -> tuple[float, float]:
    """Seconds and peak memory in GB of `python -m MODULE WORDS`; UserError for another status."""
    command = [sys.executable, "-m", module, *map(str, words)]
    started = time.perf_counter()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL if status else None}
    process = subprocess.Popen(command, **quiet)
    _, ended, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    if process.returncode != status:
        raise UserError(f"python -m {module} ended with status {process.returncode}, not {status}")
    return time.perf_counter() - started, usage.ru_maxrss / 2**20


def time_errors(repeats: int) -> Iterator[Row]:
    """The least seconds until `mi_estimator.estimate` has printed an error."""
    with tempfile.TemporaryDirectory() as folder:
        table, missing = Path(folder) / "table.csv", Path(folder) / "missing.csv"
        table.write_text("a,y\n1,0\n2,1\n3,1\n")
        wrong = {"a file that is missing": missing, "a class of one sample": table}
        for note, path in wrong.items():
            words = ["mi_estimator.estimate", [path, "--label", "y"], 2]
            seconds = min(time_command(*words)[0] for _ in range(repeats))
            yield {"what": "start-up: error to screen", "seconds": seconds, "note": note}


def time_estimate(device: str, rows: int = 1_000_000, flags: tuple = ()) -> Iterator[Row]:
    """Seconds and peak memory of `mi_estimator.estimate` on a CSV file of 20 features."""
    distribution = GaussianClasses(20, (4, 1), (0.0, 0.5))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        generator = torch.Generator().manual_seed(0)
        for start in range(0, rows, 100_000):
            x, y = distribution.sample(min(100_000, rows - start), generator)
            table = pd.DataFrame(x.numpy()).add_prefix("x").assign(y=y.numpy())
            table.to_csv(path, mode="a", header=start == 0, index=False, float_format="%.6g")
        words = [path, "--label", "y", "--device", device, "--output-dir", f"{folder}/run", *flags]
        seconds, memory = time_command("mi_estimator.estimate", words)
        estimate = read_json(Path(folder) / "run/estimate.json")["mutual_information"]
    note = f"{estimate:.4f} nats, exact {distribution.mutual_information()[0]:.4f}"
    what = f"estimate: {rows:,} rows x 20 features, CSV"
    yield {"what": what, "seconds": seconds, "memory_gb": memory, "note": note}
