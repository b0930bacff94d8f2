"""Contrasts of class activation maps: slow loops, identities, values by hand."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from infocam.maps.cam import coefficients, contrast_maps, pointwise_information_shift, region_filter
from infocam.names import CONTRASTS
from mi_common.errors import UserError

ALL = (*CONTRASTS, "lowest:2", "lowest:9", "class:1")
B, C, H, W = 3, 6, 4, 5


def problem(num_classes: int, seed: int = 0) -> tuple[Tensor, nn.Linear, Tensor, Tensor]:
    """(B, C, H, W) features, a head, (B, K) its logits and (B,) labels."""
    generator = torch.Generator().manual_seed(seed)
    head = nn.Linear(C, num_classes).requires_grad_(False)
    head.weight.normal_(generator=generator)
    head.bias.normal_(std=3, generator=generator)  # changes which class is least likely
    features = torch.randn(B, C, H, W, generator=generator)
    labels = torch.randint(num_classes, (B,), generator=generator)
    return features, head, head(features.mean(dim=(2, 3))), labels


def one_map(contrast: str, features, head, logits, labels) -> Tensor:
    """(B, H, W) maps of a single contrast."""
    row = coefficients(contrast, logits, labels).unsqueeze(1)
    return contrast_maps(features, head.weight, row).squeeze(1)


def slow_weights(contrast: str, scores: list[float], label: int) -> dict[int, float]:
    """How much of each class is taken off, from the contrast's definition."""
    kind, _, rest = contrast.partition(":")
    others = [k for k in range(len(scores)) if k != label]
    ranked = sorted(others, key=lambda k: scores[k])
    if kind == "cam":
        return {}
    if kind == "class":
        return {int(rest): 1.0}
    if kind == "posterior":
        total = sum(math.exp(scores[k]) for k in others)
        return {k: math.exp(scores[k]) / total for k in others}
    chosen = {
        "infocam": others,
        "infocam+": ranked[:1],
        "lowest": ranked[: int(rest or 1)],
        "similar": ranked[-1:],
    }[kind]
    return dict.fromkeys(chosen, 1 / len(chosen))


def slow_map(contrast: str, features, weights, scores, label) -> np.ndarray:
    """One image's map: class by class and channel by channel."""
    total = np.zeros(features.shape[1:])
    taken = slow_weights(contrast, scores.tolist(), label)
    for k, share in [(label, 1.0), *((k, -share) for k, share in taken.items())]:
        for c in range(len(features)):
            total += share * float(weights[k, c]) * features[c].double().numpy()
    return total


@pytest.mark.parametrize("contrast", ALL)
@pytest.mark.parametrize("k", [2, 3, 8])
def test_maps_equal_slow_loops(k, contrast):
    features, head, logits, labels = problem(k)
    found = one_map(contrast, features, head, logits, labels)
    rows = zip(features, logits, labels.tolist(), strict=True)
    expected = [slow_map(contrast, image, head.weight, scores, y) for image, scores, y in rows]
    np.testing.assert_allclose(found.numpy(), np.stack(expected), rtol=0, atol=1e-5)


def test_rows_of_three_classes_by_hand():
    """exp 0 : exp ln 3 = 1 : 3."""
    logits, labels = torch.tensor([[5.0, 0.0, math.log(3)]] * 2), torch.tensor([0, 1])
    for contrast, rows in {
        "cam": [[1, 0, 0], [0, 1, 0]],
        "infocam": [[1, -0.5, -0.5], [-0.5, 1, -0.5]],
        "infocam+": [[1, -1, 0], [0, 1, -1]],  # class 1 itself is the least likely of all
        "similar": [[1, 0, -1], [-1, 1, 0]],
        "lowest:1": [[1, -1, 0], [0, 1, -1]],
        "lowest:2": [[1, -0.5, -0.5], [-0.5, 1, -0.5]],
        "class:2": [[1, 0, -1], [0, 1, -1]],
        "class:0": [[0, 0, 0], [-1, 1, 0]],  # a class is no different from itself
    }.items():
        assert coefficients(contrast, logits, labels).tolist() == rows, contrast
    posterior = coefficients("posterior", logits[:1], labels[:1])
    torch.testing.assert_close(posterior, torch.tensor([[1, -0.25, -0.75]]), rtol=0, atol=1e-6)


problems = given(k=st.integers(2, 300), seed=st.integers(0, 2**32 - 1))
few = settings(max_examples=15)


@few
@problems
def test_one_at_the_label_and_minus_one_in_all_over_the_others(k, seed):
    _, _, logits, labels = problem(k, seed)
    for contrast in (*CONTRASTS, "lowest:2", "lowest:20"):
        row = coefficients(contrast, logits, labels)
        others = row.scatter(1, labels[:, None], 0)
        assert torch.equal(row.gather(1, labels[:, None]), torch.ones(B, 1)), contrast
        assert others.max() <= 0
        expected = torch.full((B,), 0.0 if contrast == "cam" else -1.0)
        torch.testing.assert_close(others.sum(dim=1), expected, rtol=0, atol=1e-5)


@few
@problems
def test_infocam_is_a_scaled_difference_to_the_mean_of_all_classes(k, seed):
    features, head, logits, labels = problem(k, seed)
    maps = torch.einsum("bchw,kc->bkhw", features, head.weight)
    label_maps = maps[torch.arange(B), labels]
    expected = k / (k - 1) * (label_maps - maps.mean(dim=1))
    found = one_map("infocam", features, head, logits, labels)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@few
