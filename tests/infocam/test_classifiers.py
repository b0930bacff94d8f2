"""Networks with names: ImageNet's, those of runs, and what a user's word for a class means."""

import json

import pytest
import torch

from infocam.data.load import load_splits
from infocam.models.classifiers import imagenet_classifier, run_classifier
from mi_common.errors import UserError
from mi_common.runtime import Runtime

NAMES = ["tabby", "tiger cat", "Persian cat", "7", "crane fly", "crane bird", "golden retriever"]
NAMES += ["Golden Retriever"]


@pytest.fixture(scope="module")
def imagenet():
    return imagenet_classifier(
        "efficientnet_lite0",
        weights="imagenet",
        output_stride=16,
        runtime=Runtime(torch.device("cpu")),
    )


def test_imagenet_classes_have_their_names_each_once(imagenet):
    assert len(imagenet.class_names) == len(set(imagenet.class_names)) == 1000
    assert [imagenet.class_names[k] for k in (0, 281, 999)] == ["tench", "tabby", "toilet tissue"]
    torch.testing.assert_close(imagenet.log_prior, torch.full((1000,), 0.001).log())
    assert imagenet.softmax and not imagenet.network.training


def test_the_output_stride_makes_larger_maps_of_the_same_weights(imagenet):
    with torch.inference_mode():
        features = imagenet.network.features(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 1280, 4, 4)


def test_a_head_without_training_is_refused(cpu):
    with pytest.raises(UserError, match="--network resnet18 --weights none: has no trained head"):
        imagenet_classifier("resnet18", weights="none", output_stride=None, runtime=cpu)


def test_a_run_brings_its_network_names_and_class_frequencies(digits_run, cpu, small_window):
    found = run_classifier(digits_run.folder, digits_run.data_dir, runtime=cpu)
    assert found.class_names == [str(k) for k in range(10)]
    assert found.softmax and not found.network.training
    parts = load_splits(
        "scattered-digits",
        digits_run.data_dir,
        images_per_class=14,
        val_per_class=4,
        test_images=1,
    )
    counts = torch.bincount(parts["train"].labels, minlength=10)
    assert counts.min() < counts.max()
    torch.testing.assert_close(found.log_prior, (counts / 100).log())


def test_a_run_of_photographs_has_names_in_the_order_of_its_classes(tiny_run, cpu):
    found = run_classifier(tiny_run.folder, tiny_run.data_dir, runtime=cpu)
    assert found.class_names == ["red", "green", "blue", "yellow"]  # as wnids.txt has them
    assert found.network.head.out_features == 4


def test_a_folder_that_is_no_run_is_refused(tmp_path, cpu):
    with pytest.raises(UserError, match="holds no finished run"):
        run_classifier(tmp_path, tmp_path, runtime=cpu)


@pytest.mark.parametrize(
    "change",
    [{"loss": "sqftmax"}, {"dataset": "tiny-imagenez"}, {"dataset": ["cub"]}, {"loss": None}],
)
def test_a_run_whose_flags_are_garbled_is_refused(digits_run, tmp_path, cpu, change):
    """By a flipped bit of config.json, say: another word must not count as the other loss."""
    (tmp_path / "result.json").write_text("{}")
    config = json.loads((digits_run.folder / "config.json").read_text())
    config["flags"] |= change
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError) as raised:
        run_classifier(tmp_path, digits_run.data_dir, runtime=cpu)
    assert str(raised.value) == f"{tmp_path} is not a run of infocam.train"
