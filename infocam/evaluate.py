"""Boxes from a trained run's maps, scored against the true ones.

    python -m infocam.evaluate runs/infocam/tiny-imagenet-softmax-0 --methods cam infocam infocam+

The threshold of each method is chosen on the run's held-out images; the oracle's, the best on the
reported images themselves, stands beside it. Centre box (its size chosen by the same rules) and
whole image are the baselines. Writes `results.csv`, `table.md`, `table.tex`,
`threshold_curves.png` and `overlays/`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from common import cli, runtime
from common.backbones import GlobalAveragePoolClassifier
from common.errors import UserError
from common.features import cached_features
from common.image_files import ImageFiles
from common.records import RunFolder, check_output, prepare_output, write_atomically
from common.runtime import Runtime
from common.tables import to_markdown, write_tables
from infocam.boxes import THRESHOLDS, boxes_at_thresholds, centre_boxes, resize_map, to_8bit
from infocam.cam import METHODS, class_maps, localisation_map
from infocam.data import LocalisationSet, load_parts
from infocam.metrics import best_threshold, hits, scores
from infocam.networks import build_network
from infocam.overlay import save_overlay
from infocam.plots import plot_threshold_curves

BATCH = 100


@dataclass(frozen=True)
class Localised:
    """What the maps of one part of the data say.

    Attributes:
        maps: (N, h, w) float32 localisation maps by method, at the network's resolution.
        boxes: (N, T, 4) boxes at each threshold by method.
        predicted: (N,) the class with the largest logit.
    """

    maps: dict[str, np.ndarray]
    boxes: dict[str, np.ndarray]
    predicted: np.ndarray


def load_network(run: RunFolder, num_classes: int, device: Runtime) -> GlobalAveragePoolClassifier:
    """The trained network of a run, in eval mode on the device."""
    flags, checkpoint = run.config(), run.load_checkpoint()
    if checkpoint is None:
        raise UserError(f"{run.checkpoint_file}: not there; train again with --overwrite")
    network = build_network(flags["network"], weights=flags["weights"], num_classes=num_classes)
    trained = network.head if flags["dataset"] == "tiny-imagenet" else network
    trained_classes = len(next(reversed(checkpoint["model"].values())))  # the head's bias is last
    if trained_classes != num_classes:
        raise UserError(f"{run.path} has {trained_classes} classes, the data {num_classes}")
    trained.load_state_dict(checkpoint["model"])
    return network.to(device.device, memory_format=torch.channels_last).eval()


def feature_batches(
    network: GlobalAveragePoolClassifier,
    data: LocalisationSet,
    cache_dir: Path,
    num_workers: int,
    device: Runtime,
) -> Iterator[tuple[slice, Tensor]]:
    """Feature maps (B, C, h, w) of a part, batch by batch; those of image files are cached."""
    cached = None
    if isinstance(data.images, ImageFiles):
        cached = cached_features(
            network, data.images, cache_dir, kind="maps", runtime=device, num_workers=num_workers
        )
    for start in tqdm(range(0, len(data), BATCH), desc="boxes", disable=None):
        rows = slice(start, start + BATCH)
        if cached is not None:
            yield rows, torch.from_numpy(cached[rows].astype(np.float32)).to(device.device)
        else:
            with device.autocast():
                maps = network.features(data.images[rows].to(device.device))
            yield rows, maps.float()


@torch.inference_mode()
def localise(
    network: GlobalAveragePoolClassifier,
    data: LocalisationSet,
    methods: list[str],
    *,
    cache_dir: Path,
    num_workers: int,
    runtime: Runtime,
) -> Localised:
    """Maps and boxes of every image of a part, from one pass of the network."""
    maps: dict[str, list] = {method: [] for method in methods}
    boxes: dict[str, list] = {method: [] for method in methods}
    predicted = []
    for rows, features in feature_batches(network, data, cache_dir, num_workers, runtime):
        every = class_maps(features, network.head.weight)
        logits = every.mean(dim=(2, 3)) + network.head.bias
        labels = data.labels[rows].to(every.device)
        predicted.append(logits.argmax(dim=1).cpu().numpy())
        for method in methods:
            values = localisation_map(method, every, labels, logits).cpu().numpy()
            maps[method].append(values)
            for value in values:
                levels = to_8bit(resize_map(value, data.width, data.height))
                boxes[method].append(boxes_at_thresholds(levels))
    return Localised(
        {method: np.concatenate(values) for method, values in maps.items()},
        {method: np.stack(values).astype(np.int32) for method, values in boxes.items()},
        np.concatenate(predicted),
    )


def score_methods(
    held_out: tuple[LocalisationSet, Localised], test: tuple[LocalisationSet, Localised]
) -> pd.DataFrame:
    """The rows of results.csv: the baselines, then each method, under both threshold rules."""
    correct = test[1].predicted == test[0].labels.numpy()
    sides = (1 + np.arange(100)) / 100
    lines = []
    for name, fractions in (("whole-image", sides[-1:]), ("centre-box", sides)):
        hit = [
            np.stack([hits(centre_boxes(d.width, d.height, fractions), b) for b in d.boxes])
            for d, _ in (test, held_out)
        ]
        lines += scores(name, *hit, correct, fractions)
    for method in test[1].boxes:
        hit = [hit_matrix(data, found.boxes[method]) for data, found in (test, held_out)]
        lines += scores(method, *hit, correct, THRESHOLDS)
    return pd.DataFrame(lines)


def hit_matrix(data: LocalisationSet, boxes: np.ndarray) -> np.ndarray:
    """(N, T, 4) boxes -> (N, T) whether they hit a true box of their image."""
    return np.stack([hits(own, truths) for own, truths in zip(boxes, data.boxes, strict=True)])


def save_overlays(
    folder: Path,
    data: LocalisationSet,
    found: Localised,
    thresholds: dict[str, int],
    count: int,
) -> list[Path]:
    """Overlays of `count` images spread evenly over the part, none of them picked by result.

    Args:
        thresholds: position in THRESHOLDS by method.
    """
    paths = []
    for index in dict.fromkeys(np.linspace(0, len(data) - 1, count).round().astype(int).tolist()):
        label, guess = int(data.labels[index]), int(found.predicted[index])
        title = data.class_names[label]
        title += "" if guess == label else f"\n(predicted {data.class_names[guess]})"
        paths.append(folder / f"{index:05d}.png")
        save_overlay(
            paths[-1],
            data.picture(index),
            {m: resize_map(v[index], data.width, data.height) for m, v in found.maps.items()},
            {method: boxes[index, thresholds[method]] for method, boxes in found.boxes.items()},
            data.boxes[index],
            title,
        )
    return paths


def table(results: pd.DataFrame) -> pd.DataFrame:
    """Scores in percent."""
    shown = results.astype({"threshold": object})
    shown["threshold"] = [f"{value:.2f}" for value in results["threshold"]]
    for name in ("gt_known", "top1_loc", "max_box_acc"):
        shown[name] = (100 * results[name]).map("{:.1f}".format)
    return shown


def get_parser() -> cli.Parser:
    parser = cli.Parser("Score the boxes of a trained run's localisation maps.")
    parser.add_argument("run", type=Path, help="folder that infocam.train wrote")
    cli.add_common_arguments(parser, output_dir=None, seed=False, resume=False)
    parser.add_argument(
        "--methods", nargs="+", choices=METHODS, default=list(METHODS), help="maps to score"
    )
    parser.add_argument(
        "--test-images",
        type=cli.positive_int,
        help="reported images, spread evenly over the test part; all if not given "
        "(2000 for scattered-digits)",
    )
    parser.add_argument(
        "--overlays", type=cli.non_negative_int, default=12, help="pictures to draw"
    )
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    device = runtime.from_flags(args)
    if device.world_size > 1:
        raise UserError("infocam.evaluate is one process; run it without torchrun")
    run = RunFolder(args.run)
    flags = run.config()
    if "images_per_class" not in flags:
        raise UserError(f"{args.run} is not a run of infocam.train")
    parts = load_parts(
        flags["dataset"],
        args.data_dir,
        images_per_class=flags["images_per_class"],
        held_out_per_class=flags["held_out_per_class"],
        test_images=args.test_images,
    )
    folder = args.output_dir or args.run / "evaluation"
    methods = list(dict.fromkeys(args.methods))
    network = load_network(run, len(parts["test"].class_names), device)
    check_output(folder, vars(args), overwrite=args.overwrite)
    print(f"infocam: {device.describe()}, {args.run}, writing {folder}", flush=True)

    found = {
        part: localise(
            network,
            parts[part],
            methods,
            cache_dir=args.data_dir / "features",
            num_workers=args.num_workers,
            runtime=device,
        )
        for part in ("held-out", "test")
    }
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    held_out, test = ((parts[part], found[part]) for part in ("held-out", "test"))
    results = score_methods(held_out, test)
    thresholds = {m: best_threshold(hit_matrix(held_out[0], held_out[1].boxes[m])) for m in methods}
    reported = results[results["threshold_rule"] != "oracle"].set_index("method")["gt_known"]
    plot_threshold_curves(
        THRESHOLDS,
        {m: hit_matrix(test[0], test[1].boxes[m]) for m in methods},
        thresholds,
        reported[["whole-image", "centre-box"]].to_dict(),
        folder / "threshold_curves.png",
    )
    overlays = save_overlays(folder / "overlays", *test, thresholds, args.overlays)
    write_tables(table(results), folder / "table")
    write_atomically(folder / "results.csv", lambda path: results.to_csv(path, index=False))
    accuracy = (test[1].predicted == test[0].labels.numpy()).mean()
    print(f"Percent of {len(test[0])} test images; top-1 accuracy {100 * accuracy:.1f}.\n")
    print(to_markdown(table(results)))
    print(f"wrote {folder}/results.csv, table, threshold_curves.png and {len(overlays)} overlays")


if __name__ == "__main__":
    main()
