"""A network that learns to classify images: all of it, or its head on features computed once.

    classifier = ImageClassifier(network, head_only=True, cache_dir=folder, runtime=runtime)
    history = classifier.fit(train_images, loss, training, seed=0, run=run)
    logits = classifier.logits(test_images)

A network has a `spec` of its input, a method `pooled` from images to features, and a `head` from
features to logits. Feature maps are those of `GlobalAveragePoolClassifier`.
"""

import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from mi_common.engine import ImageBatches, TensorBatches, fit, predict
from mi_common.errors import UserError
from mi_common.features import cached_features, hash_weights
from mi_common.image_sets import ImageFileDataset, ImageSet
from mi_common.progress import in_blocks
from mi_common.recipes import Training
from mi_common.records import RunFolder
from mi_common.runtime import Runtime, one_thread
from mi_common.weights import load_state

MAPS_BATCH = 100  # images whose feature maps are on the device at once
LOGITS_BLOCK = 20_000  # images whose inputs are in memory in float32 at once


class ImageClassifier:
    """A network on its device, and how images reach it.

    Attributes:
        head_only: whether the head alone is trained, on pooled features.
        cache_dir: folder of the features of image files.
        num_workers: processes that read image files.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        head_only: bool,
        cache_dir: Path,
        num_workers: int = 0,
        runtime: Runtime,
    ):
        self.network = network.to(runtime.device, memory_format=torch.channels_last)
        self.head_only, self.runtime = head_only, runtime
        self.cache_dir, self.num_workers = cache_dir, num_workers

    @property
    def trained(self) -> nn.Module:
        """The module that an optimiser is given."""
        return self.network.head if self.head_only else self.network

    def fit(
        self,
        images: ImageSet,
        loss: Callable[[Tensor, Tensor], Tensor],
        training: Training,
        *,
        seed: int,
        run: RunFolder | None = None,
        balanced: bool = False,
        before_epoch: Callable[[int], None] | None = None,
    ) -> list[dict]:
        """Trains the network or its head, or goes on with a run; returns the epochs' metrics.

        Args:
            seed: of the order of the images and of their augmentation.
            loss, run, before_epoch: see `mi_common.engine.fit`.
            balanced: draw every class equally often; see `TensorBatches`.
        """
        batches = self.batches(images, training, seed=seed, balanced=balanced)
        optimizer = build_optimizer(self.trained, self.network.head, training)
        with one_thread() if self.head_only else nullcontext():
            return fit(
                self.trained,
                batches,
                loss,
                optimizer,
                epochs=training.epochs,
                runtime=self.runtime,
                scheduler=build_scheduler(optimizer, training, len(batches)),
                run=run,
                before_epoch=before_epoch,
                description=f"seed {seed}",
            )

    def batches(
        self, images: ImageSet, training: Training, *, seed: int, balanced: bool = False
    ) -> TensorBatches | ImageBatches:
        """Shuffled batches to train on."""
        shuffling = {"batch_size": training.batch_size, "seed": seed, "runtime": self.runtime}
        augment = not images.in_memory if training.augment is None else training.augment
        if not (images.in_memory or self.head_only):
            spec = self.network.spec
            transform = spec.random_transform() if augment else spec.transform()
            return ImageBatches(images, transform, num_workers=self.num_workers, **shuffling)
        if self.head_only:
            copies = range(training.augmented_copies) or [None]
            inputs = [self.pooled_features(images, number) for number in copies]
        else:
            inputs = [self.network.spec.normalise(images.images)]
        labels = images.labels.repeat(len(inputs))
        inputs = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
        augment &= not self.head_only
        return TensorBatches(inputs, labels, balanced=balanced, augment=augment, **shuffling)

    def logits(self, images: ImageSet) -> Tensor:
        """(N, K) float32 logits on the CPU."""
        if self.head_only:
            blocks = (block.float() for block in self.pooled_features(images).split(LOGITS_BLOCK))
        elif images.in_memory:
            blocks = map(self.network.spec.normalise, images.images.split(LOGITS_BLOCK))
        else:
            files = ImageFileDataset(images.images, self.network.spec.transform())
            blocks = torch.utils.data.DataLoader(files, batch_size=64, num_workers=self.num_workers)
        return torch.cat([predict(self.trained, block, runtime=self.runtime) for block in blocks])

    def pooled_features(self, images: ImageSet, augmentation: int | None = None) -> Tensor:
        """(N, C) inputs of the head; those of image files are float16 in a memory-mapped file.

        `augmentation` numbers a pass over random parts of image files; None takes whole images.
        """
        if images.in_memory:
            inputs = self.network.spec.normalise(images.images)
            return predict(self.network, inputs, self.network.pooled, runtime=self.runtime)
        return torch.from_numpy(self._cached(images, "pooled", augmentation))

    def feature_maps(
        self, images: ImageSet, *, earlier: bool = False
    ) -> Iterator[tuple[slice, Tensor]]:
        """Positions and (B, C, h, w) float32 maps on the device; those of files are cached.

        `earlier` has those of the stage before the last; see `earlier_features`.
        """
        kind = "earlier-maps" if earlier else "maps"
        compute = self.network.earlier_features if earlier else self.network.features
        cached = None if images.in_memory else self._cached(images, kind)
        for block in in_blocks(len(images), MAPS_BATCH, "maps"):
            rows = slice(block.start, block.stop)
            if cached is not None:
                maps = torch.from_numpy(cached[rows]).to(self.runtime.device)
            else:
                with self.runtime.autocast():
                    maps = compute(self.pixels(images, block))
            yield rows, maps.float()

    def pixels(self, images: ImageSet, positions: range | list[int]) -> Tensor:
        """(B, C, S, S) normalised images at the given positions, on the device."""
        if images.in_memory:
            pixels = self.network.spec.normalise(images.images[list(positions)])
        else:
            files = ImageFileDataset(images.images, self.network.spec.transform())
            pixels = torch.stack([files[i] for i in positions])
        return pixels.to(self.runtime.device)

    def cache_features(self, images: ImageSet, *, maps: bool = False, copies: int = 0) -> None:
        """Computes the features of image files for a frozen backbone; else it does nothing.

        A script that calls this before it writes anything finds unreadable images in time.

        Args:
            maps: cache the feature maps in place of pooled features.
            copies: passes over random parts of the images in place of whole images.
        """
        if self.head_only and not images.in_memory:
            for number in range(copies) or [None]:
                self._cached(images, "maps" if maps else "pooled", number)

    def backbone_digest(self) -> str:
        """sha256 of the backbone's weights and statistics."""
        digest = hashlib.sha256()
        hash_weights(digest, self.network.backbone)
        return digest.hexdigest()

    def load(self, run: RunFolder, *, head_only: bool, source: str, keep_head: bool = True) -> None:
        """Takes the weights of a finished run of the same network.

        Args:
            head_only: whether the run trained its head alone.
            source: the flag or folder that an error names.
            keep_head: take the head's weights too.

        UserError for another network, or a head that was trained on another backbone.
        """
        run.require_files("checkpoint.pt")
        if head_only and run.result().get("backbone_sha256") != self.backbone_digest():
            raise UserError(
                f"{source}: its head was trained on other features; give the network, weights, "
                "seed and first stage that it was trained with"
            )
        state = run.load_checkpoint()["model"]
        if not keep_head:
            prefix = "" if head_only else "head."
            state = {k: v for k, v in state.items() if not k.startswith(prefix)}
            head = self.network.head.state_dict()
            state |= {prefix + name: value for name, value in head.items()}
        load_state(self.network.head if head_only else self.network, state, source)

    def _cached(self, images: ImageSet, kind: str, augmentation: int | None = None):
        options = {"runtime": self.runtime, "num_workers": self.num_workers}
        options |= {"kind": kind, "augmentation": augmentation}
        return cached_features(self.network, images, self.cache_dir, **options)


