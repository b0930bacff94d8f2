"""PC-softmax as a loss module: its value, its gradient, its checks, its place in a plain loop."""

import math

import pytest
import torch
from torch import nn

from common.errors import UserError
from common.information import entropy, pc_softmax_loss
from pc_softmax.losses import LOSSES, PCSoftmaxLoss, build_loss

PRIOR = torch.tensor([0.6, 0.3, 0.08, 0.02])


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 5 * torch.randn(32, 4, generator=generator)
    return logits, torch.randint(0, 4, (32,), generator=generator)


def gaussians(n: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Four classes in the plane, drawn with PRIOR, in float64."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(PRIOR, n, replacement=True, generator=generator)
    centres = torch.tensor([[0, 0], [2, 0], [0, 2], [2, 2]], dtype=torch.float64)
    return centres[labels] + torch.randn(n, 2, generator=generator, dtype=torch.float64), labels


def test_value_is_the_shared_formula_and_its_written_out_sum(batch):
    logits, labels = batch
    value = PCSoftmaxLoss(PRIOR.log())(logits, labels)
    assert torch.equal(value, pc_softmax_loss(logits, labels, PRIOR.log()))
    p = PRIOR.tolist()
    rows = [
        math.log(sum(p[k] * math.exp(f[k]) for k in range(4))) - f[y]
        for f, y in zip(logits.tolist(), labels.tolist(), strict=True)
    ]
    assert value.item() == pytest.approx(sum(rows) / len(rows), abs=1e-5)


def test_gradient_is_that_of_balanced_softmax(batch):
    logits, labels = batch
    gradients = []
    for loss in (PCSoftmaxLoss(PRIOR.log()), balanced_softmax):
        inputs = logits.clone().requires_grad_()
        loss(inputs, labels).backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-7)


def balanced_softmax(logits, labels):
    return nn.functional.cross_entropy(logits + PRIOR.log(), labels)


@pytest.mark.parametrize("prior", [[0.5, 0.5, 0.0], [0.6, 0.6], [0.4, 0.4], [0.5, float("nan")]])
def test_a_prior_that_is_none_is_a_user_error_that_shows_it(prior):
    with pytest.raises(UserError, match=r"class prior \[.*must be positive, sum to one") as error:
        PCSoftmaxLoss(torch.tensor(prior).log())
    assert "\n" not in str(error.value)


def test_rounding_of_a_prior_is_not_called_an_error():
    prior = torch.tensor([0.3333, 0.3333, 0.3334])
    assert torch.equal(PCSoftmaxLoss(prior.log()).log_prior, prior.log())


def test_prior_is_a_buffer_that_moves_and_is_saved_but_does_not_train():
    loss = PCSoftmaxLoss(PRIOR.log().double())
    assert loss.log_prior.dtype == torch.float32
    assert list(loss.state_dict()) == ["log_prior"]
    assert list(loss.parameters()) == []
    assert loss.to("meta").log_prior.device.type == "meta"


def test_half_precision_logits_keep_the_accuracy_of_float32(batch):
    logits, labels = batch[0].half(), batch[1]
    loss = PCSoftmaxLoss(PRIOR.log())
    value = loss(logits * 100, labels)  # exp of these would overflow
    assert value.dtype == torch.float32
    expected = loss(logits.double() * 100, labels)
    assert value.item() == pytest.approx(expected.item(), rel=1e-3)


def test_plain_torch_loop_lowers_the_loss_to_below_zero_but_not_below_minus_entropy():
    inputs, labels = gaussians()
    torch.manual_seed(0)
    model = nn.Linear(2, 4, dtype=torch.float64)
    loss, optimizer = PCSoftmaxLoss(PRIOR.log()), torch.optim.SGD(model.parameters(), lr=0.5)
    values = []
    for _ in range(60):
        value = loss(model(inputs), labels)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert values[-1] < values[0] - 0.2
    assert -entropy(PRIOR.log()).item() < values[-1] < 0


def test_pc_softmax_is_softmax_whose_bias_starts_shifted_by_the_log_prior():
    inputs, labels = gaussians()
    log_prior = PRIOR.log()
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    shifted = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    shifted.load_state_dict(plain.state_dict())
    shifted[-1].bias.data += log_prior
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.3, momentum=0.5) for m in (plain, shifted)]
    start = plain(inputs).detach()
    for step in range(50):
        chosen = slice(step * 8, step * 8 + 8)
        x, y = inputs[chosen], labels[chosen]
        PCSoftmaxLoss(log_prior)(plain(x), y).backward()
        build_loss("softmax", log_prior)(shifted(x), y).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        assert torch.allclose(plain(inputs), shifted(inputs) - log_prior, rtol=0, atol=1e-5), step
    assert (plain(inputs) - start).abs().mean() > 0.5  # both have moved


def test_names_build_their_losses_and_another_name_is_a_user_error(batch):
    logits, labels = batch
    built = {name: build_loss(name, PRIOR.log())(logits, labels).item() for name in LOSSES}
    assert built == {
        "softmax": nn.functional.cross_entropy(logits, labels).item(),
        "pc-softmax": pc_softmax_loss(logits, labels, PRIOR.log()).item(),
    }
    with pytest.raises(UserError, match="loss 'focal': use one of softmax, pc-softmax"):
        build_loss("focal", PRIOR.log())
