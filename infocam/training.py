"""One run of `infocam.train`: its network, its training and the description in its folder."""

import functools
import time
from pathlib import Path

import torch
from torch.nn import functional as F

from infocam.models.adl import add_adl
from infocam.models.networks import build_network
from infocam.recipes import Settings
from mi_common.backbones import check_input_and_freeze_unused, reflect_images
from mi_common.files import write_json
from mi_common.fingerprints import file_fingerprint
from mi_common.image_sets import ImageSet
from mi_common.information import class_counts, log_prior_from_labels, pc_softmax_loss
from mi_common.records import RunFolder
from mi_common.runtime import Runtime, seed_everything
from mi_common.training import ImageClassifier


def build_classifier(
    settings: Settings, num_classes: int, *, cache_dir: Path, num_workers: int, runtime: Runtime
) -> ImageClassifier:
    """The network of a run before training, on its device, with the layers of --adl."""
    seed_everything(settings.seed)
    network = build_network(
        settings.network,
        weights=settings.weights,
        num_classes=num_classes,
        output_stride=settings.output_stride,
        image_size=settings.image_size,
    )
    if settings.network != "small-cnn":
        check_input_and_freeze_unused(network, settings.network)
    if settings.padding == "reflect":
        reflect_images(network, settings.network)
    if settings.adl:
        add_adl(network, settings.adl, gamma=settings.adl_gamma)
    return ImageClassifier(
        network,
        head_only=settings.freeze_backbone,
        cache_dir=cache_dir,
        num_workers=num_workers,
        runtime=runtime,
    )


def train(
    settings: Settings, sets: dict[str, ImageSet], classifier: ImageClassifier, run: RunFolder
) -> None:
    """Trains a classifier, or continues its run, and writes split.json and result.json."""
    images, validation = sets["train"], sets["validation"]
    if settings.freeze_backbone:  # computing features draws numbers, reading them does not
        seed_everything(settings.seed)
    if settings.loss == "pc-softmax":
        log_prior = log_prior_from_labels(images.labels, len(images.class_names))
        log_prior = log_prior.to(classifier.runtime.device)
        loss = functools.partial(pc_softmax_loss, log_prior=log_prior)
    else:
        loss = functools.partial(F.cross_entropy, label_smoothing=settings.label_smoothing)
    started = time.perf_counter()
    history = classifier.fit(images, loss, settings.training, seed=settings.seed, run=run)
    correct = validation_logits(classifier, validation).argmax(dim=1) == validation.labels
    result = {
        "validation_accuracy": correct.float().mean().item(),
        "train_loss": history[-1]["loss"],
        "seconds": sum(epoch["seconds"] for epoch in history),
        "total_seconds": time.perf_counter() - started,
        "n_train": len(images),
        "n_validation": len(validation),
        "backbone_sha256": classifier.backbone_digest(),
    }
    names = {split: list(part.image_names) for split, part in sets.items() if not part.in_memory}
    classifier.runtime.on_main(write_json, run.path / "split.json", names)
    classifier.runtime.on_main(run.save_result, result)


@torch.no_grad()
def validation_logits(classifier: ImageClassifier, images: ImageSet) -> torch.Tensor:
    """(N, K) logits on the CPU; those of a frozen backbone come from the cached feature maps."""
    if not classifier.head_only:
        return classifier.logits(images)
    head = classifier.network.head.eval()
    maps = classifier.feature_maps(images)
    return torch.cat([head(batch.mean(dim=(2, 3))).cpu() for _, batch in maps])


def fingerprints(settings: Settings, sets: dict[str, ImageSet]) -> dict[str, str]:
    """Hashes of the images and the weights that the run starts from, for config.json."""
    hashes = {split: images.fingerprint for split, images in sets.items()}
    if Path(settings.weights).is_file():
        hashes["weights"] = file_fingerprint(Path(settings.weights))
    return hashes


def description(sets: dict[str, ImageSet]) -> dict:
    """What the run folder must say to be used without the training images, for config.json."""
    names = sets["train"].class_names
    counts = class_counts(sets["train"].labels, len(names)).tolist()
    return {"entry": "infocam.train", "class_names": names, "class_counts": counts}
