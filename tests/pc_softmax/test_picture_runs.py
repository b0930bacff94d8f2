"""Runs on image files: a folder of one's flags with drawn JPEGs, and CUB from its archive."""

import os
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mi_common.records import RunFolder
from pc_softmax import compare
from pc_softmax.train import main
from scripts import download_data

TINY = ["--network", "timm:mobilenetv3_small_050", "--weights", "none", "--image-size", 32]
COLOURS = {"ant": (180, 60, 60), "bee": (60, 180, 60), "cow": (60, 60, 180)}
COUNTS = {"ant": 12, "bee": 8, "cow": 4}


def draw(folder: Path, number: int, colour: tuple, rng: np.random.Generator) -> None:
    folder.mkdir(parents=True)
    for i in range(number):
        pixels = np.clip(colour + rng.normal(0, 30, (20, 24, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.jpg", quality=90)


@pytest.fixture
def pictures(tmp_path) -> Path:
    """A folder with 12, 8 and 4 training and 5 test images of three colours."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        draw(tmp_path / "pictures/train" / name, COUNTS[name], colour, rng)
        draw(tmp_path / "pictures/test" / name, 5, colour, rng)
    return tmp_path / "pictures"


def arguments(data_dir: Path, folder: Path, *more) -> list[str]:
    words = ["--dataset", "folder", "--data-dir", data_dir, "--output-dir", folder, *TINY]
    words += ["--device", "cpu", "--num-workers", 0, "--epochs", 2, "--batch-size", 8]
    return [str(word) for word in [*words, *more]]


def logits(folder: Path, part: str = "official") -> np.ndarray:
    with np.load(folder / "predictions.npz") as file:
        return file[f"{part}_logits"]


def test_a_folder_of_pictures_from_files_to_scores(pictures, tmp_path):
    flags = ["--network", "efficientnet_lite0", "--weights", "imagenet", "--image-size", 64]
    flags += ["--epochs", 20, "--val-fraction", 0.25]
    main(arguments(pictures, tmp_path / "run", *flags))
    result = RunFolder(tmp_path / "run").result()
    assert result["n_train"] == 18 and list(result["test_sets"]) == ["official"]
    assert result["test_sets"]["official"]["balanced_accuracy"] > 0.9
    with np.load(tmp_path / "run/predictions.npz") as file:
        assert file["class_names"].tolist() == list(COLOURS)
        assert file["counts"].tolist() == [9, 6, 3]
        assert np.bincount(file["validation_labels"]).tolist() == [3, 2, 1]
        assert file["validation_logits"].argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 2]
    names = sorted(path.name.split("-")[:3] for path in (pictures / "features").glob("*.npy"))
    assert names == [["folder", "pooled", "64"]] * 3


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_unreadable_picture_is_named_before_anything_is_written(
    pictures, tmp_path, user_error, split
):
    bad = pictures / split / "bee/01.jpg"
    bad.write_bytes(bad.read_bytes()[:300])
    for script, more in ((main, []), (compare.main, ["--seeds", 0])):
        line = user_error(script, arguments(pictures, tmp_path / "run", *more))
        remedy = "mend it, or leave it out with --skip-unreadable"
        assert line == f"error: {bad}: not a readable image (OSError); {remedy}"
        assert not (tmp_path / "run").exists()
    # Of a test picture, the features of the training pictures are there and whole.
    kept = list((pictures / "features").glob("*.npy"))
    assert [len(np.load(path)) for path in kept] == ([] if split == "train" else [24])


def test_unreadable_pictures_are_left_out_listed_and_counted(pictures, tmp_path, capsys):
    bad = [pictures / "train/bee/01.jpg", pictures / "test/cow/04.jpg"]
    for path in bad:
        path.write_bytes(b"")
    said = f"Note: left out unreadable images (2): {bad[0]}, {bad[1]}."
    main(arguments(pictures, tmp_path / "run", "--skip-unreadable"))
    assert said in capsys.readouterr().out.splitlines()
    result = RunFolder(tmp_path / "run").result()
    assert (result["n_train"], result["test_sets"]["official"]["n_test"]) == (23, 14)
    with np.load(tmp_path / "run/indices.npz") as file:
        assert sorted(set(range(24)) - set(file["train"].tolist())) == [13]
        assert file["test_official"].tolist() == list(range(14))
    words = arguments(pictures, tmp_path / "both", "--skip-unreadable", "--seeds", 0)
    compare.main(words)
    assert capsys.readouterr().out.count(said) == 1
    assert set(pd.read_csv(tmp_path / "both/results.csv")["n_train"]) == {23}


def test_augmented_copies_are_more_files_and_another_training(pictures, tmp_path):
    for copies in (0, 2):
        main(arguments(pictures, tmp_path / str(copies), "--augmented-copies", copies))
    # The training images as they are, the test images, and two passes over random parts.
    assert len(list((pictures / "features").glob("*.npy"))) == 4
    runs = [RunFolder(tmp_path / str(copies)) for copies in (0, 2)]
    steps = [
        run.load_checkpoint()["scheduler"]["last_epoch"] for run in runs
    ]  # two epochs of 24 or 48 images in batches of 8
    assert steps == [6, 12]
    assert np.abs(logits(runs[0].path) - logits(runs[1].path)).max() > 0


def test_a_whole_network_resumes_to_the_same_predictions_with_any_number_of_workers(
    pictures, tmp_path, monkeypatch
):
    save_epoch = RunFolder.save_epoch

    def stop(self, checkpoint):
        save_epoch(self, checkpoint)
        raise KeyboardInterrupt

    words = ["--no-freeze-backbone", "--image-size", 64, "--loss", "pc-softmax"]
    main(arguments(pictures, tmp_path / "whole", *words))
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_epoch", stop)
        with pytest.raises(SystemExit):
            main(arguments(pictures, tmp_path / "halves", *words))
    main(arguments(pictures, tmp_path / "halves", *words, "--resume", "--num-workers", 2))
    assert np.array_equal(logits(tmp_path / "halves"), logits(tmp_path / "whole"))
    assert not (pictures / "features").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--no-freeze-backbone", "--augmented-copies", 2], "only for image files and a frozen"),
        (["--network", "small-cnn"], "--network small-cnn: for image sets in memory, not for"),
        (["--network", "paper-net"], "--network paper-net: 28 x 28 grey images only, not folder"),
        (["--network", "inception_v3"], "inception_v3: cannot take images of 32 pixels"),
        (["--imbalance", "paper"], "--imbalance paper: only for mnist, fashion-mnist, "),
        (["--imbalance", "step"], "'step' is not one of none, paper, step:RATIO, exp:RATIO"),
        (["--weights", "nowhere.pt"], "--weights nowhere.pt: no such file"),
    ],
)
def test_flags_that_do_not_suit_pictures_are_one_line(pictures, tmp_path, user_error, words, said):
    assert said in user_error(main, arguments(pictures, tmp_path / "run", *words))
    assert {path.name for path in tmp_path.iterdir()} == {"pictures"}


def test_cub_from_its_archive_to_the_table(cub_dir, tmp_path, capsys):
    with tarfile.open(tmp_path / "CUB.tgz", "w:gz") as file:
        file.add(cub_dir / "CUB_200_2011", "CUB_200_2011")
    data_dir = tmp_path / "data"
    archive = ["--archive", str(tmp_path / "CUB.tgz"), "--data-dir", str(data_dir)]
    download_data.main(["cub", *archive])
    words = ["--dataset", "cub", "--network", "efficientnet_lite0", "--epochs", 3]
    main(arguments(data_dir, tmp_path / "run", *words, "--seed", 1, "--loss", "softmax"))
    alone = RunFolder(tmp_path / "run").result()["test_sets"]
    assert list(alone) == ["paper-list", "official"]
    capsys.readouterr()
    cached = sorted(os.listdir(data_dir / "features"))
    compare.main(arguments(data_dir, tmp_path / "all", *words, "--seeds", 1))
    assert sorted(os.listdir(data_dir / "features")) == cached
    assert sum(name.endswith(".npy") for name in cached) == 3
    rows = pd.read_csv(tmp_path / "all/results.csv")
    assert set(zip(rows["test_set"], rows["n_test"], strict=True)) == {
        ("paper-list", 32),
        ("official", 34),
    }
    assert set(rows["n_train"]) == {59} and len(rows) == 2 * 5
    trained = rows[(rows["loss"] == "softmax") & (rows["rule"] == "as trained")].set_index(
        "test_set"
    )
    for name, scores in alone.items():
        assert trained.loc[name, "balanced_accuracy"] == pytest.approx(scores["balanced_accuracy"])
    table = (tmp_path / "all/table.md").read_text()
    assert table in capsys.readouterr().out + "\n"
    # The most frequent class in training has 8 of the 32 and of the 34 test images.
    assert "| cub | paper-list | majority class |  |  | 25.00 | 25.00 | 0.00 |" in table
    assert "| cub | official | majority class |  |  | 23.53 | 25.00 | 0.00 |" in table
    assert table.count("| softmax |") == 6 and table.count("| pc-softmax |") == 4
