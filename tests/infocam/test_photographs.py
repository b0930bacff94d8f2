"""Maps, boxes and scores of one photograph against slow versions."""

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from infocam.maps.photographs import box_of, boxes_at, explain
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
    prior = torch.tensor(PRIOR).log()
    in_logits = prior if softmax else torch.zeros(4)
    return Classifier(network, network, NAMES, prior, in_logits, grey=channels == 1)


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
    options = {"labels": [2], "image_size": size, "threshold": threshold}
    explained = explain(image, classifier, CONTRASTS, **options, runtime=cpu)
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
    np.testing.assert_allclose(explained.maps, expected, atol=1e-6)
    assert explained.maps.shape[1:] == ((8, 8) if size is None else (12, 12))
    np.testing.assert_allclose(explained.scores, logits, atol=1e-6)
    assert explained.against == ["", "3 classes", NAMES[low], NAMES[high], "dog"]
    assert explained.methods == CONTRASTS and explained.labels == [2] * 5
    # A contrast that is negative in sum has no box; the class's own map has no meaningful zero.
    assert explained.mostly_against == [False, *(bool(m.sum() < 0) for m in expected[1:])]
    boxes = [[-1] * 4 if m.sum() < 0 else slow_box(m, 40, 30, threshold) for m in expected[1:]]
    assert explained.boxes.tolist() == [slow_box(maps[2], 40, 30, threshold), *boxes]
    assert 0 < sum(explained.mostly_against) < 4


def test_the_label_is_the_likeliest_class_unless_given(image, cpu):
    classifier = classifier_of()
    for k in range(4):
        with torch.no_grad():
            classifier.network.head.bias[:] = 10.0 * torch.eye(4)[k]
        explained = explain(image, classifier, ["cam"], runtime=cpu)
        given = explain(image, classifier, ["cam"], labels=[k], runtime=cpu)
        assert explained.labels == [k] and k == explained.scores.argmax()
        np.testing.assert_array_equal(explained.maps, given.maps)


