"""The common part of heads and the box head, on squares whose boxes are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from infocam.maps.cam import coefficients, contrast_maps
from infocam.scoring.metrics import box_iou
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec, build_backbone
from mi_common.errors import UserError
from mi_common.files import read_arrays
from mi_common.image_sets import ImageSet
from mi_common.runtime import Runtime
from mi_common.training import ImageClassifier
from scripts import (
    box_head,
    box_head_training,
    edge_band_maps,
    figures_pictures,
    head_common_part,
    head_parts,
    localisation,
)

SIDE, CLASSES, CHANNELS = 16, 4, 12


def squares(count: int, seed: int) -> ImageSet:
    """Grey images, each with one bright square on noise."""
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 60, (count, 1, SIDE, SIDE)).astype(np.uint8)
    boxes = []
    for image in pixels:
        side = rng.integers(4, 9)
        x, y = rng.integers(0, SIDE - side, 2)
        image[0, y : y + side, x : x + side] += 150
        boxes.append(np.array([[x, y, x + side - 1, y + side - 1]]))
    labels = torch.from_numpy(rng.integers(0, CLASSES, count))
    sizes = np.full((count, 2), SIDE)
    names = [str(i) for i in range(count)]
    return ImageSet("squares", torch.from_numpy(pixels), labels, list("abcd"), boxes, sizes, names)


@pytest.fixture
def sets() -> dict[str, ImageSet]:
    return {"validation": squares(200, 0), "test": squares(100, 1)}


@pytest.fixture
def classifier(tmp_path) -> ImageClassifier:
    """A network that is not trained, whose weights have a common part."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, CHANNELS, 3, stride=2, padding=1), nn.ReLU())
    spec = InputSpec(SIDE, (0.0,), (1.0,))
    network = GlobalAveragePoolClassifier(backbone, CHANNELS, CLASSES, spec).eval()
    with torch.no_grad():
        network.head.weight += 0.3 * torch.randn(CHANNELS)
    options = {"head_only": False, "cache_dir": tmp_path, "runtime": Runtime(torch.device("cpu"))}
    return ImageClassifier(network, **options)


@pytest.mark.parametrize(
    ("weights", "share"),
    [
        ([[1, 0], [0, 1]], 0.5),
        ([[2, 1], [2, 1]], 1.0),
        ([[1, -3], [-1, 3]], 0.0),
        ([[3], [1]], 0.8),
    ],
)
def test_the_common_share_of_small_heads(weights, share):
    assert head_parts.common_share(torch.tensor(weights).float()) == pytest.approx(share)


def test_cam_without_the_common_part_is_infocam_and_with_it_cam(classifier, sets):
    weights = classifier.network.head.weight.detach()
    rows = head_parts.common_part_rows(classifier, sets, weights, [0.0, 1.0, 3.0])
    none, trained, three = rows
    assert (none["gain"], none["map_share"]) == (0, 0) and none["share"] < 1e-12
    assert trained["share"] == pytest.approx(head_parts.common_share(weights))
    assert trained["share"] < three["share"] and trained["map_share"] < three["map_share"] < 1
    maps = {"cam": {}, "infocam": {}}
    for split, images in sets.items():
        features = torch.cat([maps for _, maps in classifier.feature_maps(images)])
        logits = classifier.network.head(features.mean(dim=(2, 3)))
        for method in maps:
            row = coefficients(method, logits, images.labels)[:, None]
            maps[method][split] = contrast_maps(features, weights, row)[:, 0].detach().numpy()
    hits = {name: localisation.hits_of_maps(of, sets) for name, of in maps.items()}
    assert trained["cam"] == hits["cam"].mean()
    assert {row["infocam"] for row in rows} == {hits["infocam"].mean()}
    assert trained["gain"] == pytest.approx(hits["infocam"].mean() - hits["cam"].mean())
    assert trained["gain_low"] <= trained["gain"] <= trained["gain_high"]


