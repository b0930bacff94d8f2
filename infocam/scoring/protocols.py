"""How a map becomes boxes and a box becomes a hit: three protocols.

wsol            the field's evaluator (Choe et al. 2020): everything stretched to 224 x 224,
                thresholds 0, 0.001, ..., boxes x y x+w y+h cut at the last pixel, annotated
                corners rounded down, overlap in inclusive pixels
infocam         the image's own pixels, thresholds 0, 0.01, ..., inclusive corners throughout
infocam-legacy  the original code with its faults, to understand published numbers: the map is
                painted with matplotlib's cubehelix and turned to grey; thresholds 0, 0.05, ...;
                Tiny-ImageNet's corners are read as width and height; the overlap of disjoint boxes
                is not clamped to zero, so that two boxes apart in both directions can hit;
                accuracies are means of running means over batches of 128 images in order of class
"""

import functools
from dataclasses import dataclass

import numpy as np

LEGACY_BATCH = 128


@dataclass(frozen=True)
class Protocol:
    """The conventions of an evaluation."""

    name: str
    frame: int | None  # side in pixels of the square that maps are stretched to; None: the image's
    steps: int  # thresholds are 0, 1 / steps, 2 / steps, ... of the map's maximum
    box_end: str  # where predicted boxes end, see `boxes.contour_boxes`
    legacy: bool = False  # whether to reproduce the faults of the original code

    @property
    def cuts(self) -> np.ndarray:
        """The distinct 8-bit levels of the thresholds, at most 255: foreground is above."""
        return np.unique((np.arange(self.steps) / self.steps * 255).astype(int))

    @property
    def thresholds(self) -> np.ndarray:
        """The smallest threshold of each of `cuts`, as a fraction of the maximum."""
        fractions = np.arange(self.steps) / self.steps
        return fractions[np.unique((fractions * 255).astype(int), return_index=True)[1]]

    def size(self, size: np.ndarray) -> tuple[int, int]:
        """Width and height that the map of an image of (2,) width, height is stretched to."""
        return (self.frame, self.frame) if self.frame else (int(size[0]), int(size[1]))

    def truths(self, boxes: np.ndarray, size: np.ndarray, *, misread: bool = False) -> np.ndarray:
        """(M, 4) annotated boxes in the protocol's frame, as floats.

        Args:
            size: (2,) width and height of the annotated image.
            misread: read the corners x0 y0 x1 y1 as x y width height, as the original code did;
                of no effect on other protocols.
        """
        boxes = np.asarray(boxes, float)
        if self.frame is None:
            return boxes
        scale = np.concatenate([size, size]).astype(float)
        if not self.legacy:
            return np.floor(boxes * self.frame / scale)
        if misread:
            boxes = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
        # The original scales to 223 pixels and then shifts by one.
        return boxes / scale * (self.frame - 1) + 1

    def levels(self, levels: np.ndarray) -> np.ndarray:
        """The (H, W) uint8 levels that are compared with the thresholds."""
        return _cubehelix_grey()[levels] if self.legacy else levels

    def weights(self, labels: np.ndarray) -> np.ndarray:
        """(N,) weights of the images in an average, summing to one."""
        count = len(labels)
        if not self.legacy:
            return np.full(count, 1 / count)
        # The original averages the running mean after each batch, weighted by the batch's size.
        ends = np.minimum(np.arange(LEGACY_BATCH, count + LEGACY_BATCH, LEGACY_BATCH), count)
        sizes = np.diff(ends, prepend=0)
        of_batch = (sizes / ends)[::-1].cumsum()[::-1] / count
        weights = np.empty(count)
        weights[np.argsort(labels, kind="stable")] = np.repeat(of_batch, sizes)
        return weights


@functools.cache
def _cubehelix_grey() -> np.ndarray:
    """(256,) uint8 grey levels of matplotlib's cubehelix colours, as OpenCV weighs RGB."""
    import matplotlib  # here, because no other protocol needs it

    colours = matplotlib.colormaps["cubehelix"](np.arange(256))[:, :3].astype(np.float32) * 255
    weighted = colours.astype(np.uint8) @ np.array([0.299, 0.587, 0.114])
    return np.rint(weighted).astype(np.uint8)


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol("infocam", None, 100, "inclusive"),
        Protocol("wsol", 224, 1000, "clipped"),
        Protocol("infocam-legacy", 224, 20, "beyond", legacy=True),
    )
}
