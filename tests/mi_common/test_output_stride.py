"""Finer maps from the same weights: what changes, what does not, and that no cache mixes them."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torch import nn

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone
from mi_common.errors import UserError
from mi_common.features import cached_features
from mi_common.image_sets import ImageSet
from mi_common.weights import efficientnet_lite0_state_dict


def build(name: str, output_stride: int | None) -> GlobalAveragePoolClassifier:
    torch.manual_seed(0)
    return build_backbone(name, weights="none", num_classes=4, output_stride=output_stride).eval()


def maps_of(network: GlobalAveragePoolClassifier, size: int) -> torch.Tensor:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return network.features(images)


@pytest.mark.parametrize(
    ("name", "size", "sides"),
    [
        ("resnet18", 224, {None: 7, 32: 7, 16: 14, 8: 28}),
        ("timm:test_resnet", 160, {None: 5, 32: 5, 16: 10, 8: 20}),
        ("timm:test_vit", 160, {None: 10, 16: 10}),
    ],
)
def test_maps_have_the_side_asked_for_and_the_weights_stay(name, size, sides):
    plain = build(name, None)
    assert plain.output_stride is None
    for stride, side in sides.items():
        network = build(name, stride)
        assert network.output_stride == stride
        assert maps_of(network, size).shape[2:] == (side, side)
        own, other = network.state_dict(), plain.state_dict()
        assert own.keys() == other.keys()
        assert all(torch.equal(value, other[key]) for key, value in own.items())


def test_torchvisions_resnets_lose_strides_and_gain_no_dilation():
    changed = {}
    plain = dict(build("resnet18", None).named_modules())
    for stride in (16, 8):
        modules = build("resnet18", stride).named_modules()
        convolutions = {name: m for name, m in modules if isinstance(m, nn.Conv2d)}
        assert all(m.dilation == (1, 1) for m in convolutions.values())
        changed[stride] = {n for n, m in convolutions.items() if m.stride != plain[n].stride}
        assert all(convolutions[name].stride == (1, 1) for name in changed[stride])
    layer4 = {"backbone.layer4.0.conv1", "backbone.layer4.0.downsample.0"}
    assert changed == {16: layer4, 8: layer4 | {n.replace("layer4", "layer3") for n in layer4}}


def test_the_finer_stage_holds_the_coarse_ones_values_at_every_other_place():
    """Without dilation the first convolution of layer4 sees the same neighbours."""
    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    found = []
    for stride in (32, 16):
        backbone = build("resnet18", stride).backbone
        with torch.inference_mode():
            found.append(backbone.layer4[0].conv1(backbone[:-1](images)))
    coarse, fine = found
    assert (coarse.shape[2], fine.shape[2]) == (2, 4)
    torch.testing.assert_close(fine[:, :, ::2, ::2], coarse, rtol=1e-4, atol=1e-5)


def test_lite0_keeps_its_1000_classes_when_dilated():
    network = build_backbone("efficientnet_lite0", output_stride=16).eval()
    state = efficientnet_lite0_state_dict()
    assert torch.equal(network.head.weight, state["classifier.weight"])
    assert torch.equal(network.head.bias, state["classifier.bias"])
    whole = timm.create_model("tf_efficientnet_lite0", output_stride=16).eval()
    whole.load_state_dict(state)
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert network.features(images).shape == (1, 1280, 14, 14)
        torch.testing.assert_close(network(images), whole(images), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "asked", "own"),
    [("mobilenet_v2", 16, 32), ("timm:test_vit", 32, 16), ("timm:test_mambaout", 8, 32)],
)
def test_a_stride_that_a_network_does_not_have_is_a_user_error(name, asked, own):
    said = f"--output-stride {asked}: {name} has {own}; use that"
    with pytest.raises(UserError, match=said):
        build(name, asked)


def test_features_of_another_stride_are_not_taken_from_the_cache(tmp_path, cpu):
    """The weights are the same, so only the stride tells; 32 is what the networks have anyway."""
    paths = [tmp_path / f"{i}.png" for i in range(2)]
    for i, path in enumerate(paths):
        Image.fromarray(np.full((9, 9, 3), 90 * i, np.uint8)).save(path)
    files = ImageSet("mini", paths, torch.zeros(2, dtype=torch.int64), ["only"])
    convolution = nn.Conv2d(3, 6, 1)
    found = {}
    for stride in (None, 32, 16, 8):
        convolution.stride = (8, 8) if stride is None else (stride // 4, stride // 4)
        network = GlobalAveragePoolClassifier(convolution, 6, 2, InputSpec(16), stride)
        options = {"kind": "maps", "runtime": cpu, "num_workers": 0}
        maps = cached_features(network, files, tmp_path / "cache", **options)
        found[stride] = (maps.shape[2], len(list((tmp_path / "cache").glob("*.npy"))))
    assert found == {None: (2, 1), 32: (2, 1), 16: (4, 2), 8: (8, 3)}
