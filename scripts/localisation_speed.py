"""Times localisation: boxes of a map against plain OpenCV, and an evaluation from cached maps."""

import resource
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from infocam.localise import Maps, localise
from infocam.scoring.boxes import resize_map, to_8bit
from infocam.scoring.metrics import V2_IOUS, Evaluator, box_iou
from infocam.scoring.protocols import Protocol, protocol
from mi_common import runtime
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.image_sets import ImageSet
from mi_common.workers import worker_pool

THRESHOLDS = 1000
METHODS = ["cam", "infocam", "infocam+", "lowest:20", "similar", "posterior"]
METHODS += ["grad-cam", "grad-cam++", "layer-cam", "random"]
FEATURES, CELLS, CLASSES = 1280, 7, 200


def smooth_maps(count: int, seed: int) -> np.ndarray:
    """(count, 7, 7) maps of a blob under noise, as coarse as a network's."""
    rng = np.random.default_rng(seed)
    places = np.mgrid[:CELLS, :CELLS][:, None]
    centres = rng.uniform(1, CELLS - 2, (2, count, 1, 1))
    blobs = np.exp(-((places - centres) ** 2).sum(axis=0) / 6)
    return (3 * blobs + 0.5 * rng.normal(size=blobs.shape)).astype(np.float32)


def plain_opencv(values: np.ndarray, truths: np.ndarray, side: int) -> tuple[np.ndarray, ...]:
    """(T,) IoU of the largest contour and of the best one, one call of OpenCV a threshold."""
    levels = to_8bit(resize_map(values, side, side))
    boxes, starts, best = [], [], []
    for t in np.arange(THRESHOLDS) / THRESHOLDS:
        _, mask = cv2.threshold(levels, int(t * levels.max()), 255, cv2.THRESH_BINARY)
        contours, _ = cv2.findContours(mask, cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)
        starts.append(len(boxes))
        areas = [cv2.contourArea(contour) for contour in contours]
        best.append(starts[-1] + areas.index(max(areas)))
        boxes += [cv2.boundingRect(contour) for contour in contours]
    boxes = np.array(boxes)
    boxes[:, 2:] += boxes[:, :2] - 1
    overlaps = box_iou(boxes, truths).max(axis=1).astype(np.float32)
    return overlaps[best], np.maximum.reduceat(overlaps, starts)


def time_boxes(num_workers: int, count: int = 400) -> list[dict]:
    """MaxBoxAccV2 of some maps: the plain way, this one, and this one in several processes.

    Seconds a map: of processor time in one process, of the clock in several.
    """
    lines = []
    for side in (64, 224):
        maps, sizes = smooth_maps(count, side), np.full((count, 2), side)
        truths = np.array([[side // 4, side // 4, 3 * side // 4, 3 * side // 4]])
        chosen = Protocol("speed", None, THRESHOLDS, "inclusive")
        few = count // 10
        started = time.process_time()
        found = [plain_opencv(values, truths, side) for values in maps[:few]]
        plain_seconds = (time.process_time() - started) / few
        lines.append(
            {
                "what": f"boxes of a map, {side} x {side}: OpenCV for each of 1,000 thresholds",
                "seconds": plain_seconds,
                "note": "one process",
            }
        )
        columns = np.searchsorted(
            chosen.cuts, (np.arange(THRESHOLDS) / THRESHOLDS * 255).astype(int)
        )
        for workers in (1, num_workers) if num_workers > 1 else (1,):
            clock = time.process_time if workers == 1 else time.perf_counter
            with worker_pool(workers) if workers > 1 else nullcontext() as pool:
                warm, evaluator = Evaluator(chosen, workers=pool), Evaluator(chosen, workers=pool)
                warm.accumulate(maps[:100], [truths] * 100, sizes[:100])  # its processes start
                started = clock()
                evaluator.accumulate(maps, [truths] * count, sizes)
                curves = evaluator.compute()
                seconds = (clock() - started) / count
            same = all(
                np.array_equal(ours[:few, columns], np.stack(slow))
                for ours, slow in zip(
                    (curves.largest, curves.every), zip(*found, strict=True), strict=True
                )
            )
            agree = "the same boxes" if same else "OTHER BOXES"
            v2 = np.mean([(curves.every >= iou).mean(axis=0).max() for iou in V2_IOUS])
            note = f"{workers} process{'es' * (workers > 1)}: {plain_seconds / seconds:.1f} times "
            note += f"as fast, {agree}; MaxBoxAccV2 {v2:.3f}"
            lines.append({"what": "  the distinct levels", "seconds": seconds, "note": note})
    return lines


def time_localisation(images: int, num_workers: int) -> dict:
    """An evaluation of all methods from cached maps, in a process of its own for its memory."""
    with worker_pool(1) as pool:  # it may have workers of its own
        seconds, gigabytes = pool.submit(_evaluate_file, images, num_workers).result()
    what = f"evaluation from cached maps, {images:,} images"
    note = f"{len(METHODS)} methods, all thresholds; peak memory {gigabytes:.2f} GB"
    return {"what": what, "seconds": seconds, "note": note}


def _evaluate_file(images: int, num_workers: int) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        path, shape = Path(folder) / "maps.npy", (images, FEATURES, CELLS, CELLS)
        array = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        for start in range(0, images, 1000):
            rng = np.random.default_rng(start)
            block = smooth_maps(min(1000, images - start), start)[:, None].clip(0)
            array[start : start + 1000] = block * rng.random((len(block), FEATURES, 1, 1))
        array.flush()
        del array
        spec = InputSpec(224)
        torch.manual_seed(0)
        network = GlobalAveragePoolClassifier(nn.Identity(), FEATURES, CLASSES, spec).eval()
        data = ImageSet(
            torch.from_numpy(np.load(path, mmap_mode="c")),
            torch.arange(images) % CLASSES,
            [np.array([[16, 16, 47, 47]])] * images,
            [str(k) for k in range(CLASSES)],
            np.full((images, 2), 64),
            [str(i) for i in range(images)],
        )
        device = runtime.setup("cpu")
        started = time.perf_counter()
        with worker_pool(num_workers) if num_workers > 1 else nullcontext() as workers:
            localise(
                network,
                data,
                Maps(METHODS, [1]),
                protocol("infocam"),
                misread=False,
                workers=workers,
                cache_dir=Path(folder),
                num_workers=0,
                runtime=device,
            )
            seconds = time.perf_counter() - started
    return seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
