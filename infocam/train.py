"""Trains the classifier whose maps localise; boxes play no part in it.

    python -m infocam.train --dataset tiny-imagenet
    python -m infocam.train --dataset scattered-digits
    python -m infocam.train --dataset cub --network resnet50 --no-freeze-backbone --adl

On photographs, unless told otherwise, a frozen `efficientnet_lite0` at 224 pixels: its pooled
features are computed once and cached under the data folder, and a linear head trains on them.
`--no-freeze-backbone` trains the whole network, with the recipes of Choe and Shim (2019) for VGG16
and ResNet50, and `--adl` with their attention-based dropout. Scattered digits: a small
convolutional network from scratch, about two minutes on two cores. The last epoch counts.

Writes the files of a run folder (see `mi_common.records`); `split.json` names the held-out images.
"""

import functools
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from infocam.data.load import LocalisationSet, data_fingerprints, load_parts
from infocam.models.adl import add_adl
from infocam.models.networks import build_network
from infocam.recipes import add_arguments, set_defaults
from mi_common import cli, runtime
from mi_common.backbones import GlobalAveragePoolClassifier, check_input
from mi_common.engine import ImageBatches, TensorBatches, fit, predict
from mi_common.features import cached_features
from mi_common.files import write_json
from mi_common.fingerprints import file_fingerprint
from mi_common.image_files import ImageFileDataset, ImageFiles
from mi_common.information import log_prior_from_labels, pc_softmax_loss
from mi_common.optimisation import build_optimizer, build_scheduler
from mi_common.records import RunFolder, check_output, prepare_output
from mi_common.runtime import Runtime, seed_everything


def train(
    parts: dict[str, LocalisationSet],
    run: RunFolder,
    *,
    network: GlobalAveragePoolClassifier,
    features: dict[str, Tensor] | None,
    loss: str,
    seed: int,
    epochs: int,
    batch_size: int,
    schedule: str,
    optimizer: dict,
    num_workers: int,
    runtime: Runtime,
) -> dict:
    """Trains the whole network on images, or its head on features, and writes the result.

    Args:
        network: on the device, with fresh or pre-trained weights, seeded by the caller.
        features: pooled ones of the frozen network by part; None to train all of it.
        optimizer: the keyword arguments of `build_optimizer`.

    Returns:
        The content of result.json.
    """
    data, held_out = parts["train"], parts["held-out"]
    if features is not None:  # whether they came from the cache must not matter
        seed_everything(seed)
    model = network if features is None else network.head
    shuffling = {"batch_size": batch_size, "seed": seed, "runtime": runtime}
    if features is None and isinstance(data.images, ImageFiles):
        transform = network.spec.random_transform()
        batches = ImageBatches(data.images, transform, num_workers=num_workers, **shuffling)
    else:
        inputs = pixels(data) if features is None else features["train"]
        batches = TensorBatches(inputs, data.labels, **shuffling)
    chosen = build_optimizer(model, network.head, **optimizer)
    objective = nn.functional.cross_entropy
    if loss == "pc-softmax":
        log_prior = log_prior_from_labels(data.labels, len(data.class_names)).to(runtime.device)
        objective = functools.partial(pc_softmax_loss, log_prior=log_prior)
    history = fit(
        model,
        batches,
        objective,
        chosen,
        epochs=epochs,
        runtime=runtime,
        scheduler=build_scheduler(chosen, schedule, steps=epochs * len(batches)),
        run=run,
        description=f"seed {seed}",
    )
    if features is not None:
        logits = predict(model, features["held-out"], runtime=runtime)
    else:
        logits = predict_images(network, held_out, num_workers, runtime)
    return {
        "held_out_accuracy": (logits.argmax(dim=1) == held_out.labels).float().mean().item(),
        "train_loss": history[-1]["loss"],
        "seconds": sum(line["seconds"] for line in history),
        "n_train": len(data),
        "n_held_out": len(held_out),
    }


def pixels(data: LocalisationSet) -> Tensor:
    """The images of a part that are in memory, as convolutions like them best."""
    return data.images.contiguous(memory_format=torch.channels_last)


def predict_images(
    network: GlobalAveragePoolClassifier, data: LocalisationSet, num_workers: int, runtime: Runtime
) -> Tensor:
    """(N, K) float32 logits on the CPU."""
    if not isinstance(data.images, ImageFiles):
        return predict(network, pixels(data), runtime=runtime)
    files = ImageFileDataset(data.images.paths, network.spec.transform())
    loader = torch.utils.data.DataLoader(files, batch_size=64, num_workers=num_workers)
    return torch.cat([predict(network, images, runtime=runtime) for images in loader])


