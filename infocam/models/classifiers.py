"""Trained networks with the names and the prior of their classes, to be asked about any picture."""

import difflib
from dataclasses import dataclass
from pathlib import Path

import torch
import torchvision
from torch import Tensor

from infocam.data.load import load_parts
from infocam.models.networks import build_network, load_run, run_flags
from mi_common.annotation_lines import brief, whole_number
from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.errors import UserError
from mi_common.information import log_prior_from_counts, log_prior_from_labels
from mi_common.records import RunFolder
from mi_common.runtime import Runtime

LISTED = 5  # classes that an error names at most


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


def class_number(text: str, class_names: list[str], flag: str) -> int:
    """The class that a text means: its name, its number, or the only name that contains it.

    An exact match is preferred to one that differs only in case.

    Raises:
        UserError: no class or several; the message lists a few that are near.
    """
    wanted, folded = text.casefold(), [name.casefold() for name in class_names]
    exact = [k for k, name in enumerate(class_names) if name == text]
    exact = exact or [k for k, name in enumerate(folded) if name == wanted]
    number = whole_number(text, 0, len(class_names) - 1)
    if number is not None and not exact:
        return number
    found = exact or [k for k, name in enumerate(folded) if wanted in name]
    if len(found) == 1:
        return found[0]
    close = difflib.get_close_matches(wanted, folded, LISTED)
    near = found or [folded.index(name) for name in close]
    listed = ", ".join(f"{brief(class_names[k])} = {k}" for k in near[:LISTED])
    raise UserError(
        f"{flag} {brief(text)}: {'several classes' if found else 'no such class'}; give a name or "
        f"a number below {len(class_names)}" + (f", such as {listed}" if listed else "")
    )
