"""The box head of `scripts.box_head`: from feature maps to one box, trained on true boxes."""

import copy
import itertools

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.ops import generalized_box_iou_loss

from infocam.maps.cam import coefficients, contrast_maps
from infocam.scoring.metrics import IOU_HIT, box_iou
from infocam.scoring.objects import largest_boxes
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet
from mi_common.progress import Progress
from mi_common.training import ImageClassifier
from scripts.localisation import hits_of_maps, with_interval

COMPONENTS = 128  # of the features, which make the head small and quick
WIDTH, HIDDEN, DROPOUT = 64, 128, 0.2
MAP_SCALE = 3  # of maps, beside features with variance one
LR, WEIGHT_DECAY, BATCH = 5e-3, 1e-2, 64
L1_WEIGHT = 2  # of the absolute error of corners, beside generalised IoU, which alone gets stuck
SELECTION = 5  # one in so many images chooses the number of epochs


class BoxHead(nn.Module):
    """(B, P, h, w) features and (B, 1, h, w) maps in 0..1 -> (B, 4) corners in 0..1.

    `use_features`, `use_map`: which of the two it sees.
    """

    def __init__(self, channels: int, side: int, *, use_features: bool, use_map: bool):
        super().__init__()
        self.use_features, self.use_map = use_features, use_map
        self.reduce = nn.Conv2d(channels, WIDTH, 1)
        inputs = (WIDTH * use_features + use_map) * side**2
        self.box = nn.Sequential(
            *(nn.Flatten(), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(inputs, HIDDEN)),
            *(nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, 4)),
        )

    def forward(self, features: Tensor, maps: Tensor) -> Tensor:
        inputs = [self.reduce(features)] * self.use_features + [MAP_SCALE * maps] * self.use_map
        centre, size = self.box(torch.cat(inputs, dim=1)).sigmoid().chunk(2, dim=1)
        return torch.cat([centre - size / 2, centre + size / 2], dim=1).clamp(0, 1)


@torch.no_grad()
def principal_components(classifier: ImageClassifier, images: ImageSet) -> tuple[Tensor, Tensor]:
    """(C,) mean and (C, P) directions of the features, scaled to a mean variance of one."""
    count, total, squares = 0, 0, 0
    for _, features in classifier.feature_maps(images):
        vectors = features.movedim(1, -1).flatten(0, -2)
        count, total = count + len(vectors), total + vectors.sum(dim=0).double()
        squares = squares + (vectors.T @ vectors).double()
    mean = total / count
    values, directions = torch.linalg.eigh(squares / count - mean.outer(mean))
    values, directions = values[-COMPONENTS:], directions[:, -COMPONENTS:]
    return mean.float(), (directions / values.mean().sqrt()).float()