def pooled_features(
    network: GlobalAveragePoolClassifier,
    parts: dict[str, LocalisationSet],
    cache_dir: Path,
    num_workers: int,
    runtime: Runtime,
) -> dict[str, Tensor]:
    """(N, C) features of the training and of the held-out images, which must be files.

    Of the held-out images the maps are cached, which evaluation needs, and are pooled here.
    """
    of = functools.partial(
        cached_features, network, cache_dir=cache_dir, runtime=runtime, num_workers=num_workers
    )
    pooled = of(parts["train"].images, kind="pooled")
    maps = of(parts["held-out"].images, kind="maps")
    return {
        "train": torch.from_numpy(pooled),
        "held-out": torch.from_numpy(maps.mean(axis=(2, 3), dtype=np.float32)),
    }


def fingerprints(parts: dict[str, LocalisationSet], weights: str) -> dict[str, str]:
    """What the run is computed from, for config.json; see `mi_common.fingerprints`."""
    fingerprints = data_fingerprints(parts)
    if Path(weights).is_file():
        fingerprints["weights"] = file_fingerprint(Path(weights))
    return fingerprints


def split_names(parts: dict[str, LocalisationSet]) -> dict[str, list[str]]:
    """The names of the training and of the held-out images, where they are files."""
    return {
        name: list(part.names)
        for name, part in parts.items()
        if name in ("train", "held-out") and isinstance(part.images, ImageFiles)
    }


def build(args, num_classes: int, device: Runtime) -> GlobalAveragePoolClassifier:
    """The network that the flags describe, on the device, with the layers of --adl.

    Errors are those of `build_network`, `check_input` and `add_adl`.
    """
    seed_everything(args.seed)
    names = ("weights", "output_stride", "image_size")
    flags = {name: getattr(args, name) for name in names}
    network = build_network(args.network, num_classes=num_classes, **flags)
    if args.network != "small-cnn":
        check_input(network, args.network, network.spec.size)
    if args.adl:
        add_adl(network, args.adl, gamma=args.adl_gamma, rate=args.adl_rate)
    return network.to(device.device, memory_format=torch.channels_last)


def get_parser() -> cli.Parser:
    parser = cli.Parser("Train a classifier for weakly-supervised localisation.")
    cli.add_common_arguments(parser, output_dir=None)
    add_arguments(parser)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    set_defaults(args)
    device = runtime.from_flags(args)
    folder = args.output_dir or Path(f"runs/infocam/{args.dataset}-{args.loss}-{args.seed}")
    run, output_options = RunFolder(folder), {"resume": args.resume, "overwrite": args.overwrite}
    device.on_main(check_output, folder, vars(args), **output_options)
    sizes = {name: getattr(args, name) for name in ("images_per_class", "held_out_per_class")}
    parts = load_parts(args.dataset, args.data_dir, **sizes, test_images=1)
    output_options["data"] = fingerprints(parts, args.weights)
    device.on_main(check_output, folder, vars(args), **output_options)
    done = device.gather(args.resume and run.finished)[0]
    network = features = None
    if not done:  # before anything is written, so that unreadable images are found in time
        network = build(args, len(parts["train"].class_names), device)
        started = time.perf_counter()
        if args.freeze_backbone:
            cache_dir = args.data_dir / "features"
            features = pooled_features(network, parts, cache_dir, args.num_workers, device)
        feature_seconds = time.perf_counter() - started
    device.on_main(prepare_output, folder, vars(args), **output_options)
    device.require_shared(folder)
    device.say(f"infocam: {device.describe()}, seed {args.seed}, writing {folder}")
    if not done:
        names = ("loss", "seed", "epochs", "batch_size", "schedule", "num_workers")
        optimizer = ("optimizer", "lr", "weight_decay", "head_lr_ratio", "momentum", "nesterov")
        result = train(
            parts,
            run,
            network=network,
            features=features,
            **{name: getattr(args, name) for name in names},
            optimizer={name: getattr(args, name) for name in optimizer},
            runtime=device,
        )
        result["feature_seconds"] = feature_seconds
        device.on_main(write_json, run.path / "split.json", split_names(parts))
        device.on_main(run.save_result, result)
    run.require_files("checkpoint.pt", "split.json")
    result = run.result()
    device.say(f"held-out top-1 accuracy {100 * result['held_out_accuracy']:.1f} %")
    more = f" --data-dir {args.data_dir}" if args.data_dir != Path("data") else ""
    device.say(
        f"wrote {folder}/checkpoint.pt and result.json; "
        f"next: python -m infocam.evaluate {folder}{more}"
    )


if __name__ == "__main__":
    main()
