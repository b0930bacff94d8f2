"""Every kind of network, training batches and predictions on fake CUDA tensors."""

import functools
import re

import pytest
import torch
from fake_cuda import CUDA, assert_on_cuda, fake_cuda
from torch import nn

from infocam.models import adl, networks
from mi_common.backbones import InputSpec, build_backbone
from mi_common.engine import TensorBatches, predict
from mi_common.image_sets import ImageSet
from mi_common.recipes import Training
from mi_common.runtime import Runtime
from mi_common.training import ImageClassifier
from mi_estimator.estimators.networks import Members, NineMeans, Standardise, mlp
from mi_estimator.estimators.networks import small_cnn as estimator_cnn
from pc_softmax.losses import build_loss
from pc_softmax.networks import CosineHead, PaperNet, small_cnn

RUNTIME = Runtime(CUDA)
CLASSES = 5
# A CUDA autocast warns where there is no GPU, even if it is to do nothing.
pytestmark = pytest.mark.filterwarnings("ignore:User provided device_type:UserWarning")


def with_cosine_head() -> nn.Module:
    network = small_cnn(3, CLASSES, InputSpec(32))
    network.head = CosineHead(256, CLASSES)
    return network


def members() -> nn.Module:
    features = torch.randn(20, 7, generator=torch.Generator().manual_seed(0))
    parts = Members(mlp(7, CLASSES, (11, 13)) for _ in range(3))
    return nn.Sequential(Standardise(features), parts)


def image_members() -> nn.Module:
    images = torch.arange(2 * 3 * 32 * 32).reshape(2, 3, 32, 32) % 255
    return nn.Sequential(Standardise(images.byte()), Members([estimator_cnn(3, CLASSES)]))


def backbone(name: str, **options):
    return lambda: build_backbone(name, weights="none", num_classes=CLASSES, **options)


SMALL = {
    "PaperNet": (lambda: PaperNet(CLASSES), (1, 28, 28)),
    "PaperNet, cosine head": (lambda: PaperNet(CLASSES, cosine_head=True), (1, 28, 28)),
    "pc_softmax small-cnn": (lambda: small_cnn(3, CLASSES, InputSpec(32)), (3, 32, 32)),
    "pc_softmax small-cnn, cosine head": (with_cosine_head, (3, 32, 32)),
    "infocam small-cnn": (lambda: networks.small_cnn(CLASSES), (1, 64, 64)),
    "mi_estimator mlp": (members, (7,)),
    "mi_estimator small_cnn": (image_members, (3, 32, 32)),
}
BACKBONES = {
    "efficientnet_lite0": (backbone("efficientnet_lite0"), (3, 64, 64)),
    "resnet50": (backbone("resnet50", output_stride=16), (3, 64, 64)),
    "vision transformer": (backbone("timm:vit_tiny_patch16_224"), (3, 224, 224)),
    "vgg16_gap": (
        lambda: networks.build_network("vgg16_gap", weights="none", num_classes=CLASSES),
        (3, 64, 64),
    ),
}
ALL = SMALL | BACKBONES
CHANNELS = {"resnet50": 2048, "vgg16_gap": 1024, "efficientnet_lite0": 1280}


@functools.cache
def moved(name: str) -> nn.Module:
    """The network on the device; made once, for VGG16 takes two seconds."""
    network = ALL[name][0]()
    with fake_cuda():
        return network.to(CUDA, memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ALL)
def test_the_whole_network_moves_and_its_logits_stay_on_the_device(name):
    network, shape = moved(name), ALL[name][1]
    state = [*network.parameters(), *network.buffers()]
    assert {tensor.device for tensor in state} == {CUDA}
    with fake_cuda():
        inputs = torch.rand(2, *shape, device=CUDA)
        assert_on_cuda(network.eval()(inputs), 2, CLASSES)
        rows = 2 * (3 if name == "mi_estimator mlp" else 1)  # of each member in training
        assert_on_cuda(network.train()(inputs), rows, CLASSES)
        with pytest.raises(RuntimeError, match="device"):
            network(torch.rand(2, *shape))


@pytest.mark.parametrize(("name", "channels"), CHANNELS.items())
def test_feature_maps_stay_on_the_device(name, channels):
    with fake_cuda():
        maps = moved(name).eval().features(torch.rand(2, 3, 64, 64, device=CUDA))
        side = {"efficientnet_lite0": 2}.get(name, 4)
        assert_on_cuda(maps, 2, channels, side, side)


