"""Networks with names: ImageNet's, those of runs."""

import json
import shutil

import pytest
import torch
from PIL import Image
from slow_evaluation import DIGITS

from infocam import explain
from infocam.data.load import load_splits
from infocam.models.classifiers import imagenet_classifier, run_classifier
from mi_common.errors import UserError
from mi_common.runtime import Runtime


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
    torch.testing.assert_close(imagenet.logit_log_prior, imagenet.log_prior)
    assert not imagenet.network.training and not imagenet.grey


def test_the_output_stride_makes_larger_maps_of_the_same_weights(imagenet):
    with torch.inference_mode():
        features = imagenet.network.features(torch.zeros(1, 3, 64, 64))
    assert features.shape == (1, 1280, 4, 4)


def test_a_head_without_training_is_refused(cpu):
    with pytest.raises(UserError, match="--network resnet18 --weights none: has no trained head"):
        imagenet_classifier("resnet18", weights="none", output_stride=None, runtime=cpu)


def test_a_run_brings_its_network_names_and_class_frequencies(digits_run, cpu, small_window):
    classifier = run_classifier(digits_run.folder, runtime=cpu)
    assert classifier.class_names == [str(k) for k in range(10)]
    torch.testing.assert_close(classifier.logit_log_prior, classifier.log_prior)
    assert classifier.grey and not classifier.network.training
    sets = load_splits("scattered-digits", digits_run.data_dir, **DIGITS, splits=("train",))
    counts = torch.bincount(sets["train"].labels, minlength=10)
    assert counts.min() < counts.max()
    torch.testing.assert_close(classifier.log_prior, (counts / 100).log())


def test_a_run_of_photographs_has_names_in_the_order_of_its_classes(tiny_run, cpu):
    classifier = run_classifier(tiny_run.folder, runtime=cpu)
    assert classifier.class_names == ["red", "green", "blue", "yellow"]  # as wnids.txt has them
    assert classifier.network.head.out_features == 4


def test_a_folder_that_is_no_run_is_refused(tmp_path, cpu):
    with pytest.raises(UserError, match="holds no finished run"):
        run_classifier(tmp_path, runtime=cpu)


FLAGS = [{"loss": "sqftmax"}, {"loss": None}, {"dataset": "tiny-imagenez"}, {"dataset": ["cub"]}]
FLAGS += [{"network": None}, {"image_size": "64"}, {"adl": [3]}, {"epochs": []}, {"lr": "fast"}]
FLAGS += [{"data_dir": 5}, {"freeze_backbone": "no"}, {"weights": 1}, {"seed": None}]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        *(({"flags": flags}, "config.json: damaged") for flags in FLAGS),
        ({"flags": "none"}, "config.json: damaged"),
        (
            {"entry": "mi_estimator.rank"},
            "written by mi_estimator.rank; give a run of infocam.train",
        ),
        ({"entry": "pc_softmax.train"}, "run: no predictions.npz; train again"),
        ({"entry": None}, "written by an unknown script; give a run of infocam.train"),
        ({"class_names": [], "class_counts": []}, "config.json: damaged"),
        (
            {"class_names": list("012345678"), "class_counts": [9] * 9},
            "pt: 2 parameters",
        ),
    ],
    ids=str,
)
def test_a_run_with_another_or_a_damaged_config_is_refused(
    digits_run, tmp_path, user_error, change, said
):
    """A flipped bit of config.json, say: another word must not count as the other loss."""
    shutil.copytree(digits_run.folder, tmp_path / "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    if isinstance(change.get("flags"), dict):
        change = {"flags": config["flags"] | change["flags"]}
    (tmp_path / "run/config.json").write_text(json.dumps(config | change))
    Image.new("L", (64, 64)).save(tmp_path / "digit.png")
    words = [tmp_path / "digit.png", "--run", tmp_path / "run", "--output-dir", tmp_path / "out"]
    line = user_error(explain.main, [*words, "--device", "cpu"])
    assert f"{tmp_path}/run" in line and said in line
    assert not (tmp_path / "out").exists()


def test_a_run_gives_finer_maps_by_the_same_weights(tiny_run, digits_run, cpu):
    coarse = run_classifier(tiny_run.folder, runtime=cpu).network
    fine = run_classifier(tiny_run.folder, output_stride=16, runtime=cpu).network
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert coarse.features(image).shape[2:] == (7, 7)
        assert fine.features(image).shape[2:] == (14, 14)
    weights, fine_weights = coarse.state_dict(), fine.state_dict()
    assert weights.keys() == fine_weights.keys()
    assert all(torch.equal(value, fine_weights[name]) for name, value in weights.items())
    with pytest.raises(UserError, match="leave out --image-size and --output-stride"):
        run_classifier(digits_run.folder, output_stride=16, runtime=cpu)
