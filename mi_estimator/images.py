"""Images as samples: their pixels, or the pooled features of a frozen, pre-trained backbone.

Libraries that take seconds are imported where they are used: a missing folder must not wait.
"""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mi_common.errors import UserError
from mi_common.image_files import cub, image_folder, tiny_imagenet
from mi_common.image_sets import ImageSet
from mi_common.runtime import Runtime, seed_everything
from mi_estimator.names import listed
from mi_estimator.samples import Samples, numeric_samples


def read_images(
    dataset: str, data_dir: Path, *, limit: int | None = None, seed: int = 0
) -> tuple[ImageSet, list[str]]:
    """The training images of an image set, or `limit` of them, and a note that says which.

    Those are the first images of a set in memory, whose files are in no order, but a random part of
    image files, which are sorted by class; see `stratified_rows`.

    Args:
        dataset: one of `names.DATASETS`; "folder" is `data_dir` itself, which needs no test images.

    UserError for missing or damaged files, one class, or a class that has no image among `limit`.
    """
    if dataset == "folder":
        images = image_folder(data_dir, "train", required=("train",))
    elif dataset in (readers := {"cub": cub, "tiny-imagenet": tiny_imagenet}):
        images = readers[dataset](data_dir, "train")
    else:
        from mi_common.datasets import image_tensors

        images = image_tensors(dataset, data_dir, "train")
    class_names = images.class_names[: int(images.labels.max()) + 1]
    if len(class_names) < 2:
        raise UserError(f"{dataset}: one class, {class_names[0]}; at least two are needed")
    images = dataclasses.replace(images, class_names=class_names)
    if limit is None or limit >= len(images):
        return images, []
    if images.in_memory:
        rows = torch.arange(limit)
        note = f"the first {limit} of {len(images)} images"
    else:
        rows = torch.from_numpy(stratified_rows(images.labels.numpy(), limit, seed))
        note = f"{limit} of {len(images)} images, drawn at random with seed {seed}; each class "
        note += "keeps its share"
    selected = images.select(rows)
    if lacking := set(images.labels.tolist()) - set(selected.labels.tolist()):
        names = listed([class_names[k] for k in sorted(lacking)], 10)
        raise UserError(f"--max-samples {limit}: no images of the classes {names}; use more")
    return selected, [note]


def stratified_rows(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """(count,) ascending positions in (N,) labels: each class has its share, up to one sample."""
    order = np.random.default_rng(seed).permutation(len(labels))
    in_class = pd.Series(order).groupby(labels[order])
    quantile = (in_class.cumcount() + 0.5) / in_class.transform("size")
    return np.sort(order[np.argsort(quantile, kind="stable")[:count]])


def pixel_samples(images: ImageSet, notes: list[str]) -> Samples:
    """Images as they are, for a network; those of Tiny-ImageNet's files are decoded.

    The rows are the names of image files, or positions.
    """
    rows = _rows(images)
    if not images.in_memory:
        from mi_common.datasets import decode

        images = decode(images, side=64)
    columns, source = ["image"], {"images": images.fingerprint}
    pixels, labels, names = images.images, images.labels, images.class_names
    return Samples(pixels, labels, names, columns, columns, rows, notes, source=source)


def backbone_samples(
    images: ImageSet,
    notes: list[str],
    *,
    backbone: str,
    weights: str,
    image_size: int | None,
    cache_dir: Path,
    num_workers: int,
    seed: int,
    runtime: Runtime,
) -> Samples:
    """The means of a backbone's feature maps: float32 features f0, f1, ... without constant ones.

    Those of image files are kept in `cache_dir`, as in the training of a head on a frozen backbone.

    Args:
        image_size: side to which image files are stretched; None for the backbone's own. Images in
            memory keep their size.
        seed: of weights "none".

    UserErrors of `build_backbone`, `check_input_and_freeze_unused` and `cached_features`.
    """
    from mi_common.backbones import build_backbone, check_input_and_freeze_unused
    from mi_common.training import ImageClassifier

    seed_everything(seed)
    size = images.images.shape[-1] if images.in_memory else image_size
    num_classes = len(images.class_names)
    network = build_backbone(backbone, weights=weights, num_classes=num_classes, image_size=size)
    check_input_and_freeze_unused(network, backbone)
    options = {"cache_dir": cache_dir, "num_workers": num_workers, "runtime": runtime}
    classifier = ImageClassifier(network, head_only=True, **options)
    values = classifier.pooled_features(images).double().numpy()
    side, digest = network.spec.size, classifier.backbone_digest()
    described = {"name": backbone, "weights": weights, "image_size": side, "sha256": digest}
    source = {"images": images.fingerprint, "backbone": described}
    what = f"{values.shape[1]} pooled features of {backbone} (weights {weights}) at {side} pixels"
    names = [f"f{column}" for column in range(values.shape[1])]
    samples = numeric_samples(
        values,
        images.labels.numpy(),
        images.class_names,
        names=names,
        sources=names,
        rows=_rows(images),
        notes=[*notes, what],
        drop_constant=True,
    )
    constant = values.shape[1] - len(samples.feature_names)
    if 2 * constant > values.shape[1]:
        samples.warnings.append(
            f"{constant} of {values.shape[1]} features are constant, so the others may tell little "
            f"of the images: {side} pixels may be too few for {backbone}"
        )
    return dataclasses.replace(samples, source=source)


def _rows(images: ImageSet) -> np.ndarray:
    if images.in_memory:
        return np.arange(len(images))
    root = os.path.commonpath([path.parent for path in images.images])
    names = (os.fsencode(os.path.relpath(path, root)) for path in images.images)
    return np.array([name.decode(errors="backslashreplace") for name in names])
