"""The timings of `scripts.speed` for a GPU: this project beside the bare work in plain PyTorch.

Each function returns the rows of a table. `per_second` counts the images of this project, `bare`
those of the plain loop or forward pass on the same images, network and precision, `ratio` is their
quotient. Clocks are read when the device has finished. Memory is what PyTorch's tensors took at
most on a GPU, the images among them. All functions run on a CPU too, without memory.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mi_common import engine, runtime
from mi_common.backbones import build_backbone
from mi_common.features import BATCH_SIZE, cached_features
from mi_common.files import read_json
from pc_softmax.data import load_data
from pc_softmax.networks import PaperNet
from scripts.timings import CLASSES, Row, jpeg_files, plain_epoch, time_command

COLUMNS = {"what": "{}", "precision": "{}", "seconds": "{:.3g}", "per_second": "{:,.0f}"}
COLUMNS |= {"bare": "{:,.0f}", "ratio": "{:.2f}", "memory_gb": "{:.2f}"}
COLUMNS |= {"bare_memory_gb": "{:.2f}", "note": "{}"}
NETWORKS, PRECISIONS = ("resnet50", "efficientnet_lite0"), ("fp32", "bf16")
EPOCHS = 3  # timed ones, after one that compiles and chooses algorithms
LARGE_BATCH = 256


@contextlib.contextmanager
def clock(device: torch.device) -> Iterator[Row]:
    """A row that holds the seconds and the peak memory of the block at its end."""
    on_gpu, row = device.type == "cuda", {}
    if on_gpu:
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    yield row
    if on_gpu:
        torch.cuda.synchronize(device)
        row["memory_gb"] = torch.cuda.max_memory_allocated(device) / 2**30
    row["seconds"] = time.perf_counter() - started


def compared(what: str, images: int, ours: Row, bare: Row, **more) -> Row:
    """A row of both rates; `images` are those of an epoch or a pass."""
    rates = {"per_second": images / ours["seconds"], "bare": images / bare["seconds"]}
    rates |= {"ratio": bare["seconds"] / ours["seconds"]}
    return {"what": what, **more, **ours, **rates, "bare_memory_gb": bare.get("memory_gb")}


def compare_loops(
    network: nn.Module, images: Tensor, labels: Tensor, batch_size: int, device: runtime.Runtime
) -> tuple[Row, Row]:
    """The fastest epoch of `engine.fit` and of a bare loop, and the peak memory of all epochs.

    Images and network are on the device.
    """
    shuffled = engine.TensorBatches(images, labels, batch_size=batch_size, seed=0, runtime=device)
    with clock(device.device) as ours:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.5, fused=True)
        options = {"epochs": 1 + EPOCHS, "runtime": device}
        epochs = engine.fit(network, shuffled, F.cross_entropy, optimizer, **options)
    ours["seconds"] = min(epoch["seconds"] for epoch in epochs[1:])
    model = torch.compile(network) if device.compile else network
    model.train()
    bare = []
    for _ in range(1 + EPOCHS):
        with clock(device.device) as epoch:
            bare_epoch(model, images, labels, batch_size, optimizer, device)
        bare.append(epoch)
    fastest = min(bare[1:], key=lambda epoch: epoch["seconds"])
    peaks = [epoch["memory_gb"] for epoch in bare if "memory_gb" in epoch]
    return ours, fastest | ({"memory_gb": max(peaks)} if peaks else {})


def bare_epoch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    device: runtime.Runtime,
) -> None:
    """The steps of an epoch and nothing else: no shuffling, no sums, no checks."""
    for inputs, targets in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        with device.autocast():
            loss = F.cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def time_training(
    device: str,
    images: int,
    batch_size: int,
    *,
    side: int | None = None,
    networks: tuple[str, ...] = NETWORKS,
) -> Iterator[Row]:
    """Training of whole networks with random weights, in fp32, bf16 and compiled in bf16."""
    for compiled, name in ((flag, name) for flag in (False, True) for name in networks):
        for precision in ("bf16",) if compiled else PRECISIONS:
            resolved = runtime.setup(device, precision, compile=compiled)
            torch.manual_seed(0)
            network = build_backbone(name, weights="none", num_classes=CLASSES, image_size=side)
            network.to(resolved.device, memory_format=torch.channels_last)
            shape, where = (images, 3, *2 * (network.spec.size,)), resolved.device
            pixels = torch.rand(shape, device=where).to(memory_format=torch.channels_last)
            labels = torch.arange(images, device=where) % CLASSES
            note = f"{images:,} images in memory, batches of {batch_size}, {shape[-1]} pixels"
            ours, bare = compare_loops(network, pixels, labels, batch_size, resolved)
            text = f"{precision}, compiled" if compiled else precision
            what = f"training {name}"
            yield compared(what, images, ours, bare, precision=text, note=note)


def time_digits(data_dir: Path, device: str) -> Iterator[Row]:
    """An epoch of the paper's run on MNIST, and the whole command."""
    for precision in PRECISIONS:
        resolved = runtime.setup(device, precision)
        digits = load_data("mnist", data_dir, imbalance="paper").train
        torch.manual_seed(0)
        network = PaperNet().to(resolved.device, memory_format=torch.channels_last)
        images = network.spec.normalise(digits.images).to(resolved.device)
        labels = digits.labels.to(resolved.device)
        ours, bare = compare_loops(network, images, labels, 64, resolved)
        note = f"{len(images):,} images, batches of 64"
        if precision == "fp32":
            for _ in range(2):  # the first is slower
                with clock(resolved.device) as loader:
                    plain_epoch(images.cpu(), digits.labels, resolved)
            note += f"; with a DataLoader {len(images) / loader['seconds']:,.0f} images a second"
        what = "MNIST, an epoch"
        yield compared(what, len(images), ours, bare, precision=precision, note=note)
        with tempfile.TemporaryDirectory() as folder:
            run = Path(folder) / "run"
            words = ["--data-dir", data_dir, "--output-dir", run, "--device", device]
            seconds, _ = time_command("pc_softmax.train", [*words, "--precision", precision])
            scores = read_json(run / "result.json")["test_sets"]["official"]
        note = (
            f"8 epochs, start-up too; balanced accuracy {100 * scores['balanced_accuracy']:.2f} %"
        )
        row = {"what": "MNIST, the whole command", "precision": precision}
        yield row | {"seconds": seconds, "note": note}


