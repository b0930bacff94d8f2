"""Networks of this experiment: the paper's, a small one, and any backbone; a cosine head."""

from torch import Tensor, nn

from mi_common.backbones import InputSpec, build_backbone, check_input_and_freeze_unused
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet
from mi_common.networks import CosineHead, small_cnn

MNIST_SPEC = InputSpec(28, (0.1307,), (0.3081,))  # as in the original


class PaperNet(nn.Module):
    """conv 20@5, pool, conv 50@5, pool, fc 500, fc K: (B, 1, 28, 28) -> (B, K) logits."""

    def __init__(
        self, num_classes: int = 10, *, spec: InputSpec = MNIST_SPEC, cosine_head: bool = False
    ):
        super().__init__()
        self.spec = spec
        self.backbone = nn.Sequential(
            nn.Conv2d(1, 20, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),  # of the maxima: the same numbers for a quarter of the work
            nn.Conv2d(20, 50, 5),
            nn.MaxPool2d(2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(50 * 4 * 4, 500),
            nn.ReLU(),
        )
        self.head = (CosineHead if cosine_head else nn.Linear)(500, num_classes)

    def pooled(self, images: Tensor) -> Tensor:
        return self.backbone(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pooled(images))


def build_network(
    name: str, images: ImageSet, *, weights: str, image_size: int | None, cosine_head: bool
) -> nn.Module:
    """A network for the classes of the training images, in train mode.

    `name` is "paper-net", "small-cnn" or a name of `build_backbone`, with its weights. `image_size`
    is the side of image files; None is the network's own, and images in memory keep theirs. LDAM
    needs the `cosine_head`. UserError as `build_backbone`, and for images of a wrong size.
    """
    num_classes = len(images.class_names)
    if name == "paper-net":
        return PaperNet(num_classes, spec=_measured_spec(images), cosine_head=cosine_head)
    if name == "small-cnn":
        if not images.in_memory:
            raise UserError("--network small-cnn: for image sets in memory, not for image files")
        network = small_cnn(images.images.shape[1], num_classes, _measured_spec(images))
    else:
        size = images.images.shape[-1] if images.in_memory else image_size
        network = build_backbone(name, weights=weights, num_classes=num_classes, image_size=size)
        check_input_and_freeze_unused(network, name)
    if cosine_head:
        network.head = CosineHead(network.head.in_features, num_classes)
    return network


def _measured_spec(images: ImageSet) -> InputSpec:
    """Mean and standard deviation of each channel of the training images, in 0..1."""
    if images.name in ("mnist", "fashion-mnist"):
        return MNIST_SPEC
    channels = images.images.float().div(255).transpose(0, 1).flatten(1)
    mean, std = channels.mean(1), channels.std(1)
    return InputSpec(images.images.shape[-1], tuple(mean.tolist()), tuple(std.tolist()))
