"""Each loss against its formula in plain Python; precision, deferred weights, wrong input."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from mi_common.errors import UserError
from mi_common.information import log_prior_from_counts
from pc_softmax.losses import (
    ClassBalancedLoss,
    FocalLoss,
    LADELoss,
    LDAMLoss,
    LogitAdjustedLoss,
    PCSoftmaxLoss,
    VSLoss,
    WeightedLoss,
    build_loss,
    class_balanced_weights,
    ldam_margins,
)
from pc_softmax.names import LOSSES, REWEIGHTED_LOSSES, SMOOTHED_LOSSES
from pc_softmax.reweighted_losses import inverse_frequency_weights

COUNTS = torch.tensor([6000, 300, 40, 2])
PRIOR_LOSSES = [PCSoftmaxLoss, LogitAdjustedLoss, LADELoss, VSLoss]
CLASSES = [*PRIOR_LOSSES, WeightedLoss, ClassBalancedLoss, FocalLoss, LDAMLoss]
NEVER_REWEIGHTED = [name for name in LOSSES if name not in REWEIGHTED_LOSSES]
NEVER_SMOOTHED = [name for name in LOSSES if name not in SMOOTHED_LOSSES]


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    logits = 3 * torch.randn(32, 4, generator=generator)
    return logits, torch.randint(0, 4, (32,), generator=generator)


def slow_regulariser(logits, labels, penalty) -> float:
    """The second part of LADE for COUNTS, as in the authors' code, in NumPy."""
    prior, value = COUNTS.numpy() / COUNTS.sum().item(), 0.0
    for k, p in enumerate(prior):
        f = logits[:, k].double().numpy()
        own = f[labels.numpy() == k]
        first = own.mean() if len(own) else 0.0
        second = np.log(np.mean(np.exp(f - np.log(p) + np.log(1 / len(prior)))))
        value -= p * (first - second - penalty * second**2)
    return value


def slow(
    name: str,
    logits,
    labels,
    *,
    tau=1.0,
    gamma=2.0,
    lade_weight=0.1,
    lade_penalty=0.01,
    vs_gamma=0.15,
    vs_tau=1.25,
    weights_on=True,
) -> float:
    """The formula of `name` for COUNTS, one sample after another, in Python's floats."""
    n = COUNTS.tolist()
    prior = [count / sum(n) for count in n]
    balanced = [(1 - 0.9999) / (1 - 0.9999**count) for count in n]
    weights = {"weighted": [1 / count for count in n], "class-balanced": balanced}
    weights |= {"focal": balanced, "ldam": balanced}
    w = weights[name] if weights_on and name in weights else [1.0] * 4
    margins = [0.5 * (min(n) / count) ** 0.25 for count in n]

    def cross_entropy(f, y):
        return math.log(sum(math.exp(value - f[y]) for value in f))

    total = 0.0
    for f, y in zip(logits.tolist(), labels.tolist(), strict=True):
        if name == "ldam":
            f = [30 * (value - margins[y] * (k == y)) for k, value in enumerate(f)]
        elif name in ("logit-adjusted", "lade"):
            power = 1.0 if name == "lade" else tau
            f = [value + power * math.log(p) for value, p in zip(f, prior, strict=True)]
        elif name == "vs":
            factors = [(count / max(n)) ** vs_gamma for count in n]
            f = [d * v + vs_tau * math.log(p) for d, v, p in zip(factors, f, prior, strict=True)]
        if name == "pc-softmax":
            loss = math.log(sum(p * math.exp(v) for p, v in zip(prior, f, strict=True))) - f[y]
        else:
            loss = cross_entropy(f, y)
        if name == "focal":
            loss *= (1 - math.exp(-loss)) ** gamma
        total += w[y] * loss
    if name == "lade":
        total += len(labels) * lade_weight * slow_regulariser(logits, labels, lade_penalty)
    return total / sum(w[y] for y in labels.tolist())


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("labels_below", [4, 3])  # with 3, a class is not in the batch
def test_value_is_the_written_out_formula(name, labels_below, batch):
    logits, labels = batch[0], batch[1] % labels_below
    drw = 0 if name in ("focal", "ldam") else None
    lade_and_vs = {"lade_weight": 0.7, "lade_penalty": 0.3, "vs_gamma": 0.4, "vs_tau": 0.6}
    for options in ({}, {"tau": 1.7, "gamma": 1.5} | lade_and_vs):
        value = build_loss(name, COUNTS, drw=drw, **options)(logits, labels)
        assert value.item() == pytest.approx(slow(name, logits, labels, **options), rel=1e-5)


