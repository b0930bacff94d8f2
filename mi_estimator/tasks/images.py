"""Images and a label: one task with exact mutual information, one with an exact upper bound."""

import functools
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mi_common.errors import UserError
from mi_common.fingerprints import fingerprint
from mi_estimator.tasks.joint import Distribution
from mi_estimator.tasks.mapped import Mapped

SIDE = 28  # pixels


@dataclass(frozen=True)
class BlobImages(Mapped):
    """Two features drawn as the position of a round spot: (N, 2) <-> (N, 1, 28, 28).

    The centre is at 13.5 + 9.5 tanh(x / 8) pixels, between pixels, so it lies inside the image and
    different vectors give different images. The image has the vector's information about the label.
    `base` is a distribution of two features, with few samples beyond +-20.
    """

    base: Distribution

    MIDDLE, SPAN, REACH, WIDTH = (SIDE - 1) / 2, 9.5, 8.0, 2.0  # no annotation: not a field

    def forward(self, x: Tensor) -> Tensor:
        centre = self.MIDDLE + self.SPAN * torch.tanh(x / self.REACH)
        pixels = torch.arange(SIDE, dtype=x.dtype, device=x.device)
        row, column = (-((pixels - centre[:, :, None]) ** 2) / (2 * self.WIDTH**2)).exp().unbind(1)
        return (row[:, :, None] * column[:, None, :])[:, None]

    def inverse(self, x: Tensor) -> Tensor:
        # In a Gaussian spot, the logs of the two pixels next to a pixel differ by a multiple of its
        # distance to the centre. At the peak, float32 gives it to a millionth of a pixel.
        images = x.flatten(1)
        peak = images.argmax(dim=1)
        row = (peak // SIDE).clamp(1, SIDE - 2)
        column = (peak % SIDE).clamp(1, SIDE - 2)

        def slope(step: int) -> Tensor:
            middle = (row * SIDE + column)[:, None]
            return (images.gather(1, middle + step) / images.gather(1, middle - step)).log()

        slopes = torch.cat([slope(SIDE), slope(1)], dim=1)
        centre = torch.stack([row, column], dim=1) + self.WIDTH**2 / 2 * slopes
        place = ((centre - self.MIDDLE) / self.SPAN).clamp(-1 + 1e-9, 1 - 1e-9)
        return self.REACH * torch.atanh(place)


@dataclass(frozen=True)
class NoisyMnist(Distribution):
    """A random MNIST image and its label, which is wrong with probability `flip`.

    All wrong labels are equally likely. With T the true digit, Y - T - X is a Markov chain, so
    I(X;Y) <= I(T;Y) = H(Y) - H(Y|T), with equality if images determine T. This bound is the truth
    of the task. Images are drawn uniformly from one split; each sample draws new noise.

    Attributes:
        flip: probability that the label is wrong.
        data_dir: the data folder; nothing is read before the first sample or value is asked for.
        split: "train" (60,000 images) or "test" (10,000).
    """

    flip: float
    data_dir: Path = Path("data")
    split: str = "train"

    truth_is_upper_bound = True

    def fingerprint(self) -> str:
        """Of the images; see `mi_common.fingerprints`."""
        images, counts = digits(self.data_dir, self.split)
        return fingerprint(images, torch.arange(10).repeat_interleave(counts))

    @property
    def _joint(self) -> Tensor:
        """(10, 10) float64 p(true digit, label)."""
        _, counts = digits(self.data_dir, self.split)
        channel = torch.full((10, 10), self.flip / 9, dtype=torch.float64)
        channel.fill_diagonal_(1 - self.flip)
        return (counts.double() / counts.sum())[:, None] * channel

    @property
    def log_prior(self) -> Tensor:
        return self._joint.sum(dim=0).log()

    def features(self, labels: Tensor, generator: torch.Generator) -> Tensor:
        images, counts = digits(self.data_dir, self.split)
        device = labels.device
        true = torch.multinomial(self._joint.T.to(device)[labels], 1, generator=generator)[:, 0]
        counts = counts.to(device)
        uniform = torch.rand(len(labels), generator=generator, device=device, dtype=torch.float64)
        index = (counts.cumsum(0) - counts)[true] + (uniform * counts[true]).long()
        return images[index.cpu(), None].to(device).float() / 255

    def log_ratio(self, x: Tensor) -> Tensor:
        """Raises UserError: the posterior of a handwritten digit is unknown."""
        raise UserError("the exact log ratio of this task is not known")

    def mutual_information(self) -> tuple[float, float]:
        """The upper bound H(Y) - H(noise) in nats, exact for the digits' frequencies."""
        wrong = -self.flip * math.log(self.flip / 9) if self.flip else 0.0
        right = -(1 - self.flip) * math.log(1 - self.flip)
        return self.label_entropy - right - wrong, 0.0


@functools.cache
def digits(data_dir: Path, split: str) -> tuple[Tensor, Tensor]:
    """MNIST sorted by digit: (N, 28, 28) uint8 images and (10,) int64 counts."""
    from mi_common.datasets import idx_images  # imports torchvision, which takes seconds

    images, labels = idx_images("mnist", data_dir, split)
    return images[labels.argsort(stable=True)], torch.bincount(labels, minlength=10)
