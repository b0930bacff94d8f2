"""Networks in two pieces: how images come to them, cached features, and what a frozen body does."""

from pathlib import Path

import pytest
import torch
from pc_softmax.models import Model, new_model
from pc_softmax.optimisation import fit_model
from torch import nn

from mi_common.engine import ImageBatches
from mi_common.errors import UserError
from mi_common.pictures import read_image
from pc_softmax.data import ImbalancedData, load_data
from pc_softmax.losses import SoftmaxLoss
from pc_softmax.networks import CosineHead

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
    """Makes a model whose features are cached in a folder of this test."""

    def build(name: str, data: ImbalancedData, *, head_only=False, cosine=False, size=None):
        torch.manual_seed(0)
        placing = {"size": size, "cache_dir": tmp_path / "cache", "num_workers": 0, "runtime": cpu}
        return new_model(name, data, weights="none", head_only=head_only, cosine=cosine, **placing)

    return build


def fit_briefly(model: Model, data: ImbalancedData, *, copies: int = 0, epochs: int = 2) -> None:
    fit_model(
        model,
        data.train,
        SoftmaxLoss(),
        None,
        seed=0,
        balanced=False,
        epochs=epochs,
        batch_size=32,
        lr=0.1,
        weight_decay=0.0,
        optimizer="sgd",
        momentum=0.9,
        schedule="constant",
        warmup_epochs=0,
        head_lr_ratio=1.0,
        copies=copies,
    )


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


def whole_network(model: Model, images: torch.Tensor) -> torch.Tensor:
    """The slow way: one image at a time, in eval mode."""
    network = model.network.eval()
    with torch.inference_mode():
        return torch.cat([network(image[None]) for image in images])


@pytest.mark.parametrize("cosine", [False, True])
@pytest.mark.parametrize(("name", "width"), [("small-cnn", 256), (TINY, 288), ("paper-net", 500)])
def test_a_network_is_its_body_and_then_its_last_layer(
    digits, digits_dir, make, name, width, cosine
):
    data = load_data("mnist", digits_dir, imbalance="paper") if name == "paper-net" else digits
    model = make(name, data, cosine=cosine)
    assert type(model.last) is (CosineHead if cosine else nn.Linear)
    assert model.last.weight.shape == (10, width)
    inputs = model.inputs(data.tests["official"])[:20]
    model.network.eval()
    with torch.inference_mode():
        logits = model.network(inputs)
        torch.testing.assert_close(model.last(model.body(inputs)), logits, rtol=1e-4, atol=1e-5)
    assert (logits.abs().max() <= 1 + 1e-6) or not cosine
    # All that is trained gets a gradient: several processes would wait for it.
    model.network.train()(inputs).sum().backward()
    for parameter in model.network.parameters():
        assert parameter.requires_grad == (parameter.grad is not None)
    kept = {id(p) for piece in (model.body, model.last) for p in piece.parameters()}
    assert kept == {id(p) for p in model.network.parameters()}


def test_small_cnn_sees_pixels_of_mean_zero_and_deviation_one(digits, make):
    inputs = make("small-cnn", digits).inputs(digits.train)
    assert inputs.shape == (len(digits.train), 1, 8, 8)
    assert inputs.mean().item() == pytest.approx(0, abs=1e-4)
    assert inputs.std().item() == pytest.approx(1, abs=1e-4)


