"""What the tests of `infocam.evaluate` share: small data, and scores image by image."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from PIL import Image

from infocam.data.load import load_splits
from infocam.models.networks import build_network
from mi_common.records import RunFolder

METHODS = ["cam", "infocam", "infocam+"]
RULES = ["fixed", "validation", "oracle"]
HUNDREDTHS = [i / 100 for i in range(100)]
SCORED = ["threshold", "gt_known", "top1_loc", "max_box_acc"]
DIGITS = {"images_per_class": 14, "val_per_class": 4, "test_images": 25}
TINY = {"images_per_class": 6, "val_per_class": 2, "test_images": None}


@dataclass(frozen=True)
class TrainedRun:
    """A data folder, a finished run on it, and the words of its command line."""

    data_dir: Path
    folder: Path
    words: list[str]


def plain_words(run, folder, *more) -> list[str]:
    words = ["--data-dir", run.data_dir, "--output-dir", folder, "--device", "cpu"]
    return [str(word) for word in (*words, "--num-workers", 0, "--gallery", 0, *more)]


def results_of(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "results.csv")


def network_of(run) -> torch.nn.Module:
    """The run's network, put together without `infocam.evaluate`."""
    flags = RunFolder(run.folder).config("flags")
    state = RunFolder(run.folder).load_checkpoint()["model"]
    classes = 4 if flags["dataset"] == "tiny-imagenet" else 10
    network = build_network(flags["network"], weights=flags["weights"], num_classes=classes)
    (network.head if classes == 4 else network).load_state_dict(state)
    return network.eval()


def tiny_features(run, network) -> tuple[dict, dict]:
    """The parts of the mini Tiny-ImageNet and their feature maps as the cache has them."""
    parts = load_splits("tiny-imagenet", run.data_dir, **TINY)
    transform = network.spec.transform()
    features = {}
    for part in ("validation", "test"):
        pictures = [Image.open(path).convert("RGB") for path in parts[part].images]
        with torch.inference_mode():
            maps = network.features(torch.stack([transform(picture) for picture in pictures]))
        features[part] = maps.half().float().numpy()  # the cache keeps 16 bits
    return parts, features


def slow_scores(hits, validation_hits, correct, thresholds, rule) -> list[float]:
    """threshold, gt_known, top1_loc and max_box_acc, image by image."""
    chooser = hits if rule == "oracle" else validation_hits
    counts = [int(chooser[:, t].sum()) for t in range(len(thresholds))]
    best = thresholds.index(0.2) if rule == "fixed" else counts.index(max(counts))
    known = sum(bool(h[best]) for h in hits)
    both = sum(bool(h[best]) and bool(c) for h, c in zip(hits, correct, strict=True))
    most = max(int(hits[:, t].sum()) for t in range(len(thresholds)))
    n = len(hits)
    return [thresholds[best], known / n, both / n, most / n]
