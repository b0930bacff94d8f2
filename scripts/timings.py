"""The timings of `scripts.speed`: (what, seconds, note) for each row of its table."""

import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor, nn

from infocam.localise import Maps, localise
from infocam.names import GRADIENT_METHODS, RANDOM
from infocam.scoring.boxes import resize_map, to_8bit
from infocam.scoring.metrics import Evaluator
from infocam.scoring.protocols import PROTOCOLS, Protocol
from mi_common import engine, runtime
from mi_common.backbones import build_backbone
from mi_common.errors import UserError
from mi_common.features import BATCH_SIZE, cached_features
from mi_common.files import read_json
from mi_common.image_sets import ImageSet
from mi_common.workers import worker_pool
from mi_estimator.tasks.gaussians import GaussianClasses
from pc_softmax import train
from pc_softmax.data import load_data
from pc_softmax.losses import PCSoftmaxLoss
from pc_softmax.networks import PaperNet

FEATURES, CLASSES, CELLS, THRESHOLDS = 1280, 200, 7, 1000
CONTRASTS = ["cam", "infocam", "infocam+", "lowest:20", "similar", "posterior"]
Row = tuple[str, float, str]


def least(repeats: int, run: Callable) -> float:
    """The least seconds of some runs."""
    return min(timeit.repeat(run, repeat=repeats, number=1))


def alone(what: str, note: str, run: Callable, *arguments) -> Row:
    """A row with the seconds that `run` returns, and the peak memory of its own process."""
    with worker_pool(1) as pool:
        seconds, kilobytes = pool.submit(_with_memory, run, arguments).result()
    return what, seconds, f"{note}; peak memory {kilobytes / 2**20:.2f} GB"


def throughput(what: str, note: str, images: int, run: Callable, *arguments) -> Row:
    """As `alone`, of a `run` that returns seconds and CPU seconds, which the note gives too."""
    with worker_pool(1) as pool:
        measured, kilobytes = pool.submit(_with_memory, run, arguments).result()
    seconds, cpu_seconds = measured
    note = f"{note}; {cpu_seconds:.3g} CPU seconds, {images / cpu_seconds:.3g} images in each"
    return what, seconds, f"{note}; peak memory {kilobytes / 2**20:.2f} GB"


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


def _with_memory(run: Callable, arguments: tuple) -> tuple:
    return run(*arguments), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def time_mnist(data_dir: Path, device: str, precision: str, repeats: int) -> list[Row]:
    """Stages of the paper's run, and `pc_softmax.train` as a whole."""
    resolved = runtime.setup(device, precision)
    digits = load_data("mnist", data_dir, imbalance="paper").train
    network = PaperNet().to(resolved.device, memory_format=torch.channels_last)
    images = network.spec.normalise(digits.images)
    batches = engine.TensorBatches(images, digits.labels, batch_size=64, seed=0, runtime=resolved)
    scores = {}

    def forward() -> None:
        with torch.no_grad(), resolved.autocast():
            for inputs, _, _ in batches.epoch(0):
                network(inputs)

    def whole() -> None:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            words = ["--data-dir", str(data_dir), "--output-dir", f"{folder}/run"]
            # Without its decorator, which would release the lock of this script.
            train.main.__wrapped__([*words, "--device", device, "--precision", precision])
            scores.update(read_json(Path(folder) / "run/result.json")["test_sets"]["official"])

    stages = {
        "read and choose images": lambda: load_data("mnist", data_dir, imbalance="paper"),
        "forward, one epoch": forward,
        f"{len(batches)} steps of one epoch": lambda: fit(network, batches, 10, 1),
        "  in a plain PyTorch loop, fp32": lambda: plain_epoch(images, digits.labels, resolved),
        "whole run": whole,
    }
    rows = [(f"MNIST, {precision}: {what}", least(repeats, run)) for what, run in stages.items()]
    accuracy = f"balanced accuracy {100 * scores['balanced_accuracy']:.2f} %"
    last = (*rows[-1], f"{8 * len(batches):,} steps; {accuracy}")
    return [*((*row, "") for row in rows[:-1]), last]


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


def fit(model: nn.Module, batches: engine.TensorBatches, classes: int, epochs: int) -> None:
    device = batches.runtime
    loss = PCSoftmaxLoss.from_labels(batches.labels.cpu(), classes).to(device.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)
    engine.fit(model, batches, loss, optimizer, epochs=epochs, runtime=device)


def time_head(inputs: Tensor, epochs: int, device: runtime.Runtime, repeats: int = 1) -> float:
    """Seconds to train a linear head on (N, C) features."""
    labels = torch.arange(len(inputs)) % CLASSES
    batches = engine.TensorBatches(inputs, labels, batch_size=64, seed=0, runtime=device)
    head = nn.Linear(inputs.shape[1], CLASSES).to(device.device)
    with runtime.one_thread():  # as `pc_softmax.train` does
        return least(repeats, lambda: fit(head, batches, CLASSES, epochs))


def time_cached_head(device: runtime.Runtime, repeats: int) -> Row:
    inputs = torch.randn(6000, FEATURES, generator=torch.Generator().manual_seed(0)).half()
    seconds = time_head(inputs, 30, device, repeats)
    return "head on cached features", seconds, "6,000 x 1,280, 200 classes, 30 epochs"


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


