"""Defaults of flags by data set and network, and flags that contradict each other."""

import pytest

from infocam.recipes import DATA_RECIPES, DATASETS, NETWORK_RECIPES, resolve
from infocam.train import get_parser, main

FROZEN = {
    "batch_size": 256,
    "lr": 1e-3,
    "weight_decay": 1e-2,
    "optimizer": "adamw",
    "schedule": "one-cycle",
    "head_lr_ratio": 1.0,
    "output_stride": None,
    "adl": (),
}
FINE_TUNED = {
    "optimizer": "sgd",
    "momentum": 0.9,
    "nesterov": True,
    "weight_decay": 1e-4,
    "head_lr_ratio": 10.0,
    "schedule": "step",
}


def resolved(*words) -> dict:
    args = get_parser().parse_args([str(word) for word in words])
    resolve(args)
    return vars(args)


def assert_holds(words: list[str], expected: dict) -> None:
    flags = resolved(*words)
    assert {name: flags[name] for name in expected} == expected


def test_every_data_set_has_a_recipe():
    assert set(DATASETS) == set(DATA_RECIPES)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            [],
            FROZEN
            | {"network": "efficientnet_lite0", "freeze_backbone": True, "epochs": 30}
            | {"images_per_class": 100, "val_per_class": 10},
        ),
        (
            ["--dataset", "scattered-digits"],
            {"network": "small-cnn", "freeze_backbone": False, "epochs": 6, "batch_size": 100}
            | {"lr": 4e-3, "weight_decay": 1e-2, "optimizer": "adamw", "schedule": "one-cycle"}
            | {"images_per_class": 1100, "val_per_class": 100, "head_lr_ratio": 1.0},
        ),
        (
            ["--dataset", "cub"],
            FROZEN | {"images_per_class": None, "val_per_class": 5, "freeze_backbone": True},
        ),
        (["--dataset", "cubv2"], FROZEN | {"images_per_class": None, "val_per_class": 0}),
        (["--dataset", "ilsvrc"], FROZEN | {"images_per_class": None, "val_per_class": 0}),
        (["--dataset", "folder"], FROZEN | {"images_per_class": None, "val_per_class": 5}),
        (["--network", "resnet50"], FROZEN),
    ],
)
def test_data_sets_without_other_flags(words, expected):
    assert_holds(words, expected)


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        ("resnet50", {"lr": 0.01, "batch_size": 128, "output_stride": 16}),
        ("timm:seresnet50", {"lr": 0.01, "batch_size": 128, "output_stride": 16}),
        ("vgg16", {"lr": 0.001, "batch_size": 30, "output_stride": None}),
        ("vgg16_gap", {"lr": 0.001, "batch_size": 30, "output_stride": None}),
        ("efficientnet_lite0", {"lr": 0.01, "batch_size": 128, "output_stride": None}),
    ],
)
def test_fine_tuning_by_network(network, expected):
    words = ["--network", network, "--no-freeze-backbone"]
    assert_holds(words, FINE_TUNED | expected | {"adl": (), "epochs": 30})


@pytest.mark.parametrize(
    ("words", "layers", "gamma"),
    [
        (["--network", "resnet50"], ("layer3.0", "layer4.0", "layer4.2"), 0.9),
        (["--network", "vgg16_gap"], ("pool3", "pool4", "conv5_3"), 0.8),
        (["--network", "vgg16", "--adl", "pool4", "--adl-gamma", "0.6"], ("pool4",), 0.6),
        (["--network", "inception_v3", "--adl", "Mixed_6e"], ("Mixed_6e",), 0.9),
    ],
)
def test_layers_of_adl(words, layers, gamma):
    named = [] if "--adl" in words else ["--adl"]
    expected = {"adl": layers, "adl_gamma": gamma}
    assert_holds([*words, "--no-freeze-backbone", *named], expected)
    assert_holds(["--dataset", "scattered-digits", "--adl", "conv1_3"], {"adl": ("conv1_3",)})


def test_given_flags_win_and_what_depends_on_them_follows():
    words = ["--network", "resnet50", "--no-freeze-backbone", "--output-stride", "32", "--lr", "1"]
    flags = resolved(*words, "--optimizer", "adamw")
    assert (flags["output_stride"], flags["lr"], flags["optimizer"]) == (32, 1.0, "adamw")
    assert flags["nesterov"] is False  # the recipe's, which is for SGD
    assert flags["batch_size"] == NETWORK_RECIPES["fine-tuned ResNet50"].training.batch_size
    assert resolved(*words, "--momentum", "0")["nesterov"] is False


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--adl"], "--adl: it does not change a frozen backbone; use --no-freeze-backbone"),
        (["--no-freeze-backbone", "--adl"], "--adl: efficientnet_lite0 has no default layers"),
        (["--dataset", "scattered-digits", "--adl"], "--adl: small-cnn has no default layers"),
        (["--adl-gamma", "0.5"], "--adl-gamma: only with --adl"),
        (["--adl-gamma", "1.5"], "'1.5' is not a number from 0 to below 1"),
        (["--output-stride", "4"], "--output-stride"),
        (["--weights", "none"], "--weights none: a frozen backbone needs weights"),
        (["--dataset", "scattered-digits", "--freeze-backbone"], "--freeze-backbone: small-cnn"),
        (["--dataset", "cubv2", "--val-per-class", "3"], "cubv2 has validation images"),
        (["--loss", "pc-softmax", "--label-smoothing", "0.1"], "loss 'pc-softmax' has none"),
        (["--augmented-copies", "2", "--no-freeze-backbone"], "--augmented-copies: only for"),
        (["--no-augment"], "--augment: for training of the whole network"),
        (["--optimizer", "adam"], "'adam'"),
        (["--schedule", "linear"], "'linear'"),
    ],
)
def test_flags_that_do_not_go_together_are_one_line(words, said, user_error, tmp_path):
    assert said in user_error(main, [*words, "--output-dir", tmp_path / "run"])
    assert list(tmp_path.iterdir()) == []
