"""A network's maps of a part of the data and what they are worth: one pass, all methods."""

from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from infocam.data.load import LocalisationSet
from infocam.maps.cam import coefficients, contrast_maps, pointwise_information_shift, region_filter
from infocam.maps.gradient import gradient_maps
from infocam.names import GRADIENT_METHODS, RANDOM
from infocam.scoring.faithfulness import insertion_deletion
from infocam.scoring.metrics import Evaluator, ScoredMaps
from infocam.scoring.protocols import Protocol
from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.features import cached_features
from mi_common.image_files import ImageFiles, read_image
from mi_common.runtime import Runtime

BATCH = 100
BLOCK, BLOCK_PIXELS = 1000, 2**28  # images, and pixels of masks, that are in memory at once


@dataclass(frozen=True)
class Maps:
    """How maps are made and boxed.

    Attributes:
        methods: contrasts of `infocam.maps.cam`, methods of `infocam.maps.gradient`, and `RANDOM`.
        regions: sides of the region filters; 1, no filter, among them.
        padding: of the region filter.
        normalisation: see `boxes.normalise`.
        prior_shift: (K,) what turns logits into PC-softmax logits: minus the log prior for a
            network trained by softmax, zeros for PC-softmax.
        log_prior: (K,) of the training data; None leaves the maps without bias and prior.
    """

    methods: list[str]
    regions: list[int]
    padding: str = "same"
    normalisation: str = "minmax"
    prior_shift: Tensor | None = None
    log_prior: Tensor | None = None


def feature_batches(
    network: GlobalAveragePoolClassifier,
    data: LocalisationSet,
    *,
    cache_dir: Path,
    num_workers: int,
    runtime: Runtime,
) -> Iterator[tuple[slice, Tensor]]:
    """Feature maps (B, C, h, w) of a part, batch by batch; those of image files are cached."""
    cached = None
    if isinstance(data.images, ImageFiles):
        cached = cached_features(
            network,
            data.images,
            cache_dir,
            kind="maps",
            runtime=runtime,
            num_workers=num_workers,
        )
    for start in tqdm(range(0, len(data), BATCH), desc="maps", disable=None):
        rows = slice(start, start + BATCH)
        if cached is not None:
            yield rows, torch.from_numpy(cached[rows]).to(runtime.device).float()
        else:
            with runtime.autocast():
                maps = network.features(data.images[rows].to(runtime.device))
            yield rows, maps.float()


def method_maps(
    options: Maps, features: Tensor, head: nn.Linear, labels: Tensor, logits: Tensor
) -> dict[tuple[str, int], Tensor]:
    """(B, h, w) maps by method and region, from (B, C, h, w) features and (B, K) logits."""
    contrasts = [m for m in options.methods if m not in (*GRADIENT_METHODS, RANDOM)]
    plain, rows = {}, None
    if contrasts:
        if options.prior_shift is not None:
            logits = logits + options.prior_shift
        rows = torch.stack([coefficients(name, logits, labels) for name in contrasts], dim=1)
        maps = contrast_maps(features, head.weight, rows)
        plain = dict(zip(contrasts, maps.unbind(dim=1), strict=True))
    for method in set(options.methods) & set(GRADIENT_METHODS):
        plain[method] = gradient_maps(method, features, head, labels)
    if RANDOM in options.methods:
        generator = torch.Generator().manual_seed(0)  # the same direction for all images
        direction = torch.randn(features.shape[1], generator=generator).to(features)
        plain[RANDOM] = torch.einsum("bchw,c->bhw", features, direction)
    found = {}
    for method in options.methods:
        for region in options.regions:
            maps = region_filter(plain[method], region, padding=options.padding)
            if options.log_prior is not None and method in contrasts:
                own = rows[:, [contrasts.index(method)]]
                maps = maps[:, None]
                shift = pointwise_information_shift(own, logits, maps, options.log_prior)
                maps = (maps + shift)[:, 0]
            found[method, region] = maps
    return found


@torch.no_grad()
def localise(
    network: GlobalAveragePoolClassifier,
    data: LocalisationSet,
    options: Maps,
    protocol: Protocol,
    *,
    misread: bool,
    workers: Executor | None,
    **features,
) -> ScoredMaps:
    """Boxes and scores of every image of a part, from one pass of the network.

    Args:
        misread, workers: see `Evaluator`.
        features: options of `feature_batches`.
    """
    # Written into one array each: small arrays kept between large ones would pin the heap.
    whole: dict[tuple[str, int], np.ndarray] = {}
    predicted, ranks = np.empty(len(data), np.int64), np.empty(len(data), np.int64)
    for rows, batch in feature_batches(network, data, **features):
        logits = network.head(batch.mean(dim=(2, 3)))
        labels = data.labels[rows].to(logits.device)
        own = logits.gather(1, labels[:, None])
        ranks[rows] = (logits > own).sum(dim=1).cpu().numpy()
        predicted[rows] = logits.argmax(dim=1).cpu().numpy()
        for key, values in method_maps(options, batch, network.head, labels, logits).items():
            if key not in whole:
                whole[key] = np.empty((len(data), *values.shape[1:]), np.float32)
            whole[key][rows] = values.cpu().numpy()
    normalisation = options.normalisation
    evaluators = {
        key: Evaluator(protocol, normalisation=normalisation, misread=misread, workers=workers)
        for key in whole
    }
    step = BLOCK
    if data.masks is not None:
        step = max(1, min(BLOCK, BLOCK_PIXELS // int(data.sizes.prod(axis=1).max())))
    for start in tqdm(range(0, len(data), step), desc="boxes", disable=None):
        block = range(start, min(start + step, len(data)))
        masks = None if data.masks is None else [data.mask(i) for i in block]
        boxes, sizes = data.boxes[block.start : block.stop], data.sizes[block]
        for key, evaluator in evaluators.items():
            evaluator.accumulate(whole[key][block], boxes, sizes, masks)
    return ScoredMaps(
        {key: evaluator.compute() for key, evaluator in evaluators.items()},
        {method: whole[method, 1] for method in options.methods},
        predicted,
        ranks,
    )


@torch.no_grad()
def faithfulness(
    network: GlobalAveragePoolClassifier,
    data: LocalisationSet,
    found: ScoredMaps,
    count: int,
    *,
    runtime: Runtime,
) -> pd.DataFrame:
    """Mean insertion and deletion areas by method, over `count` images spread evenly."""
    indices = torch.arange(min(count, len(data))) * len(data) // min(count, len(data))
    transform = network.spec.transform()
    areas: dict[str, list] = {method: [] for method in found.maps}

    def probability(images: Tensor) -> Tensor:
        with runtime.autocast():
            return torch.softmax(network(images).float(), dim=1)

    for chunk in tqdm(indices.split(8), desc="insertion and deletion", disable=None):
        if isinstance(data.images, ImageFiles):
            images = torch.stack([transform(read_image(data.images.paths[i])) for i in chunk])
        else:
            images = data.images[chunk]
        images = images.to(runtime.device)
        labels = data.labels[chunk].to(runtime.device)
        for method, maps in found.maps.items():
            own = torch.from_numpy(maps[chunk.numpy()]).to(runtime.device)
            areas[method].append(insertion_deletion(probability, images, own, labels))
    rows = []
    for method, chunks in areas.items():
        inserted, deleted = (
            torch.cat(values).mean().item() for values in zip(*chunks, strict=True)
        )
        rows.append({"method": method, "insertion": inserted, "deletion": deleted})
    return pd.DataFrame(rows)