@torch.no_grad()
def inputs_of(
    classifier: ImageClassifier, images: ImageSet, components: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """(N, P, h, w) principal components of the features and (N, h, w) infoCAM of the label."""
    head, all_features, all_maps = classifier.network.head, [], []
    mean, directions = components
    for rows, features in classifier.feature_maps(images):
        logits = head(features.mean(dim=(2, 3)))
        labels = images.labels[rows].to(logits.device)
        row = coefficients("infocam", logits, labels)[:, None]
        all_maps.append(contrast_maps(features, head.weight, row)[:, 0].cpu())
        centred = features - mean[:, None, None]
        all_features.append(torch.einsum("bchw,cp->bphw", centred, directions).cpu())
    return torch.cat(all_features), torch.cat(all_maps)


def unit_boxes(images: ImageSet) -> Tensor:
    """(N, 4) corners of the largest true box of each image, as fractions of its sides."""
    corners = largest_boxes(images.boxes) + np.array([0, 0, 1, 1])
    return torch.from_numpy(corners / np.tile(images.sizes, 2)).float()


def mirrored(boxes: Tensor) -> Tensor:
    """(N, 4) corners in 0..1 of the boxes in mirror images."""
    left, top, right, bottom = boxes.unbind(dim=1)
    return torch.stack([1 - right, top, 1 - left, bottom], dim=1)


def zero_to_one(maps: Tensor) -> Tensor:
    """(N, h, w) maps -> (N, 1, h, w), each from 0 to 1."""
    low, high = (extreme(maps, dim=(1, 2), keepdim=True) for extreme in (torch.amin, torch.amax))
    return ((maps - low) / (high - low).clamp_min(1e-12))[:, None]


@torch.no_grad()
def predicted_boxes(head: BoxHead, features: Tensor, maps: Tensor) -> Tensor:
    """(N, 4) corners in 0..1."""
    batches = zip(features.split(500), maps.split(500), strict=True)
    return torch.cat([head.eval()(part, values) for part, values in batches])


def hits_of_boxes(boxes: Tensor, images: ImageSet) -> np.ndarray:
    """(N,) bool: whether (N, 4) corners in 0..1 overlap a true box enough, in whole pixels."""
    pixels = (boxes.numpy() * np.tile(images.sizes, 2)).round() - [0, 0, 1, 1]
    pairs = zip(pixels, images.boxes, strict=True)
    return np.array([box_iou(box[None], truths).max() >= IOU_HIT for box, truths in pairs])


def train_box_head(
    features: Tensor,
    maps: Tensor,
    images: ImageSet,
    *,
    use_features: bool,
    use_map: bool,
    epochs: int,
    seed: int,
) -> tuple[BoxHead, int]:
    """The head after the epoch with the most hits on images that do not train it, and that epoch.

    Args:
        features, maps: (N, P, h, w) and (N, 1, h, w) of the images, which have true boxes.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    head = BoxHead(
        features.shape[1], features.shape[-1], use_features=use_features, use_map=use_map
    )
    optimizer = torch.optim.AdamW(head.parameters(), lr=LR, weight_decay=WEIGHT_DECAY)
    order = torch.randperm(len(features), generator=generator)
    selection, train = order[: len(order) // SELECTION], order[len(order) // SELECTION :]
    steps = -(-len(train) // BATCH) * epochs
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=steps)
    truths, best = unit_boxes(images), (-1.0, None, 0)
    for epoch in range(1, epochs + 1):
        head.train()
        for batch in train[torch.randperm(len(train), generator=generator)].split(BATCH):
            inputs, target = (features[batch], maps[batch]), truths[batch]
            if torch.rand((), generator=generator) < 0.5:
                inputs = tuple(values.flip(-1) for values in inputs)
                target = mirrored(target)
            boxes = head(*inputs)
            loss = generalized_box_iou_loss(boxes, target, reduction="mean")
            loss = loss + L1_WEIGHT * (boxes - target).abs().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            scheduler.step()
        boxes = predicted_boxes(head, features[selection], maps[selection])
        hits = hits_of_boxes(boxes, images.select(selection)).mean()
        if hits > best[0]:
            best = (hits, copy.deepcopy(head), epoch)
    return best[1], best[2]


def box_head_rows(
    classifier: ImageClassifier,
    sets: dict[str, ImageSet],
    inputs: list[str],
    *,
    epochs: int,
    seeds: list[int],
) -> list[dict]:
    """A row for each input and seed: inputs, seed, epoch; gt_known, infocam, gain with intervals.

    The heads learn from the validation images, which also choose infoCAM's threshold. UserError if
    these are too few to leave some out.
    """
    if (number := len(sets["validation"])) < SELECTION:
        raise UserError(f"{number} validation images; heads need {SELECTION} or more")
    components = principal_components(classifier, sets["validation"])
    inputs_by_split = {
        split: inputs_of(classifier, images, components) for split, images in sets.items()
    }
    infocam = hits_of_maps({s: maps.numpy() for s, (_, maps) in inputs_by_split.items()}, sets)
    inputs_by_split = {s: (f, zero_to_one(maps)) for s, (f, maps) in inputs_by_split.items()}
    rows = []
    with Progress("box heads", len(inputs) * len(seeds)) as progress:
        for name, seed in itertools.product(inputs, seeds):
            kinds = {f"use_{kind}": kind in name.split("+") for kind in ("features", "map")}
            options = {"epochs": epochs, "seed": seed, **kinds}
            validation = *inputs_by_split["validation"], sets["validation"]
            head, epoch = train_box_head(*validation, **options)
            boxes = predicted_boxes(head, *inputs_by_split["test"])
            hits = hits_of_boxes(boxes, sets["test"])
            rows.append(
                {"inputs": name, "seed": seed, "epoch": epoch, "n": len(hits)}
                | with_interval("gt_known", hits)
                | with_interval("infocam", infocam)
                | with_interval("gain", hits.astype(float) - infocam)
            )
            progress.step()
            progress.finish(f"{name}, seed {seed}", gt_known=hits.mean(), epoch=epoch)
    return rows
