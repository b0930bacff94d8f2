"""Outputs of a frozen network, computed once and kept as memory-mapped files; see `row_files`."""

import functools
import glob
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn
from tqdm import tqdm

from mi_common.backbones import GlobalAveragePoolClassifier
from mi_common.files import release, write_atomically
from mi_common.fingerprints import files_digest
from mi_common.folding import fold_batch_norms
from mi_common.image_sets import ImageFileDataset, ImageSet
from mi_common.pictures import READER_VERSION
from mi_common.progress import in_blocks
from mi_common.row_files import read_rows, write_rows
from mi_common.runtime import Runtime

PART_ROWS = 512  # images that an interruption can lose
BATCH_SIZE = 16  # as quick as 64, with less memory


@torch.no_grad()
def cached_features(
    network: GlobalAveragePoolClassifier,
    images: ImageSet,
    cache_dir: Path,
    *,
    kind: str,
    runtime: Runtime,
    augmentation: int | None = None,
    batch_size: int = BATCH_SIZE,
    num_workers: int = 2,
) -> np.ndarray:
    """Feature maps of image files in eval mode, from the cache where they are already there.

    The file is keyed by the images, the backbone's weights, the size, the border and the precision,
    so a change of any makes a new file; it appears only when it is complete. Images whose features
    another file of the same network, or an interrupted computation, holds are not computed again.
    In fp32, batch norms are folded into convolutions. That and the size of the last batch change
    rounding: one float16 in some 300 differs, by one step unless it is near zero. The result is a
    memory-mapped float16 array; what is written to it does not reach the file.

    Args:
        kind: "pooled" for (N, C), the mean over positions; "maps" for (N, C, H, W); "earlier-maps"
            for the (N, C', H', W') of the stage before the last.
        augmentation: number of a pass over random parts of the images; None takes whole images.

    UserError for an unreadable image, a damaged file of features, or too little space on the disk.
    """
    spec, size = network.spec, network.spec.size

    def digest(fingerprint: str) -> str:
        key = hashlib.sha256(f"{READER_VERSION} {kind} {size} {spec} {runtime.precision}".encode())
        stride = network.output_stride or 32  # None is 32 in most backbones
        if kind == "earlier-maps":  # a stride of 16 in place of 32 changes the last stage alone
            stride = min(stride, 16)
        key.update(f"{stride} {augmentation}{fingerprint}".encode())
        if any(network.border):
            key.update(f" border {network.border}".encode())
        hash_weights(key, network.backbone)
        return key.hexdigest()[:16]

    prefix = f"{images.name}-{kind}-{size}"
    target = cache_dir / f"{prefix}-{digest(images.fingerprint)}.npy"

    # In every process: all must have the same memory layout, which DistributedDataParallel checks.
    network.backbone.to(runtime.device, memory_format=torch.channels_last).eval()
    transform = spec.transform() if augmentation is None else spec.random_transform()
    files = ImageFileDataset(images.images, transform, seed=augmentation)

    @functools.cache
    def feature_function() -> Callable[[Tensor], Tensor]:
        # Weights in half precision would round otherwise than a batch norm does.
        frozen = fold_batch_norms(network) if runtime.precision == "fp32" else network
        features = frozen.earlier_features if kind == "earlier-maps" else frozen.features
        return torch.compile(features) if runtime.compile else features

    def feature_batches(positions: list[int]) -> Iterator[np.ndarray]:
        subset = torch.utils.data.Subset(files, positions)
        loader = torch.utils.data.DataLoader(subset, batch_size=batch_size, num_workers=num_workers)
        for batch in tqdm(loader, desc="part", leave=False, disable=None):
            batch = batch.to(runtime.device, memory_format=torch.channels_last)
            with runtime.autocast():
                maps = feature_function()(batch).float()
            values = maps.mean(dim=(2, 3)) if kind == "pooled" else maps
            yield values.cpu().numpy().astype(np.float16)

    def compute() -> None:
        if target.exists():
            return
        cache_dir.mkdir(parents=True, exist_ok=True)
        group = digest("")
        # Another run may compute some of the same features.
        lock = FileLock(cache_dir / f".{prefix}-{group}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            print(f"waiting for another process that computes {target}", flush=True)
            lock.acquire()
        try:
            if not target.exists():
                keys = image_keys(images.images, augmentation)
                stored = StoredRows(cache_dir, prefix, group)
                stored.complete(target, keys, feature_batches, label=f"features of {images.name}")
        finally:
            release(lock)

    runtime.on_main(compute)
    return read_rows(target)


def image_keys(paths: list[Path], augmentation: int | None) -> np.ndarray:
    """(N, 32) uint8: a hash of what the features of each image depend on beside the network."""
    digests = [files_digest([path]) for path in paths]
    if augmentation is not None:  # the random part of an image depends on its position
        places = (f"{len(paths)} {i}".encode() for i in range(len(paths)))
        digests = [hashlib.sha256(d + p).digest() for d, p in zip(digests, places, strict=True)]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32)


class StoredRows:
    """The rows of one network in a cache folder; each file has a neighbour with its image keys."""

    def __init__(self, folder: Path, prefix: str, group: str):
        self.folder, self.prefix, self.ending = folder, prefix, f".{group}.keys"
        self.part = f"{prefix}-{group}-part-"

    def complete(
        self,
        target: Path,
        keys: np.ndarray,
        compute: Callable[[list[int]], Iterator[np.ndarray]],
        *,
        label: str,
    ) -> None:
        """Writes the rows of all keys; computes those that no file holds, `PART_ROWS` at a time.

        A part is kept until the target is complete, so what an interruption loses is one part.
        `label` is that of the progress.
        """
        names, places = [key.tobytes() for key in keys], self._places()
        missing = [i for i, name in enumerate(names) if name not in places]
        if len(missing) == len(names) <= PART_ROWS:
            self._write(target, keys, compute(missing))
            return
        for block in in_blocks(len(missing), PART_ROWS, label):
            part = missing[block.start : block.stop]
            key = hashlib.sha256(keys[part].tobytes()).hexdigest()[:16]
            path = self.folder / f"{self.part}{key}.npy"
            self._write(path, keys[part], compute(part))
        places = self._places()
        arrays = {path: read_rows(path) for path in {places[name][0] for name in names}}
        rows = (arrays[path][row][None] for path, row in map(places.__getitem__, names))
        self._write(target, keys, rows)
        del rows, arrays  # Windows deletes no mapped file
        for path in self.folder.glob(f"{glob.escape(self.part)}*"):
            path.unlink()

    def _keys_of(self, path: Path) -> Path:
        return path.with_name(path.stem + self.ending)

    def _files(self) -> list[Path]:
        """The files of rows, without one that was deleted."""
        keys = sorted(self.folder.glob(f"{glob.escape(self.prefix)}-*{self.ending}"))
        paths = [path.with_name(path.name.removesuffix(self.ending) + ".npy") for path in keys]
        return [path for path in paths if path.exists()]

    def _places(self) -> dict[bytes, tuple[Path, int]]:
        return {
            key.tobytes(): (path, row)
            for path in self._files()
            for row, key in enumerate(read_rows(self._keys_of(path)))
        }

    def _write(self, path: Path, keys: np.ndarray, batches: Iterator[np.ndarray]) -> None:
        """The keys come second: without them the file is complete, but others do not use it."""
        write_atomically(path, lambda partial: write_rows(partial, len(keys), batches))
        write_atomically(self._keys_of(path), lambda p: write_rows(p, len(keys), iter([keys])))


def hash_weights(digest, module: nn.Module) -> None:
    """Adds names and values of all weights and statistics of a module to a hashlib digest."""
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
