"""Imbalanced training, validation and test sets of every data set."""

import hashlib
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from mi_common.datasets import idx_images
from mi_common.image_files import cub
from mi_common.image_sets import ImageSet
from pc_softmax import data
from pc_softmax.data import indices_digest, load_data, stratified


def ascending(positions: Tensor) -> bool:
    return positions.dtype == torch.int64 and bool((positions.diff() > 0).all())


def counts(image_set: ImageSet) -> list[int]:
    return image_set.labels.bincount().tolist()


def test_papers_lists_of_mnist_are_those_of_its_two_windows(digits_dir):
    loaded = load_data("mnist", digits_dir, imbalance="paper")
    images, labels = idx_images("mnist", digits_dir, "train")
    assert (loaded.name, list(loaded.tests)) == ("mnist", ["paper-window", "official"])
    assert loaded.validation is None and loaded.notes == ()
    image_sets = {"train": loaded.train, "test/paper-window": loaded.tests["paper-window"]}
    assert [len(image_set) for image_set in image_sets.values()] == [480, 372]
    for key, image_set in image_sets.items():
        positions = loaded.indices[key]
        assert ascending(positions)
        assert torch.equal(image_set.images[:, 0], images[positions])
        assert torch.equal(image_set.labels, labels[positions])
    assert loaded.indices["train"].max() < 40_000 <= loaded.indices["test/paper-window"].min()
    official = loaded.tests["official"]
    assert torch.equal(official.images[:, 0], idx_images("mnist", digits_dir, "test")[0])
    assert loaded.indices["test/official"].tolist() == list(range(100))
    assert loaded.class_names == list("0123456789")


@pytest.mark.parametrize(
    ("imbalance", "kept"),
    [
        # The rarest digit of the first 1,297 has 128 images.
        ("none", [128, 131, 128, 132, 130, 131, 130, 129, 128, 130]),
        ("step:10", [128] * 5 + [12] * 5),
        ("exp:100", [128, 76, 46, 27, 16, 9, 5, 3, 2, 1]),
    ],
)
def test_the_first_images_of_each_digit_in_file_order(imbalance, kept):
    everything = load_digits()
    pixels, target = everything.images, everything.target
    loaded = load_data("digits", Path("none"), imbalance=imbalance)
    seen, walked = [0] * 10, []
    for position, label in enumerate(target[:1297]):
        seen[label] += 1
        if seen[label] <= kept[label]:
            walked.append(position)
    assert loaded.indices["train"].tolist() == walked
    assert counts(loaded.train) == kept
    expected = torch.from_numpy(pixels[walked] * 255 / 16)
    assert (loaded.train.images[:, 0] - expected).abs().max() <= 0.5
    assert list(loaded.tests) == ["official"] and len(loaded.tests["official"]) == 500


