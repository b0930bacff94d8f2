"""Images continued by their mirror image: flat maps of uniform textures, and runs that keep it."""

import functools
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from slow_evaluation import TINY, plain_words

from infocam import explain, train
from infocam.data.load import load_splits
from infocam.evaluate import main as evaluate
from infocam.maps import photographs
from infocam.maps.cam import coefficients, contrast_maps
from infocam.models.classifiers import imagenet_classifier, read_run, run_classifier
from infocam.models.networks import build_network, small_cnn
from mi_common.backbones import REFLECTED, reflect_images
from mi_common.errors import UserError
from mi_common.pictures import read_image
from scripts.edge_band_maps import noise_images


@pytest.fixture(scope="module")
def textures() -> torch.Tensor:
    return noise_images(8, channels=3, side=224)


def column_profile(network, images: torch.Tensor) -> np.ndarray:
    """(w,) column means of the images' mean infoCAM of their top class, over their mean."""
    mean, std = (torch.tensor(v)[:, None, None] for v in (network.spec.mean, network.spec.std))
    with torch.inference_mode():
        maps = network.features((images - mean) / std)
        logits = network.head(maps.mean(dim=(2, 3)))
        rows = coefficients("infocam", logits, logits.argmax(dim=1))[:, None]
        profile = contrast_maps(maps, network.head.weight, rows).mean(dim=(0, 1, 2))
    return (profile / profile.mean()).numpy()


def test_bands_along_the_edges_of_uniform_textures_vanish(cpu, textures):
    options = {"weights": "imagenet", "output_stride": None, "runtime": cpu}
    profiles = {
        padding: column_profile(
            imagenet_classifier("efficientnet_lite0", padding=padding, **options).network, textures
        )
        for padding in ("zero", "reflect")
    }
    assert profiles["zero"][[1, 5]].min() > 1.3 and profiles["zero"][[0, 6]].max() < 0.8
    assert profiles["zero"].std() > 0.25
    assert profiles["reflect"].std() < 0.1 and np.abs(profiles["reflect"] - 1).max() < 0.2


@pytest.mark.parametrize(
    ("name", "stride", "side", "cells"),
    [("efficientnet_lite0", 16, 96, 2), ("small-cnn", 4, 64, 5)],
)
def test_the_map_is_the_middle_of_that_of_the_continued_image(name, stride, side, cells):
    network = build_network(
        name,
        weights="none",
        num_classes=3,
        output_stride=stride if name != "small-cnn" else None,
        image_size=side,
    )
    state = network.training, network.state_dict().keys()
    images = torch.rand(2, len(network.spec.mean), side, side)
    plain = network.eval().features(images)
    network.train()
    reflect_images(network, name)
    assert (network.training, network.state_dict().keys()) == state
    assert network.border == (cells * stride, cells) and cells == np.ceil(side / stride * REFLECTED)
    network.eval()
    border = [(0, 0), (0, 0), *[(cells * stride, cells * stride)] * 2]
    continued = torch.from_numpy(np.pad(images.numpy(), border, mode="reflect"))
    with torch.inference_mode():
        expected = network.backbone(continued)[:, :, cells:-cells, cells:-cells]
        maps, logits = network.features(images), network(images)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)
    assert maps.shape == plain.shape and not torch.allclose(maps, plain, atol=1e-3)
    torch.testing.assert_close(logits, network.head(maps.mean(dim=(2, 3))))


def test_a_network_whose_map_does_not_grow_is_refused():
    network = small_cnn(3)
    network.backbone.append(torch.nn.AdaptiveAvgPool2d(16))
    with pytest.raises(UserError, match="--padding reflect: mine cannot take images of 104 pixels"):
        reflect_images(network, "mine")


@pytest.fixture(scope="module")
def reflected_run(tiny_words, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reflected") / "run"
    train.main(tiny_words(folder, "--padding", "reflect", "--image-size", 64))
    return folder


def test_a_run_keeps_its_padding_and_evaluation_may_take_another(
    reflected_run, tiny_run, tmp_path, cpu
):
    assert read_run(reflected_run).settings.padding == "reflect"
    images = load_splits("tiny-imagenet", tiny_run.data_dir, **TINY, splits=("test",))["test"]
    run = type(tiny_run)(tiny_run.data_dir, reflected_run, [])
    all_maps = []
    for padding, border in ((None, (32, 1)), ("zero", (0, 0))):
        network = run_classifier(reflected_run, padding=padding, runtime=cpu).network
        assert network.border == border
        folder = tmp_path / f"{padding}"
        words = ["--overlays", 0, "--methods", "cam", "--save-maps"]
        words += ["--padding", padding] if padding else []
        evaluate([str(reflected_run), *plain_words(run, folder, *words)])
        files = [folder / "maps/test/cam" / f"{name}.npy" for name in images.image_names]
        with torch.inference_mode():
            pixels = torch.stack([network.spec.transform()(read_image(f)) for f in images.images])
            maps = network.features(pixels)
            cam = torch.einsum("bchw,bc->bhw", maps, network.head.weight[images.labels])
        all_maps.append(np.stack([np.load(file) for file in files]))
        np.testing.assert_allclose(all_maps[-1], cam, atol=2e-2)
    assert all_maps[0].shape == (12, 2, 2) and np.abs(all_maps[0] - all_maps[1]).max() > 0.1


def test_a_photograph_has_the_scores_of_training_and_the_maps_of_the_padding(reflected_run, cpu):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    both = {}
    for trained, other in (("zero", "reflect"), ("reflect", "zero")):
        if trained == "zero":
            options = {"weights": "imagenet", "output_stride": None, "runtime": cpu}
            make = functools.partial(imagenet_classifier, "efficientnet_lite0", **options)
        else:
            make = functools.partial(run_classifier, reflected_run, runtime=cpu)
        own, changed = (
            photographs.explain(image, make(padding=padding), ["infocam"], prior=True, runtime=cpu)
            for padding in (trained, other)
        )
        np.testing.assert_allclose(changed.scores, own.scores, atol=1e-4)
        assert changed.maps.mean() == pytest.approx(own.maps.mean(), abs=1e-3)  # nats
        both[trained] = np.abs(changed.maps - own.maps).max()
    assert min(both.values()) > 0.1


def test_runs_of_earlier_versions_have_zero_padding(tiny_run, tmp_path, cpu):
    folder = tmp_path / "run"
    shutil.copytree(tiny_run.folder, folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["flags"].pop("padding") == "zero"
    (folder / "config.json").write_text(json.dumps(config))
    assert read_run(folder).settings.padding == "zero"
    assert run_classifier(folder, runtime=cpu).network.border == (0, 0)


@pytest.mark.parametrize(
    ("words", "padding"),
    [([], "zero"), (["--padding", "reflect"], "reflect"), (["--run", "somewhere"], None)],
)
def test_explain_continues_images_with_zeros_and_leaves_the_padding_of_a_run(words, padding):
    args = explain.get_parser().parse_args(["cat.png", *words])
    explain.set_network_defaults(args)
    assert args.padding == padding
