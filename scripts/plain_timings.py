"""The timings of `scripts.speed --parts plain`: stages beside their plain versions, on a CPU.

All in CPU seconds of one thread, which count alike on a busy machine. A stage and its plain version
take turns, in a process of their own.
"""

import contextlib
import functools
import io
import statistics
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from infocam.scoring.boxes import resize_map, to_8bit
from infocam.scoring.metrics import Evaluator
from infocam.scoring.protocols import Protocol
from mi_common import engine, runtime
from mi_common.backbones import build_backbone
from mi_common.features import BATCH_SIZE, cached_features
from mi_common.workers import worker_pool
from pc_softmax.data import load_data
from pc_softmax.networks import PaperNet
from scripts import timings

COLUMNS = {"what": "{}", "plain_version": "{}", "cpu_seconds": "{:.3g}", "plain": "{:.3g}"}
COLUMNS |= {"ratio": "{:.3g}", "memory_gb": "{:.2f}", "note": "{}"}
IMAGES, MAPS, THRESHOLDS, SIDE_OF_MATRIX = 13 * BATCH_SIZE, 60, 1000, 2048
Stage = tuple[Callable[[], object], Callable[[], object] | None]


def mnist_epoch(data_dir: Path) -> Stage:
    """An epoch of the paper's run."""
    resolved = runtime.setup("cpu")
    digits = load_data("mnist", data_dir, imbalance="paper").train
    network = PaperNet().to(memory_format=torch.channels_last)
    images = network.spec.normalise(digits.images)
    batches = engine.TensorBatches(images, digits.labels, batch_size=64, seed=0, runtime=resolved)
    ours = functools.partial(timings.epoch, network, batches, 10)
    return ours, functools.partial(timings.plain_epoch, images, digits.labels, resolved)


def features() -> Stage:
    """`cached_features` of JPEG files; the forward pass of the network as it is."""
    runtime.setup("cpu")
    ours = functools.partial(time_features, IMAGES)
    return ours, functools.partial(time_forward, IMAGES)


def head() -> Stage:
    """An epoch of a head on cached features; the same with the features computed anew."""
    inputs = torch.randn(IMAGES, timings.FEATURES, generator=torch.Generator().manual_seed(0))
    ours = functools.partial(timings.head_epoch, inputs.half(), runtime.setup("cpu"))

    def plain() -> tuple[float, ...]:
        with timings.clocks() as spent:
            ours()
        return tuple(map(sum, zip(spent, time_features(IMAGES), strict=True)))

    return ours, plain


def boxes(side: int) -> Stage:
    """The boxes of maps at 1,000 thresholds and their overlaps; the boxes by OpenCV alone."""
    maps, sizes = timings.smooth_maps(MAPS, side), np.full((MAPS, 2), side)
    truths = [np.array([[side // 4, side // 4, 3 * side // 4, 3 * side // 4]])] * MAPS

    def ours() -> None:
        evaluator = Evaluator(Protocol("", None, THRESHOLDS, "inclusive"))
        evaluator.accumulate(maps, truths, sizes)

    return ours, lambda: [plain_opencv(values, side) for values in maps]


def evaluation() -> Stage:
    return functools.partial(timings.time_evaluation, IMAGES, 1), None


def matrices() -> Stage:
    a, b = torch.rand(2, SIDE_OF_MATRIX, SIDE_OF_MATRIX).unbind()
    return lambda: a @ b, None


def plain_opencv(values: np.ndarray, side: int) -> None:
    """The boxes of all contours, by one call of OpenCV for each threshold."""
    levels = to_8bit(resize_map(values, side, side))
    for threshold in np.arange(THRESHOLDS) / THRESHOLDS:
        _, mask = cv2.threshold(levels, int(threshold * levels.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        max(map(cv2.contourArea, contours)), [cv2.boundingRect(contour) for contour in contours]


def time_forward(images: int) -> tuple[float, float]:
    """Seconds and CPU seconds of EfficientNet-Lite0's forward pass alone, on one thread."""
    network, batch = _network_and_batch()
    with timings.clocks() as spent, torch.inference_mode():
        for _ in range(images // BATCH_SIZE):
            network.backbone(batch)
    return tuple(spent)


def time_features(images: int) -> tuple[float, float]:
    """The same for `cached_features`: read, decode, resize, forward pass, write."""
    network, _ = _network_and_batch()
    with tempfile.TemporaryDirectory() as folder:
        data = timings.jpeg_files(Path(folder), images)
        options = {"kind": "maps", "runtime": runtime.setup("cpu"), "num_workers": 0}
        with timings.clocks() as spent, contextlib.redirect_stdout(io.StringIO()):
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


def measure(build: Callable[[], Stage], repeats: int) -> dict[str, float]:
    """CPU seconds, the least of some runs, the median ratio of pairs of runs, and peak memory."""
    torch.set_num_threads(1)
    ours, plain = build()

    def cpu_seconds(run: Callable) -> float:
        with timings.clocks() as spent, contextlib.redirect_stdout(io.StringIO()):
            returned = run()
        # Some runs time themselves, without what they prepare.
        return returned[1] if isinstance(returned, tuple) else spent[1]

    cpu_seconds(ours)
    row = {"memory_gb": timings.peak_memory()}
    pairs = [(cpu_seconds(ours), plain and cpu_seconds(plain)) for _ in range(repeats)]
    row["cpu_seconds"] = min(pair[0] for pair in pairs)
    if plain:
        row["plain"] = min(pair[1] for pair in pairs)
        row["ratio"] = statistics.median(b / a for a, b in pairs)
    return row


def time_stages(data_dir: Path, repeats: int) -> Iterator[timings.Row]:
    """A row for each stage."""
    on_maps, opencv = f"{MAPS} maps, overlaps included", "OpenCV for each threshold"
    jpeg = "cached features of JPEG files, EfficientNet-Lite0"
    mnist = functools.partial(mnist_epoch, data_dir)
    stages = [  # builder, what, plain version, note
        (matrices, "matrix multiplication, fp32", "", "the bound of this machine"),
        (mnist, "MNIST: one epoch, fp32", "DataLoader and SGD of PyTorch", "16,500 images"),
        (head, "head on cached features: one epoch", "no cache", f"{IMAGES} images"),
        (features, jpeg, "forward pass alone, of images in memory", f"{IMAGES} images"),
    ]
    for side in (64, 224):
        build = functools.partial(boxes, side)
        stages.append((build, f"boxes at 1,000 thresholds, {side} x {side}", opencv, on_maps))
    stages.append((evaluation, "evaluation from cached maps", "", f"{IMAGES} images, 10 methods"))
    for build, what, plain_version, note in stages:
        with worker_pool(1) as pool:
            row = pool.submit(measure, build, repeats).result()
        if build is matrices:
            note += f": {2 * SIDE_OF_MATRIX**3 / row['cpu_seconds'] / 1e9:.0f} GFLOP/s"
        yield {"what": what, "plain_version": plain_version, **row, "note": note}
