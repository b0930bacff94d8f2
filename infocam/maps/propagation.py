"""Propagation of maps between places whose features are alike."""

import torch
from torch import Tensor
from torch.nn import functional as F


@torch.no_grad()
def propagate(maps: Tensor, features: Tensor, exponent: float) -> Tensor:
    """The mean of each map over all places, weighted by the similarity of features.

    One step of the random walk of Ahn and Kwak (2018), whose affinities are learned. Here they are
    the cosine similarities of the features, negative ones set to zero, to the power of `exponent`;
    each place's affinities are divided by their sum.

    (..., B, H, W) maps and (B, C, H, W) features -> (..., B, H, W).
    """
    vectors = F.normalize(features.flatten(2), dim=1)
    affinities = torch.einsum("bci,bcj->bij", vectors, vectors).clamp(min=0) ** exponent
    # A place without any features is like no place, itself included: it keeps its value.
    affinities += torch.diag_embed((affinities.sum(dim=2) == 0).to(affinities))
    weights = affinities / affinities.sum(dim=2, keepdim=True)
    values = maps.to(weights).flatten(-2)
    return torch.einsum("bij,...bj->...bi", weights, values).reshape(maps.shape)


def with_propagation(maps: Tensor, features: Tensor, exponent: float) -> Tensor:
    """The maps and their propagation, each scaled to 0..1, added up; shapes as in `propagate`."""
    maps = scale_to_unit(maps)
    return maps + scale_to_unit(propagate(maps, features, exponent))


def propagate_at_stage(maps: Tensor, features: Tensor, exponent: float) -> Tensor:
    """`propagate` over the features of an earlier stage, to whose size maps are interpolated.

    (M, B, h, w) maps and (B, C, H, W) features -> (M, B, H, W).
    """
    resized = F.interpolate(maps, features.shape[-2:], mode="bicubic", align_corners=False)
    return propagate(resized, features, exponent)


def scale_to_unit(maps: Tensor) -> Tensor:
    """(..., H, W) -> the same with each map's range scaled to 0..1; a constant map becomes zero."""
    low, high = maps.amin(dim=(-2, -1), keepdim=True), maps.amax(dim=(-2, -1), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, 1)
