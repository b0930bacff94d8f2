"""Networks that localise: those of `common.backbones`, and a small one for 64 x 64 digits."""

from torch import nn

from common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone


def _block(inputs: int, outputs: int, *, halve: bool = False) -> list[nn.Module]:
    # An even kernel keeps a halved map's cells centred on the pixels that they stand for.
    size, stride = (4, 2) if halve else (3, 1)
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def small_cnn(num_classes: int = 10) -> GlobalAveragePoolClassifier:
    """Five convolutions with batch norm, (B, 1, 64, 64) -> 16 x 16 maps of 128 channels."""
    trunk = nn.Sequential(
        *_block(1, 32, halve=True),
        *_block(32, 64, halve=True),
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