def test_imagenets_head_has_the_synsets_in_front():
    tabby, tench = "n02123045", "n01440764"
    head = build_backbone("efficientnet_lite0").head.weight.detach()
    weights = head_parts.imagenet_weights([tabby, tench])
    assert torch.equal(weights[0], head[281]) and torch.equal(weights[1:282], head[:281])
    assert torch.equal(weights[282:], head[282:])
    with pytest.raises(UserError, match="synset n00000001: not one of ImageNet's"):
        head_parts.imagenet_weights([tabby, "n00000001"])


def test_true_boxes_hit_and_their_mirror_images_are_those_of_mirrored_pictures(sets):
    images = sets["test"]
    boxes = box_head_training.unit_boxes(images)
    assert box_head_training.hits_of_boxes(boxes, images).all()
    shifted = (boxes + torch.tensor([0.5, 0, 0.5, 0])).clamp(0, 1)
    assert box_head_training.hits_of_boxes(shifted, images).mean() < 0.1
    mirrored = box_head_training.mirrored(boxes) * SIDE
    for image, (x0, y0, x1, y1) in zip(images.images[:10], mirrored.round().int(), strict=False):
        bright = image[0].flip(-1) >= 100
        assert bright[y0:y1, x0:x1].all() and bright.sum() == (x1 - x0) * (y1 - y0)


def test_a_box_head_learns_boxes_from_features_but_not_from_a_constant_map(classifier, sets):
    with torch.no_grad():
        classifier.network.head.weight.zero_()
    row, blind = box_head_training.box_head_rows(
        classifier, sets, ["features+map", "map"], epochs=40, seeds=[0]
    )
    assert row["gt_known"] > 0.6 and row["n"] == 100 and 1 < row["epoch"] <= 40
    assert blind["gt_known"] < 0.3
    assert row["gain"] == pytest.approx(row["gt_known"] - row["infocam"])
    assert row["gain_low"] < row["gain"] < row["gain_high"]


def test_too_few_validation_images_for_a_box_head_are_refused(classifier, sets):
    few = sets | {"validation": sets["validation"].select(torch.arange(4))}
    with pytest.raises(UserError, match="4 validation images; heads need 5 or more"):
        box_head_training.box_head_rows(classifier, few, ["map"], epochs=1, seeds=[0])


def test_the_scripts_write_their_tables(classifier, sets, tmp_path, monkeypatch, capsys):
    opened = localisation.OpenRun(None, sets, classifier)
    monkeypatch.setattr(localisation, "open_run", lambda *_, **__: opened)
    words = [["runs/a", "--output-dir", str(tmp_path / name)] for name in ("box", "head")]
    box_head.main([*words[0], "--seeds", "0", "1", "--inputs", "map", "--epochs", "2"])
    rows = pd.read_csv(tmp_path / "box/box_head.csv")
    assert rows[["inputs", "seed", "run"]].values.tolist() == [["map", k, "runs/a"] for k in (0, 1)]
    assert f"| map | 2 | {100 * rows['gt_known'].mean():.1f} ± " in capsys.readouterr().out
    head_common_part.main([*words[1], "--factors", "0", "1", "--names", "mine"])
    rows = pd.read_csv(tmp_path / "head/common_part.csv")
    assert rows["head"].tolist() == ["mine"] * 2 and rows["gain"][0] == 0
    assert (tmp_path / "head/common_part.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("main", "words", "message"),
    [
        (box_head.main, ["a", "--seeds", "0", "1", "0"], "--seeds 0 1 0: give each once"),
        (box_head.main, ["a", "--inputs", "map", "map"], "--inputs map map: give each once"),
        (head_common_part.main, ["a", "b", "--names", "x", "x"], "heads x, x: give each a name"),
        (head_common_part.main, ["a", "a"], "heads a, a: give each a name"),
        (
            head_common_part.main,
            ["a", "--names", "ImageNet head", "--imagenet"],
            "heads ImageNet head, ImageNet head: give each a name",
        ),
    ],
)
def test_what_is_given_twice_is_refused_before_anything_runs(user_error, main, words, message):
    assert message in user_error(main, words)


