"""CUB-200-2011 in its official layout, as tests write it."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_cub(root: Path, *, train: list[int], test: list[int]) -> Path:
    """CUB-200-2011's layout with `train[k]` and `test[k]` images of class k; returns `root`.

    Images are 48 x 40 JPEG files, noise with a square in the class's colour, which is the box.
    """
    rng = np.random.default_rng(0)
    folder = root / "CUB_200_2011"
    names = [f"{k + 1:03d}.Bird_{k}" for k in range(len(train))]
    files = {"classes.txt": [f"{k + 1} {name}" for k, name in enumerate(names)]}
    about = ("images", "image_class_labels", "train_test_split", "bounding_boxes")
    rows = {f"{name}.txt": [] for name in about}
    for k, name in enumerate(names):
        (folder / "images" / name).mkdir(parents=True)
        colour = 255 * np.array([k & 1, k >> 1 & 1, k >> 2 & 1])
        for i, training in enumerate(rng.permutation([1] * train[k] + [0] * test[k])):
            side, file = rng.integers(12, 30), f"{name}/bird_{i}.jpg"
            x, y = rng.integers(0, 40 - side, 2)
            pixels = rng.integers(60, 190, (40, 48, 3)).astype(np.uint8)
            pixels[y : y + side, x : x + side] = colour
            Image.fromarray(pixels).save(folder / "images" / file, quality=90)
            box = f"{x}.0 {y}.0 {side - 1}.0 {side - 1}.0"
            for lines, text in zip(rows.values(), (file, k + 1, training, box), strict=True):
                lines.append(f"{len(lines) + 1} {text}")
    for file, lines in (files | rows).items():
        (folder / file).write_text("\n".join(lines) + "\n")
    return root