@pytest.mark.parametrize(
    ("kind", "vector"),
    [
        (PCSoftmaxLoss, log_prior_from_counts),
        (LogitAdjustedLoss, log_prior_from_counts),
        (LADELoss, log_prior_from_counts),
        (VSLoss, log_prior_from_counts),
        (WeightedLoss, inverse_frequency_weights),
        (ClassBalancedLoss, class_balanced_weights),
        (FocalLoss, class_balanced_weights),
        (LDAMLoss, ldam_margins),
    ],
)
def test_labels_counts_and_a_vector_give_the_same_loss(kind, vector, batch):
    value = kind.from_counts(COUNTS)(*batch)
    assert kind.from_labels(torch.arange(4).repeat_interleave(COUNTS), 4)(*batch) == value
    assert kind(vector(COUNTS))(*batch) == value


def test_weights_and_margins_by_hand():
    counts = torch.tensor([1, 16, 10**9])
    inverse = torch.tensor([1, 1 / 16, 1e-9], dtype=torch.float64)
    torch.testing.assert_close(inverse_frequency_weights(counts), 3 * inverse / inverse.sum())
    effective = torch.tensor([1, 1 + 0.5 + 0.25, 2], dtype=torch.float64)  # 1 + beta + ...
    balanced = class_balanced_weights(torch.tensor([1, 3, 10**9]), beta=0.5)
    torch.testing.assert_close(balanced, 3 / effective / (1 / effective).sum())
    assert class_balanced_weights(counts).sum().item() == pytest.approx(3)
    assert class_balanced_weights(counts, beta=0).tolist() == [1, 1, 1]
    torch.testing.assert_close(
        ldam_margins(counts[:2]), torch.tensor([0.5, 0.25], dtype=torch.float64)
    )
    assert ldam_margins(counts[:2], max_margin=0.8).tolist() == pytest.approx([0.8, 0.4])


@pytest.mark.parametrize("name", [name for name in SMOOTHED_LOSSES if name != "pc-softmax"])
def test_mean_and_label_smoothing_are_torchs(name, batch):
    logits, labels = batch
    weight = {
        "weighted": 1 / COUNTS,  # of any scale
        "class-balanced": class_balanced_weights(COUNTS).float(),
    }.get(name)
    for smoothing in (0.0, 0.1):
        value = build_loss(name, COUNTS, label_smoothing=smoothing)(logits, labels)
        torch_loss = nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)
        torch.testing.assert_close(value, torch_loss(logits, labels))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_logits_up_to_ten_thousand(name, dtype):
    """float32 of the float64 value, and finite gradients, however the loss was cast."""
    generator = torch.Generator().manual_seed(2)
    scale = torch.tensor([1.0, 100.0, 1e4]).repeat(8)[:, None]
    logits = (scale * (2 * torch.rand(24, 4, generator=generator) - 1)).to(dtype)
    labels = torch.randint(0, 4, (24,), generator=generator)
    loss = build_loss(name, COUNTS, drw=0 if name in REWEIGHTED_LOSSES else None)
    expected = loss(logits.double(), labels)
    assert expected.dtype == torch.float64
    casts = (lambda m: m, nn.Module.half, nn.Module.bfloat16, nn.Module.double)
    for cast, autocast in itertools.product(casts, (False, True)):
        inputs = logits.clone().requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = cast(loss)(inputs, labels)
        value.backward()
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected.item(), rel=1e-6)
        assert inputs.grad.isfinite().all() and inputs.grad.abs().max() > 0


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_gradient_of_a_sure_prediction_is_zero_not_nan(gamma):
    logits = torch.tensor([[1000.0, 0.0], [20.0, 0.0]], requires_grad=True)
    FocalLoss(gamma=gamma)(logits, torch.zeros(2, dtype=torch.int64)).backward()
    torch.testing.assert_close(logits.grad, torch.zeros(2, 2), rtol=0, atol=1e-8)


@pytest.mark.parametrize("kind", CLASSES)
def test_buffers_keep_their_dtype_are_saved_follow_the_device_and_do_not_train(kind):
    loss = nn.Sequential(kind.from_counts(COUNTS.double()))  # as a part of a model that is cast
    before = {name: buffer.clone() for name, buffer in loss.named_buffers()}
    for cast in (loss.half, loss.bfloat16, loss.double, lambda: loss.to("cpu", torch.half)):
        cast()
        after = dict(loss.named_buffers())
        assert after.keys() == before.keys() == loss.state_dict().keys()
        assert all(torch.equal(after[name], before[name]) for name in before)
    dtype = torch.float64 if kind in PRIOR_LOSSES else torch.float32
    assert {buffer.dtype for buffer in loss.buffers()} == {dtype}
    assert {buffer.device.type for buffer in loss.half().to("meta").buffers()} == {"meta"}
    assert list(loss.parameters()) == []


@pytest.mark.parametrize("name", REWEIGHTED_LOSSES)
@pytest.mark.parametrize("drw", [None, 3])
def test_weights_start_exactly_at_the_drw_epoch(name, drw, batch):
    """Without --drw, focal and ldam have no weights, and the others have theirs from the start."""
    start = {None: 0 if name in ("weighted", "class-balanced") else math.inf, 3: 3}[drw]
    loss = build_loss(name, COUNTS, drw=drw)
    off, on = (slow(name, *batch, weights_on=weights_on) for weights_on in (False, True))
    assert abs(on - off) > 0.01
    assert loss(*batch).item() == pytest.approx(off if start else on, rel=1e-5)  # before any epoch
    for epoch in (0, 1, 2, 3, 4, 2, 3):  # a resumed loop may begin anywhere
        loss.start_epoch(epoch)
        assert loss(*batch).item() == pytest.approx(on if epoch >= start else off, rel=1e-5), epoch


