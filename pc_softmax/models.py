"""A network as this experiment uses it: all of it trained, or its last layer on fixed features."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from mi_common.backbones import (
    GlobalAveragePoolClassifier,
    InputSpec,
    build_backbone,
    check_input,
)
from mi_common.engine import ImageBatches, TensorBatches, predict
from mi_common.errors import UserError
from mi_common.features import cached_features, update_with_weights
from mi_common.image_files import ImageFileDataset, ImageFiles
from mi_common.records import RunFolder
from mi_common.runtime import Runtime
from pc_softmax.data import ImbalancedData, Part
from pc_softmax.networks import CosineHead, PaperNet, small_cnn

PIXELS = {"mnist": (0.1307, 0.3081), "fashion-mnist": (0.1307, 0.3081)}  # as the original has them


class Model:
    """A network in two pieces, body and last layer, and how images come to it.

    Attributes:
        body: images -> (B, C) features.
        last: (B, C) features -> (B, K) logits, `nn.Linear` or `CosineHead`.
        head_only: whether `last` alone is trained, on features that are computed once.
    """

    def __init__(
        self,
        network: nn.Module,
        pixels: InputSpec,
        *,
        head_only: bool,
        size: int | None,
        cache_dir: Path,
        num_workers: int,
        runtime: Runtime,
    ):
        self.network = network.to(runtime.device, memory_format=torch.channels_last)
        self.pixels, self.head_only, self.size = pixels, head_only, size
        self.cache_dir, self.num_workers, self.runtime = cache_dir, num_workers, runtime

    @property
    def body(self) -> nn.Module:
        return _pieces(self.network)[0]

    @property
    def last(self) -> nn.Module:
        return _pieces(self.network)[1]

    @property
    def trained(self) -> nn.Module:
        """The module that an optimiser is given."""
        return self.last if self.head_only else self.network

    def inputs(self, part: Part, augmentation: int | None = None) -> Tensor:
        """What `trained` takes: normalised images or, with `head_only`, features.

        Features of image files come from a memory-mapped file, in float16.
        """
        if isinstance(part.images, ImageFiles):
            features = cached_features(
                self.network,
                part.images,
                self.cache_dir,
                kind="pooled",
                runtime=self.runtime,
                size=self.size,
                augmentation=augmentation,
                num_workers=self.num_workers,
            )
            return torch.from_numpy(features)
        images = self._normalise(part.images)
        return predict(self.body, images, runtime=self.runtime) if self.head_only else images

    def batches(
        self, part: Part, *, batch_size: int, seed: int, balanced: bool, copies: int
    ) -> TensorBatches | ImageBatches:
        """Shuffled batches to train on.

        Args:
            balanced: draw every class equally often, with replacement.
            copies: of a frozen backbone, passes over random parts of the images in place of one
                pass over the whole images.
        """
        shared = {"batch_size": batch_size, "seed": seed, "runtime": self.runtime}
        if isinstance(part.images, ImageFiles) and not self.head_only:
            transform = self.network.spec.random_transform(self.size)
            return ImageBatches(part.images, transform, num_workers=self.num_workers, **shared)
        inputs = [self.inputs(part, number) for number in range(copies)] or [self.inputs(part)]
        labels = part.labels.repeat(len(inputs))
        weights = (1 / torch.bincount(labels).double())[labels] if balanced else None
        inputs = inputs[0] if len(inputs) == 1 else torch.cat(inputs)
        return TensorBatches(inputs, labels, weights=weights, **shared)

    def cache_features(self, data: ImbalancedData, *, copies: int) -> None:
        """Computes the features of all image files, for a frozen backbone; else does nothing.

        Whoever calls this before writing anything finds unreadable images in time.
        """
        if self.head_only and isinstance(data.train.images, ImageFiles):
            for number in range(copies) or [None]:
                self.inputs(data.train, number)
            for part in (*data.tests.values(), *([data.validation] if data.validation else [])):
                self.inputs(part)

    def body_digest(self) -> str:
        """sha256 of the body's weights and statistics."""
        digest = hashlib.sha256()
        update_with_weights(digest, self.body)
        return digest.hexdigest()

    def predict(self, part: Part) -> Tensor:
        """(N, K) float32 logits on the CPU."""
        if not isinstance(part.images, ImageFiles) or self.head_only:
            inputs = self.inputs(part)
            dtype = torch.float32 if inputs.dtype == torch.float16 else inputs.dtype
            parts = [
                predict(self.trained, x.to(dtype), runtime=self.runtime)
                for x in inputs.split(20_000)
            ]
            return torch.cat(parts)
        loader = torch.utils.data.DataLoader(
            ImageFileDataset(part.images.paths, self.network.spec.transform(self.size)),
            batch_size=64,
            num_workers=self.num_workers,
        )
        return torch.cat([predict(self.network, images, runtime=self.runtime) for images in loader])

    def _normalise(self, images: Tensor) -> Tensor:
        mean, std = (torch.tensor(v).reshape(-1, 1, 1) for v in (self.pixels.mean, self.pixels.std))
        pixels = (images.float() / 255 - mean) / std  # a grey image meets three channels: three
        return pixels.contiguous(memory_format=torch.channels_last)