@problems
def test_the_lowest_one_is_infocam_plus_and_the_lowest_of_all_others_infocam(k, seed):
    _, _, logits, labels = problem(k, seed)
    for lowest, contrast in {
        "lowest:1": "infocam+",
        f"lowest:{k - 1}": "infocam",
        f"lowest:{k + 5}": "infocam",
    }.items():
        pair = (coefficients(name, logits, labels) for name in (lowest, contrast))
        torch.testing.assert_close(*pair, rtol=0, atol=1e-6)


@few
@problems
def test_a_constant_added_to_an_images_logits_changes_nothing(k, seed):
    """Whole thousandths and constants that double precision adds without rounding."""
    _, _, logits, labels = problem(k, seed)
    logits = (logits * 1024).round().double() / 1024
    moved = logits + torch.tensor([[-1e3], [0.5], [4096.0]])
    for contrast in ALL:
        pair = (coefficients(contrast, values, labels) for values in (logits, moved))
        assert torch.equal(*pair), contrast


def test_posterior_is_similar_where_one_other_class_is_certain_and_infocam_where_all_are_equal():
    labels, generator = torch.tensor([0, 0, 3]), torch.Generator().manual_seed(0)
    logits = torch.randn(3, 5, generator=generator)
    certain = logits + 60 * torch.eye(5)[[1, 4, 2]]
    pair = (coefficients(contrast, certain, labels) for contrast in ("posterior", "similar"))
    torch.testing.assert_close(*pair, rtol=0, atol=1e-6)
    equal = torch.zeros(3, 5) + 100 * torch.eye(5)[labels]  # the label's own does not count
    pair = (coefficients(contrast, equal, labels) for contrast in ("posterior", "infocam"))
    torch.testing.assert_close(*pair, rtol=0, atol=1e-6)


def test_one_product_gives_the_maps_of_many_contrasts_in_their_order():
    features, head, logits, labels = problem(5)
    rows = torch.stack([coefficients(c, logits, labels) for c in ALL], dim=1)
    together = contrast_maps(features, head.weight, rows)
    assert together.shape == (B, len(ALL), H, W)
    for m, contrast in enumerate(ALL):
        alone = one_map(contrast, features, head, logits, labels)
        torch.testing.assert_close(together[:, m], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize("contrast", ALL)
def test_an_image_alone_has_the_map_it_has_in_a_batch_and_the_head_keeps_its_weights(contrast):
    features, head, logits, labels = problem(5)
    given_before = [values.clone() for values in (features, head.weight, logits, labels)]
    together = one_map(contrast, features, head, logits, labels)
    for b in range(B):
        row = slice(b, b + 1)
        alone = one_map(contrast, features[row], head, logits[row], labels[row])
        torch.testing.assert_close(alone, together[row], rtol=0, atol=1e-5)
    given_after = (features, head.weight, logits, labels)
    assert all(torch.equal(*pair) for pair in zip(given_before, given_after, strict=True))


@pytest.mark.parametrize("contrast", ALL)
def test_the_mean_of_a_map_is_the_contrast_of_logits_without_bias(contrast):
    features, head, logits, labels = problem(5)
    plain = (logits - head.bias).double()
    rows = zip(plain, logits.tolist(), labels.tolist(), strict=True)
    expected = [
        float(values[y] - sum(w * values[k] for k, w in slow_weights(contrast, scores, y).items()))
        for values, scores, y in rows
    ]
    means = one_map(contrast, features, head, logits, labels).mean(dim=(1, 2))
    assert means.tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("contrast", ALL)
def test_a_vector_added_to_all_head_weights_changes_cam_but_no_contrast(contrast):
    features, head, logits, labels = problem(5)
    before = one_map(contrast, features, head, logits, labels)
    head.weight += torch.linspace(-2, 3, C)
    change = (one_map(contrast, features, head, logits, labels) - before).abs().max()
    assert change > 1 if contrast == "cam" else change < 1e-5


def test_half_precision_gives_half_precision_maps_near_those_of_single():
    features, head, logits, labels = problem(5)
    exact = one_map("infocam", features, head, logits, labels)
    half = one_map("infocam", features.half(), head.half(), logits.half(), labels)
    assert half.dtype == torch.float16
    torch.testing.assert_close(half.float(), exact, rtol=0, atol=0.02)


@pytest.mark.parametrize("contrast", ALL)
def test_lifted_maps_have_pointwise_mutual_information_as_their_mean(contrast):
    """Of softmax, log p(y | x) / p(y): the label's, less that of the classes set against it."""
    features, head, logits, labels = problem(5)
    prior = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    rows = coefficients(contrast, logits, labels).unsqueeze(1)
    maps = contrast_maps(features, head.weight, rows)
    shift = pointwise_information_shift(rows, logits - prior.log(), maps, prior.log())
    assert shift.shape == (B, 1, 1, 1)
    for b, scores in enumerate(logits.tolist()):
        total = sum(math.exp(score) for score in scores)
        pmi = [
            math.log(math.exp(s) / total / p) for s, p in zip(scores, prior.tolist(), strict=True)
        ]
        y = int(labels[b])
        wanted = pmi[y] - sum(w * pmi[k] for k, w in slow_weights(contrast, scores, y).items())
        assert (maps + shift)[b].mean().item() == pytest.approx(wanted, abs=1e-5)


def test_a_single_class_has_no_contrast():
    alone = torch.zeros(2, 1), torch.tensor([0, 0])
    assert coefficients("cam", *alone).tolist() == [[1], [1]]
    for contrast in (*CONTRASTS[1:], "lowest:1", "class:0"):
        with pytest.raises(UserError, match="a contrast needs two classes"):
            coefficients(contrast, *alone)


def test_an_unknown_padding_is_refused():
    with pytest.raises(UserError, match="padding 'valid': use one of same, legacy-full"):
        region_filter(torch.zeros(3, 3), 3, padding="valid")
