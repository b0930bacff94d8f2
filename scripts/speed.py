"""Times the stages of imbalanced classification and of localisation, on this machine.

    python -m scripts.speed
    python -m scripts.speed --parts head memory

`mnist`: the original's run, its network, 8 epochs of 16,500 images in batches of 64 (2,064 steps),
in fp32 and bf16, whole and by stage. `head`: a linear head on cached features, 6,000 x 1,280 for
200 classes, 30 epochs. `memory`: peak memory of an epoch over the memory-mapped features of 100,000
images. `boxes`: the boxes of a map at 1,000 thresholds, beside a call of OpenCV for each.
`localisation`: all methods and thresholds from the cached maps of 5,000 images, and of 10,000 for
the memory. Times of `mnist` and `head` are the least of `--repeats` runs; prints a table and writes
it.
"""

import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pc_softmax.models import new_model
from torch import nn

from mi_common import cli, runtime
from mi_common.engine import TensorBatches, fit
from mi_common.environment import environment
from mi_common.files import write_json
from mi_common.information import log_prior_from_labels
from mi_common.records import RunFolder, prepare_output
from mi_common.runtime import Runtime
from mi_common.tables import to_markdown, write_tables
from pc_softmax.data import load_data
from pc_softmax.losses import PCSoftmaxLoss
from pc_softmax.recipes import RECIPES
from pc_softmax.train import train
from scripts.localisation_speed import time_boxes, time_localisation

PARTS = ("mnist", "head", "memory", "boxes", "localisation")
HEAD = {"samples": 6_000, "features": 1_280, "classes": 200, "epochs": 30, "batch_size": 64}


def least(repeats: int, run: Callable) -> tuple[float, object]:
    """The least seconds of some runs, and what the last one returned."""
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        found = run()
        seconds.append(time.perf_counter() - started)
    return min(seconds), found


def time_mnist(data_dir: Path, device: Runtime, repeats: int) -> list[dict]:
    """The whole run from files to scores, and its stages, for one precision."""
    recipe = RECIPES["mnist"]
    name = f"MNIST, {device.precision}"

    def read():
        return load_data("mnist", data_dir, imbalance="paper")

    def model(data):
        return new_model(
            recipe.network,
            data,
            weights="none",
            head_only=False,
            cosine=False,
            size=None,
            cache_dir=data_dir / "features",
            num_workers=0,
            runtime=device,
        )

    training = {
        "epochs": recipe.epochs,
        "batch_size": recipe.batch_size,
        "lr": recipe.lr,
        "weight_decay": 0.0,
        "optimizer": "sgd",
        "momentum": recipe.momentum,
        "schedule": recipe.schedule,
        "warmup_epochs": 0,
        "head_lr_ratio": 1.0,
        "copies": 0,
    }

    def whole():
        data = read()
        with tempfile.TemporaryDirectory() as folder:
            return train(
                data,
                RunFolder(Path(folder)),
                model(data),
                loss="pc-softmax",
                loss_options={},
                retrain_head=False,
                seed=0,
                training=training,
                runtime=device,
            )

    reading, data = least(repeats, read)
    chosen = model(data)
    batches = chosen.batches(data.train, batch_size=64, seed=0, balanced=False, copies=0)
    loss = PCSoftmaxLoss.from_labels(data.train.labels, 10).to(device.device)
    optimizer = torch.optim.SGD(chosen.network.parameters(), lr=0.01, momentum=0.5, fused=True)

    def forward():
        with torch.no_grad(), device.autocast():
            for images, _, _ in batches.epoch(0):
                chosen.network(images)

    def epoch():
        fit(chosen.network, batches, loss, optimizer, epochs=1, runtime=device)

    forwards, _ = least(repeats, forward)
    epochs, _ = least(repeats, epoch)
    total, result = least(repeats, whole)
    accuracy = result["test_sets"]["official"]["balanced_accuracy"]
    return [
        {"what": f"{name}: read and choose images", "seconds": reading, "note": ""},
        {"what": f"{name}: forward, one epoch", "seconds": forwards, "note": ""},
        {"what": f"{name}: steps of one epoch", "seconds": epochs, "note": "258 steps"},
        {
            "what": f"{name}: whole run",
            "seconds": total,
            "note": f"2,064 steps; balanced accuracy {100 * accuracy:.2f} %",
        },
    ]


