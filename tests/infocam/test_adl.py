"""Attention-based dropout by hand, its draws, and what it leaves alone."""

import math

import pytest
import torch
import torchvision
from torch import nn

from infocam.models.adl import add_adl, attention_dropout
from infocam.models.networks import small_cnn
from infocam.recipes import NETWORK_RECIPES
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone
from mi_common.errors import UserError


def one_map(rows: list[list[float]]) -> torch.Tensor:
    """Two channels whose mean is the given map."""
    values = torch.tensor(rows)
    return torch.stack([values + 1, values - 1])[None]


def test_places_at_or_above_the_share_of_an_images_peak_are_hidden():
    images = torch.cat([one_map([[4.0, 2.0], [3.0, -1.0]]), one_map([[0.4, 0.2], [0.3, 0.1]])])
    kept = torch.tensor([[False, True], [False, True]])  # 0.75 of the peak is the third place
    output = attention_dropout(images, gamma=0.75, drop=True)
    assert torch.equal(output, torch.where(kept, images, torch.zeros(())))
    kept = torch.tensor([[False, True], [True, True]])
    output = attention_dropout(images, gamma=0.8, drop=True)
    assert torch.equal(output, torch.where(kept, images, torch.zeros(())))


def test_otherwise_every_place_is_weighed_by_the_sigmoid_of_its_attention():
    images = one_map([[4.0, 2.0], [3.0, -1.0]])
    output = attention_dropout(images, gamma=0.8, drop=False)
    for i, row in enumerate([[4.0, 2.0], [3.0, -1.0]]):
        for j, value in enumerate(row):
            weight = 1 / (1 + math.exp(-value))
            expected = torch.tensor([(value + 1) * weight, (value - 1) * weight])
            torch.testing.assert_close(output[0, :, i, j], expected)


def identity(gamma: float = 0.5, rate: float = 0.75) -> nn.Module:
    """A backbone of one layer that does nothing, with ADL behind it."""
    backbone = nn.Sequential(nn.Identity())
    add_adl(
        GlobalAveragePoolClassifier(backbone, 1, 2, InputSpec(4, (0.0,), (1.0,))),
        ["0"],
        gamma=gamma,
        rate=rate,
    )
    return backbone


def dropped(backbone: nn.Module, passes: int) -> list[bool]:
    image = torch.tensor([[[[1.0, 0.2]]]])  # the first place is hidden or weighed by 0.73
    return [backbone(image)[0, 0, 0, 0].item() == 0 for _ in range(passes)]


def test_one_draw_a_pass_hides_at_the_given_rate_for_the_whole_batch():
    torch.manual_seed(0)
    draws = dropped(identity(rate=0.75), 2000)
    deviation = math.sqrt(2000 * 0.75 * 0.25)
    assert abs(sum(draws) - 1500) < 4 * deviation
    assert sum(a != b for a, b in zip(draws[1:], draws, strict=False)) > 500  # 750 expected
    batch = torch.tensor([[[[1.0, 0.2]]]]).expand(6, 1, 1, 2)
    backbone = identity(rate=0.5)
    for _ in range(20):
        assert len(set(backbone(batch)[:, 0, 0, 0].tolist())) == 1


def test_extreme_rates_always_do_the_same():
    assert dropped(identity(rate=1.0), 50) == [True] * 50
    assert dropped(identity(rate=0.0), 50) == [False] * 50


def test_a_seed_repeats_the_draws_and_every_layer_has_its_own():
    network, images = small_cnn(3), torch.rand(4, 1, 64, 64)
    plain = small_cnn(3)
    plain.load_state_dict(network.state_dict())
    handles = add_adl(network, ["conv1_3", "conv1_5"], gamma=0.8, rate=0.5)
    outputs = []
    for seed in range(12):
        for _ in range(2):
            torch.manual_seed(seed)
            outputs.append(network(images).detach())
    assert all(torch.equal(a, b) for a, b in zip(outputs[::2], outputs[1::2], strict=True))
    # Two layers with two branches each: four different outputs.
    assert len({tuple(one.flatten().tolist()) for one in outputs}) == 4
    for handle in handles:
        handle.remove()
    torch.testing.assert_close(network(images), plain(images), rtol=0, atol=0)


