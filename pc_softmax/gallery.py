"""The mistakes of a classifier that it is most certain of, as a table and a picture of each."""

import math
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image

from mi_common.errors import UserError, one_line
from mi_common.files import read_arrays
from mi_common.image_sets import ImageSet
from mi_common.pictures import printable
from mi_common.plots import plain, save_figure
from mi_common.records import RunFolder
from mi_common.tables import write_csv
from pc_softmax.data import images_of_test_set

MISTAKES = 24  # pictures in a gallery
COLUMNS, PANEL = 6, 1.7  # panels in a row; inches
LONGEST_NAME, LARGEST_SIDE = 22, 320  # characters; pixels of a drawn picture


def mistakes(log_posterior: np.ndarray, labels: np.ndarray, class_names: list[str]) -> pd.DataFrame:
    """One row per sample that is classified wrongly, the most probable prediction first.

    (N, K) log probabilities and (N,) labels. Columns: `index` of the sample in the test set,
    `true_class`, `predicted`, their `probability` and `true_probability`.
    """
    predicted, rows = log_posterior.argmax(axis=1), np.arange(len(labels))
    names = np.array(class_names, dtype=object)
    table = pd.DataFrame(
        {
            "index": rows,
            "true_class": names[labels],
            "predicted": names[predicted],
            "probability": np.exp(log_posterior[rows, predicted]),
            "true_probability": np.exp(log_posterior[rows, labels]),
        }
    )
    wrong = table[predicted != labels]
    return wrong.sort_values("probability", ascending=False, kind="stable", ignore_index=True)


def images_of_run(folder: Path, test_set: str, labels: np.ndarray) -> ImageSet:
    """The images of a run's test set, in the order of its predictions.

    `labels` are the (N,) labels of the predictions. UserError if the folder does not say where the
    images are, and for images that are not there or are no longer those of the run.
    """
    config = RunFolder(folder).require_entry("pc_softmax.train", keys=("data",))
    indices, flags = read_arrays(folder / "indices.npz"), config["flags"]
    known = f"test_{test_set}" in indices and {"dataset", "data_dir"} <= flags.keys()
    if not (known and isinstance(config["data"], dict)):
        raise UserError(f"{folder}: does not say which images {test_set} holds")
    data_dir = Path(flags["data_dir"])
    images = images_of_test_set(flags["dataset"], data_dir, indices[f"test_{test_set}"], test_set)
    fingerprint = config["data"].get(f"test {test_set}")
    if images.labels.tolist() != labels.tolist() or images.fingerprint != fingerprint:
        raise UserError(f"{data_dir}: its test images are no longer those of the run")
    return images


def save_gallery(table: pd.DataFrame, images: ImageSet, title: str, path: Path) -> None:
    """Draws the first `MISTAKES` rows of `mistakes`: the picture, its prediction, its class."""
    shown = table.head(MISTAKES)
    columns = min(COLUMNS, len(shown))
    lines = math.ceil(len(shown) / columns)
    size = (max(PANEL * columns, 5), (PANEL + 0.4) * lines + 0.5)
    figure, panels = plt.subplots(lines, columns, figsize=size, squeeze=False)
    figure.suptitle(plain(title, 200), fontsize=9)
    for panel in panels.flat:
        panel.axis("off")
    for panel, row in zip(panels.flat, shown.itertuples(index=False), strict=False):
        picture = Image.fromarray(images.picture(row.index))
        picture.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        panel.imshow(picture)
        predicted, true = (plain(name, LONGEST_NAME) for name in (row.predicted, row.true_class))
        text = (
            f"{predicted}, p = {row.probability:.2f}\ntrue: {true}, p = {row.true_probability:.2f}"
        )
        panel.set_title(text, fontsize=7)
    save_figure(figure, path)


def write_mistakes(
    run: Path,
    posteriors: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    class_names: list[str],
    folder: Path,
) -> list[str]:
    """Writes mistakes.csv and a gallery for each test set; returns why a gallery is missing.

    `posteriors` are (N, K) log probabilities by test set, `labels` (N,) their labels.
    """
    tables, notes = {}, []
    for test_set, log_posterior in posteriors.items():
        table = mistakes(log_posterior, labels[test_set], class_names)
        try:
            images = images_of_run(run, test_set, labels[test_set])
            if len(table):
                shown = min(len(table), MISTAKES)
                title = f"{test_set}: {shown} of {len(table)} wrong predictions, the most probable "
                title += "first (predicted and true class, with their probabilities p)"
                save_gallery(table, images, title, folder / f"mistakes_{test_set}.png")
            if not images.in_memory:
                files = [printable(images.images[i]) for i in table["index"]]
                table.insert(1, "file", files)
        except (UserError, OSError) as error:
            notes.append(f"no gallery of mistakes of {test_set}: {one_line(error)}")
        tables[test_set] = table
    joined = pd.concat(tables, names=["test_set"]).reset_index("test_set")
    write_csv(joined, folder / "mistakes.csv")
    return notes
