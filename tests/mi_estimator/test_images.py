"""Images of the user's own: features of a frozen backbone, then the same estimate as of a table."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from mi_common.backbones import build_backbone
from mi_common.features import cached_features
from mi_common.image_sets import ImageSet
from mi_common.pictures import read_image
from mi_common.runtime import seed_everything
from mi_common.training import ImageClassifier
from mi_estimator import estimate, names
from mi_estimator.folders import default_folder
from mi_estimator.images import backbone_samples, pixel_samples, read_images, stratified_rows
from pc_softmax import recipes
from pc_softmax.networks import build_network

COLOURS = {"blue": (60, 60, 160), "green": (60, 160, 60), "red": (160, 60, 60)}
SIZES = {"blue": 25, "green": 20, "red": 15}
RESNET = ["--backbone", "resnet18", "--weights", "none", "--image-size", 32, "--num-workers", 0]


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """60 noisy pictures of three colours, of various sizes, in train/CLASS; no test folder."""
    root, rng = tmp_path_factory.mktemp("my") / "pictures", np.random.default_rng(0)
    for name, count in SIZES.items():
        (root / "train" / name).mkdir(parents=True)
        for i in range(count):
            noise = rng.normal(0, 40, (*rng.integers(20, 40, 2), 3))
            pixels = (COLOURS[name] + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{i:02}.png")
    return root


@pytest.fixture(scope="session")
def from_features(pictures, estimated):
    flags = ["--folds", 3, "--epochs", 8, "--candidates", "pc-softmax", "lda"]
    return estimated(*RESNET, *flags, source=("--dataset", "folder", "--data-dir", pictures))


def test_the_features_of_a_folder_of_images_carry_its_label(from_features, pictures):
    result, pmi = from_features.result, from_features.pmi
    shares = np.array(list(SIZES.values())) / 60
    entropy = -(shares * np.log(shares)).sum()
    assert result["label_entropy"] == pytest.approx(entropy)
    assert 0.8 * entropy < result["mutual_information"] < entropy
    assert (result["samples"], result["classes"]) == (60, 3)
    assert set(result["weights"]) & {"pc-softmax", "selected features: pc-softmax"}
    files = sorted(path.relative_to(pictures / "train") for path in pictures.glob("train/*/*"))
    assert pmi["sample"].tolist() == [path.as_posix() for path in files]
    assert pmi["label"].tolist() == [path.parent.name for path in files]


def test_the_result_says_what_the_features_are(from_features, pictures):
    result = from_features.result
    images, _ = read_images("folder", pictures)
    assert result["images"] == images.fingerprint
    described = {"name": "resnet18", "weights": "none", "image_size": 32}
    assert result["backbone"].items() >= described.items()
    assert len(result["backbone"]["sha256"]) == 64
    assert set(result["features"]) <= {f"f{i}" for i in range(512)}
    assert result["notes"][0] == "512 pooled features of resnet18 (weights none) at 32 pixels"


def features_of(images, tmp_path, cpu, **changes):
    options = {"backbone": "resnet18", "weights": "none", "image_size": 32, "seed": 4}
    options |= {"cache_dir": tmp_path, "num_workers": 0, "runtime": cpu} | changes
    return backbone_samples(images, [], **options)


def test_features_are_the_means_of_the_maps_and_those_of_pc_softmax(pictures, tmp_path, cpu):
    images, notes = read_images("folder", pictures)
    assert notes == []
    samples = features_of(images, tmp_path, cpu)
    seed_everything(4)
    network = build_backbone("resnet18", weights="none", num_classes=3, image_size=32).eval()
    pixels = torch.stack([network.spec.transform()(read_image(path)) for path in images.images])
    with torch.no_grad():
        expected = network.features(pixels).mean(dim=(2, 3))
    columns = [int(name[1:]) for name in samples.feature_names]
    assert columns == np.flatnonzero(np.ptp(expected.half().numpy(), axis=0)).tolist()
    torch.testing.assert_close(samples.x, expected[:, columns], atol=1e-3, rtol=1e-3)  # of float16
    assert samples.y.equal(images.labels) and samples.class_names == list(SIZES)

    seed_everything(4)
    options = {"weights": "none", "image_size": 32, "cosine_head": False}
    network = build_network("resnet18", images, **options)
    (file,) = tmp_path.glob("*.npy")
    values = cached_features(network, images, tmp_path, kind="pooled", runtime=cpu)
    assert list(tmp_path.glob("*.npy")) == [file]  # the features of both are one file
    assert torch.from_numpy(values[:, columns]).float().equal(samples.x)


def test_images_in_memory_keep_their_size(tmp_path, cpu):
    images, notes = read_images("digits", tmp_path, limit=30)
    assert notes == ["the first 30 of 1297 images"]
    assert images.labels.tolist() == load_digits().target[:30].tolist()
    samples = features_of(images, tmp_path, cpu)
    assert samples.source["backbone"]["image_size"] == 8
    assert samples.rows.tolist() == list(range(30))
    assert samples.x.shape[0] == 30 and samples.x.dtype == torch.float32
    assert not list(tmp_path.iterdir())
    pixels = pixel_samples(images, notes)
    assert pixels.x.equal(images.images) and pixels.source == {"images": images.fingerprint}


@pytest.mark.parametrize("dark, warned", [(150, False), (400, True)])
def test_a_backbone_of_mostly_constant_features_is_a_warning(
    tmp_path, cpu, monkeypatch, dark, warned
):
    images, _ = read_images("digits", tmp_path, limit=30)
    pooled = torch.rand(30, 512)
    pooled[:, :dark] = 0.5
    monkeypatch.setattr(ImageClassifier, "pooled_features", lambda *_: pooled)
    samples = features_of(images, tmp_path, cpu)
    assert len(samples.feature_names) == 512 - dark
    expected = ["400 of 512 features are constant"] if warned else []
    assert [warning.split(",")[0] for warning in samples.warnings] == expected


def test_pictures_of_tiny_imagenet_go_to_a_network_as_they_are(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 64, 64, 3), dtype=np.uint8)
    paths = [tmp_path / str(i // 2) / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, pixels, strict=True):
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    images = ImageSet("tiny-imagenet", paths, torch.tensor([0, 0, 1, 1]), ["cat", "dog"])
    samples = pixel_samples(images, ["a note"])
    assert samples.x.equal(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    assert samples.rows.tolist() == ["0/0.png", "0/1.png", "1/2.png", "1/3.png"]
    assert samples.notes == ["a note"] and samples.y.equal(images.labels)


def test_a_part_of_image_files_has_all_classes_in_their_shares(pictures):
    images, notes = read_images("folder", pictures, limit=12, seed=1)
    assert torch.bincount(images.labels).tolist() == [5, 4, 3]
    assert "12 of 60 images, drawn at random with seed 1" in notes[0]
    assert images.images == sorted(images.images)
    again, other = (read_images("folder", pictures, limit=12, seed=seed)[0] for seed in (1, 2))
    assert again.images == images.images != other.images


@pytest.mark.parametrize("count", [1, 7, 50, 99, 100])
def test_no_class_is_further_than_one_sample_from_its_share(count):
    labels = np.repeat([0, 1, 2], [70, 20, 10])
    for seed in range(5):
        rows = stratified_rows(labels, count, seed)
        assert len(rows) == len(set(rows)) == count and (np.diff(rows) > 0).all()
        counts = np.bincount(labels[rows], minlength=3)
        assert (abs(counts - count * np.array([0.7, 0.2, 0.1])) < 1).all()


FOLDER = ["--dataset", "folder", "--data-dir"]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["DATA"], "--dataset folder: images of any size need --backbone NAME"),
        (["DATA", "--weights", "none"], "--weights is for --backbone"),
        (["DATA", "--image-size", 9], "--image-size is for --backbone"),
        (["DATA", *RESNET, "--bins", 3], "--bins is for a FILE only"),
        (["DATA", *RESNET, "--max-samples", 2], "--max-samples 2: no images of the classes"),
        (["DATA", *RESNET, "--max-samples", 12], "--folds 5: green (4), red (3)"),
        (["nowhere", *RESNET], "no folder nowhere/train; put the images into train/CLASS"),
        (["DATA", "--backbone", "resnet0"], "network 'resnet0': use efficientnet_lite0"),
        (["DATA", "--backbone", "resnet18", "--weights", "w.pt"], "--weights w.pt: no such file"),
        (["DATA", "--backbone", "alexnet", *RESNET[2:5], 9], "alexnet: cannot take images of 9"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(pictures, tmp_path, user_error, flags, message):
    flags = [pictures if word == "DATA" else word for word in flags]
    words = [*FOLDER, *flags, "--device", "cpu", "--output-dir", tmp_path / "out"]
    assert message in user_error(estimate.main, words)
    assert not (tmp_path / "out").exists()


def test_flags_of_images_are_refused_for_tables_and_sizes_for_sets_in_memory(wine, user_error):
    table = [wine, "--label", "cultivar"]
    line = user_error(estimate.main, [*table, "--backbone", "resnet18"])
    assert line == "error: --backbone is for --dataset"
    line = user_error(estimate.main, ["--dataset", "digits", *RESNET])
    assert line == "error: --image-size: only for image files, not digits"


def test_an_unreadable_image_is_named_and_nothing_is_written(pictures, tmp_path, user_error):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for i in range(6):
            target = tmp_path / "train" / name / f"{i}.png"
            target.write_bytes((pictures / "train" / "red" / "00.png").read_bytes())
    (tmp_path / "train/b/3.png").write_text("no picture")
    words = [*FOLDER, tmp_path, *RESNET, "--device", "cpu", "--output-dir", tmp_path / "out"]
    assert "train/b/3.png: not a readable image" in user_error(estimate.main, words)
    assert not (tmp_path / "out").exists()


def test_two_folders_of_one_name_have_two_default_outputs(tmp_path):
    first, second = tmp_path / "a/my.images", tmp_path / "b/my.images"
    folder = default_folder(tmp_path, None, "folder", first)
    assert folder == tmp_path / "my.images"
    folder.mkdir()
    flags = {"file": None, "dataset": "folder", "data_dir": str(first)}
    (folder / "config.json").write_text(json.dumps({"flags": flags}))
    assert default_folder(tmp_path, None, "folder", first) == folder
    other = default_folder(tmp_path, None, "folder", second)
    assert other.parent == tmp_path and other.name.startswith("my.images-")


def test_image_files_are_those_of_pc_softmax():
    assert names.FILE_SETS == recipes.FILE_DATASETS
    assert set(names.DATASETS) == set(recipes.DATASETS)