def test_it_rests_in_eval_mode_and_has_no_weights():
    torch.manual_seed(0)
    network, images = small_cnn(3), torch.rand(2, 1, 64, 64)
    keys, expected = list(network.state_dict()), network.eval()(images)
    network.train()
    add_adl(network, ["conv1_2"], gamma=0.8)
    assert network.training and network.backbone[3].training
    assert list(network.state_dict()) == keys
    assert torch.equal(network.eval()(images), expected)
    assert (network.train()(images) - network.eval()(images)).abs().max() > 1e-3


@pytest.mark.parametrize("drop", [False, True])
def test_gradients_are_those_of_the_product(drop):
    """Through the sigmoid too; the mask of the hidden places is a constant."""
    torch.manual_seed(0)
    features = torch.randn(2, 3, 4, 4, dtype=torch.float64, requires_grad=True)
    attention_dropout(features, gamma=0.6, drop=drop).square().sum().backward()
    output, features = features.grad, features.detach().requires_grad_()
    attention = features.mean(dim=1, keepdim=True)
    if drop:
        weights = (attention < 0.6 * attention.amax(dim=(2, 3), keepdim=True)).double()
    else:
        weights = torch.sigmoid(attention)
    (features * weights).square().sum().backward()
    torch.testing.assert_close(output, features.grad, rtol=1e-5, atol=1e-6)
    assert output.abs().max() > 0.1


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_under_autocast_maps_keep_their_type_and_every_weight_gets_a_gradient(rate):
    torch.manual_seed(0)
    network, images = small_cnn(3), torch.rand(4, 1, 64, 64)
    add_adl(network, ["conv1_3"], gamma=0.9, rate=rate)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        maps = network.features(images)
        logits = network(images)
    assert maps.dtype == torch.bfloat16
    logits.float().square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in network.parameters())


def hooked(network: GlobalAveragePoolClassifier) -> set[str]:
    return {name for name, part in network.backbone.named_modules() if part._forward_hooks}


def test_the_papers_layers_of_vgg16_and_resnet50():
    """Behind the ReLU of conv5_3, and behind whole blocks; on no real device, so in no time."""
    with torch.device("meta"):
        backbone = torchvision.models.vgg16(weights=None).features[:-1]
        vgg = GlobalAveragePoolClassifier(backbone, 512, 2, InputSpec(64))
        backbone = torchvision.models.resnet50(weights=None)
        children = dict(list(backbone.named_children())[:-2])
        backbone = nn.Sequential()
        for name, child in children.items():
            backbone.add_module(name, child)
        resnet = GlobalAveragePoolClassifier(backbone, 2048, 2, InputSpec(64))
    add_adl(vgg, NETWORK_RECIPES["fine-tuned VGG16"].adl, gamma=0.8)
    assert hooked(vgg) == {"16", "23", "29"}
    kinds = [type(vgg.backbone[i]).__name__ for i in (15, 16, 22, 23, 28, 29)]
    assert kinds == ["ReLU", "MaxPool2d", "ReLU", "MaxPool2d", "Conv2d", "ReLU"]
    add_adl(resnet, NETWORK_RECIPES["fine-tuned ResNet50"].adl, gamma=0.9)
    assert hooked(resnet) == {"layer3.0", "layer4.0", "layer4.2"}


def test_layers_of_timms_networks_have_timms_names():
    network = build_backbone("timm:test_resnet", weights="none", num_classes=3)
    add_adl(network, ["layer3.0", "layer4.0"], gamma=0.9)
    assert hooked(network) == {"network.layer3.0", "network.layer4.0"}


@pytest.mark.parametrize(
    ("name", "layer", "said"),
    [
        ("timm:test_resnet", "layer9.0", "no such layer; there are .*layer4, layer4.0"),
        ("timm:test_resnet", "global_pool", r"gives no \(B, C, H, W\) map"),  # it never runs
        ("timm:test_vit", "blocks.0", r"gives no \(B, C, H, W\) map"),
        ("timm:test_mambaout", "stages.0", r"gives no \(B, C, H, W\) map"),
        ("small-cnn", "conv2_1", "no such layer; there are conv1_1, conv1_2, "),
    ],
)
def test_layers_that_are_not_there_or_have_no_maps_are_user_errors(name, layer, said):
    small = name == "small-cnn"
    network = small_cnn(3) if small else build_backbone(name, weights="none", num_classes=3)
    with pytest.raises(UserError, match=f"--adl {layer}: .*{said}"):
        add_adl(network, [layer], gamma=0.9)
    assert hooked(network) == set()
