"""Trained networks with the names and the prior of their classes, to be asked about any image."""

import copy
from argparse import Namespace
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import torch
import torchvision
from torch import Tensor

from infocam.models.networks import build_network
from infocam.names import IMAGE_PADDINGS
from infocam.recipes import DATASETS, LOSSES, Settings
from mi_common.backbones import GlobalAveragePoolClassifier, reflect_images
from mi_common.errors import UserError
from mi_common.information import log_prior_from_counts
from mi_common.recipes import take
from mi_common.records import RunFolder
from mi_common.runtime import Runtime
from mi_common.training import ImageClassifier

EARLIER_DEFAULTS = {"padding": "zero"}  # flags that runs of earlier versions lack


@dataclass(frozen=True)
class Classifier:
    """A trained network in eval mode, with the names and the prior of its classes.

    `network` gives the maps, and `scorer` the scores. They share all weights, and differ where
    images have another padding for the maps than in training.
    """

    network: GlobalAveragePoolClassifier
    scorer: GlobalAveragePoolClassifier
    class_names: list[str]  # (K,)
    log_prior: Tensor  # (K,) of the training data
    # (K,) The class prior that is in the logits: the training data's after softmax, none (zeros)
    # after PC-softmax.
    logit_log_prior: Tensor
    grey: bool = False  # whether it was trained on grey images, which may fill three channels

    @property
    def prior(self) -> dict[str, Tensor]:
        """Arguments of `infocam.maps.cam.Maps` for pointwise mutual information."""
        return {"log_prior": self.log_prior, "prior_shift": -self.logit_log_prior}


def imagenet_classifier(
    name: str, *, weights: str, output_stride: int | None, padding: str = "zero", runtime: Runtime
) -> Classifier:
    """A network with its trained head of ImageNet's 1,000 classes; UserError if it has none.

    `padding`, one of `IMAGE_PADDINGS`, is that of the maps; scores keep that of the training, zero.
    See `mi_common.backbones.reflect_images`.
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
    scorer = copy.copy(network)
    if padding == "reflect":
        reflect_images(network, name)
    prior = log_prior_from_counts(torch.ones(len(names), device=runtime.device))
    return Classifier(network, scorer, names, prior, prior)


@dataclass(frozen=True)
class TrainedRun:
    """A finished run of `infocam.train`: what it was trained with, and its classes."""

    folder: RunFolder
    settings: Settings
    data_dir: Path
    class_names: list[str]
    class_counts: list[int]


def read_run(path: Path) -> TrainedRun:
    """Reads config.json; UserError for no finished run of `infocam.train` or a damaged file."""
    run = RunFolder(path)
    config = run.require_entry("infocam.train", keys=("class_names", "class_counts"))
    flags = config["flags"]
    try:
        settings = take(Settings, Namespace(**EARLIER_DEFAULTS | flags))
        data_dir = Path(flags["data_dir"])
        good = settings.loss in LOSSES and settings.data.dataset in DATASETS
        good = good and settings.padding in IMAGE_PADDINGS and _well_typed(settings, Settings)
    except (AttributeError, KeyError, TypeError):
        good = False
    class_names, class_counts = config["class_names"], config["class_counts"]
    if not good or not class_names or len(class_names) != len(class_counts):
        raise UserError(f"{path}/config.json: damaged; train again with --overwrite")
    return TrainedRun(run, settings, data_dir, class_names, class_counts)


def _well_typed(value: object, kind: Any) -> bool:
    """Whether a value, and every field of a dataclass, has the type that is declared for it."""
    if is_dataclass(kind):
        hints = get_type_hints(kind).items()
        return all(_well_typed(getattr(value, name), of_field) for name, of_field in hints)
    if get_origin(kind) is tuple:
        return all(isinstance(item, get_args(kind)[0]) for item in value)
    return isinstance(value, kind)


def run_classifier(
    path: Path,
    *,
    padding: str | None = None,
    output_stride: int | None = None,
    runtime: Runtime,
) -> Classifier:
    """The network of a finished run of `infocam.train`, from the run's folder alone.

    The `spec` of the network makes images of the size that it was trained on. A `padding` of
    `IMAGE_PADDINGS` takes the place of the run's for the maps, an `output_stride` for maps and
    logits.

    UserError as in `read_run`, for other weights of the backbone than the run's, and for a stride
    that the network cannot have.
    """
    run = read_run(path)
    settings = run.settings
    network = build_network(
        settings.network,
        weights=settings.weights if settings.freeze_backbone else "none",
        num_classes=len(run.class_names),
        output_stride=output_stride or settings.output_stride,
        image_size=settings.image_size,
    )
    if settings.padding == "reflect":
        reflect_images(network, settings.network)
    classifier = ImageClassifier(network, head_only=False, cache_dir=path, runtime=runtime)
    source = str(run.folder.checkpoint_file)
    classifier.load(run.folder, head_only=settings.freeze_backbone, source=source)
    prior = log_prior_from_counts(torch.tensor(run.class_counts, device=runtime.device))
    in_logits = prior if settings.loss == "softmax" else torch.zeros_like(prior)
    grey = len(network.spec.mean) == 1
    scorer = copy.copy(network.eval())
    if padding == "reflect":
        reflect_images(network, settings.network)
    elif padding == "zero":
        network.border = (0, 0)
    return Classifier(network, scorer, run.class_names, prior, in_logits, grey)
