"""Outputs of a frozen network, computed once and kept as memory-mapped files.

maps = cached_features(network, files, data_dir / "features", kind="maps", runtime=runtime)
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from common.backbones import GlobalAveragePoolClassifier
from common.image_files import ImageFileDataset, ImageFiles
from common.records import write_atomically
from common.runtime import Runtime


@torch.no_grad()
def cached_features(
    network: GlobalAveragePoolClassifier,
    files: ImageFiles,
    cache_dir: Path,
    *,
    kind: str,
    runtime: Runtime,
    size: int | None = None,
    augmentation: int | None = None,
    batch_size: int = 64,
    num_workers: int = 2,
) -> np.ndarray:
    """Feature maps of image files in eval mode, from the cache where they are already there.

    The file is keyed by the data set, the list of files, the trunk's weights, the size and the
    precision, so a change of any makes a new file; it appears only when it is complete.

    Args:
        kind: "pooled" for (N, C), the mean over positions, or "maps" for (N, C, H, W).
        size: side of the square input; None takes the network's own.
        augmentation: number of a pass over random parts of the images, each number another one;
            None takes whole images.

    Returns:
        A memory-mapped float16 array; what is written to it does not reach the file.
    """
    size = size or network.spec.size
    key = hashlib.sha256(f"{kind} {size} {network.spec} {runtime.precision}".encode())
    if network.output_stride not in (None, 32):  # the weights do not tell
        key.update(f"output stride {network.output_stride}".encode())
    if augmentation is not None:
        key.update(f"augmentation {augmentation}".encode())
    for path in files.paths:
        key.update("/".join(path.parts[-4:]).encode() + b"\n")
        if files.name == "folder":  # no official content: pictures may be replaced under a name
            key.update(f"{path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    update_with_weights(key, network.trunk)
    target = cache_dir / f"{files.name}-{kind}-{size}-{key.hexdigest()[:16]}.npy"
    if not runtime.gather(target.exists())[0]:  # one answer for all processes
        transform = network.spec.transform(size)
        if augmentation is not None:
            transform = network.spec.random_transform(size)
        loader = torch.utils.data.DataLoader(
            ImageFileDataset(files.paths, transform, seed=augmentation),
            batch_size=batch_size,
            num_workers=num_workers,
        )
        trunk = network.trunk.to(runtime.device, memory_format=torch.channels_last).eval()
        trunk = torch.compile(trunk) if runtime.compile else trunk

        def write(partial: Path) -> None:
            array, start = None, 0
            for images in tqdm(loader, desc=f"features of {files.name}", disable=None):
                images = images.to(runtime.device, memory_format=torch.channels_last)
                with runtime.autocast():
                    maps = trunk(images).float()
                rows = maps if kind == "maps" else maps.mean(dim=(2, 3))
                if array is None:
                    shape = (len(files), *rows.shape[1:])
                    array = np.lib.format.open_memmap(partial, "w+", np.float16, shape)
                array[start : start + len(rows)] = rows.cpu().numpy()
                start += len(rows)

        runtime.on_main(write_atomically, target, write)
    return np.load(target, mmap_mode="c")  # PyTorch wants it writable


def update_with_weights(digest, module: nn.Module) -> None:
    """Adds names and values of all weights and statistics of a module to a hashlib digest."""
    for name, value in module.state_dict().items():
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
