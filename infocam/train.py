"""Trains the classifier whose maps localise; boxes play no part in it.

    python -m infocam.train --dataset tiny-imagenet
    python -m infocam.train --dataset scattered-digits

Tiny-ImageNet: a frozen `efficientnet_lite0` at 224 pixels; its pooled features are computed once
and cached under the data folder, and a linear head trains on them. Scattered digits: a small
convolutional network from scratch, about two minutes on two cores. The last epoch counts.

Writes the files of a run folder (see `common.records`); `split.json` names the held-out images.
"""

import functools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from common import cli, runtime
from common.backbones import GlobalAveragePoolClassifier
from common.engine import TensorBatches, fit, predict
from common.errors import UserError
from common.features import cached_features
from common.image_files import ImageFiles
from common.information import log_prior_from_labels, pc_softmax_loss
from common.records import RunFolder, prepare_output, write_json
from common.runtime import Runtime
from infocam.data import DATASETS, LocalisationSet, load_parts
from infocam.networks import build_network

LOSSES = ("softmax", "pc-softmax")


@dataclass(frozen=True)
class Recipe:
    """What a data set takes where no flag says otherwise."""

    network: str
    images_per_class: int
    held_out_per_class: int
    epochs: int
    batch_size: int
    lr: float
    weight_decay: float


RECIPES = {
    "tiny-imagenet": Recipe("efficientnet_lite0", 100, 10, 30, 256, 1e-3, 1e-2),
    "scattered-digits": Recipe("small-cnn", 1100, 100, 6, 100, 4e-3, 1e-2),
}


def train(
    parts: dict[str, LocalisationSet],
    run: RunFolder,
    *,
    network: GlobalAveragePoolClassifier,
    loss: str,
    seed: int,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    cache_dir: Path,
    num_workers: int,
    runtime: Runtime,
) -> dict:
    """Trains the whole network on tensors, or the head of a frozen one on image files.

    Args:
        network: with fresh or pre-trained weights, seeded by the caller.

    Returns:
        The content of result.json.
    """
    data = parts["train"]
    network = network.to(runtime.device, memory_format=torch.channels_last)
    log_prior = log_prior_from_labels(data.labels, len(data.class_names)).to(runtime.device)
    started = time.perf_counter()
    model, inputs = trainable_part(network, data, "pooled", cache_dir, num_workers, runtime)
    feature_seconds = time.perf_counter() - started

    batches = TensorBatches(inputs, data.labels, batch_size=batch_size, seed=seed, runtime=runtime)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=weight_decay, fused=True)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=lr, total_steps=epochs * len(batches)
    )
    objective = nn.functional.cross_entropy
    if loss == "pc-softmax":
        objective = functools.partial(pc_softmax_loss, log_prior=log_prior)
    history = fit(
        model,
        batches,
        objective,
        optimizer,
        epochs=epochs,
        runtime=runtime,
        scheduler=scheduler,
        run=run,
        description=f"seed {seed}",
    )
    held_out = parts["held-out"]
    model, inputs = trainable_part(network, held_out, "maps", cache_dir, num_workers, runtime)
    predicted = predict(model, inputs, runtime=runtime).argmax(dim=1)
    result = {
        "held_out_accuracy": (predicted == held_out.labels).float().mean().item(),
        "train_loss": history[-1]["loss"],
        "feature_seconds": feature_seconds,
        "seconds": sum(line["seconds"] for line in history),
        "n_train": len(data),
        "n_held_out": len(held_out),
    }
    runtime.on_main(write_json, run.path / "split.json", split_names(parts))
    runtime.on_main(write_json, run.result_file, result)
    return result


def split_names(parts: dict[str, LocalisationSet]) -> dict[str, list[str]]:
    """The image files of the training and of the held-out part, where they are files."""
    return {
        name: [path.name for path in parts[name].images.paths]
        for name in ("train", "held-out")
        if isinstance(parts[name].images, ImageFiles)
    }


def trainable_part(
    network: GlobalAveragePoolClassifier,
    data: LocalisationSet,
    kind: str,
    cache_dir: Path,
    num_workers: int,
    runtime: Runtime,
) -> tuple[nn.Module, Tensor]:
    """The module that trains and its inputs: (head, pooled features) of image files, or (network,
    pixels) of images that are tensors.

    Args:
        kind: which features to cache, see `cached_features`; maps are pooled here, and are what
            evaluation needs of the held-out images.
    """
    if not isinstance(data.images, ImageFiles):
        return network, data.images.contiguous(memory_format=torch.channels_last)
    features = cached_features(
        network, data.images, cache_dir, kind=kind, runtime=runtime, num_workers=num_workers
    )
    if kind == "maps":
        features = features.mean(axis=(2, 3), dtype=np.float32)
    return network.head, torch.from_numpy(features.astype(np.float32))


def get_parser() -> cli.Parser:
    parser = cli.Parser("Train a classifier for weakly-supervised localisation.")
    cli.add_common_arguments(parser, output_dir=None)
    by_dataset = {
        name: "; ".join(f"{getattr(recipe, name)} for {key}" for key, recipe in RECIPES.items())
        for name in Recipe.__dataclass_fields__
    }
    parser.add_argument("--dataset", choices=DATASETS, default="tiny-imagenet", help="images")
    cli.add_training_arguments(parser, by_dataset=by_dataset)
    parser.add_argument("--loss", choices=LOSSES, default="softmax", help="training loss")
    parser.add_argument(
        "--network",
        help="small-cnn (digits only), efficientnet_lite0, a torchvision name or timm:NAME "
        f"({by_dataset['network']})",
    )
    parser.add_argument(
        "--weights", default="imagenet", help="weights of the frozen backbone: imagenet or a file"
    )
    parser.add_argument(
        "--images-per-class",
        type=cli.positive_int,
        help="training images of each class to use, in file order, the held-out ones included "
        f"({by_dataset['images_per_class']})",
    )
    parser.add_argument(
        "--held-out-per-class",
        type=cli.positive_int,
        help="the last so many of these choose the threshold and do not train "
        f"({by_dataset['held_out_per_class']})",
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    for name, value in vars(RECIPES[args.dataset]).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if (args.network == "small-cnn") != (args.dataset == "scattered-digits"):
        raise UserError(
            f"--network {args.network} with --dataset {args.dataset}: small-cnn and "
            "scattered-digits go together, and only together"
        )
    folder = args.output_dir or Path(f"runs/infocam/{args.dataset}-{args.loss}-{args.seed}")
    sizes = {name: getattr(args, name) for name in ("images_per_class", "held_out_per_class")}
    parts = load_parts(args.dataset, args.data_dir, **sizes, test_images=1)
    runtime.seed_everything(args.seed)
    num_classes = len(parts["train"].class_names)
    network = build_network(args.network, weights=args.weights, num_classes=num_classes)
    run = RunFolder(folder)
    device.on_main(prepare_output, folder, vars(args), resume=args.resume, overwrite=args.overwrite)
    device.say(f"infocam: {device.describe()}, seed {args.seed}, writing {folder}")
    if not run.finished:
        names = ("loss", "seed", "epochs", "batch_size", "lr", "weight_decay")
        train(
            parts,
            run,
            network=network,
            **{name: getattr(args, name) for name in (*names, "num_workers")},
            cache_dir=args.data_dir / "features",
            runtime=device,
        )
    result = run.result()
    device.say(f"held-out top-1 accuracy {100 * result['held_out_accuracy']:.1f} %")
    device.say(
        f"wrote {folder}/checkpoint.pt and result.json; next: python -m infocam.evaluate {folder}"
    )


if __name__ == "__main__":
    main()