def time_extraction(
    device: str, images: int, num_workers: int, *, side: int | None = None
) -> Iterator[Row]:
    """Feature maps of JPEG files, written to the cache, beside the forward pass alone."""
    with tempfile.TemporaryDirectory() as folder:
        pictures = jpeg_files(Path(folder), images)
        for precision in PRECISIONS:
            resolved = runtime.setup(device, precision)
            options = {"kind": "maps", "runtime": resolved, "num_workers": num_workers}
            name = "efficientnet_lite0"
            torch.manual_seed(0)
            network = build_backbone(name, weights="none", num_classes=2, image_size=side)
            network.to(resolved.device, memory_format=torch.channels_last).eval()
            size = network.spec.size
            bare = forward_pass(network, images, BATCH_SIZE, size, resolved)
            large = forward_pass(network, images, LARGE_BATCH, size, resolved)
            cache = Path(folder) / precision
            with clock(resolved.device) as ours, contextlib.redirect_stdout(io.StringIO()):
                cached_features(network, pictures, cache, **options)
            note = f"{images:,} JPEG files, batches of {BATCH_SIZE}, {size} pixels, "
            note += f"{num_workers} workers; the pass alone in batches of {LARGE_BATCH}: "
            note += f"{images / large['seconds']:,.0f} a second"
            what = f"features of {name}"
            yield compared(what, images, ours, bare, precision=precision, note=note)


@torch.inference_mode()
def forward_pass(
    network: nn.Module, images: int, batch_size: int, side: int, device: runtime.Runtime
) -> Row:
    """Feature maps of so many images in memory, in one batch that is used again and again."""
    shape = min(batch_size, images), 3, side, side
    batch = torch.rand(shape, device=device.device).to(memory_format=torch.channels_last)
    with device.autocast():
        network.features(batch)
        with clock(device.device) as row:
            for _ in range(images // shape[0]):
                network.features(batch)
    row["seconds"] *= images / (images // shape[0] * shape[0])
    return row


def time_suite(device: str, *words: str) -> Iterator[Row]:
    """All settings of the paper's table of mutual information, by one estimator and seed."""
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        command = ["--suite", "paper", "--estimators", "pc-softmax", "--num-workers", 0]
        command += ["--device", device, "--output-dir", run, *words]
        seconds, _ = time_command("mi_estimator.benchmark", command)
        rows = pd.read_csv(run / "results.csv")
    error = (rows["estimate"] - rows["truth"]).abs().max()
    note = f"{len(rows)} settings, start-up too; largest error {error:.4f} nats"
    what = "the paper's estimates of mutual information"
    yield {"what": what, "precision": "fp32", "seconds": seconds, "note": note}
