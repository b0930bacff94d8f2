"""The prior in trained logits, on a table for which every posterior is known."""

import pytest
import torch

from mi_common.information import log_posterior
from pc_softmax.losses import VSLoss, build_loss, logit_log_prior

# How often each of four inputs comes with each of three classes, of 80, 20 and 10 samples.
TABLE = torch.tensor([[40, 2, 1], [20, 8, 1], [12, 6, 3], [8, 4, 5]])
COUNTS = TABLE.sum(dim=0)
LIKELIHOOD = TABLE.double() / COUNTS
CASES = [
    ("softmax", {}),
    ("weighted", {}),
    ("class-balanced", {}),
    ("pc-softmax", {}),
    ("logit-adjusted", {"tau": 0.5}),
    ("logit-adjusted", {"tau": 1.0}),
    ("logit-adjusted", {"tau": 1.5}),
    ("lade", {"lade_penalty": 0}),
    ("vs", {"vs_tau": 1.0}),
    ("vs", {}),
]


def optimum(loss: torch.nn.Module, repeats: torch.Tensor) -> torch.Tensor:
    """(4, 3) logits of a linear model on one-hot inputs at the minimum of the loss.

    (3,) `repeats`: how often every sample of a class is in the data.
    """
    pairs = [(m, k) for m in range(4) for k in range(3) for _ in range(TABLE[m, k] * repeats[k])]
    inputs, labels = torch.tensor(pairs).T
    logits = torch.zeros(4, 3, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-15
    )

    def value() -> torch.Tensor:
        optimizer.zero_grad()
        mean = loss(logits[inputs], labels)
        mean.backward()
        return mean

    optimizer.step(value)
    assert logits.grad.abs().max() < 1e-8
    return logits.detach()


@pytest.mark.parametrize("balanced", [False, True])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_softmax_of_converged_logits_is_the_posterior_under_that_prior(name, options, balanced):
    loss = build_loss(name, COUNTS, **options)
    repeats = 80 // COUNTS if balanced else torch.ones(3, dtype=torch.int64)
    logits = optimum(loss, repeats)
    if isinstance(loss, VSLoss):
        logits = loss.factors * logits
    log_prior = logit_log_prior(loss, COUNTS, balanced=balanced).double()
    assert log_prior.exp().sum().item() == pytest.approx(1, abs=1e-6)
    posterior = LIKELIHOOD * log_prior.exp()
    posterior /= posterior.sum(dim=1, keepdim=True)
    torch.testing.assert_close(logits.softmax(dim=1), posterior, rtol=0, atol=1e-5)
    # Without that prior, the same logits give the posterior under any other prior.
    target = torch.tensor([0.2, 0.3, 0.5], dtype=torch.double).log()
    expected = LIKELIHOOD * target.exp()
    expected /= expected.sum(dim=1, keepdim=True)
    shifted = log_posterior(logits - log_prior, target).exp()
    torch.testing.assert_close(shifted, expected, rtol=0, atol=1e-5)


def test_lades_penalty_moves_its_logits_little():
    logits = optimum(build_loss("lade", COUNTS), torch.ones(3, dtype=torch.int64))
    expected = (LIKELIHOOD / LIKELIHOOD.sum(dim=1, keepdim=True)).log()
    torch.testing.assert_close(logits.log_softmax(dim=1), expected, rtol=0, atol=0.02)


@pytest.mark.parametrize(
    ("name", "options", "weights"),
    [
        ("focal", {}, [8, 2, 1]),
        ("ldam", {}, [8, 2, 1]),
        ("ldam", {"drw": 3}, [n / (1 - 0.9999**n) for n in (80, 20, 10)]),
    ],
)
def test_prior_by_hand(name, options, weights):
    prior = logit_log_prior(build_loss(name, COUNTS, **options), COUNTS).exp()
    assert prior.tolist() == pytest.approx([w / sum(weights) for w in weights], rel=1e-5)
