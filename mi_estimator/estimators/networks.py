"""Small networks for features and for images, the scaling of inputs, and averaged networks."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Standardise(nn.Module):
    """Scales features, or the channels of images, as the first layer of a network.

    Images get mean 0 and standard deviation 1; they can be uint8. Features get median 0 and the
    interquartile range of a standard normal, which outliers do not change. Beyond ten they grow
    logarithmically. This map is invertible, so it keeps the information, and it brings heavy tails
    into the range of the network.
    """

    def __init__(self, x: Tensor):
        """Measures (N, d) features or (N, C, H, W) images."""
        super().__init__()
        self.features = x.ndim == 2
        if self.features:
            low, middle, high = torch.from_numpy(
                np.quantile(x.cpu().numpy(), (0.25, 0.5, 0.75), axis=0)
            )
            spread, deviation = (high - low) / 1.349, x.double().std(dim=0, correction=0).cpu()
            # If most samples share one value, the interquartile range is zero.
            spread = torch.where(spread > 1e-6 * middle.abs(), spread, deviation)
        else:
            count, axes = x.numel() / x.shape[1], (0, 2, 3)
            parts = x.split(4096)  # one part at a time in float64
            middle = sum(part.double().sum(axes) for part in parts) / count
            centre = middle.reshape(-1, 1, 1)
            squares = sum((part.double() - centre).square().sum(axes) for part in parts)
            spread = (squares / count).sqrt()
        # The spread of a constant feature is rounding error, which must not be scaled to one.
        spread = torch.where(spread > 1e-6 * middle.abs(), spread, 1.0)
        shape = (1, -1, *[1] * (x.ndim - 2))
        self.register_buffer("middle", middle.float().reshape(shape))
        self.register_buffer("spread", spread.float().reshape(shape))

    def forward(self, x: Tensor) -> Tensor:
        x = (x - self.middle) / self.spread
        if not self.features:
            return x
        tail = (x.abs() - 10).clamp_min(0)
        return x.clamp(-10, 10) + x.sign() * tail.log1p()


def mlp(num_features: int, num_classes: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """(N, num_features) -> (N, num_classes) logits through ReLU layers of the given widths."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(num_features, width), nn.ReLU()]
        num_features = width
    return nn.Sequential(*layers, nn.Linear(num_features, num_classes))


def small_cnn(channels: int, num_classes: int) -> nn.Sequential:
    """(N, channels, H, W) images -> (N, num_classes) logits, three halvings and a global mean."""
    layers: list[nn.Module] = []
    for width in (32, 64, 128):
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        channels = width
    pooled = [NineMeans(), nn.Flatten(), nn.Linear(9 * channels, num_classes)]
    return nn.Sequential(*layers, *pooled)


class NineMeans(nn.Module):
    """`nn.AdaptiveAvgPool2d(3)` as a product, whose gradient is deterministic on a GPU too."""

    def forward(self, maps: Tensor) -> Tensor:
        like = {"device": maps.device, "dtype": maps.dtype}
        rows, columns = (F.adaptive_avg_pool1d(torch.eye(n, **like), 3) for n in maps.shape[2:])
        return (maps.flatten(2) @ torch.kron(rows, columns)).unflatten(2, (3, 3))


class Members(nn.ModuleList):
    """Networks that are trained together and whose logits are averaged, so that errors cancel.

    (B, ...) inputs -> (B, K) mean logits or, in training, the (M * B, K) logits of all members.
    """

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack([member(x) for member in self])
        return logits.flatten(0, 1) if self.training else logits.mean(dim=0)