def time_head(device: Runtime, repeats: int) -> dict:
    """Training of a linear head on features that lie in memory."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(HEAD["samples"], HEAD["features"], generator=generator).half()
    labels = torch.arange(HEAD["samples"]) % HEAD["classes"]
    seconds, _ = least(repeats, lambda: fit_head(inputs, labels, HEAD["epochs"], device))
    note = "{samples:,} x {features:,}, {classes} classes, {epochs} epochs".format(**HEAD)
    return {"what": "head on cached features", "seconds": seconds, "note": note}


def fit_head(inputs: torch.Tensor, labels: torch.Tensor, epochs: int, device: Runtime) -> None:
    head = nn.Linear(inputs.shape[1], HEAD["classes"]).to(device.device)
    with runtime.one_thread():  # as `pc_softmax.train` does
        fit(
            head,
            TensorBatches(inputs, labels, batch_size=HEAD["batch_size"], seed=0, runtime=device),
            PCSoftmaxLoss(log_prior_from_labels(labels, HEAD["classes"])).to(device.device),
            torch.optim.SGD(head.parameters(), lr=0.01, momentum=0.9, fused=True),
            epochs=epochs,
            runtime=device,
        )


def measure_memory() -> dict:
    """Peak memory of a process that trains a head for an epoch on memory-mapped features."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        seconds, gigabytes = pool.apply(_epoch_over_file)
    note = f"100,000 x 1,280, peak memory {gigabytes:.2f} GB"
    return {"what": "head on memory-mapped features, one epoch", "seconds": seconds, "note": note}


def _epoch_over_file() -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path, shape = Path(folder) / "features.npy", (100_000, HEAD["features"])
        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for start in range(0, len(array), 10_000):
            array[start : start + 10_000] = np.random.default_rng(start).random((10_000, shape[1]))
        array.flush()
        del array
        inputs = torch.from_numpy(np.load(path, mmap_mode="c"))
        labels = torch.arange(len(inputs)) % HEAD["classes"]
        device = runtime.setup("cpu")
        seconds, _ = least(1, lambda: fit_head(inputs, labels, 1, device))
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def get_parser() -> cli.Parser:
    parser = cli.Parser("Time the stages of imbalanced classification and of localisation.")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to time")
    parser.add_argument("--repeats", type=cli.positive_int, default=3, help="runs of each")
    parser.add_argument("--device", type=cli.device_name, default="auto", help="auto, cpu or cuda")
    parser.add_argument(
        "--num-workers", type=cli.worker_count, default=2, help="processes that box maps"
    )
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="data folder")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/speed"), help="to write")
    parser.add_argument("--overwrite", action="store_true", help="replace an earlier table")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.setup(args.device)
    lines = []
    if "mnist" in args.parts:
        load_data("mnist", args.data_dir, imbalance="paper")  # missing data must write nothing
    prepare_output(args.output_dir, vars(args), overwrite=args.overwrite)
    print(f"speed: {device.describe()}, writing {args.output_dir}", flush=True)
    for precision in ("fp32", "bf16") if "mnist" in args.parts else ():
        chosen = runtime.setup(args.device, precision)
        lines += time_mnist(args.data_dir, chosen, args.repeats)
    if "head" in args.parts:
        lines.append(time_head(device, args.repeats))
    if "memory" in args.parts:
        lines.append(measure_memory())
    if "boxes" in args.parts:
        lines += time_boxes(args.num_workers)
    if "localisation" in args.parts:
        lines += [time_localisation(images, args.num_workers) for images in (5_000, 10_000)]
    table = pd.DataFrame(lines).assign(seconds=lambda t: t["seconds"].map("{:.3g}".format))
    write_tables(table, args.output_dir / "table")
    write_json(args.output_dir / "hardware.json", environment())
    print(to_markdown(table))
    print(f"wrote {args.output_dir}/table (.md, .tex) and hardware.json")


if __name__ == "__main__":
    main()