@pytest.mark.parametrize(("name", "classes"), [("cifar10", 10), ("cifar100", 100)])
def test_cifar_goes_by_its_own_number_of_classes(monkeypatch, name, classes):
    def read(dataset: str, data_dir: Path, split: str) -> ImageSet:
        assert dataset == name
        labels = torch.arange(classes).repeat(8 if split == "train" else 3)
        names = [f"class {k}" for k in range(classes)]
        return ImageSet(name, torch.zeros(len(labels), 3, 32, 32).byte(), labels, names)

    monkeypatch.setattr(data, "image_tensors", read)
    loaded = load_data(name, Path("none"), imbalance="step:4")
    assert counts(loaded.train) == [8] * (classes // 2) + [2] * (classes // 2)
    assert loaded.train.images.shape[1:] == (3, 32, 32)
    assert counts(loaded.tests["official"]) == [3] * classes


def test_papers_lists_of_cub_keep_the_official_order(cub_dir):
    loaded = load_data("cub", cub_dir, imbalance="paper")
    assert counts(loaded.train) == [10, 30, 9, 10]
    assert list(loaded.tests) == ["paper-list", "official"]
    assert counts(loaded.tests["paper-list"]) == [5, 8, 4, 15]
    assert counts(loaded.tests["official"]) == [6, 8, 4, 16]
    for split, key, image_set in (
        ("train", "train", loaded.train),
        ("test", "test/paper-list", loaded.tests["paper-list"]),
        ("test", "test/official", loaded.tests["official"]),
    ):
        files, positions = cub(cub_dir, split), loaded.indices[key]
        assert not image_set.in_memory and ascending(positions)
        assert image_set.images == [files.images[i] for i in positions]
        assert torch.equal(image_set.labels, files.labels[positions])
        assert all(path.is_file() for path in image_set.images)
    assert loaded.class_names[0] == "001.Bird_0"


def test_the_real_cub_gives_3997_training_and_1996_test_images(shared_data, tmp_path):
    with zipfile.ZipFile(shared_data / "cub-200-2011-annotations.zip") as archive:
        archive.extractall(tmp_path)
    loaded = load_data("cub", tmp_path, imbalance="paper")
    sizes = {name: len(image_set) for name, image_set in loaded.tests.items()}
    assert (len(loaded.train), sizes) == (3_997, {"paper-list": 1_996, "official": 5_794})
    per_class = loaded.train.labels.bincount()
    assert (per_class[::2] == 10).all()
    assert per_class[1::2].bincount().nonzero().flatten().tolist() == [29, 30]
    assert (per_class[1::2] == 29).sum() == 3
    assert sorted(set(counts(loaded.tests["paper-list"]))) == [5, 11, 15]


def test_tiny_imagenet_takes_the_papers_rule_and_its_validation_images(tmp_path):
    """Classes go by their place in wnids.txt; no image is opened."""
    root = tmp_path / "tiny-imagenet-200"
    wnids = ["n9", "n1", "n5"]
    (root / "val").mkdir(parents=True)
    (root / "wnids.txt").write_text("\n".join(wnids))
    (root / "words.txt").write_text("n9\tnine\n")
    for wnid in wnids:
        (root / "train" / wnid).mkdir(parents=True)
        lines = [f"{wnid}_{i}.JPEG\t0\t0\t9\t9\n" for i in range(35)]
        (root / f"train/{wnid}/{wnid}_boxes.txt").write_text("".join(lines))
    lines = [f"val_{i}.JPEG\t{wnids[i % 3]}\t0\t0\t9\t9\n" for i in range(3 * 17)]
    (root / "val/val_annotations.txt").write_text("".join(lines))
    loaded = load_data("tiny-imagenet", tmp_path, imbalance="paper")
    assert counts(loaded.train) == [10, 30, 10]
    assert loaded.indices["train"].tolist() == [*range(10), *range(35, 65), *range(70, 80)]
    assert loaded.train.images[10] == root / "train/n1/images/n1_0.JPEG"
    assert counts(loaded.tests["paper-list"]) == [5, 15, 5]
    assert loaded.tests["paper-list"].images[-1] == root / "val/images/val_43.JPEG"
    assert counts(loaded.tests["official"]) == [17, 17, 17]


def test_a_folder_of_pictures(write_pictures):
    loaded = load_data("folder", write_pictures(ant=4, bee=6), imbalance="step:2")
    assert loaded.class_names == ["ant", "bee"]
    assert [path.name for path in loaded.train.images] == [f"{i}.png" for i in (0, 1, 2, 3, 0, 1)]
    assert loaded.indices["train"].tolist() == [0, 1, 2, 3, 4, 5]
    assert list(loaded.tests) == ["official"] and counts(loaded.tests["official"]) == [1, 1]


# Validation


@pytest.mark.parametrize(("imbalance", "fraction"), [("none", 0.1), ("exp:10", 0.29)])
def test_validation_takes_a_share_of_each_class_out_of_train(imbalance, fraction):
    whole = load_data("digits", Path("none"), imbalance=imbalance)
    image_sets = [
        load_data("digits", Path("none"), imbalance=imbalance, val_fraction=fraction, seed=seed)
        for seed in (3, 3, 4)
    ]
    loaded = image_sets[0]
    assert counts(loaded.validation) == [int(n * fraction) for n in counts(whole.train)]
    train, validation = loaded.indices["train"], loaded.indices["validation"]
    assert ascending(train) and ascending(validation)
    assert torch.cat([train, validation]).sort().values.equal(whole.indices["train"])
    images = torch.cat([loaded.train.images, loaded.validation.images])
    both = torch.cat([train, validation]).argsort()
    assert torch.equal(images[both], whole.train.images)
    digests = [indices_digest(image_set.indices) for image_set in image_sets]
    assert digests[0] == digests[1] != digests[2]
    assert torch.equal(loaded.tests["official"].images, whole.tests["official"].images)


def test_a_fraction_that_makes_a_whole_number_gives_it():
    labels = torch.tensor([0] * 100 + [1] * 3)
    assert labels[stratified(labels, 0.29, 0)].bincount().tolist() == [29]
    assert labels[stratified(labels, 1 / 3, 0)].bincount().tolist() == [33, 1]


def test_every_image_is_as_likely_to_be_drawn():
    labels = torch.tensor([0, 1] * 10)
    drawn = torch.stack([stratified(labels, 0.3, seed) for seed in range(400)]).float().mean(dim=0)
    assert (drawn - 0.3).abs().max() < 0.1  # four standard deviations


# The digest


def test_the_digest_is_that_of_names_and_positions_and_changes_with_each():
    indices = {"train": torch.tensor([1, 5]), "test/official": torch.tensor([0])}
    text = b"test/official\n1\n" + struct.pack("<q", 0) + b"train\n2\n" + struct.pack("<2q", 1, 5)
    digest = indices_digest(indices)
    assert digest == hashlib.sha256(text).hexdigest()
    assert digest == indices_digest(dict(reversed(indices.items())))
    others = [
        {**indices, "train": torch.tensor([1, 6])},
        {**indices, "train": torch.tensor([5, 1])},
        {**indices, "train": torch.tensor([1])},
        {**indices, "test/official": torch.tensor([2**40])},
        {**indices, "validation": torch.tensor([], dtype=torch.int64)},
        {"train": indices["test/official"], "test/official": indices["train"]},
    ]
    assert len({digest, *map(indices_digest, others)}) == 7