def time_file(samples: int) -> float:
    """Seconds of an epoch of a head over memory-mapped features."""

    def rows_from(start: int) -> np.ndarray:
        return np.random.default_rng(start).random((1000, FEATURES))

    with mapped_features((samples, FEATURES), rows_from) as inputs:
        return time_head(inputs, 1, runtime.setup("cpu"))


def smooth_maps(count: int, seed: int) -> np.ndarray:
    """(count, 7, 7) maps of a blob under noise, as coarse as a network's."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(1, CELLS - 2, (2, count, 1, 1))
    blobs = np.exp(-((np.mgrid[:CELLS, :CELLS][:, None] - centres) ** 2).sum(axis=0) / 6)
    return (3 * blobs + 0.5 * rng.normal(size=blobs.shape)).astype(np.float32)


def plain_opencv(values: np.ndarray, side: int) -> None:
    """The boxes of all contours, by one call of OpenCV for each threshold."""
    levels = to_8bit(resize_map(values, side, side))
    for threshold in np.arange(THRESHOLDS) / THRESHOLDS:
        _, mask = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        max(map(cv2.contourArea, contours)), [cv2.boundingRect(contour) for contour in contours]


def time_boxes(side: int, num_workers: int, count: int = 400) -> list[Row]:
    """Seconds a map: OpenCV for each threshold, and the evaluator in one and in more processes."""
    maps, sizes = smooth_maps(count, side), np.full((count, 2), side)
    truths = [np.array([[side // 4, side // 4, 3 * side // 4, 3 * side // 4]])] * count
    started = time.process_time()
    for values in maps[: count // 10]:
        plain_opencv(values, side)
    plain = (time.process_time() - started) / (count // 10)
    what = f"boxes of a map, {side} x {side}: OpenCV for each of 1,000 thresholds"
    rows = [(what, plain, "one process")]
    for workers in sorted({1, max(num_workers, 1)}):
        clock = time.process_time if workers == 1 else time.perf_counter
        with worker_pool(workers) if workers > 1 else contextlib.nullcontext() as pool:
            for _ in range(2):  # the first time, the processes start
                evaluator = Evaluator(Protocol("", None, THRESHOLDS, "inclusive"), workers=pool)
                started = clock()
                evaluator.accumulate(maps, truths, sizes)
                seconds = (clock() - started) / count
        note = f"{workers} process{'es' * (workers > 1)}: {plain / seconds:.1f} times as fast"
        rows.append(("  the distinct levels", seconds, note))
    return rows


def time_forward(images: int) -> tuple[float, float]:
    """Seconds and CPU seconds of EfficientNet-Lite0's forward pass alone, on one thread."""
    network, batch = _network_and_batch()
    with clocks() as spent, torch.inference_mode():
        for _ in range(images // BATCH_SIZE):
            network.backbone(batch)
    return tuple(spent)


def time_features(images: int) -> tuple[float, float]:
    """The same for `cached_features`: read, decode, resize, forward pass, write."""
    network, _ = _network_and_batch()
    colours = np.random.default_rng(0).integers(0, 256, (images, 8, 8, 3)).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{i}.jpg" for i in range(images)]
        for path, pixels in zip(paths, colours, strict=True):
            Image.fromarray(pixels).resize((64, 64), Image.Resampling.BICUBIC).save(path)
        data = ImageSet("pictures", paths, torch.zeros(images, dtype=torch.long), ["any"])
        options = {"kind": "maps", "runtime": runtime.setup("cpu"), "num_workers": 0}
        with clocks() as spent, contextlib.redirect_stdout(io.StringIO()):
            cached_features(network, data, Path(folder) / "features", **options)
    return tuple(spent)


def _network_and_batch() -> tuple[nn.Module, Tensor]:
    network = build_backbone("efficientnet_lite0").eval()
    network.backbone.to(memory_format=torch.channels_last)
    batch = torch.rand(BATCH_SIZE, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    batch = batch.to(memory_format=torch.channels_last)
    with torch.inference_mode():
        network.backbone(batch)  # the first pass is slower
    return network, batch


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


def time_errors(repeats: int) -> list[Row]:
    """Seconds until `mi_estimator.estimate` has printed an error."""
    with tempfile.TemporaryDirectory() as folder:
        table, missing = Path(folder) / "table.csv", Path(folder) / "missing.csv"
        table.write_text("a,y\n1,0\n2,1\n3,1\n")
        wrong = {"a file that is missing": missing, "a class of one sample": table}
        rows = []
        for note, path in wrong.items():
            words = ["mi_estimator.estimate", [path, "--label", "y"], 2]
            seconds = min(time_command(*words)[0] for _ in range(repeats))
            rows.append(("start-up: error to screen", seconds, note))
        return rows


def time_estimate(device: str, rows: int = 1_000_000, flags: tuple = ()) -> Row:
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
    exact = distribution.mutual_information()[0]
    note = f"{estimate:.4f} nats, exact {exact:.4f}; peak memory {memory:.2f} GB"
    return f"estimate: {rows:,} rows x 20 features, CSV", seconds, note
