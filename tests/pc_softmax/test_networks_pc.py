"""The cosine head, and the paper's network with and without it."""

import pytest
import torch
from torch import nn

from pc_softmax.networks import CosineHead, PaperNet


def test_outputs_are_the_cosines_of_features_and_weights():
    torch.manual_seed(0)
    head, features = CosineHead(5, 3), torch.randn(2, 4, 5)
    rows = [
        [nn.functional.cosine_similarity(x, w, dim=0).item() for w in head.weight]
        for x in features.flatten(0, 1)
    ]
    torch.testing.assert_close(head(features).flatten(0, 1), torch.tensor(rows))
    torch.testing.assert_close(head.weight.norm(dim=1), torch.ones(3))
    assert [name for name, _ in head.named_parameters()] == ["weight"]


def test_lengths_of_features_and_weights_do_not_matter():
    torch.manual_seed(0)
    head, features = CosineHead(5, 3), torch.randn(4, 5)
    before = head(features)
    head.weight.data *= torch.tensor([[0.1], [7.0], [300.0]])
    torch.testing.assert_close(head(1000 * features), before)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_autocast_keep_float32_cosines(dtype):
    """Long features (whose norm overflows float16), short ones, and none at all."""
    torch.manual_seed(0)
    head = CosineHead(500, 3)
    features = torch.randn(4, 500) * torch.tensor([[1e4], [1.0], [1e-4], [0.0]])
    half = features.to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cosines = head(half)
    assert cosines.dtype == torch.float32
    torch.testing.assert_close(cosines, head(half.float()), rtol=0, atol=1e-6)
    assert cosines[3].tolist() == [0, 0, 0]
    torch.testing.assert_close(head.to(dtype)(half), cosines, rtol=0, atol=1e-2)
    assert head.double()(features.double()).dtype == torch.float64


def test_paper_net_changes_its_head_alone():
    torch.manual_seed(0)
    plain = PaperNet(7)
    torch.manual_seed(0)
    cosine = PaperNet(7, cosine_head=True)
    assert isinstance(plain.head, nn.Linear) and isinstance(cosine.head, CosineHead)
    assert plain.state_dict().keys() - cosine.state_dict().keys() == {"head.bias"}
    for name, weights in cosine.state_dict().items():
        assert torch.equal(weights, plain.state_dict()[name]) == (name != "head.weight"), name
    images = torch.randn(3, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    outputs = cosine.to(memory_format=torch.channels_last)(images)
    assert outputs.shape == (3, 7)
    assert outputs.abs().max() <= 1 + 1e-6