def test_region_takes_the_mean_of_neighbouring_cells(image, cpu):
    classifier = classifier_of()
    plain, mean = (
        explain(image, classifier, ["infocam", "layer-cam"], labels=[1], region=r, runtime=cpu)
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
    options = {"labels": [2], "region": region, "runtime": cpu}
    plain = explain(image, classifier, [*CONTRASTS, "grad-cam"], **options)
    explained = explain(image, classifier, [*CONTRASTS, "grad-cam"], prior=True, **options)
    _, logits = slow_maps(classifier, features_of(classifier, image))
    f = logits - np.log(PRIOR) if softmax else logits
    information = f - np.log(np.sum(PRIOR * np.exp(f)))
    np.testing.assert_allclose(explained.scores, information, atol=1e-5)
    others = information[[0, 1, 3]]
    against = [0, others.mean(), others.min(), others.max(), information[1]]
    means = explained.maps.mean(axis=(1, 2))
    np.testing.assert_allclose(means[:5], information[2] - against, atol=1e-5)
    np.testing.assert_array_equal(explained.maps[5], plain.maps[5])  # no contrast: no such unit
    assert (
        explained.mostly_against[:5] == (means[:5] < 0).tolist() and not explained.mostly_against[5]
    )
    for explanation in (plain, explained):  # whatever is added to a map, its box stays
        box = [-1] * 4 if explanation.mostly_against[1] else slow_box(plain.maps[1], 40, 30, 0.3)
        assert explanation.boxes[1].tolist() == box


def test_the_prior_says_which_classes_are_likely(image, cpu):
    classifier = classifier_of()
    with torch.no_grad():
        classifier.network.head.weight.zero_()
        classifier.network.head.bias[:] = torch.tensor([0.4, 0.3, 0.2, 0.5])
    plain, prior = (
        explain(image, classifier, ["infocam+"], prior=p, runtime=cpu) for p in (False, True)
    )
    assert (plain.labels, plain.against) == ([3], ["cow"])
    # Less the log prior: 2.70, 1.91, 1.40, 1.42.
    assert (prior.labels, prior.against) == ([0], ["cow"])


def test_a_map_that_is_constant_has_no_box(image, cpu):
    classifier = classifier_of()
    with torch.no_grad():
        classifier.network.head.weight[1] = -1
    explained = explain(image, classifier, ["grad-cam", "cam"], labels=[1], runtime=cpu)
    assert not explained.maps[0].any()
    assert explained.boxes[0].tolist() == [-1, -1, -1, -1] and explained.boxes[1].min() >= 0
    assert box_of(np.full((3, 3), 2.0), 9, 9, 0.3, "minmax").tolist() == [-1, -1, -1, -1]


def test_boxes_of_what_speaks_for_the_class_leave_out_the_rest(image, cpu):
    values = np.full((8, 8), -10.0)
    values[2:4, 1:5] = 1
    values[6:, :] = -1  # against it, but nearer to the largest value than to the smallest
    assert box_of(values, 8, 8, 0.3, "minmax").tolist() == [0, 6, 7, 7]
    assert box_of(values, 8, 8, 0.3, "max").tolist() == [1, 2, 4, 3]
    assert box_of(-1 - np.eye(4), 8, 8, 0.3, "max").tolist() == [-1, -1, -1, -1]
    options = {"labels": [1], "normalisation": "max", "runtime": cpu}
    explained = explain(image, classifier_of(), ["cam", "class:0", "class:2"], **options)
    expected = [
        [-1] * 4 if against else box_of(m, 40, 30, 0.3, "max").tolist()
        for m, against in zip(explained.maps, explained.mostly_against, strict=True)
    ]
    assert explained.boxes.tolist() == expected


def test_boxes_at_many_thresholds_are_those_at_each():
    values = np.random.default_rng(0).normal(size=(7, 9))
    thresholds = np.arange(100) / 100
    for normalisation in ("max", "minmax"):
        boxes = boxes_at(values, 60, 45, thresholds, normalisation)
        each = [box_of(values, 60, 45, t, normalisation) for t in thresholds]
        np.testing.assert_array_equal(boxes, each)
        assert len(np.unique(boxes, axis=0)) > 20


def test_several_classes_come_from_one_pass_of_the_network(image, cpu):
    classifier = classifier_of()
    passes = []
    classifier.network.backbone.register_forward_hook(lambda *_: passes.append(1))
    explained = explain(image, classifier, ["infocam", "similar"], top=3, runtime=cpu)
    assert len(passes) == 1
    best = np.argsort(-explained.scores, kind="stable")[:3].tolist()
    assert explained.labels == [best[0], best[0], best[1], best[1], best[2], best[2]]
    assert explained.methods == ["infocam", "similar"] * 3
    for i, k in enumerate(best):
        alone = explain(image, classifier, ["infocam", "similar"], labels=[k], runtime=cpu)
        np.testing.assert_array_equal(explained.maps[2 * i : 2 * i + 2], alone.maps)
        np.testing.assert_array_equal(explained.boxes[2 * i : 2 * i + 2], alone.boxes)
    probabilities = np.exp(explained.scores) / np.exp(explained.scores).sum()
    np.testing.assert_allclose(explained.probabilities, probabilities, rtol=1e-5)


@pytest.mark.parametrize("softmax", [True, False])
def test_with_the_prior_probabilities_are_those_at_the_training_frequencies(image, cpu, softmax):
    explained = explain(image, classifier_of(softmax), ["cam"], prior=True, runtime=cpu)
    expected = np.array(PRIOR) * np.exp(explained.scores)
    np.testing.assert_allclose(explained.probabilities, expected, rtol=1e-4)
    assert explained.probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_network_of_grey_images_gets_grey(image, cpu):
    classifier = classifier_of(channels=1)
    explained = explain(image, classifier, ["cam"], labels=[0], runtime=cpu)
    maps, _ = slow_maps(classifier, features_of(classifier, image.convert("L")))
    np.testing.assert_allclose(explained.maps[0], maps[0], atol=1e-6)
