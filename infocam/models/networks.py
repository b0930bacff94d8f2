"""Networks that localise: `mi_common.backbones`, VGG16-GAP, and a small one for 64 x 64 digits."""

import dataclasses
from pathlib import Path

import torch
from torch import nn

from infocam.data.load import DATASETS
from infocam.recipes import LOSSES
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone
from mi_common.errors import UserError
from mi_common.records import RunFolder
from mi_common.runtime import Runtime
from mi_common.weights import load_state


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


def vgg16_gap(
    num_classes: int, *, weights: str, output_stride: int | None = None
) -> GlobalAveragePoolClassifier:
    """VGG16 up to its last convolution, a new 3 x 3 one to 1,024 channels, and a linear head.

    As Choe and Shim (2019) have it: 14 x 14 maps at 224 pixels. Weights and errors are those of
    `build_backbone("vgg16")`.
    """
    vgg = build_backbone("vgg16", weights=weights, output_stride=output_stride)
    trunk = nn.Sequential(*vgg.trunk, nn.Conv2d(512, 1024, 3, padding=1), nn.ReLU())
    return GlobalAveragePoolClassifier(trunk, 1024, num_classes, vgg.spec, output_stride)


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
        name: `small-cnn`, `vgg16_gap`, or a name of `mi_common.backbones.build_backbone`, which has
            the other arguments and the errors.
        image_size: side of the images that the network's `spec` makes; None for its own.
    """
    if name == "small-cnn":
        if output_stride not in (None, 4) or image_size not in (None, 64):
            raise UserError(
                "--network small-cnn: 64 x 64 images and stride 4 are fixed; leave out "
                "--image-size and --output-stride"
            )
        return small_cnn(num_classes)
    shared = {"weights": weights, "output_stride": output_stride}
    if name == "vgg16_gap":
        network = vgg16_gap(num_classes, **shared)
    else:
        network = build_backbone(name, num_classes=num_classes, **shared)
    if image_size is not None:
        network.spec = dataclasses.replace(network.spec, size=image_size)
    return network


RUN_FLAGS = {"network", "weights", "dataset", "loss", "seed", "output_stride", "image_size"}
RUN_FLAGS |= {"freeze_backbone", "images_per_class", "held_out_per_class"}


def run_flags(path: Path) -> dict:
    """The flags of a finished run of `infocam.train`; UserError for another folder."""
    flags = RunFolder(path).config()
    known = flags.keys() >= RUN_FLAGS and flags["loss"] in LOSSES and flags["dataset"] in DATASETS
    if not known:
        raise UserError(f"{path} is not a run of infocam.train")
    return flags


def load_run(run: RunFolder, num_classes: int, device: Runtime) -> GlobalAveragePoolClassifier:
    """The trained network of a finished run of `infocam.train`, in eval mode on the device.

    Its `spec` makes images of the size that it was trained on.

    Raises:
        UserError: no finished run of `infocam.train`, no checkpoint, or one of another network.
    """
    flags = run_flags(run.path)
    run.require_files("checkpoint.pt")
    state = run.load_checkpoint()["model"]
    frozen = flags["freeze_backbone"]
    network = build_network(
        flags["network"],
        weights=flags["weights"] if frozen else "none",
        num_classes=num_classes,
        output_stride=flags["output_stride"],
        image_size=flags["image_size"],
    )
    load_state(network.head if frozen else network, state, str(run.checkpoint_file))
    return network.to(device.device, memory_format=torch.channels_last).eval()
