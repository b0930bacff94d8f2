"""The maps of a split by all methods from one pass of the network, and their scores."""

from concurrent.futures import Executor

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from infocam.data.masks import read_mask
from infocam.maps.cam import Maps, method_maps
from infocam.scoring.faithfulness import insertion_deletion
from infocam.scoring.metrics import Evaluator, ScoredMaps
from infocam.scoring.protocols import Protocol
from mi_common.image_sets import ImageSet
from mi_common.training import ImageClassifier

MAX_IMAGES, MAX_MASK_PIXELS = 1000, 2**28  # in memory at once


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
    """Boxes and scores of every image of a split; `misread`, `workers`: see `Evaluator`."""
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
    scoring = {"normalisation": options.normalisation, "misread": misread, "workers": workers}
    evaluators = {key: Evaluator(protocol, **scoring) for key in all_maps}
    step = MAX_IMAGES
    if data.mask_files is not None:
        step = max(1, min(MAX_IMAGES, MAX_MASK_PIXELS // int(data.sizes.prod(axis=1).max())))
    for start in tqdm(range(0, len(data), step), desc="boxes", disable=None):
        block = range(start, min(start + step, len(data)))
        masks = data.mask_files and [read_mask(data.mask_files[i], *data.sizes[i]) for i in block]
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
            chunk_maps = torch.from_numpy(maps[chunk.numpy()]).to(images.device)
            areas[method].append(insertion_deletion(probability, images, chunk_maps, labels))
    means = [
        [method, *(torch.cat(values).mean().item() for values in zip(*chunks, strict=True))]
        for method, chunks in areas.items()
    ]
    return pd.DataFrame(means, columns=["method", "insertion", "deletion"])
