"""Imbalanced data: files that cannot be read, and what is refused in one line."""

import shutil
from pathlib import Path

import pytest

from mi_common.errors import UserError
from mi_common.image_files import cub
from pc_softmax.data import load_data
from pc_softmax.recipes import DATASETS


@pytest.fixture
def broken_cub(cub_dir, tmp_path) -> tuple[Path, list[Path]]:
    """A copy of the mini CUB whose third training and first test image are cut, and these two."""
    shutil.copytree(cub_dir, tmp_path / "copy")
    bad = [cub(tmp_path / "copy", "train").images[2], cub(tmp_path / "copy", "test").images[0]]
    for path in bad:
        path.write_bytes(path.read_bytes()[:200])
    return tmp_path / "copy", bad


def test_unreadable_files_are_as_if_not_there_and_are_listed(cub_dir, broken_cub):
    folder, bad = broken_cub
    whole = load_data("cub", cub_dir, imbalance="paper")
    loaded = load_data("cub", folder, imbalance="paper", skip_unreadable=True)
    assert loaded.notes[0] == f"left out unreadable images (2): {bad[0]}, {bad[1]}"
    # The first class has 12 training images, so the rule goes on to the next one.
    assert loaded.train.labels.bincount().tolist() == [10, 30, 9, 10]
    assert loaded.indices["train"][:4].tolist() == [0, 1, 3, 4]
    assert loaded.indices["train"][10:].equal(whole.indices["train"][10:])
    assert loaded.indices["test/official"].tolist() == list(range(1, 34))
    assert loaded.indices["test/paper-list"][:5].tolist() == [1, 2, 3, 4, 5]
    kept = [*loaded.train.images, *loaded.tests["official"].images]
    assert not set(bad) & set(kept)


def test_without_the_flag_nothing_is_left_out(broken_cub):
    folder, bad = broken_cub
    loaded = load_data("cub", folder, imbalance="paper")
    assert loaded.notes == () and bad[0] in loaded.train.images


def refused(dataset: str, data_dir: Path, message: str, **options) -> None:
    with pytest.raises(UserError) as error:
        load_data(dataset, data_dir, **{"imbalance": "none"} | options)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("dataset", ["digits", "cifar10", "cifar100", "folder"])
def test_the_papers_rule_says_where_it_exists(tmp_path, dataset):
    where = "only for mnist, fashion-mnist, cub, tiny-imagenet"
    refused(dataset, tmp_path, f"--imbalance paper: {where}, not {dataset}", imbalance="paper")


@pytest.mark.parametrize("dataset", sorted(set(DATASETS) - {"digits"}))
def test_missing_data_is_one_line(tmp_path, dataset):
    command = f"python -m scripts.download_data {dataset} --data-dir {tmp_path}"
    refused(dataset, tmp_path, f"{tmp_path}/train" if dataset == "folder" else command)


def test_one_class_is_no_classification(write_pictures):
    message = "folder: 1 class; a classifier needs two or more"
    refused("folder", write_pictures(ant=3), message, imbalance="exp:10")


def test_a_validation_part_without_images_is_refused():
    message = (
        "digits (--imbalance none, --val-fraction 0.001, 0 unreadable): no images for validation"
    )
    refused("digits", Path("none"), message, val_fraction=0.001)


@pytest.mark.parametrize("imbalance", ["none", "exp:2"])
def test_classes_without_training_images_are_named(cub_dir, tmp_path, imbalance):
    shutil.copytree(cub_dir, tmp_path / "copy")
    file = tmp_path / "copy/CUB_200_2011/classes.txt"
    file.write_text(file.read_text() + "5 005.Dodo\n6 006.Moa\n")
    message = "no images to train on of 2 classes: 005.Dodo, 006.Moa"
    refused("cub", tmp_path / "copy", message, imbalance=imbalance)


def test_a_class_whose_files_are_all_unreadable_is_named(write_pictures):
    folder = write_pictures(ant=2, bee=2)
    for i in range(2):
        (folder / f"train/bee/{i}.png").write_bytes(b"")
    message = "2 unreadable): no images to train on of 1 classes: bee"
    refused("folder", folder, message, skip_unreadable=True)
