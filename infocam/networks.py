"""Networks that localise: those of `common.backbones`, and a small one for 64 x 64 digits."""

from torch import nn

from common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone


def _block(inputs: int, outputs: int, *, stride: int = 1) -> list[nn.Module]:
    convolution = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def small_cnn(num_classes: int = 10) -> GlobalAveragePoolClassifier:
    """Five 3 x 3 convolutions, (B, 1, 64, 64) -> 16 x 16 maps of 128 channels."""
    trunk = nn.Sequential(
        *_block(1, 32, stride=2),
        *_block(32, 64, stride=2),
        *_block(64, 64),
        *_block(64, 128),
        *_block(128, 128),
    )
    return GlobalAveragePoolClassifier(trunk, 128, num_classes, InputSpec(64, (0.0,), (1.0,)))


def build_network(name: str, *, weights: str, num_classes: int) -> GlobalAveragePoolClassifier:
    """`small-cnn`, or a name of `common.backbones.build_backbone`, with its errors."""
    if name == "small-cnn":
        return small_cnn(num_classes)
    return build_backbone(name, weights=weights, num_classes=num_classes)