@pytest.mark.parametrize("name", SMALL)
def test_training_needs_no_kernel_without_a_deterministic_kind_on_a_gpu(name):
    """`--deterministic` would stop at the backward passes that PyTorch's manual lists so."""
    network, shape = moved(name), SMALL[name][1]
    loss = build_loss("class-balanced", torch.tensor([5, 4, 3, 2, 1]))
    with fake_cuda():
        logits = network.train()(torch.rand(2, *shape, device=CUDA))
        labels = torch.zeros(len(logits), dtype=torch.int64, device=CUDA)
        names = backward_names(loss.to(CUDA)(logits, labels))
    forbidden = re.compile("Adaptive|Fractional|AvgPool3|Unpool|Upsample|Reflection|NllLoss2|Grid")
    assert "NllLossBackward0" in names
    assert {name for name in names if forbidden.search(name)} == set()


def backward_names(value: torch.Tensor) -> set[str]:
    """The names of all nodes of a value's graph."""
    seen, waiting = set(), [value.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [parent for parent, _ in node.next_functions]
    return {node.name() for node in seen}


@pytest.mark.parametrize("drop", [True, False])
@pytest.mark.parametrize(
    ("name", "layers"),
    [("vgg16_gap", ["pool3", "conv5_3"]), ("resnet50", ["layer3.0", "layer4.2"])],
)
def test_attention_dropout_stays_on_the_device(monkeypatch, name, layers, drop):
    """Its draw is a number of the CPU, which fake tensors do not have."""
    monkeypatch.setattr(adl, "_draw", lambda rate: drop)
    hidden = []
    attention_dropout = adl.attention_dropout
    monkeypatch.setattr(
        adl,
        "attention_dropout",
        lambda features, **how: hidden.append(how["drop"]) or attention_dropout(features, **how),
    )
    with fake_cuda():
        network = moved(name).train()
        layers = adl.add_adl(network, layers, gamma=0.8)
        assert_on_cuda(network(torch.rand(2, 3, 64, 64, device=CUDA)), 2, CLASSES)
    for layer in layers:
        layer.remove()
    assert hidden == [drop, drop]


def test_cosines_of_half_precision_features_are_float32():
    head = CosineHead(7, CLASSES)
    with fake_cuda():
        features = torch.rand(2, 7, device=CUDA, dtype=torch.bfloat16)
        assert_on_cuda(head.to(CUDA)(features), 2, CLASSES)


def test_training_batches_are_indexed_on_the_device():
    with fake_cuda():
        inputs, labels = torch.rand(7, 4).half(), torch.zeros(7, dtype=torch.int64)
        batches = TensorBatches(inputs, labels, batch_size=3, seed=0, runtime=RUNTIME)
        sizes = []
        for batch, own_labels, global_size in batches.epoch(0):
            assert_on_cuda(batch, global_size, 4)
            assert_on_cuda(own_labels, global_size, dtype=torch.int64)
            sizes.append(global_size)
    assert sizes == [3, 3, 1]


@pytest.mark.parametrize("shape", [(3, 3), (4, 4), (1, 1), (8, 8), (2, 7), (28, 13)])
def test_nine_means_are_those_of_adaptive_pooling(shape):
    maps = torch.randn(2, 5, *shape, generator=torch.Generator().manual_seed(0))
    expected = nn.functional.adaptive_avg_pool2d(maps, 3)
    torch.testing.assert_close(NineMeans()(maps), expected, rtol=0, atol=1e-6)


def test_predictions_come_back_to_the_cpu():
    network = PaperNet(CLASSES)
    with fake_cuda():
        network.to(CUDA)
        logits = predict(network, torch.rand(7, 1, 28, 28), runtime=RUNTIME, batch_size=3)
        assert logits.device == torch.device("cpu")
        assert (tuple(logits.shape), logits.dtype) == ((7, CLASSES), torch.float32)


@pytest.mark.parametrize("head_only", [False, True])
def test_a_classifier_gives_its_network_inputs_on_the_device(tmp_path, head_only):
    network = small_cnn(3, CLASSES, InputSpec(8))
    pixels = torch.zeros(7, 3, 8, 8, dtype=torch.uint8)
    images = ImageSet("seven", pixels, torch.zeros(7, dtype=torch.int64), list("abcde"))
    training = Training(epochs=1, batch_size=4, lr=0.1)
    with fake_cuda():
        classifier = ImageClassifier(
            network, head_only=head_only, cache_dir=tmp_path, runtime=RUNTIME
        )
        inputs, labels, _ = next(classifier.batches(images, training, seed=0).epoch(0))
        assert_on_cuda(inputs, 4, *((256,) if head_only else (3, 8, 8)))
        assert_on_cuda(labels, 4, dtype=torch.int64)
        assert_on_cuda(classifier.trained(inputs), 4, CLASSES)
        assert classifier.logits(images).device == torch.device("cpu")
