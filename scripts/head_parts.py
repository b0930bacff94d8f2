"""The part that all class weights of a head share, and what it does to class activation maps.

Weights w_k = v_k + m with the v_k summing to zero: softmax does not see m, and CAM shows it. CAM of
the v_k is infoCAM times (K - 1) / K, so the gain of infoCAM on CAM is the effect of m alone.
"""

from pathlib import Path

import numpy as np
import torch
from timm.data import ImageNetInfo
from torch import Tensor

from infocam.models.classifiers import TrainedRun
from mi_common.backbones import build_backbone
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet
from mi_common.training import ImageClassifier
from scripts.localisation import hits_of_maps, with_interval


def common_share(weights: Tensor) -> float:
    """Share of the squared norm of (K, C) head weights in their mean over classes, in 0..1."""
    weights = weights.double()
    return float(len(weights) * weights.mean(dim=0).square().sum() / weights.square().sum())


def synsets_of(run: TrainedRun, data_dir: Path | None) -> list[str]:
    """The synset of each class; UserError for a run without those of Tiny-ImageNet."""
    if (run.settings.data.dataset, run.settings.network) != ("tiny-imagenet", "efficientnet_lite0"):
        raise UserError(
            f"--imagenet: {run.folder.path} is of {run.settings.data.dataset} and "
            f"{run.settings.network}; give a run of tiny-imagenet and efficientnet_lite0 first"
        )
    return ((data_dir or run.data_dir) / "tiny-imagenet-200/wnids.txt").read_text().split()


def imagenet_weights(wnids: list[str]) -> Tensor:
    """(1000, C) weights of EfficientNet-Lite0's ImageNet head, those of the given synsets first.

    UserError for a synset that is not among ImageNet's 1,000 classes.
    """
    known = {wnid: k for k, wnid in enumerate(ImageNetInfo().label_names())}
    if unknown := [wnid for wnid in wnids if wnid not in known]:
        raise UserError(f"synset {unknown[0]}: not one of ImageNet's 1,000 classes")
    first = [known[wnid] for wnid in wnids]
    rest = sorted(set(known.values()) - set(first))
    with torch.no_grad():
        return build_backbone("efficientnet_lite0").head.weight[first + rest].clone()


@torch.no_grad()
def part_maps(
    classifier: ImageClassifier, images: ImageSet, weights: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """The maps of the label's own part v_y and of the common part m, (N, h, w) float32 each."""
    common = weights.mean(dim=0)
    own_maps, common_maps = [], []
    for rows, features in classifier.feature_maps(images):
        own = (weights - common)[images.labels[rows]].to(features)
        own_maps.append(torch.einsum("bchw,bc->bhw", features, own).cpu().numpy())
        common_maps.append(torch.einsum("bchw,c->bhw", features, common.to(features)).cpu().numpy())
    return np.concatenate(own_maps), np.concatenate(common_maps)


def common_part_rows(
    classifier: ImageClassifier,
    sets: dict[str, ImageSet],
    weights: Tensor,
    factors: list[float],
) -> list[dict]:
    """GT-known localisation of CAM with the common part times each factor, and infoCAM's gain.

    Args:
        weights: (K, C) of the head, label k's in row k.

    Returns:
        A row for each factor: factor; share, see `common_share`; map_share, the common part's share
        of the variance over positions, in the mean over the test images; cam, infocam and gain,
        fractions of the images, each with its interval.
    """
    parts = {split: part_maps(classifier, images, weights) for split, images in sets.items()}
    common = weights.mean(dim=0)
    infocam = hits_of_maps({split: own for split, (own, _) in parts.items()}, sets)
    rows = []
    for factor in factors:
        maps = {split: own + factor * shared for split, (own, shared) in parts.items()}
        cam = hits_of_maps(maps, sets)
        own, shared = (part.var(axis=(1, 2)) for part in parts["test"])
        share = factor**2 * shared / (own + factor**2 * shared)
        rows.append(
            {"factor": factor, "share": common_share(weights + (factor - 1) * common)}
            | {"map_share": float(share.mean()), "n": len(cam)}
            | with_interval("cam", cam)
            | with_interval("infocam", infocam)
            | with_interval("gain", infocam.astype(float) - cam)
        )
    return rows
