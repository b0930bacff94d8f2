"""One run of `pc_softmax.train`: its data, network, training and predictions."""

import time
from pathlib import Path

import numpy as np
from torch import Tensor, nn

from mi_common.engine import DivergedError
from mi_common.errors import UserError
from mi_common.files import save_arrays
from mi_common.fingerprints import file_fingerprint
from mi_common.information import log_prior_from_counts
from mi_common.records import RunFolder
from mi_common.runtime import Runtime, seed_everything
from mi_common.training import ImageClassifier
from pc_softmax.data import ImbalancedData, indices_digest, unreadable_remedy
from pc_softmax.losses import ReweightedLoss, build_loss, logit_log_prior
from pc_softmax.metrics import classification_scores
from pc_softmax.networks import build_network
from pc_softmax.recipes import Settings


def check_loss(settings: Settings, data: ImbalancedData) -> None:
    """UserError for settings of the loss that do not go together."""
    if settings.retrain_head and settings.init is None:
        raise UserError("--retrain-head: give the run of the first stage with --init RUN")
    drw, epochs = settings.loss_options["drw"], settings.training.epochs
    if drw is not None and drw >= epochs:
        raise UserError(f"--drw {drw}: must be below --epochs {epochs}")
    build_loss(settings.loss, data.counts, **settings.loss_options)


def fingerprints(settings: Settings, data: ImbalancedData) -> dict[str, str]:
    """Of everything that the run is computed from, for config.json."""
    hashes = data.fingerprints()
    if Path(settings.weights).is_file():
        hashes["weights"] = file_fingerprint(Path(settings.weights))
    if settings.init is not None:
        hashes["init"] = file_fingerprint(first_stage(settings.init).checkpoint_file)
    return hashes


def first_stage(folder: Path) -> RunFolder:
    """The finished run of --init; UserError for another folder."""
    run = RunFolder(folder)
    flags = run.require_entry("pc_softmax.train")["flags"]
    if not {"freeze_backbone", "retrain_head"} <= flags.keys():
        raise UserError(f"{folder}/config.json: damaged; train again with --overwrite")
    run.require_files("checkpoint.pt")
    return run


def description(data: ImbalancedData) -> dict:
    """What a user of the run needs without the training images, for config.json."""
    names = {"entry": "pc_softmax.train", "class_names": data.class_names}
    return names | {"class_counts": data.counts.tolist()}


def build_classifier(settings: Settings, data: ImbalancedData, runtime: Runtime) -> ImageClassifier:
    """The network of a run before training, with the weights of --init's run.

    Errors are those of `build_network` and `ImageClassifier.load`.
    """
    seed_everything(settings.seed)
    network = build_network(
        settings.network,
        data.train,
        weights=settings.weights,
        image_size=settings.image_size,
        cosine_head=settings.head == "cosine",
    )
    classifier = ImageClassifier(
        network,
        head_only=settings.head_only,
        cache_dir=settings.data.data_dir / "features",
        num_workers=settings.num_workers,
        runtime=runtime,
    )
    if settings.init is not None:
        run = first_stage(settings.init)
        flags, source = run.config("flags"), f"--init {settings.init}"
        head_only = flags["freeze_backbone"] or flags["retrain_head"]
        keep_head = not settings.retrain_head
        classifier.load(run, head_only=head_only, source=source, keep_head=keep_head)
    return classifier


@unreadable_remedy()
def cache_features(classifier: ImageClassifier, data: ImbalancedData, copies: int) -> None:
    """Computes the features of all image files, for a frozen backbone; finds unreadable ones."""
    classifier.cache_features(data.train, copies=copies)
    for images in (*data.tests.values(), *([data.validation] if data.validation else [])):
        classifier.cache_features(images)


def logit_scale(settings: Settings) -> float:
    """What the head's outputs are multiplied by to become logits: the scale of cosines, else 1."""
    return settings.loss_options["scale"] if settings.head == "cosine" else 1.0


@unreadable_remedy()
def train(
    settings: Settings, data: ImbalancedData, classifier: ImageClassifier, run: RunFolder
) -> dict:
    """Trains a classifier, or goes on with it; writes predictions and returns result.json.

    DivergedError if the loss, a logit or a length of the head's weights is not finite.
    """
    counts = data.counts
    seed_everything(settings.seed)
    loss = build_loss(settings.loss, counts, **settings.loss_options)
    loss, scale = loss.to(classifier.runtime.device), logit_scale(settings)

    def loss_of_outputs(outputs: Tensor, labels: Tensor) -> Tensor:
        # LDAM subtracts its margins from the cosines, and scales them itself.
        return loss(outputs if scale == 1 or settings.loss == "ldam" else scale * outputs, labels)

    history = classifier.fit(
        data.train,
        loss_of_outputs,
        settings.training,
        seed=settings.seed,
        run=run,
        balanced=settings.retrain_head,
        before_epoch=loss.start_epoch if isinstance(loss, ReweightedLoss) else None,
    )
    started = time.perf_counter()
    splits = data.tests | ({"validation": data.validation} if data.validation else {})
    logits = {name: classifier.logits(images) for name, images in splits.items()}
    logits = {name: scale * outputs for name, outputs in logits.items()}
    arrays = {f"{name}_logits": values.numpy() for name, values in logits.items()}
    arrays |= {f"{name}_labels": images.labels.numpy() for name, images in splits.items()}
    arrays |= {
        "counts": counts.numpy(),
        "log_prior": log_prior_from_counts(counts).numpy(),
        "logit_log_prior": logit_log_prior(loss, counts, balanced=settings.retrain_head).numpy(),
        "class_names": data.class_names,
    }
    head = classifier.network.head
    if isinstance(head, nn.Linear):
        arrays["head_norms"] = head.weight.detach().norm(dim=1).cpu().numpy()
        arrays["head_bias"] = head.bias.detach().cpu().numpy()
    for name, values in arrays.items():
        if values is not data.class_names and not np.isfinite(values).all():
            raise DivergedError(f"{name} are not finite after the last epoch; use a lower --lr")
    result = {
        "test_sets": {
            name: classification_scores(logits[name].numpy(), images.labels.numpy())
            | {"n_test": len(images)}
            for name, images in data.tests.items()
        },
        "seconds": sum(epoch["seconds"] for epoch in history),
        "predict_seconds": time.perf_counter() - started,
        "n_train": len(data.train),
        "indices_sha256": indices_digest(data.indices),
        "backbone_sha256": classifier.backbone_digest(),
        "input": vars(classifier.network.spec)
        | {"channels": data.train.images.shape[1] if data.train.in_memory else 3},
    }
    indices = {name.replace("/", "_"): rows.numpy() for name, rows in data.indices.items()}

    def write() -> None:
        save_arrays(run.path / "predictions.npz", **arrays)
        save_arrays(run.path / "indices.npz", **indices)
        run.save_result(result)

    classifier.runtime.on_main(write)
    return result
