"""Networks as feature maps -> global average pool -> linear head.

    network = build_backbone("efficientnet_lite0", weights="imagenet", num_classes=200)
    maps = network.features(images)          (B, C, H, W)
    logits = network(images)                 (B, 200)

Names: any of torchvision's convolutional classifiers (`resnet50`, `vgg16`, `inception_v3`, ...),
`timm:NAME` for timm's, its vision transformers among them, and `efficientnet_lite0`, whose ImageNet
weights are installed by pip, so that no model hub is needed.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode, v2

from mi_common.errors import UserError
from mi_common.weights import efficientnet_lite0_state_dict, load_file, load_state, unavailable

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REFLECTED = 2 / 7  # of the map's side, on each side of an image: see `reflect_images`
# What torchvision's networks have after their last feature map.
_AFTER_FEATURES = {"avgpool", "dropout", "fc", "classifier", "AuxLogits", "aux1", "aux2"}
_TORCHVISION = [
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if not name.startswith(("vit_", "swin_", "maxvit_"))  # no (B, C, H, W) map before the pooling
]


@dataclass(frozen=True)
class InputSpec:
    """What a network expects of its input: the side of square images, and the scale of pixels.

    Attributes:
        size: pixels. Image files are resized to it; images in memory keep their own size.
        mean, std: of each channel, for pixels in 0..1.
    """

    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def transform(self, size: int | None = None) -> v2.Transform:
        """PIL image -> (3, S, S) float: the whole image, stretched to a square as boxes must be."""
        side = size or self.size
        return self._compose(v2.Resize((side, side), interpolation=InterpolationMode.BICUBIC))

    def random_transform(self) -> v2.Transform:
        """PIL image -> (3, S, S) float, to train on: a random part of at least a quarter of the
        image, mirrored half of the time."""
        options = {"scale": (0.25, 1), "interpolation": InterpolationMode.BICUBIC}
        return self._compose(v2.RandomResizedCrop(self.size, **options), v2.RandomHorizontalFlip())

    def normalise(self, pixels: Tensor) -> Tensor:
        """(N, C, H, W) uint8 pixels -> float32, channels last, grey ones in all channels."""
        mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (self.mean, self.std))
        normalised = (pixels.float() / 255 - mean) / std
        return normalised.contiguous(memory_format=torch.channels_last)

    def _compose(self, *geometry: v2.Transform) -> v2.Transform:
        pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        return v2.Compose([*geometry, *pixels, v2.Normalize(self.mean, self.std)])


class GlobalAveragePoolClassifier(nn.Module):
    """A backbone that gives a feature map, the mean over its positions, and a linear head.

    The head sees the mean of the map, so a class's logit is the mean over positions of its class
    activation map plus the bias; CAM and infoCAM rest on that.

    Attributes:
        output_stride: pixels from one cell of the feature map to the next, if the backbone's last
            strides were changed to reach it; None for an unchanged backbone.
        border: pixels by which images are continued on each side, and cells that are cut from each
            side of their map; see `reflect_images`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        channels: int,
        num_classes: int,
        spec: InputSpec,
        output_stride: int | None = None,
    ):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, num_classes)
        self.spec, self.output_stride = spec, output_stride
        self.border = (0, 0)

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images -> (B, C, H, W) feature maps."""
        return self._with_border(self.backbone, images)

    def earlier_features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images -> (B, C', H', W') maps of the stage before the last one.

        A stage ends where the network halves its map; H' is H or, mostly, 2 H. UserError for a
        network that is not timm's.
        """
        earlier = getattr(self.backbone, "earlier_maps", None)
        if earlier is None:
            message = "the network has no named stages; use efficientnet_lite0 or timm:NAME"
            raise UserError(f"--propagate-earlier: {message}")
        return self._with_border(earlier, images)

    def _with_border(self, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
        pixels = self.border[0]
        if not pixels:
            return compute(images)
        continued = F.pad(images, [pixels] * 4, mode="reflect")
        maps = compute(continued.contiguous(memory_format=torch.channels_last))
        cells = round(maps.shape[-1] * pixels / continued.shape[-1])
        return maps[..., cells:-cells, cells:-cells]

    def pooled(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images -> (B, C) means of the feature maps."""
        return self.features(images).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.pooled(images))


def build_backbone(
    name: str,
    *,
    weights: str = "imagenet",
    num_classes: int = 1000,
    output_stride: int | None = None,
    image_size: int | None = None,
) -> GlobalAveragePoolClassifier:
    """A network with a head for `num_classes`.

    The head keeps its pre-trained weights where their shape fits and they read the pooled map
    directly; elsewhere it is new. The map of a vision transformer is that of its patch tokens.

    Args:
        name: a torchvision name, `timm:NAME`, or `efficientnet_lite0`.
        weights: "imagenet", "none", or a file with a state dict of the whole architecture.
        output_stride: pixels from one cell of the map to the next, 32, 16 or 8; None takes the
            network as it is. In torchvision's ResNets the last stages lose their stride and nothing
            else, as in weakly-supervised localisation (Choe et al. 2020); in timm's networks
            dilation makes up for it. Neither adds, renames or reshapes a weight.
        image_size: side of the images that the network will see; None for its own.

    UserError for an unknown name, unavailable weights or weights that do not fit, a network without
    a feature map, or an output stride that it does not have.
    """
    if name == "efficientnet_lite0" or name.startswith("timm:"):
        model, spec = _timm(name, weights, output_stride)
        to_backbone = _TimmBackbone
    elif name in _TORCHVISION:
        model, spec = _torchvision(name, weights, output_stride)
        to_backbone = _torchvision_backbone
    else:
        raise UserError(f"network {name!r}: use efficientnet_lite0, timm:NAME or torchvision's")
    linears = [module for module in model.modules() if isinstance(module, nn.Linear)]
    image = torch.rand(1, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.eval()(image)
        backbone = to_backbone(model)
        shape = tuple(getattr(backbone(image), "shape", ()))
        if len(shape) != 4 or shape[1] <= shape[2]:  # tokens, or channels last without a note of it
            raise UserError(f"network {name!r} has no (B, C, H, W) map but {shape or 'several'}")
        # Unpadded layers cost inception_v3 some cells, and patches may be 14 pixels wide.
        stride = 2 ** round(math.log2(spec.size / shape[-1]))
        if output_stride not in (None, stride):
            raise UserError(f"--output-stride {output_stride}: {name} has {stride}; use that")
        network = GlobalAveragePoolClassifier(backbone, shape[1], num_classes, spec, output_stride)
        network.eval()
        if weights != "none" and linears and linears[-1].weight.shape == network.head.weight.shape:
            new_head, network.head = network.head, linears[-1]
            # Where a layer stands between pooling and head, the weights mean something else here.
            if not torch.allclose(network(image), logits, atol=1e-3, rtol=1e-3):
                network.head = new_head
    if image_size is not None:
        network.spec = replace(network.spec, size=image_size)
    return network.train()


@torch.no_grad()
def reflect_images(network: GlobalAveragePoolClassifier, name: str) -> None:
    """Makes a network see each image continued by its mirror image, and cuts its maps to size.

    Convolutions continue images with zeros, which shows as bands along the edges of feature maps.
    Here that edge lies two sevenths of the side outside the image: two cells of a 7 x 7 map. The
    maps keep their size; with 224 pixels they take 2.5 times as long.

    UserError for a network whose map does not grow in step with its image.
    """
    side, training = network.spec.size, network.training
    image = torch.zeros(1, len(network.spec.mean), side, side, device=network.head.weight.device)
    map_side = network.eval().features(image).shape[-1]
    cells = math.ceil(map_side * REFLECTED)
    pixels = cells * 2 ** round(math.log2(side / map_side))
    network.border = (pixels, cells)
    try:
        fits = network.features(image).shape[-1] == map_side
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        fits = False
    if not fits:
        raise UserError(
            f"--padding reflect: {name} cannot take images of {side + 2 * pixels} pixels, or its "
            "map does not grow with them; use --padding zero"
        )
    network.train(training)


def check_input_and_freeze_unused(network: GlobalAveragePoolClassifier, name: str) -> None:
    """Runs one image forward and backward, and freezes the weights that no gradient reaches.

    timm's MobileNets and attention pools have such weights behind the last map, and several
    processes would wait for their gradients. UserError if the network cannot take square images of
    the size of its `spec`.
    """
    side, device = network.spec.size, network.head.weight.device
    try:
        network.eval()(torch.zeros(1, 3, side, side, device=device)).sum().backward()
    except (RuntimeError, AssertionError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise UserError(
            f"network {name}: cannot take images of {side} pixels; use another size or network"
        ) from error
    for parameter in network.parameters():
        parameter.requires_grad_(parameter.grad is not None)
        parameter.grad = None
    network.train()


def _torchvision(name: str, weights: str, output_stride: int | None) -> tuple[nn.Module, InputSpec]:
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    if weights == "imagenet":
        options = {"weights": torchvision.models.get_model_weights(name).DEFAULT}
    try:
        model = torchvision.models.get_model(name, **options)
    except (OSError, RuntimeError) as error:
        raise unavailable(name, error) from error
    load_file(model, weights)
    if isinstance(model, torchvision.models.ResNet):
        stages = {16: ["layer4"], 8: ["layer3", "layer4"]}.get(output_stride, [])
        for module in (m for stage in stages for m in model.get_submodule(stage).modules()):
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
    if name in ("inception_v3", "googlenet"):
        half = (0.5, 0.5, 0.5)  # their weights were trained on pixels in -1..1
        model.transform_input = False
        return model, InputSpec(299 if name == "inception_v3" else 224, half, half)
    return model, InputSpec(224)


def _torchvision_backbone(model: nn.Module) -> nn.Module:
    if isinstance(model, torchvision.models.DenseNet):
        return nn.Sequential(model.features, nn.ReLU())
    if isinstance(model, torchvision.models.VGG):
        return model.features[:-1]  # without pool5, as VGG16-GAP has it
    if hasattr(model, "features"):
        return model.features
    children = model.named_children()
    return nn.Sequential(OrderedDict(pair for pair in children if pair[0] not in _AFTER_FEATURES))


def _timm(name: str, weights: str, output_stride: int | None) -> tuple[nn.Module, InputSpec]:
    weights_in_package = name == "efficientnet_lite0"
    model_name = "tf_efficientnet_lite0" if weights_in_package else name.removeprefix("timm:")
    options = {"pretrained": weights == "imagenet" and not weights_in_package}
    try:
        try:
            dilated = {"output_stride": output_stride} if output_stride in (8, 16) else {}
            model = timm.create_model(model_name, **options, **dilated)
        except TypeError:  # it has one stride only, which may be the wanted one
            model = timm.create_model(model_name, **options)
    except RuntimeError as error:
        if "Unknown model" in str(error):
            raise UserError(f"network {name!r}: timm has no such model") from error
        raise unavailable(name, error) from error
    except Exception as error:  # a hub's client has exceptions of its own
        raise unavailable(name, error) from error
    if weights_in_package and weights == "imagenet":
        load_state(model, efficientnet_lite0_state_dict(), name)
    load_file(model, weights)
    config = model.pretrained_cfg
    return model, InputSpec(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]))


class _TimmBackbone(nn.Module):
    """timm's network up to its last feature map, of a square image if it is one of tokens."""

    def __init__(self, network: nn.Module):
        super().__init__()
        network.reset_classifier(0)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        maps = self.network.forward_features(images)
        if getattr(self.network, "output_fmt", None) == "NHWC":
            return maps.permute(0, 3, 1, 2)
        prefix = getattr(self.network, "num_prefix_tokens", None)  # class and register tokens
        if prefix is None:
            return maps
        patches = maps[:, prefix:]
        side = math.isqrt(patches.shape[1])
        return patches.transpose(1, 2).unflatten(2, (side, side))

    def earlier_maps(self, images: Tensor) -> Tensor:
        return self.network.forward_intermediates(
            images, indices=[-2], stop_early=True, intermediates_only=True
        )[0]
