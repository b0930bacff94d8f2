"""The maps of a split by all methods from one pass of the network, and their scores."""

from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from tqdm import tqdm

from infocam.data.masks import image_mask
from infocam.maps.cam import coefficients, contrast_maps, pointwise_information_shift, region_filter
from infocam.maps.gradient import gradient_maps
from infocam.names import GRADIENT_METHODS, RANDOM
from infocam.scoring.faithfulness import insertion_deletion
from infocam.scoring.metrics import Evaluator, ScoredMaps
from infocam.scoring.protocols import Protocol
from mi_common.image_sets import ImageSet
from mi_common.training import ImageClassifier

BLOCK, BLOCK_PIXELS = 1000, 2**28  # most images, and pixels of masks, in memory at once


@dataclass(frozen=True)
class Maps:
    """How maps are made and turned into boxes.

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


def method_maps(
    options: Maps, features: Tensor, head: nn.Linear, labels: Tensor, logits: Tensor
) -> dict[tuple[str, int], Tensor]:
    """(B, h, w) maps by method and region, from (B, C, h, w) features and (B, K) logits."""
    contrasts = [m for m in options.methods if m not in (*GRADIENT_METHODS, RANDOM)]
    unfiltered, rows = {}, None
    if contrasts:
        if options.prior_shift is not None:
            logits = logits + options.prior_shift
        rows = torch.stack([coefficients(name, logits, labels) for name in contrasts], dim=1)
        maps = contrast_maps(features, head.weight, rows)
        unfiltered = dict(zip(contrasts, maps.unbind(dim=1), strict=True))
    for method in set(options.methods) & set(GRADIENT_METHODS):
        unfiltered[method] = gradient_maps(method, features, head, labels)
    if RANDOM in options.methods:
        generator = torch.Generator().manual_seed(0)  # the same direction for all images
        direction = torch.randn(features.shape[1], generator=generator).to(features)
        unfiltered[RANDOM] = torch.einsum("bchw,c->bhw", features, direction)
    filtered = {}
    for method in options.methods:
        for region in options.regions:
            maps = region_filter(unfiltered[method], region, padding=options.padding)
            if options.log_prior is not None and method in contrasts:
                row = rows[:, [contrasts.index(method)]]
                maps = maps[:, None]
                shift = pointwise_information_shift(row, logits, maps, options.log_prior)
                maps = (maps + shift)[:, 0]
            filtered[method, region] = maps
    return filtered


@torch.no_grad()
def localise(
    classifier: ImageClassifier,
    data: ImageSet,
    options: Maps,
    protocol: Protocol,
    *,
    misread: bool,
    workers: Executor | None,
) -> ScoredMaps:
    """Boxes and scores of every image of a split, from one pass of the network.

    Args:
        misread, workers: see `Evaluator`.
    """
    head = classifier.network.head
    # One array for each method: many small ones between large temporary ones would keep the heap
    # from shrinking.
    all_maps: dict[tuple[str, int], np.ndarray] = {}
    predicted, ranks = np.empty(len(data), np.int64), np.empty(len(data), np.int64)
    for rows, features in classifier.feature_maps(data):
        logits = head(features.mean(dim=(2, 3)))
        labels = data.labels[rows].to(logits.device)
        label_logits = logits.gather(1, labels[:, None])
        ranks[rows] = (logits > label_logits).sum(dim=1).cpu().numpy()
        predicted[rows] = logits.argmax(dim=1).cpu().numpy()
        for key, values in method_maps(options, features, head, labels, logits).items():
            if key not in all_maps:
                all_maps[key] = np.empty((len(data), *values.shape[1:]), np.float32)
            all_maps[key][rows] = values.cpu().numpy()
    normalisation = options.normalisation
    evaluators = {
        key: Evaluator(protocol, normalisation=normalisation, misread=misread, workers=workers)
        for key in all_maps
    }
    step = BLOCK
    if data.mask_files is not None:
        step = max(1, min(BLOCK, BLOCK_PIXELS // int(data.sizes.prod(axis=1).max())))
    for start in tqdm(range(0, len(data), step), desc="boxes", disable=None):
        block = range(start, min(start + step, len(data)))
        masks = None if data.mask_files is None else [image_mask(data, i) for i in block]
        boxes, sizes = data.boxes[block.start : block.stop], data.sizes[block]
        for key, evaluator in evaluators.items():
            evaluator.accumulate(all_maps[key][block], boxes, sizes, masks)
    return ScoredMaps(
        {key: evaluator.compute() for key, evaluator in evaluators.items()},
        {method: all_maps[method, 1] for method in options.methods},
        predicted,
        ranks,
    )


@torch.no_grad()
def faithfulness(
    classifier: ImageClassifier, data: ImageSet, scored: ScoredMaps, count: int
) -> pd.DataFrame:
    """Mean insertion and deletion areas by method, over `count` images spread evenly."""
    indices = torch.arange(min(count, len(data))) * len(data) // min(count, len(data))
    areas: dict[str, list] = {method: [] for method in scored.maps}

    def probability(images: Tensor) -> Tensor:
        with classifier.runtime.autocast():
            return torch.softmax(classifier.network(images).float(), dim=1)

    for chunk in tqdm(indices.split(8), desc="insertion and deletion", disable=None):
        images = classifier.pixels(data, chunk.tolist())
        labels = data.labels[chunk].to(images.device)
        for method, maps in scored.maps.items():
            of_chunk = torch.from_numpy(maps[chunk.numpy()]).to(images.device)
            areas[method].append(insertion_deletion(probability, images, of_chunk, labels))
    rows = []
    for method, chunks in areas.items():
        inserted, deleted = (
            torch.cat(values).mean().item() for values in zip(*chunks, strict=True)
        )
        rows.append({"method": method, "insertion": inserted, "deletion": deleted})
    return pd.DataFrame(rows)
