"""Does a map show what the classifier uses? Insertion and deletion (Petsiuk et al. 2018).

The map ranks the pixels of an image. Deletion removes the highest first, insertion adds them first,
and each follows the probability of the label. The score is the area under the probability over the
share of pixels: a faithful map has a small deletion area and a large insertion area. The scores
need no boxes, but 66 forward passes of the network per image.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import gaussian_blur

from mi_common.information import select_label


@torch.no_grad()
def insertion_deletion(
    probability: Callable[[Tensor], Tensor],
    images: Tensor,
    maps: Tensor,
    labels: Tensor,
    *,
    steps: int = 32,
    blur_sigma: float = 0.05,
    batch_size: int = 64,
) -> tuple[Tensor, Tensor]:
    """Areas under the insertion and the deletion curve of each image, fractions of one.

    A curve has `steps` + 1 points, from no pixel to all of them, joined by the trapezoidal rule.
    Deleted pixels become zero, the mean colour of normalised images. Insertion starts from the
    blurred image, because on a uniform one the inserted pixels would have artificial edges.

    Args:
        probability: (N, C, S, S) images -> (N, K) class probabilities.
        images: (B, C, S, S), normalised for the network.
        maps: (B, h, w) of any resolution, on the device of the images.
        labels: (B,) int64, the classes of the maps.
        steps: number of portions of pixels, equal but for rounding.
        blur_sigma: standard deviation of the Gaussian, as a fraction of the side.

    Returns:
        (B,) float32 insertion, (B,) float32 deletion.
    """
    ranks = pixel_ranks(maps, images.shape[-1])
    blurred = _blur(images, blur_sigma)
    pixels_moved = torch.arange(steps + 1, device=images.device) * ranks[0].numel() // steps
    inserted, deleted = [], []
    for chunk in torch.arange(len(images) * (steps + 1), device=images.device).split(batch_size):
        rows, step = chunk // (steps + 1), chunk % (steps + 1)
        is_moved = (ranks[rows] < pixels_moved[step, None, None]).unsqueeze(1)
        insertion = torch.where(is_moved, images[rows], blurred[rows])
        deletion = images[rows].masked_fill(is_moved, 0)
        for curve, changed in ((inserted, insertion), (deleted, deletion)):
            curve.append(select_label(probability(changed), labels[rows]))
    curves = torch.stack([torch.cat(inserted), torch.cat(deleted)]).float()
    share = pixels_moved / pixels_moved[-1]
    return torch.trapezoid(curves.view(2, len(images), steps + 1), share, dim=2).unbind()


def pixel_ranks(maps: Tensor, side: int) -> Tensor:
    """The rank of each pixel, 0 for the highest: (B, h, w) -> (B, S, S) int64.

    Maps are resized by bicubic interpolation. Equal pixels rank in reading order, row by row from
    the top left; so do all pixels of a map with a value that is not finite.
    """
    maps = maps.float()
    finite = maps.isfinite().flatten(1).all(dim=1)[:, None, None]
    # Shifted to zero, because rounding of the interpolation would rank a constant map's pixels.
    maps = torch.where(finite, maps - maps.amin(dim=(1, 2), keepdim=True), 0)
    size = (side, side)
    resized = F.interpolate(maps.unsqueeze(1), size, mode="bicubic", align_corners=False)
    order = resized.flatten(1).sort(dim=1, descending=True, stable=True).indices
    return order.argsort(dim=1).view(-1, *size)


def _blur(images: Tensor, sigma: float) -> Tensor:
    pixels = sigma * images.shape[-1]
    size = 2 * math.ceil(3 * pixels) + 1
    # One axis at a time, because a square kernel would cost `size` times more.
    for kernel in ([size, 1], [1, size]):
        images = gaussian_blur(images, kernel, [pixels, pixels])
    return images
