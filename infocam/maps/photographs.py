"""Maps and boxes of one photograph, for any network and any of its classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from infocam.maps.cam import Maps, coefficients, method_maps
from infocam.models.classifiers import Classifier
from infocam.names import GRADIENT_METHODS
from infocam.scoring.boxes import BoxOptions, normalise, resize_map, threshold_boxes
from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.errors import UserError
from mi_common.information import log_posterior, pointwise_mutual_information
from mi_common.runtime import Runtime


@dataclass(frozen=True)
class Explanation:
    """M maps of one image, those of the first class first, and the scores of its K classes.

    Attributes:
        maps: (M, h, w) float32, signed, at the network's resolution.
        methods: M names.
        labels: M class numbers.
        against: M texts: the class whose map the method subtracts, or how many classes.
        mostly_against: M booleans: whether a map, summed over the image, is evidence against its
            class. Only for maps with a meaningful zero: contrasts, and with the prior `cam`.
        boxes: (M, 4) x0 y0 x1 y1, inclusive pixels of the image; -1 where there is none.
        scores: (K,) logits, or pointwise mutual information in nats.
        probabilities: (K,) of the classes; see `explain`.
    """

    maps: np.ndarray
    methods: list[str]
    labels: list[int]
    against: list[str]
    mostly_against: list[bool]
    boxes: np.ndarray
    scores: np.ndarray
    probabilities: np.ndarray


@torch.inference_mode()
def explain(
    image: Image.Image,
    classifier: Classifier,
    methods: list[str],
    *,
    labels: Sequence[int] | None = None,
    top: int = 1,
    image_size: int | None = None,
    region: int = 1,
    threshold: float = 0.3,
    normalisation: str = "minmax",
    prior: bool = False,
    box_rule: str = "largest",
    runtime: Runtime,
) -> Explanation:
    """Maps and boxes of one image by each method for each label, from one pass of the network.

    Maps that are mostly against their class have no box.

    Args:
        methods: as `parse_method` returns them.
        labels: classes; None means the `top` most likely ones.
        image_size: side of the square that the image is stretched to; None means the network's.
        region: side of the mean filter on the maps, in cells.
        threshold: of the boxes, a fraction of the largest value of the normalised map.
        normalisation: see `boxes.normalise`; with "max" boxes show evidence for the class only.
        box_rule: see `boxes.BoxOptions`.
        prior: whether the mean of a contrast is a difference of pointwise mutual information. Then
            probabilities are those under the class frequencies of the training data. Otherwise they
            are the softmax of the logits, which assumes equal frequencies after PC-softmax.

    UserError for a size that the network cannot process, an even region, or a method that sets a
    label against itself.
    """
    head, names = classifier.network.head, classifier.class_names
    features = _features(image, classifier.network, classifier.grey, image_size, runtime)
    scored = features
    if classifier.scorer.border != classifier.network.border:
        scored = _features(image, classifier.scorer, classifier.grey, image_size, runtime)
    logits = scores = head(scored.mean(dim=(2, 3)))
    prior_options, pc_softmax_logits = classifier.prior if prior else {}, logits
    log_probabilities = logits.log_softmax(dim=1)
    if prior:
        log_prior = prior_options["log_prior"]
        pc_softmax_logits = logits + prior_options["prior_shift"]
        scores = pointwise_mutual_information(pc_softmax_logits, log_prior)
        log_probabilities = log_posterior(pc_softmax_logits, log_prior)
    if labels is None:
        labels = scores[0].topk(min(top, len(names))).indices.tolist()
    maps, boxes, against, mostly_against = [], [], [], []
    pairs = [(label, method) for label in labels for method in methods]
    for label, method in pairs:
        if method == f"class:{label}":
            raise UserError(f"class {names[label]} is the label itself; choose another")
        classes = torch.tensor([label], device=logits.device)
        options = Maps([method], [region], **prior_options)
        values = method_maps(options, features, head, classes, logits)[method, region]
        values = values[0].float().cpu().numpy()
        has_zero = method not in GRADIENT_METHODS and (prior or method != "cam")
        mostly_against.append(has_zero and bool(values.mean() < 0))
        box = box_of(values, *image.size, threshold, normalisation, box_rule)
        maps.append(values)
        boxes.append(np.full(4, -1) if mostly_against[-1] else box)
        against.append(opponents(method, pc_softmax_logits, classes, names))
    return Explanation(
        maps=np.stack(maps),
        methods=[method for _, method in pairs],
        labels=[label for label, _ in pairs],
        against=against,
        mostly_against=mostly_against,
        boxes=np.stack(boxes),
        scores=scores[0].cpu().numpy(),
        probabilities=log_probabilities[0].exp().cpu().numpy(),
    )


def _features(
    image: Image.Image,
    network: GlobalAveragePoolClassifier,
    grey: bool,
    image_size: int | None,
    runtime: Runtime,
) -> Tensor:
    """(1, C, h, w) float32 feature maps of one image."""
    if grey:
        image = image.convert("L")
        if len(network.spec.mean) == 3:
            image = image.convert("RGB")
    pixels = network.spec.transform(image_size)(image)[None].to(runtime.device)
    compute = torch.compile(network.features) if runtime.compile else network.features
    try:
        with runtime.autocast():
            return compute(pixels.contiguous(memory_format=torch.channels_last)).float()
    except (RuntimeError, AssertionError) as error:
        if image_size is None or isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"--image-size {image_size}: the network cannot take it; use {network.spec.size}"
        ) from error


def box_of(
    values: np.ndarray,
    width: int,
    height: int,
    threshold: float,
    normalisation: str,
    box_rule: str = "largest",
) -> np.ndarray:
    """(4,) box of a map above the threshold; -1 if the normalised map is zero."""
    return boxes_at(values, width, height, np.array([threshold]), normalisation, box_rule)[0]


def boxes_at(
    values: np.ndarray,
    width: int,
    height: int,
    thresholds: np.ndarray,
    normalisation: str,
    box_rule: str = "largest",
) -> np.ndarray:
    """(T, 4) boxes of a map above T thresholds; -1 if the normalised map is zero.

    `box_rule`: see `boxes.BoxOptions`; sides of the rule "mean" are rounded.
    """
    scores = normalise(resize_map(values, width, height), normalisation)
    if not scores.any():
        return np.full((len(thresholds), 4), -1)
    levels = (scores * 255).astype(np.uint8)
    boxes = threshold_boxes(levels, scores, thresholds, BoxOptions(box_rule=box_rule))[0]
    return np.rint(boxes).astype(int)


def opponents(method: str, logits: Tensor, labels: Tensor, class_names: list[str]) -> str:
    """The class whose map a method subtracts, or how many classes; "" for no class."""
    if method in GRADIENT_METHODS:
        return ""
    subtracted = (coefficients(method, logits, labels)[0] < 0).nonzero().flatten().tolist()
    if len(subtracted) < 2:
        return "".join(class_names[k] for k in subtracted)
    return f"{len(subtracted)} classes"
