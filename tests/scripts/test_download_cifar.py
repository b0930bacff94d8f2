"""CIFAR from the official archive to tensors; a file that is not the official one is found."""

import dataclasses
import pickle
import tarfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mi_common.datasets import CIFAR_DATASETS, image_tensors
from mi_common.errors import UserError
from scripts.dataset_files import OFFICIAL


class Cifar(NamedTuple):
    name: str
    folder: Path
    images: dict[str, Tensor]  # of each split
    labels: dict[str, list[int]]
    class_names: list[str]


@pytest.fixture(params=CIFAR_DATASETS)
def cifar(request, place, monkeypatch) -> Cifar:
    """The official layout with three images a batch, whose md5 torchvision is made to expect.

    A row of `data` is the red, then the green, then the blue plane of an image.
    """
    dataset, ten = CIFAR_DATASETS[request.param], request.param == "cifar10"
    classes = 10 if ten else 100
    folder = place.data / dataset.base_folder
    folder.mkdir(parents=True)

    def write(file: str, content: dict) -> str:
        data = pickle.dumps(content, protocol=2)
        (folder / file).write_bytes(data)
        return place.md5(data)

    def batch(file: str) -> list[str]:
        pixels = random.integers(0, 256, (3, 3, 32, 32)).astype(np.uint8)
        fine = random.integers(0, classes, 3).tolist()
        images[split].append(torch.from_numpy(pixels))
        labels[split].extend(fine)
        words = {"labels": fine} if ten else {"fine_labels": fine, "coarse_labels": [0, 0, 0]}
        return [file, write(file, {"data": pixels.reshape(3, 3072), **words})]

    random = np.random.default_rng(0)
    images, labels = {"train": [], "test": []}, {"train": [], "test": []}
    for split in images:
        files = [batch(file) for file, _ in getattr(dataset, f"{split}_list")]
        monkeypatch.setattr(dataset, f"{split}_list", files)
    names = [f"class {k}" for k in range(classes)]
    others = {} if ten else {"coarse_label_names": ["coarse"]}
    md5 = write(dataset.meta["filename"], {dataset.meta["key"]: names, **others})
    monkeypatch.setattr(dataset, "meta", dataset.meta | {"md5": md5})
    joined = {split: torch.cat(tensors) for split, tensors in images.items()}
    return Cifar(request.param, folder, joined, labels, names)


def check(cifar: Cifar, data_dir: Path) -> None:
    for split, images in cifar.images.items():
        data = image_tensors(cifar.name, data_dir, split)
        assert (data.images.dtype, data.labels.dtype) == (torch.uint8, torch.int64)
        assert torch.equal(data.images, images) and data.images.is_contiguous()
        assert data.labels.tolist() == cifar.labels[split]
        assert data.class_names == cifar.class_names


def test_all_batches_are_read_in_order_with_fine_labels_and_names(cifar, place):
    assert len(cifar.images["train"]) == {"cifar10": 15, "cifar100": 3}[cifar.name]
    check(cifar, place.data)


@pytest.mark.parametrize("part", ["train", "test", "meta"])
@pytest.mark.parametrize("damage", ["changed", "cut", "missing"])
def test_a_file_that_is_not_the_official_one_is_a_one_line_error(cifar, place, part, damage):
    dataset = CIFAR_DATASETS[cifar.name]
    last = dataset.meta["filename"] if part == "meta" else getattr(dataset, f"{part}_list")[-1][0]
    file = cifar.folder / last
    whole = bytearray(file.read_bytes())
    whole[len(whole) // 2] ^= 1  # a pixel or a letter: the pickle can still be read
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole if damage == "changed" else whole[:100])
    with pytest.raises(UserError) as error:
        image_tensors(cifar.name, place.data, "train")
    reason = str(file) if damage == "missing" else f"{cifar.folder}: damaged"
    assert reason in str(error.value)
    assert f"scripts.download_data {cifar.name} --data-dir {place.data}" in str(error.value)


@pytest.mark.parametrize("given", [False, True], ids=["url", "archive"])
def test_the_official_archive_is_installed_as_it_is_read(cifar, place, monkeypatch, given):
    official = OFFICIAL[cifar.name]
    archive = place.root / official.url.rsplit("/", 1)[1]
    with tarfile.open(archive, "w:gz") as file:
        file.add(cifar.folder, cifar.folder.name)
    md5 = place.md5(archive.read_bytes())
    local = dataclasses.replace(official, url=archive.as_uri(), md5=md5)
    monkeypatch.setitem(OFFICIAL, cifar.name, local)
    place.data.rename(place.root / "other")
    status, out, err = place.run(cifar.name, archive if given else None)
    assert (status, err) == (0, "")
    assert out.endswith(f"{cifar.name}: installed in {cifar.folder}\n")
    check(cifar, place.data)


def test_a_folder_is_complete_when_each_file_that_is_read_is_there(cifar, place):
    for path in sorted(cifar.folder.iterdir()):
        data = path.read_bytes()
        path.unlink()
        place.run(cifar.name).refused(f"{cifar.folder} is there", f"{path.name} not found")
        path.write_bytes(data)
    result = place.run(cifar.name)
    assert result.status == 0 and "there already and complete" in result.out


@pytest.mark.parametrize("name", CIFAR_DATASETS)
def test_the_official_archive_is_the_one_that_torchvision_reads(name):
    official, dataset = OFFICIAL[name], CIFAR_DATASETS[name]
    assert (official.url, official.md5) == (dataset.url, dataset.tgz_md5)
    files = [*dataset.train_list, *dataset.test_list, (dataset.meta["filename"], "")]
    assert official.required == tuple(file for file, _ in files)
    assert official.folder == dataset.base_folder
