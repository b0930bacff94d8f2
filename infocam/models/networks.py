"""Networks that localise: `mi_common.backbones`, VGG16-GAP, and a small one for 64 x 64 digits."""

from torch import nn

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone
from mi_common.errors import UserError


def _block(inputs: int, outputs: int, *, halve: bool = False) -> list[nn.Module]:
    # An even kernel keeps a halved map's cells centred on the pixels that they stand for.
    size, stride = (4, 2) if halve else (3, 1)
    convolution = nn.Conv2d(inputs, outputs, size, stride=stride, padding=1, bias=False)
    return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]


def small_cnn(num_classes: int) -> GlobalAveragePoolClassifier:
    """Five convolutions with batch norm, (B, 1, 64, 64) -> 16 x 16 maps of 128 channels."""
    halved = *_block(1, 32, halve=True), *_block(32, 64, halve=True)
    backbone = nn.Sequential(*halved, *_block(64, 64), *_block(64, 128), *_block(128, 128))
    return GlobalAveragePoolClassifier(backbone, 128, num_classes, InputSpec(64, (0.0,), (1.0,)))


def vgg16_gap(num_classes: int, **options) -> GlobalAveragePoolClassifier:
    """VGG16 up to its last convolution, a new 3 x 3 one to 1,024 channels, and a linear head.

    The network of Choe and Shim (2019): 14 x 14 maps at 224 pixels. Options and errors are those
    of `build_backbone("vgg16")`.
    """
    vgg = build_backbone("vgg16", **options)
    backbone = nn.Sequential(*vgg.backbone, nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU())
    return GlobalAveragePoolClassifier(backbone, 1024, num_classes, vgg.spec, vgg.output_stride)


def build_network(
    name: str,
    *,
    weights: str,
    num_classes: int,
    output_stride: int | None = None,
    image_size: int | None = None,
) -> GlobalAveragePoolClassifier:
    """A network by name, in train mode.

    Args:
        name: "small-cnn", "vgg16_gap" or a name of `mi_common.backbones.build_backbone`, which
            describes the other arguments and has the same errors.
    """
    if name == "small-cnn":
        if output_stride not in (None, 4) or image_size not in (None, 64):
            raise UserError("--network small-cnn: leave out --image-size and --output-stride")
        return small_cnn(num_classes)
    options = {"weights": weights, "output_stride": output_stride, "image_size": image_size}
    if name == "vgg16_gap":
        return vgg16_gap(num_classes, **options)
    return build_backbone(name, num_classes=num_classes, **options)
