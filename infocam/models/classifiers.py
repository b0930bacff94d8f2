"""Trained networks with the names and the prior of their classes, to be asked about any picture."""

from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from infocam.data.load import load_parts
from infocam.models.networks import build_network, load_run, run_flags
from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.errors import UserError
from mi_common.information import log_prior_from_counts, log_prior_from_labels
from mi_common.records import RunFolder
from mi_common.runtime import Runtime


@dataclass(frozen=True)
class Classifier:
    """A trained network in eval mode, and what its outputs mean.

    Attributes:
        class_names: (K,).
        log_prior: (K,) of the training data.
        softmax: whether the logits hold the log prior, as those of PC-softmax do not.
    """

    network: GlobalAveragePoolClassifier
    class_names: list[str]
    log_prior: Tensor
    softmax: bool


def imagenet_classifier(
    name: str, *, weights: str, output_stride: int | None, runtime: Runtime
) -> Classifier:
    """A network with the head that it was trained with on ImageNet's 1,000 classes.

    Raises:
        UserError: those of `build_network`, and a network that has no such head.
    """
    names = torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"]
    options = {"weights": weights, "num_classes": len(names), "output_stride": output_stride}
    network = build_network(name, **options)
    # PyTorch draws a fresh head within this bound; a trained one has left it.
    if network.head.weight.abs().max() <= network.head.in_features**-0.5:
        raise UserError(
            f"--network {name} --weights {weights}: has no trained head of {len(names)} classes on "
            "its pooled map; use efficientnet_lite0, resnet50 or the --run of a trained network"
        )
    network = network.to(runtime.device, memory_format=torch.channels_last).eval()
    prior = log_prior_from_counts(torch.ones(len(names), device=runtime.device))
    return Classifier(network, names, prior, softmax=True)


def run_classifier(path: Path, data_dir: Path, *, runtime: Runtime) -> Classifier:
    """The network of a run of `infocam.train`, with the names and frequencies of its classes.

    Raises:
        UserError: no finished run of that script, or missing data.
    """
    flags = run_flags(path)
    sizes = {name: flags[name] for name in ("images_per_class", "held_out_per_class")}
    train = load_parts(flags["dataset"], data_dir, **sizes, test_images=1)["train"]
    log_prior = log_prior_from_labels(train.labels, len(train.class_names)).to(runtime.device)
    network = load_run(RunFolder(path), len(train.class_names), runtime)
    return Classifier(network, train.class_names, log_prior, flags["loss"] == "softmax")
