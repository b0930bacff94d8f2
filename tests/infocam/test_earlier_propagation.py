"""A second propagation over the features of an earlier stage: slow versions and whole runs."""

import numpy as np
import pandas as pd
import pytest
import torch
from slow_evaluation import network_of, plain_words, results_of, tiny_features
from test_propagation import slow_propagation
from torch.nn import functional as F

from infocam.evaluate import main
from infocam.maps.cam import Maps, method_maps
from infocam.maps.propagation import propagate_at_stage, with_propagation
from infocam.models.networks import build_network
from infocam.names import plain_method
from mi_common.backbones import reflect_images
from mi_common.errors import UserError
from mi_common.pictures import read_image


def slow_earlier_features(network, images):
    """The output of the fifth of EfficientNet-Lite0's seven blocks, from a pass of all."""
    kept = []
    module = network.backbone.network.blocks[4]
    with torch.inference_mode(), module.register_forward_hook(lambda *call: kept.append(call[2])):
        network.backbone(images)
    return kept[0]


@pytest.mark.parametrize("size", [(4, 5), (8, 10)])
def test_it_is_the_slow_propagation_of_interpolated_maps(size):
    generator = torch.Generator().manual_seed(0)
    maps = torch.randn(2, 3, 4, 5, generator=generator)  # two methods, three images
    features = torch.randn(3, 6, *size, generator=generator)
    found = propagate_at_stage(maps, features, 2)
    for method in range(2):
        resized = F.interpolate(maps[method][None], size, mode="bicubic")[0]
        for image in range(3):
            expected = slow_propagation(resized[image], features[image], 2)
            torch.testing.assert_close(found[method, image].double(), expected, rtol=0, atol=1e-5)


def test_it_follows_each_first_propagation_of_each_method():
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 6, 3, 3, generator=generator)
    earlier = torch.rand(2, 5, 6, 6, generator=generator)
    head = torch.nn.Linear(6, 4).requires_grad_(False)
    labels, logits = torch.tensor([1, 3]), torch.randn(2, 4, generator=generator)
    options = Maps(["cam", "infocam"], [1], exponents=(2, 4), earlier_exponents=(1, 3))
    found = method_maps(options, features, head, labels, logits, earlier)
    assert {name for name, _ in found} == {
        f"{method}{steps}"
        for method in ("cam", "infocam")
        for steps in ("", "~2", "~4", "~2~1", "~2~3", "~4~1", "~4~3")
    }
    first = with_propagation(found["infocam", 1], features, 4)
    expected = propagate_at_stage(first[None], earlier, 3)[0]
    torch.testing.assert_close(found["infocam~4~3", 1], expected)


@pytest.mark.parametrize(("stride", "side"), [(32, 4), (16, 4), (8, 8)])
def test_the_earlier_stage_is_that_before_the_map_is_halved_last(stride, side):
    network = build_network(
        "efficientnet_lite0", weights="imagenet", num_classes=3, output_stride=stride, image_size=64
    ).eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = network.earlier_features(images)
        assert found.shape == (2, 112, side, side)
        torch.testing.assert_close(found, slow_earlier_features(network, images))
        reflect_images(network, "efficientnet_lite0")
        pixels = network.border[0]
        cells = pixels * side // 64
        continued = F.pad(images, [pixels] * 4, mode="reflect")
        expected = slow_earlier_features(network, continued)[..., cells:-cells, cells:-cells]
        torch.testing.assert_close(network.earlier_features(images), expected)


def test_a_network_without_stages_is_refused():
    network = build_network("resnet18", weights="none", num_classes=3)
    with pytest.raises(UserError, match="--propagate-earlier: the network has no named stages"):
        network.earlier_features(torch.zeros(1, 3, 64, 64))


def test_evaluation_makes_the_maps_and_chooses_both_exponents(tiny_run, tiny_evaluation, tmp_path):
    more = ["--overlays", 0, "--save-maps", "--methods", "infocam", "--propagate", 1, 4]
    more += ["--propagate-earlier", 0.5, 3]
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", *more)])
    rows = results_of(tmp_path / "out")
    base, method = "propagated infocam", "twice propagated infocam"
    assert plain_method(method) == plain_method(f"{method}, prior map") == "infocam"
    kept = results_of(tiny_evaluation).query("method not in ['cam', 'infocam+']")
    plain = rows[~rows["method"].isin([base, method])]
    pd.testing.assert_frame_equal(
        plain[kept.columns].reset_index(drop=True), kept.reset_index(drop=True)
    )
    chosen = rows[rows["method"] == method].iloc[0]
    assert chosen["exponent"] in (1, 4) and chosen["earlier_exponent"] in (0.5, 3)
    assert rows.loc[rows["method"] != method, "earlier_exponent"].isna().all()
    network = network_of(tiny_run).requires_grad_(False)
    parts, features = tiny_features(tiny_run, network)
    images = parts["test"]
    pixels = torch.stack([network.spec.transform()(read_image(path)) for path in images.images])
    earlier = slow_earlier_features(network, pixels).half().float()
    maps = torch.from_numpy(features["test"])
    logits = network.head(maps.mean(dim=(2, 3)))
    exponents = {"exponents": (chosen["exponent"],)}
    options = Maps(["infocam"], [1], **exponents, earlier_exponents=(chosen["earlier_exponent"],))
    made = method_maps(options, maps, network.head, images.labels, logits, earlier)
    expected = made[f"infocam~{chosen['exponent']:g}~{chosen['earlier_exponent']:g}", 1].numpy()
    folder = tmp_path / "out/maps/test" / method
    found = np.stack([np.load(folder / f"{name}.npy") for name in images.image_names])
    assert found.shape == (12, 14, 14)
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_it_needs_the_first_propagation(tiny_run, user_error):
    line = user_error(main, [str(tiny_run.folder), "--propagate-earlier"])
    assert "--propagate-earlier needs --propagate" in line