def test_differing_pictures_are_those_with_the_largest_differences(
    classifier, sets, tmp_path, monkeypatch, user_error
):
    run = SimpleNamespace(settings=SimpleNamespace(data=SimpleNamespace(dataset="squares")))
    opened = localisation.OpenRun(run, sets, classifier)
    monkeypatch.setattr(localisation, "open_run", lambda *_, **__: opened)
    monkeypatch.setattr(figures_pictures, "OUTPUT", tmp_path / "pictures.npz")
    message = user_error(figures_pictures.main, ["runs/a"])
    assert "runs/a is of squares; give a run of scattered-digits" in message
    run.settings.data.dataset = "scattered-digits"
    figures_pictures.main(["runs/a"])
    arrays, images = read_arrays(tmp_path / "pictures.npz"), sets["test"]
    hits, weights = [], classifier.network.head.weight.detach()
    for number, method in enumerate(("cam", "infocam")):
        maps = {}
        for split, data in sets.items():
            features = classifier.network.backbone(classifier.pixels(data, range(len(data))))
            by_class = torch.einsum("nchw,kc->nkhw", features, weights).detach()
            own = by_class[torch.arange(len(data)), data.labels]
            others = (by_class.sum(dim=1) - own) / (CLASSES - 1)
            maps[split] = (own - others if method == "infocam" else own).numpy()
        hits.append(localisation.hits_of_maps(maps, sets))
        values = arrays["maps"][:, number]
        assert values == pytest.approx(maps["test"][arrays["indices"]], abs=1e-5)
        for place, index in enumerate(arrays["indices"]):
            iou = box_iou(arrays["boxes"][place, number][None], images.boxes[index])
            assert arrays["overlaps"][place, number] == pytest.approx(iou.max())
    for part, (right, wrong) in ((slice(4), hits[::-1]), (slice(4, None), hits)):
        candidates = np.flatnonzero(right & ~wrong)
        assert set(arrays["indices"][part]) <= set(candidates) and len(candidates) > 4
        gains = np.abs(np.diff(arrays["overlaps"][part])).ravel()
        assert (np.diff(gains) <= 0).all()
    assert arrays["pictures"][0].tolist() == images.images[arrays["indices"][0]][0].tolist()


def test_maps_divided_by_their_noise_map_have_no_bands(classifier, sets):
    """The mean of a convolution's output over noise is smaller where it sees zeros of the edge."""
    network = classifier.network
    with torch.no_grad():
        network.backbone[0].weight.abs_()
        network.head.weight[0] = network.head.weight.abs().sum(dim=0) + 1  # the top class
    field = edge_band_maps.noise_map(network, 64)
    assert field.shape == (8, 8) and field.mean() == pytest.approx(1)
    # with stride 2 the windows of the first row and column alone reach beyond the image
    assert max(field[0].max(), field[:, 0].max()) < 0.9 and field[1:, 1:].min() > 1
    plain, divided = edge_band_maps.divided_rows(classifier, sets, field)
    assert (plain["gain"], plain["n"]) == (0, 100)
    assert divided["gain"] == pytest.approx(divided["gt_known"] - plain["gt_known"])
    (same,) = edge_band_maps.divided_rows(classifier, sets, np.full((8, 8), 2.0))[1:]
    assert same["gain"] == 0  # a constant changes no box


class NegativeCorner(nn.Module):
    def forward(self, maps):
        factors = torch.ones(maps.shape[-2:])
        factors[0, 0] = -1
        return maps * factors


def test_a_noise_map_that_is_negative_somewhere_is_refused(classifier):
    classifier.network.backbone.append(NegativeCorner())
    with torch.no_grad():
        classifier.network.head.weight[0] = 10
    with pytest.raises(UserError, match="the map of noise falls to -"):
        edge_band_maps.noise_map(classifier.network)
