"""Maps, boxes and scores of one photograph against slow versions."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from infocam.maps.photographs import box_of, explain
from infocam.models.classifiers import Classifier
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec

NAMES = ["cat", "dog", "cow", "hen"]
PRIOR = [0.1, 0.2, 0.3, 0.4]
CONTRASTS = ["cam", "infocam", "infocam+", "similar", "class:1"]


def classifier_of(softmax: bool = True, channels: int = 3) -> Classifier:
    """Four classes from 8 x 8 maps of 16 x 16 images, untrained."""
    torch.manual_seed(3)
    trunk = nn.Sequential(nn.Conv2d(channels, 6, 4, stride=2, padding=1), nn.ReLU())
    spec = InputSpec(16, (0.5,) * channels, (0.5,) * channels)
    network = GlobalAveragePoolClassifier(trunk, 6, len(NAMES), spec).eval()
    return Classifier(network, NAMES, torch.tensor(PRIOR).log(), softmax)


@pytest.fixture
def image() -> Image.Image:
    """40 x 30 pixels, a bright spot on noise."""
    pixels = np.random.default_rng(0).integers(0, 90, (30, 40, 3)).astype(np.uint8)
    pixels[5:20, 8:22] = (230, 180, 60)
    return Image.fromarray(pixels)


def slow_maps(classifier: Classifier, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(K, h, w) maps of all classes and (K,) logits."""
    head = classifier.network.head
    weights, bias = head.weight.detach().numpy(), head.bias.detach().numpy()
    maps = np.stack([sum(w * f for w, f in zip(row, features, strict=True)) for row in weights])
    return maps, maps.mean(axis=(1, 2)) + bias


def features_of(classifier: Classifier, image: Image.Image, size: int = 16) -> np.ndarray:
    with torch.no_grad():
        return classifier.network.backbone(classifier.network.spec.transform(size)(image)[None])[
            0
        ].numpy()


def slow_box(values: np.ndarray, width: int, height: int, threshold: float) -> list[int]:
    resized = cv2.resize(values, (width, height), interpolation=cv2.INTER_CUBIC)
    scaled = (resized - resized.min()) / (resized.max() - resized.min())
    mask = (np.floor(scaled * 255) > int(threshold * 255)).astype(np.uint8)
    contours, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    x, y, w, h = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return [x, y, x + w - 1, y + h - 1]


@pytest.mark.parametrize(("size", "threshold"), [(None, 0.8), (24, 0.8), (None, 0.1)])
def test_maps_boxes_and_scores_equal_their_definitions(image, cpu, size, threshold):
    classifier = classifier_of()
    options = {"label": 2, "image_size": size, "threshold": threshold}
    found = explain(image, classifier, CONTRASTS, **options, runtime=cpu)
    maps, logits = slow_maps(classifier, features_of(classifier, image, size or 16))
    others = [0, 1, 3]
    low, high = (pick(others, key=lambda k: logits[k]) for pick in (min, max))
    expected = [
        maps[2],
        maps[2] - maps[others].mean(axis=0),
        maps[2] - maps[low],
        maps[2] - maps[high],
        maps[2] - maps[1],
    ]
    np.testing.assert_allclose(found.maps, expected, atol=1e-6)
    assert found.maps.shape[1:] == ((8, 8) if size is None else (12, 12))
    np.testing.assert_allclose(found.scores, logits, atol=1e-6)
    assert found.against == ["", "3 classes", NAMES[low], NAMES[high], "dog"]
    assert found.methods == CONTRASTS and found.label == 2
    assert found.boxes.tolist() == [slow_box(m, 40, 30, threshold) for m in found.maps]
    assert threshold < 0.5 or len(set(map(tuple, found.boxes.tolist()))) > 1


def test_the_label_is_the_likeliest_class_unless_given(image, cpu):
    classifier = classifier_of()
    for k in range(4):
        with torch.no_grad():
            classifier.network.head.bias[:] = 10.0 * torch.eye(4)[k]
        found = explain(image, classifier, ["cam"], runtime=cpu)
        given = explain(image, classifier, ["cam"], label=k, runtime=cpu)
        assert found.label == k == found.scores.argmax()
        np.testing.assert_array_equal(found.maps, given.maps)


