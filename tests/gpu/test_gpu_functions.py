"""Losses, networks, maps and estimators on the GPU against the CPU, on the same numbers."""

import copy
from functools import partial

import pytest
import torch
from torch import nn

from infocam.localise import Maps, method_maps
from infocam.models.networks import small_cnn as localising_cnn
from infocam.names import CONTRASTS, GRADIENT_METHODS, RANDOM
from infocam.scoring.faithfulness import insertion_deletion
from mi_common.backbones import InputSpec, build_backbone
from mi_common.runtime import Runtime
from mi_estimator.estimators.classifier import OBJECTIVES, ClassifierMI
from mi_estimator.estimators.critics import BOUNDS
from mi_estimator.estimators.crossfit import cross_fit, estimate_mutual_information
from mi_estimator.estimators.networks import small_cnn as estimator_cnn
from mi_estimator.estimators.registry import Settings, build_estimator
from pc_softmax.losses import build_loss
from pc_softmax.names import LOSSES
from pc_softmax.networks import CosineHead, PaperNet, small_cnn

pytestmark = pytest.mark.gpu
CLASSES = 5
SETTINGS = Settings(epochs=2, batch_size=50, lr=5e-3, val_fraction=0.2, members=2)


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def assert_close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(actual.cpu(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_gradients(gpu, name):
    loss = build_loss(name, torch.tensor([50, 40, 30, 20, 10]))
    labels = torch.arange(64) % CLASSES
    found = []
    for device in ("cpu", gpu.device):
        logits = (3 * torch.randn(64, CLASSES, generator=generator())).to(device).requires_grad_()
        value = copy.deepcopy(loss).to(device)(logits, labels.to(device))
        value.backward()
        found.append((value.detach(), logits.grad))
    (value, gradient), (gpu_value, gpu_gradient) = found
    assert gpu_value.device.type == gpu.device.type
    assert_close(gpu_value, value)
    assert_close(gpu_gradient, gradient)


untrained = partial(build_backbone, weights="none", num_classes=CLASSES)


@pytest.mark.parametrize(
    ("build", "shape"),
    [
        (lambda: PaperNet(CLASSES, cosine_head=True), (1, 28, 28)),
        (lambda: small_cnn(3, CLASSES, InputSpec(32)), (3, 32, 32)),
        (lambda: localising_cnn(CLASSES), (1, 64, 64)),
        (lambda: estimator_cnn(1, CLASSES), (1, 32, 32)),
        (lambda: nn.Sequential(nn.Flatten(), CosineHead(20, CLASSES)), (20,)),
        (lambda: untrained("resnet18"), (3, 64, 64)),
        (lambda: untrained("efficientnet_lite0"), (3, 64, 64)),
        (lambda: untrained("timm:vit_tiny_patch16_224"), (3, 224, 224)),
    ],
    ids=["paper-net", "small-cnn", "localising", "estimating", "cosine", "resnet", "lite0", "vit"],
)
@torch.no_grad()
def test_logits_of_networks(gpu, build, shape):
    torch.manual_seed(0)
    network, images = build().eval(), torch.rand(4, *shape, generator=generator())
    expected = network(images)
    network.to(gpu.device, memory_format=torch.channels_last)
    assert_close(network(images.to(gpu.device)), expected, tolerance=1e-4)


def maps_of(device, methods: list[str]) -> dict:
    torch.manual_seed(0)
    head = nn.Linear(32, CLASSES)
    features = torch.rand(8, 32, 7, 7, generator=generator())
    log_prior = torch.tensor([0.4, 0.3, 0.15, 0.1, 0.05]).log()
    with torch.no_grad():
        logits = head(features.mean(dim=(2, 3)))
        options = Maps(
            methods, [1, 3], prior_shift=-log_prior.to(device), log_prior=log_prior.to(device)
        )
        labels = (torch.arange(8) % CLASSES).to(device)
        return method_maps(options, features.to(device), head.to(device), labels, logits.to(device))


def test_contrasts_gradient_maps_regions_and_shifts(gpu):
    methods = [*CONTRASTS, "lowest:2", "class:1", *GRADIENT_METHODS, RANDOM]
    expected, found = maps_of("cpu", methods), maps_of(gpu.device, methods)
    assert list(found) == list(expected)
    for key, maps in expected.items():
        assert found[key].device.type == gpu.device.type
        assert_close(found[key], maps)


def test_insertion_and_deletion(gpu):
    """Pixels that are equal but for rounding may change places: 1e-3 of an area."""
    torch.manual_seed(0)
    network = nn.Sequential(localising_cnn(CLASSES).eval(), nn.Softmax(dim=1))
    images = torch.rand(4, 1, 64, 64, generator=generator())
    maps, labels = torch.rand(4, 8, 8, generator=generator()), torch.arange(4)
    expected = insertion_deletion(network, images, maps, labels, steps=8)
    device = gpu.device
    found = insertion_deletion(
        network.to(device), images.to(device), maps.to(device), labels.to(device), steps=8
    )
    for areas, gpu_areas in zip(expected, found, strict=True):
        assert_close(gpu_areas, areas, tolerance=1e-3)


def samples() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.arange(300) % 3
    return torch.randn(300, 4, generator=generator()) + labels[:, None], labels


@pytest.mark.parametrize("name", [*OBJECTIVES, *BOUNDS])
def test_estimates_of_one_trained_network(gpu, name):
    cpu, (x, y) = Runtime(torch.device("cpu")), samples()
    estimator = build_estimator(name, cpu, 0, SETTINGS).fit(x, y)
    expected = estimator.estimate(x, y)
    estimator.network_.to(gpu.device)
    estimator.log_prior_ = estimator.log_prior_.to(gpu.device)
    estimator.runtime_ = gpu
    found = estimator.estimate(x, y)
    assert found.value == pytest.approx(expected.value, abs=1e-5)
    assert_close(found.pointwise, expected.pointwise, tolerance=1e-4)


@pytest.mark.parametrize("name", ["pc-softmax", "infonce", "lda", "ross"])
def test_samples_on_the_gpu_are_those_on_the_cpu(gpu, name):
    """Estimators that compute on the CPU, so that the results are equal to the last bit."""
    cpu, (x, y) = Runtime(torch.device("cpu")), samples()
    values = []
    for device in ("cpu", gpu.device):
        placed = x.to(device), y.to(device)
        estimator = build_estimator(name, cpu, 0, SETTINGS)
        values.append(estimator.fit(*placed).estimate(*placed).value)
    assert values[0] == values[1]


def test_a_cross_fit_takes_samples_on_the_gpu(gpu):
    cpu, (x, y) = Runtime(torch.device("cpu")), samples()
    values = []
    for device in ("cpu", gpu.device):
        placed = x.to(device), y.to(device)
        values.append(estimate_mutual_information(*placed, estimator="lda", runtime=cpu).value)
        found = cross_fit(
            lambda seed: ClassifierMI(runtime=cpu, seed=seed, epochs=1), *placed, folds=2, seed=0
        )
        values.append(found.estimate().value)
    assert values[:2] == values[2:]