def test_grey_images_come_to_a_backbone_as_three_channels_in_its_own_normalisation(digits, make):
    model = make(TINY, digits)
    inputs = model.inputs(digits.train)
    assert inputs.shape == (len(digits.train), 3, 8, 8)
    mean, std = model.network.spec.mean, model.network.spec.std
    for channel in range(3):
        wanted = (digits.train.images[:, 0] / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(inputs[:, channel], wanted)
    assert model.predict(digits.tests["official"]).shape == (500, 10)


def test_networks_for_images_in_memory_refuse_files_and_sizes_that_do_not_suit_are_named(
    birds, make
):
    with pytest.raises(UserError, match="--network small-cnn: for image sets in memory"):
        make("small-cnn", birds)
    with pytest.raises(UserError, match="--network squeezenet1_1: cannot take images of 5 pixels"):
        make("squeezenet1_1", birds, size=5)


def test_a_frozen_body_in_memory_gives_the_logits_of_the_whole_network(digits, make):
    model = make("small-cnn", digits, head_only=True)
    before = state(model.body)
    fit_briefly(model, digits)
    part = digits.tests["official"].select(torch.arange(40))
    images = (part.images / 255 - model.pixels.mean[0]) / model.pixels.std[0]
    torch.testing.assert_close(model.predict(part), whole_network(model, images), rtol=0, atol=1e-4)
    assert all(torch.equal(before[name], value) for name, value in state(model.body).items())


def test_training_the_whole_network_moves_its_batch_norms(digits, make):
    model = make("small-cnn", digits)
    before = state(model.body)
    fit_briefly(model, digits, epochs=1)
    changed = {name for name, value in state(model.body).items() if (value != before[name]).any()}
    assert changed == set(before)


def test_a_frozen_backbone_on_files_gives_the_logits_of_the_whole_network(birds, make):
    model = make(TINY, birds, head_only=True, size=32)
    before, last = state(model.body), state(model.last)
    fit_briefly(model, birds)
    assert all(torch.equal(before[name], value) for name, value in state(model.body).items())
    assert not torch.equal(last["weight"], model.last.weight)
    part = birds.tests["official"]
    images = [model.network.spec.transform(32)(read_image(path)) for path in part.images]
    wanted = whole_network(model, torch.stack(images))
    assert wanted.std(dim=0).max() > 5e-4  # features of a random network differ little
    # They are kept in float16, of 11 bits.
    torch.testing.assert_close(model.predict(part), wanted, rtol=0, atol=1e-5)


def test_features_of_files_are_computed_once_for_every_part(birds, make, tmp_path):
    seen = []

    def counting(**options) -> Model:
        model = make(TINY, birds, head_only=True, size=32, **options)
        model.network.backbone.register_forward_hook(lambda *call: seen.append(len(call[2])))
        return model

    model = counting()
    model.cache_features(birds, copies=0)
    parts = [birds.train, *birds.tests.values()]
    assert sum(seen) == sum(map(len, parts)) and len(list((tmp_path / "cache").iterdir())) == 3
    fit_briefly(model, birds)
    model.predict(birds.tests["official"])
    counting(cosine=True).cache_features(birds, copies=0)  # the head has no part in them
    assert sum(seen) == sum(map(len, parts))


def test_augmented_copies_are_as_many_files_and_as_many_times_the_images(birds, make, tmp_path):
    seen = []
    model = make(TINY, birds, head_only=True, size=32)
    model.network.backbone.register_forward_hook(lambda *call: seen.append(len(call[2])))
    shared = {"batch_size": 16, "seed": 0, "balanced": False}
    batches = model.batches(birds.train, copies=3, **shared)
    assert len(list((tmp_path / "cache").iterdir())) == 3 and sum(seen) == 3 * 59
    assert batches.inputs.shape == (3 * 59, 288) and len(batches) == 12
    assert torch.equal(batches.labels, birds.train.labels.repeat(3))
    copies = batches.inputs.float().split(59)
    assert all(((copies[0] - other).abs().amax(dim=1) > 0).all() for other in copies[1:])
    # A part of an image is more like that image than like the others, most of the time.
    nearest = torch.cdist(copies[0], copies[1]).argmin(dim=1)
    assert (birds.train.labels[nearest] == birds.train.labels).double().mean() > 0.6
    again = model.batches(birds.train, copies=3, **shared)
    assert sum(seen) == 3 * 59 and torch.equal(again.inputs, batches.inputs)
    plain = model.batches(birds.train, copies=0, **shared)
    assert len(plain.inputs) == 59 and sum(seen) == 4 * 59


def test_balanced_batches_draw_every_class_of_every_copy_equally_often(birds, make):
    model = make(TINY, birds, head_only=True, size=32)
    batches = model.batches(birds.train, batch_size=16, seed=0, balanced=True, copies=2)
    assert birds.train.labels.bincount().tolist() == [10, 30, 9, 10]
    labels = torch.cat([y for epoch in range(40) for _, y, _ in batches.epoch(epoch)])
    assert len(labels) == 40 * 118  # 4,720 draws: the deviation of a share is 0.0063
    assert labels.bincount() / len(labels) == pytest.approx(torch.full((4,), 0.25), abs=0.025)


def test_a_whole_network_trains_on_random_parts_and_predicts_from_whole_files(birds, make):
    model = make(TINY, birds, size=64)
    batches = model.batches(birds.train, batch_size=16, seed=0, balanced=False, copies=0)
    assert isinstance(batches, ImageBatches)
    images = [next(iter(batches.epoch(epoch)))[0] for epoch in (0, 0, 1)]
    assert images[0].shape == (16, 3, 64, 64)
    assert torch.equal(images[0], images[1]) and not torch.equal(images[0], images[2])
    fit_briefly(model, birds, epochs=1)
    part = birds.tests["paper-list"]
    whole = [model.network.spec.transform(64)(read_image(path)) for path in part.images]
    wanted = whole_network(model, torch.stack(whole))
    torch.testing.assert_close(model.predict(part), wanted, rtol=1e-3, atol=1e-4)
