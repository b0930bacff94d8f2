"""The maps of a split by all methods from one pass of the network, and their scores."""

import itertools
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from infocam.data.masks import scored_mask
from infocam.maps.cam import Maps, method_maps
from infocam.scoring.faithfulness import insertion_deletion
from infocam.scoring.metrics import Curves, Evaluator, ScoredMaps
from infocam.scoring.protocols import Protocol
from mi_common.image_sets import ImageSet
from mi_common.progress import in_blocks
from mi_common.training import ImageClassifier

MAX_IMAGES, MAX_MASK_PIXELS = 1000, 2**28  # in memory at once
Key = TypeVar("Key")


@dataclass(frozen=True)
class SplitMaps:
    """The maps of a split, and the network's predictions; see `ScoredMaps`."""

    maps: dict[tuple[str, int], np.ndarray]  # (N, h, w) float32 by method and region
    predictions: np.ndarray
    ranks: np.ndarray

    def scored(self, curves: dict[tuple[str, int], Curves]) -> ScoredMaps:
        """The maps without region filter, with the scores of all."""
        unfiltered = {method: maps for (method, region), maps in self.maps.items() if region == 1}
        return ScoredMaps(curves, unfiltered, self.predictions, self.ranks)


@torch.no_grad()
def split_maps(classifier: ImageClassifier, data: ImageSet, options: Maps) -> SplitMaps:
    """The maps of every image of a split by all methods, from one pass of the network."""
    head = classifier.network.head
    # One array for each method: many small ones between large temporary ones would keep the heap
    # from shrinking.
    maps: dict[tuple[str, int], np.ndarray] = {}
    predicted, ranks = np.empty(len(data), np.int64), np.empty(len(data), np.int64)
    earlier_maps = itertools.repeat((None, None))
    if options.earlier_exponents:
        earlier_maps = classifier.feature_maps(data, earlier=True)
    batches = zip(earlier_maps, classifier.feature_maps(data), strict=False)
    for (_, earlier), (rows, features) in batches:
        logits = head(features.mean(dim=(2, 3)))
        labels = data.labels[rows].to(logits.device)
        label_logits = logits.gather(1, labels[:, None])
        ranks[rows] = (logits > label_logits).sum(dim=1).cpu().numpy()
        predicted[rows] = logits.argmax(dim=1).cpu().numpy()
        made = method_maps(options, features, head, labels, logits, earlier)
        for key, values in made.items():
            if key not in maps:
                maps[key] = np.empty((len(data), *values.shape[1:]), np.float32)
            maps[key][rows] = values.cpu().numpy()
    return SplitMaps(maps, predicted, ranks)


def score_maps(
    maps: dict[Key, np.ndarray],
    data: ImageSet,
    evaluators: dict[Key, Evaluator],
    *,
    label: str = "boxes",
) -> dict[Key, Curves]:
    """The scores of (N, h, w) maps of all images of a split by their evaluators.

    `label` is that of the progress.
    """
    step, protocol = MAX_IMAGES, next(iter(evaluators.values())).protocol
    if data.mask_files is not None:
        step = max(1, min(MAX_IMAGES, MAX_MASK_PIXELS // int(data.sizes.prod(axis=1).max())))
    for block in in_blocks(len(data), step, label):
        masks = data.mask_files and [
            scored_mask(data.mask_files[i], data.sizes[i], protocol.size(data.sizes[i]))
            for i in block
        ]
        boxes, sizes = data.boxes[block.start : block.stop], data.sizes[block]
        for key, values in maps.items():
            evaluators[key].accumulate(values[block], boxes, sizes, masks)
    return {key: evaluator.compute() for key, evaluator in evaluators.items()}


def localise(
    classifier: ImageClassifier,
    data: ImageSet,
    options: Maps,
    protocol: Protocol,
    *,
    misread: bool,
    workers: Executor | None,
) -> ScoredMaps:
    """Boxes and scores of every image of a split; `misread`, `workers`: see `Evaluator`."""
    scoring = {"normalisation": options.normalisation, "misread": misread, "workers": workers}
    found = split_maps(classifier, data, options)
    curves = score_maps(
        found.maps, data, {key: Evaluator(protocol, **scoring) for key in found.maps}
    )
    return found.scored(curves)


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

    for block in in_blocks(len(indices), 8, "insertion and deletion"):
        chunk = indices[block.start : block.stop]
        images = classifier.pixels(data, chunk.tolist())
        labels = data.labels[chunk].to(images.device)
        for method, maps in scored.maps.items():
            chunk_maps = torch.from_numpy(maps[chunk.numpy()]).to(images.device)
            areas[method].append(insertion_deletion(probability, images, chunk_maps, labels))
    means = [
        [method, *(torch.cat(values).mean().item() for values in zip(*chunks, strict=True))]
        for method, chunks in areas.items()
    ]
    return pd.DataFrame(means, columns=["method", "insertion", "deletion"])
