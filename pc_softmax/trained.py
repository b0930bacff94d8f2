"""The network of a finished run of `pc_softmax.train`, applied to any picture files."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from mi_common import cli
from mi_common.errors import UserError
from mi_common.features import BATCH_SIZE
from mi_common.image_sets import ImageSet
from mi_common.networks import input_of_run
from mi_common.pictures import read_image
from mi_common.progress import Progress
from mi_common.records import RunFolder
from mi_common.runtime import Runtime
from mi_common.training import ImageClassifier
from pc_softmax import training
from pc_softmax.data import ImbalancedData
from pc_softmax.names import LOSSES
from pc_softmax.predictions import Predictions
from pc_softmax.recipes import DATASETS, FILE_DATASETS, Settings, add_arguments, resolve


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, and how a picture becomes its input.

    Attributes:
        predictions: of the run, with its class names, counts and priors.
        settings: what it was trained with.
        channels: 1 for a network of grey images, 3 for colour.
        scale: of the head's outputs, which makes them logits.
    """

    classifier: ImageClassifier
    predictions: Predictions
    settings: Settings
    channels: int
    scale: float

    @classmethod
    def load(cls, path: Path, *, runtime: Runtime, num_workers: int = 0) -> "TrainedNetwork":
        """From the folder of a run; a frozen backbone from where its training took it.

        UserError for no finished run of `pc_softmax.train`, a damaged file, a run of an earlier
        version that lacks what is needed, or weights of a backbone that have changed.
        """
        run = RunFolder(path)
        config = run.require_entry("pc_softmax.train", keys=("class_names", "class_counts"))
        run.require_files("predictions.npz", "checkpoint.pt")
        predictions = Predictions.load(path / "predictions.npz")
        settings = _settings(config["flags"], num_workers, path)
        dataset, channels = settings.data.dataset, 3
        images: list | Tensor = []
        if dataset not in FILE_DATASETS:
            spec, channels = input_of_run(run)
            images = torch.zeros(2, channels, spec.size, spec.size, dtype=torch.uint8)
        empty = ImageSet(dataset, images, torch.zeros(len(images)), predictions.class_names)
        built = settings
        if not settings.head_only:  # the checkpoint holds the whole network
            built = dataclasses.replace(settings, weights="none", init=None)
        empty_data = ImbalancedData(dataset, empty, None, {}, {})
        classifier = training.build_classifier(built, empty_data, runtime)
        source = str(run.checkpoint_file)
        classifier.load(run, head_only=settings.head_only, source=source)
        if dataset not in FILE_DATASETS:
            classifier.network.spec = spec
        scale = training.logit_scale(settings)
        return cls(classifier, predictions, settings, channels, scale)

    @property
    def from_files(self) -> bool:
        """Whether the network was trained on image files, not on a set of images in memory."""
        return self.settings.data.dataset in FILE_DATASETS

    @property
    def transform(self) -> Callable[[Image.Image], Tensor]:
        """An upright RGB picture -> (C, S, S) input, as the images of the run were given."""
        spec = self.classifier.network.spec
        if self.from_files:
            return spec.transform()
        return functools.partial(_pixels, side=spec.size, grey=self.channels == 1)

    @torch.inference_mode()
    def logits(self, inputs: Tensor) -> Tensor:
        """(B, C, S, S) outputs of `transform` -> (B, K) float32 logits on the CPU."""
        network, runtime = self.classifier.network.eval(), self.classifier.runtime
        if not self.from_files:
            inputs = network.spec.normalise(inputs)
        inputs = inputs.to(runtime.device, memory_format=torch.channels_last)
        with runtime.autocast():
            features = network.pooled(inputs).float()
            if self.settings.head_only and self.from_files:
                features = features.half().float()  # as the head's training read them
            logits = network.head(features)
        return self.scale * logits.float().cpu()

    def logits_of_files(
        self, paths: list[Path]
    ) -> tuple[np.ndarray, list[Path], list[tuple[Path, str]]]:
        """(N, K) float32 logits, the N files that were read, and the others with a reason each.

        Pictures are in memory a batch at a time.
        """
        loader = torch.utils.data.DataLoader(
            _PictureFiles(paths, self.transform),
            batch_size=BATCH_SIZE,  # so that a run's pictures get the same logits
            num_workers=self.classifier.num_workers,
            collate_fn=_collate,
        )
        rows, read, unreadable = [], [], []
        with Progress("pictures", len(loader)) as progress:
            for number, (positions, inputs, failures) in enumerate(loader, start=1):
                if positions:
                    rows.append(self.logits(inputs).numpy())
                read += [paths[i] for i in positions]
                unreadable += [(paths[i], reason) for i, reason in failures]
                progress.step()
                if number % max(1, len(loader) // 20) == 0:
                    progress.finish(f"{len(read) + len(unreadable)} of {len(paths)}")
        num_classes = len(self.predictions.class_names)
        return np.concatenate([np.zeros((0, num_classes), np.float32), *rows]), read, unreadable


def _settings(flags: dict, num_workers: int, path: Path) -> Settings:
    """What a run was trained with; a flag that its version did not know has its default."""
    parser = cli.Parser("")
    add_arguments(parser)
    args = parser.parse_args([])
    vars(args).update(flags)
    try:
        if not (args.loss in LOSSES and args.dataset in DATASETS):
            raise ValueError("of another version")
        resolve(args)
        args.data_dir, args.num_workers = Path(args.data_dir), num_workers
        args.init = None if args.init is None else Path(args.init)
        return Settings.from_flags(vars(args))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}/config.json: damaged; train again with --overwrite") from error


def _pixels(image: Image.Image, *, side: int, grey: bool) -> Tensor:
    """(C, side, side) uint8 of an RGB picture, stretched to a square."""
    image = image.convert("L") if grey else image
    return pil_to_tensor(image.resize((side, side), Image.Resampling.BICUBIC))


class _PictureFiles(torch.utils.data.Dataset):
    """Position and input, or position and reason, of each file."""

    def __init__(self, paths: list[Path], transform: Callable):
        self.paths, self.transform = paths, transform

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[int, Tensor | str]:
        try:
            return index, self.transform(read_image(self.paths[index]))
        except UserError as error:
            return index, str(error).removeprefix(f"{self.paths[index]}: ")


def _collate(
    items: list[tuple[int, Tensor | str]],
) -> tuple[list[int], Tensor | None, list[tuple[int, str]]]:
    positions = [index for index, value in items if isinstance(value, Tensor)]
    inputs = [value for _, value in items if isinstance(value, Tensor)]
    failures = [(index, value) for index, value in items if isinstance(value, str)]
    return positions, torch.stack(inputs) if inputs else None, failures
