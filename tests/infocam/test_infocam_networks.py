"""The small network's cells stand for the right pixels; VGG16-GAP; networks by name."""

import pytest
import torch
import torchvision
from torch import nn

from infocam.models.networks import build_network, small_cnn
from mi_common.errors import UserError


def test_small_cnn_gives_16_x_16_maps_of_128_channels_and_class_logits():
    network = small_cnn(num_classes=7)
    images = torch.rand(2, 1, 64, 64)
    assert network.features(images).shape == (2, 128, 16, 16)
    assert network(images).shape == (2, 7)


@pytest.mark.parametrize(("dx", "dy"), [(4, 0), (0, 4), (8, -4)])
def test_an_impulse_moved_by_4_pixels_moves_the_map_by_one_cell(dx, dy):
    torch.manual_seed(0)
    backbone = small_cnn(10).backbone.eval()
    images = torch.zeros(2, 1, 64, 64)
    images[0, 0, 30, 26] = images[1, 0, 30 + dy, 26 + dx] = 5
    with torch.no_grad():
        responses = backbone(images) - backbone(torch.zeros(1, 1, 64, 64))
    first, second = responses
    assert first.abs().max() > 1e-4
    moved = first.roll((dy // 4, dx // 4), dims=(1, 2))
    torch.testing.assert_close(moved, second, rtol=0, atol=1e-6)
    assert (first - second).abs().max() > 1e-4


@pytest.mark.parametrize(("row", "column"), [(8, 8), (6, 10)])
def test_a_cell_is_centred_on_its_four_pixels(row, column):
    """With equal weights the response of cell i is symmetric around pixel 4 i + 1.5."""
    backbone = small_cnn(10).backbone.eval()
    for module in backbone.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    images = torch.ones(1, 1, 64, 64, requires_grad=True)
    backbone(images)[0, :, row, column].sum().backward()
    influence = images.grad[0, 0]
    assert influence.min() >= 0
    places = torch.arange(64, dtype=torch.float32)
    total = influence.sum()
    assert (influence.sum(dim=0) @ places / total).item() == pytest.approx(
        4 * column + 1.5, abs=1e-3
    )
    assert (influence.sum(dim=1) @ places / total).item() == pytest.approx(4 * row + 1.5, abs=1e-3)
    reach = (influence.sum(dim=0) > 0).nonzero().flatten()
    assert (reach.min() + reach.max()).item() / 2 == 4 * column + 1.5


def test_names_other_than_the_small_one_are_backbones():
    assert build_network("small-cnn", weights="none", num_classes=3).head.out_features == 3
    network = build_network("shufflenet_v2_x0_5", weights="none", num_classes=3)
    assert (network.spec.size, network.head.out_features) == (224, 3)
    with pytest.raises(UserError, match="'small_cnn'"):
        build_network("small_cnn", weights="none", num_classes=3)


def test_the_image_size_is_that_of_the_networks_own_transform():
    network = build_network("timm:test_resnet", weights="none", num_classes=3, image_size=96)
    grey = torchvision.transforms.functional.to_pil_image(torch.zeros(3, 20, 30))
    assert network.spec.transform()(grey).shape == (3, 96, 96)
    assert network.spec.random_transform()(grey).shape == (3, 96, 96)


def test_strides_and_sizes_reach_the_backbone_and_are_refused_by_the_small_one():
    sizes = {"output_stride": 16, "image_size": 64}
    network = build_network("timm:test_resnet", weights="none", num_classes=3, **sizes)
    with torch.inference_mode():
        assert network.eval().features(torch.zeros(1, 3, 64, 64)).shape == (1, 96, 4, 4)
    for flag, value in sizes.items():
        value += flag == "image_size"  # 64 is the size that it has
        with pytest.raises(UserError, match="--network small-cnn: leave out --image-size"):
            build_network("small-cnn", weights="none", num_classes=3, **{flag: value})


def test_vgg16_gap_is_vgg16_without_pool5_and_a_new_convolution(tmp_path, monkeypatch):
    """Weights from a file, without writing half a gigabyte."""
    with torch.device("meta"):
        whole = torchvision.models.vgg16(weights=None)
    state = {k: torch.full(v.shape, 0.01) for k, v in whole.state_dict().items()}
    (tmp_path / "vgg16.pt").touch()
    monkeypatch.setattr(torch, "load", lambda *_, **__: state)
    options = {"weights": str(tmp_path / "vgg16.pt"), "num_classes": 3, "output_stride": 16}
    network = build_network("vgg16_gap", **options)
    weights = network.state_dict()
    features = {k.removeprefix("features."): v for k, v in state.items() if "features." in k}
    new = {"30.weight", "30.bias"}
    assert {
        k.removeprefix("backbone.") for k in weights if "backbone." in k
    } == features.keys() | new
    assert all(torch.equal(weights[f"backbone.{k}"], v) for k, v in features.items())
    assert weights["backbone.30.weight"].shape == (1024, 512, 3, 3)
    assert weights["backbone.30.weight"].std() > 0
    kinds = [type(layer).__name__ for layer in network.backbone[28:]]
    assert kinds == ["Conv2d", "ReLU", "Conv2d", "ReLU"]
    with torch.inference_mode():
        maps = network.features(torch.rand(1, 3, 224, 224))
        logits = network.head(maps.mean(dim=(2, 3)))
    assert maps.shape == (1, 1024, 14, 14) and maps.min() == 0
    assert logits.shape == (1, 3)
