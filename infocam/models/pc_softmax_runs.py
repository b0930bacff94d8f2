"""Runs of `pc_softmax.train` as classifiers whose maps can be drawn."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from infocam.models.classifiers import Classifier, run_classifier
from mi_common.backbones import GlobalAveragePoolClassifier, build_backbone, reflect_images
from mi_common.errors import UserError
from mi_common.files import read_arrays, read_json
from mi_common.information import log_prior_from_counts
from mi_common.networks import CosineHead, input_of_run, small_cnn
from mi_common.records import RunFolder
from mi_common.runtime import Runtime
from mi_common.training import ImageClassifier

ENTRY = "pc_softmax.train"


class UnitMean(nn.Module):
    """A backbone whose feature maps are divided by the length of their mean over positions.

    With it, a cosine head is a linear head: the class activation maps average to scaled cosines.
    """

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> Tensor:
        maps = self.backbone(images)
        means = maps.float().mean(dim=(2, 3), keepdim=True)
        return maps / means.norm(dim=1, keepdim=True).clamp_min(1e-12)


def classifier_of_run(path: Path, *, padding: str | None = None, runtime: Runtime) -> Classifier:
    """The network of a finished run of `infocam.train` or `pc_softmax.train`, from its folder.

    `padding`: see `run_classifier`; runs of `pc_softmax.train` have zero padding.

    UserError as in `run_classifier`, and for a network of `pc_softmax.train` without feature maps.
    """
    config = path / "config.json"
    if not (config.is_file() and read_json(config).get("entry") == ENTRY):
        return run_classifier(path, padding=padding, runtime=runtime)
    run = RunFolder(path)
    config = run.require_entry(ENTRY, keys=("class_names", "class_counts"))
    run.require_files("predictions.npz", "checkpoint.pt")
    names, counts = config["class_names"], config["class_counts"]
    in_logits = read_arrays(path / "predictions.npz").get("logit_log_prior", np.zeros(0))
    if in_logits.shape != (len(names),) or not np.isfinite(in_logits).all():
        raise UserError(f"{path}/predictions.npz: no logit_log_prior of its classes; train again")
    try:
        network, grey = _network(run, config["flags"], len(names), runtime)
        if isinstance(network.head, CosineHead):
            _make_linear(network, float(config["flags"]["scale"]))
    except UserError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}/config.json: damaged; train again with --overwrite") from error
    scorer = copy.copy(network.eval())
    if padding == "reflect":
        reflect_images(network, str(path))
    prior = log_prior_from_counts(torch.tensor(counts, device=runtime.device))
    in_logits = torch.from_numpy(in_logits).to(prior)
    return Classifier(network, scorer, names, prior, in_logits, grey)


def _network(
    run: RunFolder, flags: dict[str, Any], num_classes: int, runtime: Runtime
) -> tuple[GlobalAveragePoolClassifier, bool]:
    """The trained network, and whether its images were grey."""
    # Runs of earlier versions lack some flags.
    head_only = flags["freeze_backbone"] or flags.get("retrain_head")
    spec, channels = input_of_run(run)
    if head_only and flags.get("init") is not None:
        first = RunFolder(Path(flags["init"]))
        first_flags = first.require_entry(ENTRY)["flags"]
        network, _ = _network(first, first_flags, num_classes, runtime)
    elif flags["network"] == "paper-net":
        raise UserError(
            f"--run {run.path}: its network, paper-net, has no feature maps; train with "
            "--network small-cnn"
        )
    elif flags["network"] == "small-cnn":
        network = small_cnn(channels, num_classes, spec)
    else:
        weights = flags["weights"] if head_only else "none"
        options = {"weights": weights, "num_classes": num_classes, "image_size": spec.size}
        network = build_backbone(flags["network"], **options)
        network.spec = spec
    width = network.head.weight.shape[1]
    is_cosine = "bias" not in {name.rpartition(".")[2] for name in _head_names(run, head_only)}
    network.head = CosineHead(width, num_classes) if is_cosine else nn.Linear(width, num_classes)
    classifier = ImageClassifier(network, head_only=False, cache_dir=run.path, runtime=runtime)
    classifier.load(run, head_only=head_only, source=str(run.checkpoint_file))
    return network, channels == 1


def _head_names(run: RunFolder, head_only: bool) -> list[str]:
    """Names of the head's parameters in the checkpoint."""
    names = run.load_checkpoint()["model"].keys()
    return [name for name in names if head_only or name.startswith("head.")]


@torch.no_grad()
def _make_linear(network: GlobalAveragePoolClassifier, scale: float) -> None:
    """Replaces a cosine head by the linear head that gives the same logits behind `UnitMean`."""
    unit = scale * F.normalize(network.head.weight, dim=1)
    head = nn.Linear(unit.shape[1], unit.shape[0]).to(unit.device)
    head.weight.copy_(unit)
    head.bias.zero_()
    network.backbone, network.head = UnitMean(network.backbone), head
