"""How images reach a network, cached features, and what a frozen backbone does."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mi_common.engine import ImageBatches
from mi_common.errors import UserError
from mi_common.image_sets import ImageSet
from mi_common.pictures import read_image
from mi_common.recipes import Training
from mi_common.training import ImageClassifier
from pc_softmax.data import ImbalancedData, load_data
from pc_softmax.networks import CosineHead, build_network
from pc_softmax.training import cache_features

TINY = "timm:mobilenetv3_small_050"


@pytest.fixture(scope="module")
def digits() -> ImbalancedData:
    return load_data("digits", Path("none"), imbalance="exp:10")


@pytest.fixture(scope="module")
def birds(cub_dir) -> ImbalancedData:
    """59 training files of four classes."""
    return load_data("cub", cub_dir, imbalance="paper")


@pytest.fixture
def make(tmp_path, cpu):
    """Makes a classifier whose features are cached in a folder of this test."""

    def build(name: str, data: ImbalancedData, *, head_only=False, cosine_head=False, size=None):
        torch.manual_seed(0)
        options = {"weights": "none", "image_size": size, "cosine_head": cosine_head}
        network = build_network(name, data.train, **options)
        folder = tmp_path / "cache"
        return ImageClassifier(network, head_only=head_only, cache_dir=folder, runtime=cpu)

    return build


def training(copies: int = 0, epochs: int = 2, batch_size: int = 32) -> Training:
    return Training(epochs, batch_size, 0.1, augmented_copies=copies)


def fit_briefly(classifier: ImageClassifier, data: ImbalancedData, epochs: int = 2) -> None:
    classifier.fit(data.train, F.cross_entropy, training(epochs=epochs), seed=0)


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def slow_logits(classifier: ImageClassifier, images: torch.Tensor) -> torch.Tensor:
    """By the whole network, one image at a time, in eval mode."""
    network = classifier.network.eval()
    with torch.inference_mode():
        return torch.cat([network(image[None]) for image in images])


def transformed(classifier: ImageClassifier, images: ImageSet) -> torch.Tensor:
    transform = classifier.network.spec.transform()
    return torch.stack([transform(read_image(path)) for path in images.images])


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(("name", "width"), [("small-cnn", 256), (TINY, 288), ("paper-net", 500)])
def test_a_network_is_its_backbone_and_then_its_head(digits, digits_dir, make, name, width, cosine):
    data = load_data("mnist", digits_dir, imbalance="paper") if name == "paper-net" else digits
    network = make(name, data, cosine_head=cosine).network.eval()
    assert type(network.head) is (CosineHead if cosine else nn.Linear)
    assert network.head.weight.shape == (10, width)
    inputs = network.spec.normalise(data.tests["official"].images[:20])
    with torch.inference_mode():
        logits = network(inputs)
        assert torch.equal(network.head(network.pooled(inputs)), logits)
    assert (logits.abs().max() <= 1 + 1e-6) or not cosine
    # All that is trained gets a gradient: several processes would wait for it.
    network.train()(inputs).sum().backward()
    for parameter in network.parameters():
        assert parameter.requires_grad == (parameter.grad is not None)
    assert {name.partition(".")[0] for name, _ in network.named_parameters()} == {
        "backbone",
        "head",
    }


def test_small_cnn_sees_pixels_of_mean_zero_and_deviation_one(digits, make):
    inputs = make("small-cnn", digits).network.spec.normalise(digits.train.images)
    assert inputs.shape == (len(digits.train), 1, 8, 8)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert inputs.std().item() == pytest.approx(1, abs=1e-4)


def test_grey_images_come_to_a_backbone_as_three_channels_in_its_own_normalisation(digits, make):
    model = make(TINY, digits)
    inputs = model.network.spec.normalise(digits.train.images)
    assert inputs.shape == (len(digits.train), 3, 8, 8)
    mean, std = model.network.spec.mean, model.network.spec.std
    for channel in range(3):
        expected = (digits.train.images[:, 0] / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(inputs[:, channel], expected)
    assert model.logits(digits.tests["official"]).shape == (500, 10)


def test_networks_for_images_in_memory_refuse_files_and_sizes_that_do_not_suit_are_named(
    birds, make
):
    with pytest.raises(UserError, match="--network small-cnn: for image sets in memory"):
        make("small-cnn", birds)
    with pytest.raises(UserError, match="network squeezenet1_1: cannot take images of 5 pixels"):
        make("squeezenet1_1", birds, size=5)


def test_a_frozen_backbone_in_memory_gives_the_logits_of_the_whole_network(digits, make):
    model = make("small-cnn", digits, head_only=True)
    before = state(model.network.backbone)
    fit_briefly(model, digits)
    test = digits.tests["official"].select(torch.arange(40))
    images = (test.images / 255 - model.network.spec.mean[0]) / model.network.spec.std[0]
    torch.testing.assert_close(model.logits(test), slow_logits(model, images), rtol=0, atol=1e-4)
    assert all(
        torch.equal(before[name], value) for name, value in state(model.network.backbone).items()
    )


def test_training_the_whole_network_moves_its_batch_norms(digits, make):
    model = make("small-cnn", digits)
    before = state(model.network.backbone)
    fit_briefly(model, digits, epochs=1)
    changed = {
        name
        for name, value in state(model.network.backbone).items()
        if (value != before[name]).any()
    }
    assert changed == set(before)


def test_a_frozen_backbone_on_files_gives_the_logits_of_the_whole_network(birds, make):
    model = make(TINY, birds, head_only=True, size=32)
    before, last = state(model.network.backbone), state(model.network.head)
    fit_briefly(model, birds)
    assert all(
        torch.equal(before[name], value) for name, value in state(model.network.backbone).items()
    )
    assert not torch.equal(last["weight"], model.network.head.weight)
    images = birds.tests["official"]
    expected = slow_logits(model, transformed(model, images))
    assert expected.std(dim=0).max() > 5e-4  # features of a random network differ little
    # They are kept in float16, of 11 bits.
    torch.testing.assert_close(model.logits(images), expected, rtol=0, atol=1e-5)


def count_images(model: ImageClassifier, seen: list[int]) -> None:
    """Adds the images of each pass to `seen`, but not the one that checks folded batch norms."""

    def add(module, inputs, output) -> None:
        if len(output) > 1:
            seen.append(len(output))

    model.network.backbone.register_forward_hook(add)


def test_features_of_files_are_computed_once_for_every_split(birds, make, tmp_path):
    seen = []

    def counting(**options) -> ImageClassifier:
        model = make(TINY, birds, head_only=True, size=32, **options)
        count_images(model, seen)
        return model

    model = counting()
    cache_features(model, birds, 0)
    splits = [birds.train, *birds.tests.values()]
    distinct = {path for split in splits for path in split.images}
    assert len(distinct) < sum(map(len, splits))  # the test sets share images
    assert sum(seen) == len(distinct) and len(list((tmp_path / "cache").glob("*.npy"))) == 3
    fit_briefly(model, birds)
    model.logits(birds.tests["official"])
    cache_features(counting(cosine_head=True), birds, 0)  # they do not depend on the head
    assert sum(seen) == len(distinct)


def test_augmented_copies_are_as_many_files_and_as_many_times_the_images(birds, make, tmp_path):
    seen = []
    model = make(TINY, birds, head_only=True, size=32)
    count_images(model, seen)
    batches = model.batches(birds.train, training(3, batch_size=16), seed=0)
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 3 and sum(seen) == 3 * 59
    assert batches.inputs.shape == (3 * 59, 288) and len(batches) == 12
    assert torch.equal(batches.labels, birds.train.labels.repeat(3))
    copies = batches.inputs.float().split(59)
    assert all(((copies[0] - other).abs().amax(dim=1) > 0).all() for other in copies[1:])
    # A part of an image is more like that image than like the others, most of the time.
    nearest = torch.cdist(copies[0], copies[1]).argmin(dim=1)
    assert (birds.train.labels[nearest] == birds.train.labels).double().mean() > 0.6
    again = model.batches(birds.train, training(3, batch_size=16), seed=0)
    assert sum(seen) == 3 * 59 and torch.equal(again.inputs, batches.inputs)
    plain = model.batches(birds.train, training(), seed=0)
    assert len(plain.inputs) == 59 and sum(seen) == 4 * 59


def test_balanced_batches_draw_every_class_of_every_copy_equally_often(birds, make):
    model = make(TINY, birds, head_only=True, size=32)
    batches = model.batches(birds.train, training(2), seed=0, balanced=True)
    assert birds.train.labels.bincount().tolist() == [10, 30, 9, 10]
    labels = torch.cat([y for epoch in range(40) for _, y, _ in batches.epoch(epoch)])
    assert len(labels) == 40 * 118  # 4,720 draws: the deviation of a share is 0.0063
    assert labels.bincount() / len(labels) == pytest.approx(torch.full((4,), 0.25), abs=0.025)


def test_a_whole_network_trains_on_random_parts_and_predicts_from_whole_files(birds, make):
    model = make(TINY, birds, size=64)
    batches = model.batches(birds.train, training(batch_size=16), seed=0)
    assert isinstance(batches, ImageBatches)
    images = [next(iter(batches.epoch(epoch)))[0] for epoch in (0, 0, 1)]
    assert images[0].shape == (16, 3, 64, 64)
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])
    fit_briefly(model, birds, epochs=1)
    images = birds.tests["paper-list"]
    expected = slow_logits(model, transformed(model, images))
    torch.testing.assert_close(model.logits(images), expected, rtol=1e-3, atol=1e-4)