def new_model(
    name: str, data: ImbalancedData, *, weights: str, head_only: bool, cosine: bool, **placing
) -> Model:
    """A model for the classes of a data set.

    Args:
        name: "paper-net", "small-cnn" or a name of `build_backbone`, with its errors.
        weights: of a backbone.
        cosine: end in a `CosineHead`, as LDAM wants it.
        placing: `size`, `cache_dir`, `num_workers`, `runtime`.

    Raises:
        UserError: also for images of a size that a backbone cannot take.
    """
    images, classes = data.train.images, len(data.class_names)
    if name == "paper-net":
        network, pixels = PaperNet(classes, cosine_head=cosine), _measured(data.name, images)
        return Model(network, pixels, head_only=head_only, **placing)
    if name == "small-cnn":
        if isinstance(images, ImageFiles):
            raise UserError("--network small-cnn: for image sets in memory, not for image files")
        pixels = _measured(data.name, images)
        network = small_cnn(images.shape[1], classes, pixels)
    else:
        network = build_backbone(name, weights=weights, num_classes=classes)
        pixels = network.spec
        side = placing["size"] if isinstance(images, ImageFiles) else images.shape[-1]
        check_input(network, name, side or pixels.size)
    if cosine:
        network.head = CosineHead(network.head.in_features, classes)
    return Model(network, pixels, head_only=head_only, **placing)


def finished_checkpoint(folder: Path) -> Path:
    """The checkpoint of --init's run; UserError for no finished run of `pc_softmax.train`."""
    run = RunFolder(folder)
    if not {"freeze_backbone", "retrain_head"} <= run.config().keys():
        raise UserError(f"--init {folder}: not a run of pc_softmax.train")
    run.require_files("checkpoint.pt")
    return run.checkpoint_file


def load_model(model: Model, folder: Path, *, keep_last: bool) -> None:
    """Gives a model the weights of a finished run with the same network.

    Args:
        keep_last: take the last layer too.

    Raises:
        UserError: no finished run, another network, or a run that trained its last layer alone on
            a body that is not the model's.
    """
    run = RunFolder(folder)
    finished_checkpoint(folder)
    flags, checkpoint = run.config(), run.load_checkpoint()
    head_only = flags["freeze_backbone"] or flags["retrain_head"]
    if head_only and run.result()["body_sha256"] != model.body_digest():
        raise UserError(
            f"--init {folder}: its last layer is for other features; give the network, weights, "
            "seed and first stage that it was trained with"
        )
    module = model.last if head_only else model.network
    state, own = checkpoint["model"], module.state_dict()
    if not keep_last:
        prefix = next(name for name, part in module.named_modules() if part is model.last)
        state = {k: v for k, v in state.items() if not k.startswith(prefix)}
        state |= {k: v for k, v in own.items() if k.startswith(prefix)}
    wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
    wrong += [k for k in state if k not in own]
    if wrong:
        raise UserError(f"--init {folder}: another network; {wrong[0]!r} does not fit")
    module.load_state_dict(state)


def _pieces(network: nn.Module) -> tuple[nn.Module, nn.Module]:
    if isinstance(network, GlobalAveragePoolClassifier):
        pooled = nn.Sequential(network.trunk, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        return pooled, network.head
    return nn.Sequential(network.convolutions, network.head[:-1]), network.head[-1]


def _measured(dataset: str, images: Tensor) -> InputSpec:
    """Mean and standard deviation of each channel of the training images, in 0..1."""
    if dataset in PIXELS:
        mean, std = ((value,) for value in PIXELS[dataset])
    else:
        pixels = images.float().div(255).transpose(0, 1).flatten(1)
        mean, std = tuple(pixels.mean(1).tolist()), tuple(pixels.std(1).tolist())
    return InputSpec(images.shape[-1], mean, std)