def test_region_takes_the_mean_of_neighbouring_cells(image, cpu):
    classifier = classifier_of()
    plain, mean = (
        explain(image, classifier, ["infocam", "layer-cam"], label=1, region=r, runtime=cpu)
        for r in (1, 3)
    )
    for before, after in zip(plain.maps, mean.maps, strict=True):
        for i, j in ((0, 0), (3, 7), (4, 4)):
            around = before[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            assert after[i, j] == pytest.approx(around.mean(), abs=1e-6)


@pytest.mark.parametrize("region", [1, 3])
@pytest.mark.parametrize("softmax", [True, False])
def test_with_the_prior_means_are_pointwise_mutual_information(image, cpu, softmax, region):
    classifier = classifier_of(softmax)
    options = {"label": 2, "region": region, "runtime": cpu}
    plain = explain(image, classifier, [*CONTRASTS, "grad-cam"], **options)
    found = explain(image, classifier, [*CONTRASTS, "grad-cam"], prior=True, **options)
    _, logits = slow_maps(classifier, features_of(classifier, image))
    f = logits - np.log(PRIOR) if softmax else logits
    information = f - np.log(np.sum(PRIOR * np.exp(f)))
    np.testing.assert_allclose(found.scores, information, atol=1e-5)
    others = information[[0, 1, 3]]
    against = [0, others.mean(), others.min(), others.max(), information[1]]
    means = found.maps.mean(axis=(1, 2))
    np.testing.assert_allclose(means[:5], information[2] - against, atol=1e-5)
    np.testing.assert_array_equal(found.maps[5], plain.maps[5])  # no contrast: no such unit
    assert found.boxes[1].tolist() == plain.boxes[1].tolist()


def test_the_prior_says_which_classes_are_likely(image, cpu):
    classifier = classifier_of()
    with torch.no_grad():
        classifier.network.head.weight.zero_()
        classifier.network.head.bias[:] = torch.tensor([0.4, 0.3, 0.2, 0.5])
    plain, prior = (
        explain(image, classifier, ["infocam+"], prior=p, runtime=cpu) for p in (False, True)
    )
    assert (plain.label, plain.against) == (3, ["cow"])
    # Less the log prior: 2.70, 1.91, 1.40, 1.42.
    assert (prior.label, prior.against) == (0, ["cow"])


def test_a_map_that_is_constant_has_no_box(image, cpu):
    classifier = classifier_of()
    with torch.no_grad():
        classifier.network.head.weight[1] = -1
    found = explain(image, classifier, ["grad-cam", "cam"], label=1, runtime=cpu)
    assert not found.maps[0].any()
    assert found.boxes[0].tolist() == [-1, -1, -1, -1] and found.boxes[1].min() >= 0
    assert box_of(np.full((3, 3), 2.0), 9, 9, 0.3, "minmax").tolist() == [-1, -1, -1, -1]


def test_boxes_of_what_speaks_for_the_class_leave_out_the_rest(image, cpu):
    values = np.full((8, 8), -10.0)
    values[2:4, 1:5] = 1
    values[6:, :] = -1  # against it, but nearer to the largest value than to the smallest
    assert box_of(values, 8, 8, 0.3, "minmax").tolist() == [0, 6, 7, 7]
    assert box_of(values, 8, 8, 0.3, "max").tolist() == [1, 2, 4, 3]
    assert box_of(-1 - np.eye(4), 8, 8, 0.3, "max").tolist() == [-1, -1, -1, -1]
    options = {"label": 1, "normalisation": "max", "runtime": cpu}
    found = explain(image, classifier_of(), ["cam", "class:0", "class:2"], **options)
    own, other = (
        [box_of(m, 40, 30, 0.3, how).tolist() for m in found.maps] for how in ("max", "minmax")
    )
    assert found.boxes.tolist() == own != other


def test_a_network_of_grey_images_gets_grey(image, cpu):
    classifier = classifier_of(channels=1)
    found = explain(image, classifier, ["cam"], label=0, runtime=cpu)
    maps, _ = slow_maps(classifier, features_of(classifier, image.convert("L")))
    np.testing.assert_allclose(found.maps[0], maps[0], atol=1e-6)