@pytest.mark.parametrize("prior", [[0.5, 0.5, 0.0], [0.6, 0.6], [0.4, 0.4], [0.5, float("nan")]])
@pytest.mark.parametrize("kind", PRIOR_LOSSES)
def test_an_invalid_prior_is_an_error_that_shows_it(kind, prior):
    with pytest.raises(UserError, match=r"class prior \[.*must be positive and sum to one"):
        kind(torch.tensor(prior).log())


def test_a_rounded_prior_is_accepted():
    prior = torch.tensor([0.3333, 0.3333, 0.3334])
    assert torch.equal(PCSoftmaxLoss(prior.log()).log_prior, prior.log().double())


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_counts_and_weights_that_are_not_positive_are_errors_that_name_the_class(bad):
    values = torch.tensor([3.0, 2.0, bad])
    calls = [lambda kind=kind: kind.from_counts(values) for kind in CLASSES]
    calls += [lambda name=name: build_loss(name, values) for name in LOSSES]
    calls += [lambda kind=kind: kind(values) for kind in (WeightedLoss, FocalLoss)]
    for call in calls:
        with pytest.raises(UserError, match=rf"\[{float(bad)}\] of classes \[2\]: not positive"):
            call()


@pytest.mark.parametrize("counts", [[], 5, [[900, 90, 10]]])
def test_counts_of_another_shape_are_errors(counts):
    with pytest.raises(UserError, match=r"class counts of shape .*: give one number for each"):
        PCSoftmaxLoss.from_counts(counts)


def test_labels_out_of_range_or_missing_are_errors():
    with pytest.raises(UserError, match="label 4: 4 classes"):
        LDAMLoss.from_labels(torch.tensor([0, 1, 2, 3, 4]), 4)
    with pytest.raises(UserError, match=r"classes \[2\]"):
        WeightedLoss.from_labels(torch.tensor([0, 1]), 3)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("weighted", {"drw": -1}, "--drw -1: "),
        ("focal", {"gamma": -1}, "--gamma -1: "),
        ("logit-adjusted", {"tau": math.nan}, "--tau nan: "),
        ("logit-adjusted", {"tau": math.inf}, "--tau inf: "),
        ("lade", {"lade_weight": -1}, "--lade-weight -1: "),
        ("lade", {"lade_penalty": math.inf}, "--lade-penalty inf: "),
        ("vs", {"vs_gamma": -0.1}, "--vs-gamma -0.1: "),
        ("vs", {"vs_tau": math.nan}, "--vs-tau nan: "),
        ("softmax", {"label_smoothing": 1}, "--label-smoothing 1: "),
        ("weighted", {"label_smoothing": -0.1}, "--label-smoothing -0.1: "),
        ("ldam", {"margin": -1}, "--margin -1: "),
        ("ldam", {"scale": math.nan}, "--scale nan: "),
        ("class-balanced", {"beta": 1}, "--beta 1: "),
        *((name, {"drw": 0}, f"--drw: not for the loss {name}; ") for name in NEVER_REWEIGHTED),
        *(
            (name, {"label_smoothing": 0.1}, f"--label-smoothing: not for the loss {name}; ")
            for name in NEVER_SMOOTHED
        ),
    ],
)
def test_wrong_options_are_errors_with_flag_and_value(name, options, message):
    with pytest.raises(UserError, match=f"^{message}"):
        build_loss(name, COUNTS, **options)


def test_options_change_the_losses_that_have_them(batch):
    weight = class_balanced_weights(COUNTS, 0.9)
    margins = ldam_margins(COUNTS, 0.7)
    for value, expected in (
        (build_loss("class-balanced", COUNTS, beta=0.9), WeightedLoss(weight)),
        (build_loss("focal", COUNTS, beta=0.9, drw=0), FocalLoss(weight)),
        (
            build_loss("pc-softmax", COUNTS, label_smoothing=0.1),
            PCSoftmaxLoss.from_counts(COUNTS, label_smoothing=0.1),
        ),
        (
            build_loss("ldam", COUNTS, beta=0.9, margin=0.7, scale=9, drw=0),
            LDAMLoss(margins, scale=9, class_weight=weight),
        ),
    ):
        assert value(*batch) == expected(*batch)
    plain = build_loss("pc-softmax", COUNTS)(*batch)
    assert build_loss("pc-softmax", COUNTS, label_smoothing=0.1)(*batch) != plain


def test_an_unknown_loss_is_named():
    with pytest.raises(UserError, match="'hinge'"):
        build_loss("hinge", torch.tensor([2, 1]))