def build_optimizer(trained: nn.Module, head: nn.Module, training: Training):
    """An optimiser over all parameters of a module, the head's in the last group.

    The module `trained` may be the head itself.
    """
    in_head = {id(parameter) for parameter in head.parameters()}
    parameters = list(trained.parameters())
    head_lr = training.lr * training.head_lr_ratio
    groups = [{"params": [p for p in parameters if id(p) in in_head], "lr": head_lr}]
    if backbone := [p for p in parameters if id(p) not in in_head]:
        groups.insert(0, {"params": backbone, "lr": training.lr})
    shared = {"lr": training.lr, "weight_decay": training.weight_decay, "fused": True}
    if training.optimizer == "sgd":
        momentum = {"momentum": training.momentum, "nesterov": training.nesterov}
        return torch.optim.SGD(groups, **momentum, **shared)
    return torch.optim.AdamW(groups, **shared)


def build_scheduler(
    optimizer: torch.optim.Optimizer, training: Training, steps_per_epoch: int
) -> LRScheduler | None:
    """A scheduler to step after every batch; None if the learning rate never changes.

    "one-cycle" (Smith and Topin 2018) rises to the learning rate over three tenths of the steps and
    falls to nearly zero over the others. `learning_rate` defines the other schedules.
    """
    steps = training.epochs * steps_per_epoch
    if training.schedule == "one-cycle":
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, max_lr=peaks, total_steps=steps)
    if training.schedule == "constant" and not training.warmup_epochs:
        return None
    warmup = training.warmup_epochs * steps_per_epoch
    return LambdaLR(optimizer, lambda step: learning_rate(training, step, steps, warmup))


def learning_rate(training: Training, step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate at one of `steps` steps.

    It rises linearly over the first `warmup` steps. Then "constant" stays, "step" falls tenfold at
    each of the milestones, and "cosine" falls to zero over the remaining steps.
    """
    if step < warmup:
        return (step + 1) / warmup
    if training.schedule == "step":
        return 0.1 ** sum(step >= steps * milestone for milestone in training.milestones)
    if training.schedule == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    return 1.0
