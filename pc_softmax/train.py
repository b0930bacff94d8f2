"""Trains the paper's network on imbalanced digits and predicts two test sets.

    python -m pc_softmax.train --dataset mnist --loss pc-softmax --seed 0

The protocol is the original's: 16,500 training images (3,000 of each odd digit, 300 of each even
one), SGD with momentum 0.5, learning rate 0.01, batch 64, 8 epochs, the last epoch is what counts.
Test sets: `paper-window`, imbalanced alike, and `official`, the balanced 10,000 images.

Writes `predictions.npz` (logits and labels of each test set), `indices.npz` (the chosen images),
and the files of a run folder; see `common.records`.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from common import cli, runtime
from common.datasets import IDX_DATASETS, idx_images
from common.engine import TensorBatches, fit, predict
from common.information import log_prior_from_labels
from common.records import RunFolder, prepare_output, save_arrays, write_json
from common.runtime import Runtime, seed_everything
from common.tables import to_markdown
from pc_softmax.imbalance import paper_digits
from pc_softmax.losses import LOSSES, build_loss
from pc_softmax.metrics import classification_scores, scores_table
from pc_softmax.networks import PaperNet

PIXEL_MEAN, PIXEL_STD = 0.1307, 0.3081  # of MNIST, as the original uses them


@dataclass(frozen=True)
class DigitData:
    """Normalised (N, 1, 28, 28) images and (N,) labels of the training set and of each test set."""

    train: tuple[Tensor, Tensor]
    tests: dict[str, tuple[Tensor, Tensor]]
    indices: dict[str, Tensor]  # positions in the official training file


def load_digits(dataset: str, data_dir: Path) -> DigitData:
    """The paper's imbalanced lists and the official test set; errors as in `idx_images`."""
    images, labels = idx_images(dataset, data_dir, "train")
    official = idx_images(dataset, data_dir, "test")
    train, window = paper_digits(labels)
    return DigitData(
        (_normalise(images[train]), labels[train]),
        {
            "paper-window": (_normalise(images[window]), labels[window]),
            "official": (_normalise(official[0]), official[1]),
        },
        {"train": train, "paper_window": window},
    )


def _normalise(images: Tensor) -> Tensor:
    pixels = (images.unsqueeze(1).float() / 255 - PIXEL_MEAN) / PIXEL_STD
    return pixels.contiguous(memory_format=torch.channels_last)


def train(
    data: DigitData,
    run: RunFolder,
    *,
    loss: str,
    seed: int,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    momentum: float,
    runtime: Runtime,
) -> dict:
    """Trains one network, or goes on with it, and writes predictions and the result.

    Returns:
        The content of result.json: scores of each test set, seconds, sizes.
    """
    images, labels = data.train
    log_prior = log_prior_from_labels(labels, 10)
    seed_everything(seed)
    network = PaperNet().to(runtime.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        network.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay, fused=True
    )
    batches = TensorBatches(images, labels, batch_size=batch_size, seed=seed, runtime=runtime)
    history = fit(
        network,
        batches,
        build_loss(loss, log_prior).to(runtime.device),
        optimizer,
        epochs=epochs,
        runtime=runtime,
        run=run,
        description=f"{loss} seed {seed}",
    )
    started = time.perf_counter()
    logits = {name: predict(network, x, runtime=runtime) for name, (x, _) in data.tests.items()}
    arrays = {f"{name}_logits": values.numpy() for name, values in logits.items()}
    arrays |= {f"{name}_labels": y.numpy() for name, (_, y) in data.tests.items()}
    result = {
        "test_sets": {
            name: classification_scores(logits[name].numpy(), y.numpy()) | {"n_test": len(y)}
            for name, (_, y) in data.tests.items()
        },
        "seconds": sum(line["seconds"] for line in history),
        "predict_seconds": time.perf_counter() - started,
        "n_train": len(labels),
    }

    def write() -> None:
        save_arrays(run.path / "predictions.npz", log_prior=log_prior.numpy(), **arrays)
        save_arrays(run.path / "indices.npz", **{k: v.numpy() for k, v in data.indices.items()})
        write_json(run.result_file, result)

    runtime.on_main(write)
    return result


def add_arguments(parser: cli.Parser) -> None:
    """The flags that `train` and `compare` share."""
    parser.add_argument(
        "--dataset", choices=list(IDX_DATASETS), default="mnist", help="images to train on"
    )
    cli.add_training_arguments(parser, epochs=8, batch_size=64, lr=0.01, weight_decay=0.0)
    parser.add_argument("--momentum", type=cli.fraction, default=0.5, help="momentum of SGD")


def training_options(args) -> dict:
    """The keyword arguments of `train` that its flags set."""
    names = ("epochs", "batch_size", "lr", "weight_decay", "momentum")
    return {name: getattr(args, name) for name in names}


def get_parser() -> cli.Parser:
    parser = cli.Parser("Train a network on the paper's imbalanced digits.")
    cli.add_common_arguments(parser, output_dir=None, workers=False)
    add_arguments(parser)
    parser.add_argument("--loss", choices=LOSSES, default="pc-softmax", help="training loss")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/pc_softmax/{args.dataset}-{args.loss}-{args.seed}")
    data = load_digits(args.dataset, args.data_dir)
    run = RunFolder(folder)
    device.on_main(prepare_output, folder, vars(args), resume=args.resume, overwrite=args.overwrite)
    device.say(f"pc_softmax: {device.describe()}, seed {args.seed}, writing {folder}")
    if not run.finished:
        train(data, run, loss=args.loss, seed=args.seed, runtime=device, **training_options(args))
    device.say(to_markdown(scores_table(run.result()["test_sets"])))
    device.say(f"wrote {folder}/predictions.npz, indices.npz, checkpoint.pt and result.json")


if __name__ == "__main__":
    main()
