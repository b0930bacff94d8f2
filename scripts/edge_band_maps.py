"""The map that a network gives to noise, and localisation maps divided by it."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from infocam.maps.cam import coefficients, contrast_maps
from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet
from mi_common.training import ImageClassifier
from scripts.head_parts import part_maps
from scripts.localisation import hits_of_maps, with_interval

GRAINS = (1, 2, 4, 8)  # pixels


def noise_images(count: int, channels: int, side: int) -> Tensor:
    """(N, C, S, S) in 0..1: noise of four grain sizes, the same statistics at every position.

    Every second run of four images is grey.
    """
    generator, images = torch.Generator().manual_seed(0), []
    for number in range(count):
        grain, drawn = GRAINS[number % 4], channels if number // 4 % 2 == 0 else 1
        noise = torch.rand(1, drawn, *[side // grain + 8] * 2, generator=generator)
        noise = F.interpolate(noise, scale_factor=grain, mode="bilinear")
        images.append(noise[..., :side, :side].expand(1, channels, -1, -1))
    return torch.cat(images)


@torch.no_grad()
def noise_map(network: GlobalAveragePoolClassifier, count: int = 32) -> np.ndarray:
    """(h, w) mean infoCAM of the most likely class of noise, each map divided by its own mean.

    UserError if it is not positive everywhere, so that no map can be divided by it.
    """
    network.eval()
    pixels = noise_images(count, len(network.spec.mean), network.spec.size)
    mean, std = (torch.tensor(v)[:, None, None] for v in (network.spec.mean, network.spec.std))
    features = network.features(((pixels - mean) / std).to(network.head.weight.device))
    logits = network.head(features.mean(dim=(2, 3)))
    rows = coefficients("infocam", logits, logits.argmax(dim=1))[:, None]
    maps = contrast_maps(features, network.head.weight, rows)[:, 0]
    field = (maps / maps.mean(dim=(1, 2), keepdim=True)).mean(dim=0).cpu().numpy()
    if field.min() <= 0:
        raise UserError(f"the map of noise falls to {field.min():.2g}; no map is divided by it")
    return field


def divided_rows(
    classifier: ImageClassifier, sets: dict[str, ImageSet], field: np.ndarray
) -> list[dict]:
    """GT-known of infoCAM and of infoCAM divided by an (h, w) map, and the gain on infoCAM.

    Each method's threshold is chosen on the validation images.
    """
    weights = classifier.network.head.weight.detach()
    maps = {split: part_maps(classifier, images, weights)[0] for split, images in sets.items()}
    infocam = hits_of_maps(maps, sets)
    divided = hits_of_maps({split: values / field for split, values in maps.items()}, sets)
    return [
        {"method": method, "n": len(hits)}
        | with_interval("gt_known", hits)
        | with_interval("gain", hits.astype(float) - infocam)
        for method, hits in (("infocam", infocam), ("divided by the map of noise", divided))
    ]
