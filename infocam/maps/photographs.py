"""Maps and boxes of one photograph, for any network and any of its classes."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from infocam.maps.cam import Maps, coefficients, method_maps
from infocam.models.classifiers import Classifier
from infocam.names import GRADIENT_METHODS
from infocam.scoring.boxes import largest_contour_box, resize_map, to_8bit
from mi_common.errors import UserError
from mi_common.information import pointwise_mutual_information
from mi_common.runtime import Runtime


@dataclass(frozen=True)
class Explanation:
    """Maps, boxes and scores of one image and one class."""

    maps: np.ndarray  # (M, h, w) float32, signed, at the network's resolution
    methods: list[str]  # M names
    boxes: np.ndarray  # (M, 4) x0 y0 x1 y1, inclusive pixels of the image; -1 if there is none
    scores: np.ndarray  # (K,) logits, or pointwise mutual information in nats
    label: int
    against: list[str]  # M texts: the class whose map the method subtracts, or how many classes


@torch.inference_mode()
def explain(
    image: Image.Image,
    classifier: Classifier,
    methods: list[str],
    *,
    label: int | None = None,
    image_size: int | None = None,
    region: int = 1,
    threshold: float = 0.3,
    normalisation: str = "minmax",
    prior: bool = False,
    runtime: Runtime,
) -> Explanation:
    """Maps and boxes of one image.

    Args:
        methods: as `parse_method` returns them.
        label: None means the most likely class.
        image_size: side of the square that the image is stretched to; None means the network's.
        region: side of the mean filter on the maps, in cells.
        threshold: of the boxes, a fraction of the largest value of the normalised map.
        normalisation: see `boxes.normalise`; with "max" boxes show evidence for the class only.
        prior: whether the mean of a contrast is pointwise mutual information.

    UserError for a size that the network cannot process, an even region, or a method that sets the
    label against itself.
    """
    head, names = classifier.network.head, classifier.class_names
    features = _features(image, classifier, image_size, runtime)
    logits = scores = head(features.mean(dim=(2, 3)))
    prior_options, pc_softmax_logits = classifier.prior if prior else {}, logits
    if prior:
        pc_softmax_logits = logits + prior_options["prior_shift"]
        scores = pointwise_mutual_information(pc_softmax_logits, prior_options["log_prior"])
    labels = scores.argmax(dim=1) if label is None else torch.tensor([label], device=logits.device)
    label = int(labels)
    if f"class:{label}" in methods:
        raise UserError(f"class {names[label]} is the label itself; choose another")
    maps = []
    for method in methods:
        options = Maps([method], [region], **prior_options)
        values = method_maps(options, features, head, labels, logits)[method, region]
        maps.append(values[0].float().cpu().numpy())
    boxes = [box_of(values, *image.size, threshold, normalisation) for values in maps]
    against = [opponents(method, pc_softmax_logits, labels, names) for method in methods]
    scores = scores[0].cpu().numpy()
    return Explanation(np.stack(maps), methods, np.stack(boxes), scores, label, against)


def _features(
    image: Image.Image, classifier: Classifier, image_size: int | None, runtime: Runtime
) -> Tensor:
    """(1, C, h, w) float32 feature maps of one image."""
    network = classifier.network
    if len(network.spec.mean) == 1:
        image = image.convert("L")
    pixels = network.spec.transform(image_size)(image)[None].to(runtime.device)
    backbone = torch.compile(network.backbone) if runtime.compile else network.backbone
    try:
        with runtime.autocast():
            return backbone(pixels.contiguous(memory_format=torch.channels_last)).float()
    except (RuntimeError, AssertionError) as error:
        if image_size is None or isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"--image-size {image_size}: the network cannot take it; use {network.spec.size}"
        ) from error


def box_of(
    values: np.ndarray, width: int, height: int, threshold: float, normalisation: str
) -> np.ndarray:
    """(4,) box of the largest contour above the threshold; -1 if the normalised map is zero."""
    levels = to_8bit(resize_map(values, width, height), normalisation)
    if not levels.any():
        return np.full(4, -1)
    return largest_contour_box((levels > int(threshold * levels.max())).astype(np.uint8))


def opponents(method: str, logits: Tensor, labels: Tensor, class_names: list[str]) -> str:
    """The class whose map a method subtracts, or how many classes; "" for no class."""
    if method in GRADIENT_METHODS:
        return ""
    subtracted = (coefficients(method, logits, labels)[0] < 0).nonzero().flatten().tolist()
    if len(subtracted) < 2:
        return "".join(class_names[k] for k in subtracted)
    return f"{len(subtracted)} classes"
