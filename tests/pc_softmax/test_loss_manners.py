"""Shapes, targets and options of `nn.CrossEntropyLoss`, in PC-softmax and its relatives."""

import functools
import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from mi_common.errors import UserError
from pc_softmax.losses import FocalLoss, LADELoss, LogitAdjustedLoss, PCSoftmaxLoss, VSLoss

COUNTS = [70, 20, 7, 3]
K, IGNORED = len(COUNTS), 2
SHAPES = [(), (6,), (5, 3), (2, 3, 4), (2, 2, 3, 2)]  # of the labels
MODES = [
    (shape, target, reduction, smoothing)
    for shape, target, reduction, smoothing in itertools.product(
        SHAPES, ("labels", "ignored labels", "probabilities"), ("mean", "sum", "none"), (0.0, 0.3)
    )
    if shape or target != "ignored labels"
]
by_mode = pytest.mark.parametrize(("shape", "target", "reduction", "smoothing"), MODES)


def problem(shape, target, reduction, smoothing):
    """float64 logits, a target, and the options of `nn.CrossEntropyLoss`."""
    generator = torch.Generator().manual_seed(len(shape))
    logits = (*shape[:1], K, *shape[1:])
    logits = 3 * torch.randn(logits, generator=generator, dtype=torch.float64)
    options = {"reduction": reduction, "label_smoothing": smoothing}
    if target == "probabilities":
        labels = torch.randn(logits.shape, generator=generator).double().softmax(min(1, len(shape)))
    else:
        labels = torch.randint(K, shape, generator=generator)
    if target == "ignored labels":
        options["ignore_index"] = IGNORED
        labels.view(-1)[0] = IGNORED
    return logits, labels, options


def slow(logits, target, prior, *, reduction, label_smoothing, ignore_index=-100):
    """PC-softmax of one position after another, in Python's floats; and what is not ignored."""
    soft = target.shape == logits.shape
    logits = logits if logits.ndim == 1 else logits.movedim(1, -1)
    rows = logits.reshape(-1, K).tolist()
    if soft:
        targets = (target if target.ndim == 1 else target.movedim(1, -1)).reshape(-1, K).tolist()
    else:
        labels = target.flatten().tolist()
        targets = [None if y == ignore_index else [float(k == y) for k in range(K)] for y in labels]
    values = []
    for f, t in zip(rows, targets, strict=True):
        log_total = math.log(sum(p * math.exp(v) for p, v in zip(prior, f, strict=True)))
        smoothed = [(1 - label_smoothing) * w + label_smoothing / K for w in t or [0] * K]
        loss = sum(w * (log_total - v) for w, v in zip(smoothed, f, strict=True))
        values.append(0.0 if t is None else loss)
    counted = sum(t is not None for t in targets)
    if reduction == "none":
        return torch.tensor(values, dtype=torch.float64).reshape(logits.shape[:-1])
    return torch.tensor(sum(values) / (counted if reduction == "mean" else 1), dtype=torch.float64)


@by_mode
def test_value_in_every_mode_is_the_written_out_formula_in_float64(
    shape, target, reduction, smoothing
):
    logits, labels, options = problem(shape, target, reduction, smoothing)
    prior = [count / sum(COUNTS) for count in COUNTS]
    value = PCSoftmaxLoss.from_counts(COUNTS, **options)(logits, labels)
    torch.testing.assert_close(
        value, slow(logits, labels, prior, **options), rtol=1e-13, atol=1e-13
    )


@by_mode
def test_a_uniform_prior_gives_cross_entropy_minus_log_k_in_every_mode(
    shape, target, reduction, smoothing
):
    logits, labels, options = problem(shape, target, reduction, smoothing)
    inputs = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    value = PCSoftmaxLoss.from_counts([5] * K, **options)(inputs[0], labels)
    expected = nn.CrossEntropyLoss(**options)(inputs[1], labels)
    gradients = [
        torch.autograd.grad(v.sum(), x)[0] for v, x in zip((value, expected), inputs, strict=True)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)
    counted = torch.ones(shape, dtype=torch.float64)
    if target == "ignored labels":
        counted[labels == IGNORED] = 0
    counted = {"mean": 1, "sum": counted.sum(), "none": counted}[reduction]
    torch.testing.assert_close(value, expected - math.log(K) * counted, rtol=1e-12, atol=1e-12)


@by_mode
def test_logit_adjustment_and_vector_scaling_in_every_mode(shape, target, reduction, smoothing):
    logits, labels, options = problem(shape, target, reduction, smoothing)
    counts = torch.tensor(COUNTS, dtype=torch.float64).view(-1, *[1] * max(len(shape) - 1, 0))
    log_prior = (counts / 100).log()
    value = LogitAdjustedLoss.from_counts(COUNTS, tau=0.7, **options)(logits, labels)
    torch.testing.assert_close(value, F.cross_entropy(logits + 0.7 * log_prior, labels, **options))
    value = VSLoss.from_counts(COUNTS, gamma=0.2, tau=1.5, **options)(logits, labels)
    scaled = (counts / 70) ** 0.2 * logits + 1.5 * log_prior
    torch.testing.assert_close(value, F.cross_entropy(scaled, labels, **options))


@pytest.mark.parametrize("shape", [(), (3,), (2, 2, 2)])
@pytest.mark.parametrize("target", ["labels", "probabilities"])
def test_gradients_are_those_of_finite_differences(shape, target):
    logits, labels, _ = problem(shape, target, "mean", 0.0)
    for reduction, smoothing in itertools.product(("mean", "none"), (0.0, 0.3)):
        options = {"reduction": reduction, "label_smoothing": smoothing}
        loss = PCSoftmaxLoss.from_counts(COUNTS, **options)
        of_labels = functools.partial(_swapped, loss, labels)
        assert torch.autograd.gradcheck(of_labels, logits.requires_grad_())


def _swapped(loss, labels, logits):
    return loss(logits, labels)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("target", ["ignored labels", "probabilities"])
@pytest.mark.parametrize("kind", [PCSoftmaxLoss, LogitAdjustedLoss, VSLoss])
def test_half_precision_is_computed_in_float32(kind, target, dtype):
    logits, labels, options = problem((2, 3, 4), target, "mean", 0.3)
    loss, logits = kind.from_counts(COUNTS, **options), logits.to(dtype)
    if target == "probabilities":
        labels = labels.float()
    value = loss(logits, labels)
    assert value.dtype == torch.float32
    assert value == loss(logits.float(), labels)
    assert loss(logits.double(), labels).dtype == torch.float64
    if target == "probabilities" and kind is PCSoftmaxLoss:  # half-precision probabilities too
        half = labels.to(dtype)
        assert loss(logits, half) == loss(logits.float(), half.float())


@pytest.mark.parametrize("kind", [PCSoftmaxLoss, LogitAdjustedLoss, VSLoss])
def test_the_layout_in_memory_changes_nothing(kind):
    logits, labels, options = problem((2, 3, 4), "ignored labels", "mean", 0.3)
    loss, gradients = kind.from_counts(COUNTS, **options), []
    for inputs in (logits, logits.to(memory_format=torch.channels_last), logits.mT.clone().mT):
        inputs.requires_grad_()
        gradients += torch.autograd.grad(loss(inputs, labels), inputs)
        assert torch.equal(gradients[-1], gradients[0])


def test_mixed_labels_give_the_mixture_of_the_losses():
    logits, first, _ = problem((6,), "labels", "mean", 0)
    second, loss = first.flip(0), PCSoftmaxLoss.from_counts(COUNTS)
    mixed = 0.3 * F.one_hot(first, K) + 0.7 * F.one_hot(second, K)
    expected = 0.3 * loss(logits, first) + 0.7 * loss(logits, second)
    torch.testing.assert_close(loss(logits, mixed), expected)


def test_labels_of_images_may_be_bytes_and_156_is_not_minus_100():
    masks = torch.tensor([[0, 156], [3, 156]], dtype=torch.uint8)
    counts = torch.bincount(masks.flatten(), minlength=200).clamp_min(1)
    logits = torch.randn(2, 200, 2, generator=torch.Generator().manual_seed(0))
    loss = PCSoftmaxLoss.from_counts(counts)
    assert loss(logits, masks) == loss(logits, masks.long())
    torch.testing.assert_close(
        loss(logits, masks),
        PCSoftmaxLoss.from_counts(counts, reduction="none")(logits, masks).mean(),
    )


@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, pd.Series, torch.tensor, lambda values: torch.tensor(values).short()],
)
def test_counts_and_labels_in_any_container_give_the_same_loss(kind):
    expected = PCSoftmaxLoss.from_counts(torch.tensor(COUNTS)).log_prior
    labels = np.repeat(range(K), COUNTS).tolist()
    assert torch.equal(PCSoftmaxLoss.from_counts(kind(COUNTS)).log_prior, expected)
    assert torch.equal(PCSoftmaxLoss.from_labels(kind(labels), K).log_prior, expected)


@pytest.mark.parametrize("kind", [list, np.array, pd.Series, torch.tensor])
def test_a_log_prior_in_any_container_gives_the_same_loss(kind):
    log_prior = [math.log(0.75), math.log(0.25)]
    given = PCSoftmaxLoss(kind(log_prior)).log_prior
    tolerance = 1e-7 if kind is torch.tensor else 0  # torch's floats are float32
    torch.testing.assert_close(
        given, torch.tensor(log_prior, dtype=torch.float64), rtol=tolerance, atol=tolerance
    )


def test_labels_from_a_data_frame_whose_index_is_not_in_order():
    labels = pd.Series([1, 0, 0, 2], index=[5, 3, 9, 0], dtype="uint8")
    loss = PCSoftmaxLoss.from_labels(labels, 3)
    assert loss.log_prior.exp().tolist() == pytest.approx([0.5, 0.25, 0.25])
    counts = labels.value_counts().sort_index()
    assert torch.equal(PCSoftmaxLoss.from_counts(counts).log_prior, loss.log_prior)


@pytest.mark.parametrize("ignored", [-100, 255])
def test_ignored_labels_are_not_counted(ignored):
    masks = np.array([[0, 0, ignored], [1, 0, ignored]], dtype=np.int16)
    options = {} if ignored == -100 else {"ignore_index": ignored}
    loss = PCSoftmaxLoss.from_labels(masks, 2, **options)
    assert loss.log_prior.exp().tolist() == pytest.approx([0.75, 0.25])
    value = loss(torch.zeros(2, 2, 3), torch.from_numpy(masks).long())
    assert value == pytest.approx(0, abs=1e-6)  # equal logits hold no information


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: PCSoftmaxLoss.from_counts([0.5, 0.3, 0.2]),
            r"counts \[0.5, 0.3, 0.2\]: these are prob",
        ),
        (
            lambda: FocalLoss.from_counts(torch.tensor([0.9, 0.1])),
            r"counts \[0.9, 0.1\]: these are prob",
        ),
        (lambda: PCSoftmaxLoss([0.5, 0.3, 0.2]), r"prior \[0.5, 0.3, 0.2\]: not logarithms"),
        (lambda: PCSoftmaxLoss([70, 20, 10]), r"prior \[70, 20, 10\]: .*use from_counts"),
        (
            lambda: PCSoftmaxLoss.from_counts({0: 3, 1: 2}),
            r"counts \(dict of object\): give a list",
        ),
        (
            lambda: PCSoftmaxLoss.from_counts(pd.Series([1, 1, 0]).value_counts()),
            r"counts in the order \[1, 0\]: use counts.sort_index\(\)",
        ),
        (lambda: PCSoftmaxLoss.from_labels(["cat", "dog"], 2), r"labels \(list of .*: give a list"),
        (
            lambda: PCSoftmaxLoss.from_labels([0.0, 1.0], 2),
            "labels torch.float64: must be whole .*0..1",
        ),
        (lambda: PCSoftmaxLoss.from_labels(np.eye(2, dtype=int), 2), r"one-hot; give class num"),
        (lambda: PCSoftmaxLoss.from_labels([0, 2], 3), r"classes \[1\] have no training samples"),
        (
            lambda: PCSoftmaxLoss.from_counts(COUNTS, reduction="avg"),
            "'avg': use mean, sum or none",
        ),
        (lambda: PCSoftmaxLoss.from_counts(COUNTS, label_smoothing=1.5), "--label-smoothing 1.5: "),
    ],
)
def test_wrong_ways_to_make_a_loss_are_named(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("kind", [PCSoftmaxLoss, LogitAdjustedLoss, VSLoss])
@pytest.mark.parametrize("shape", [(3, 5), (3, 1), (3, 2, K), (1,)])
def test_logits_with_another_number_of_classes_are_an_error(kind, shape):
    labels = torch.zeros((*shape[:-1],) if len(shape) < 3 else (3, K), dtype=torch.int64)
    with pytest.raises(UserError, match=r"logits of shape .*: dimension . must have the 4 classes"):
        kind.from_counts(COUNTS)(torch.zeros(shape), labels)


def test_probabilities_need_the_shape_of_the_logits():
    with pytest.raises(
        UserError, match=r"probabilities of shape \(2,\) for .* \(2, 4\): the shapes"
    ):
        PCSoftmaxLoss.from_counts(COUNTS)(torch.zeros(2, K), torch.zeros(2))


def test_an_ignored_class_has_no_meaning_for_probabilities():
    loss = PCSoftmaxLoss.from_counts(COUNTS, ignore_index=0)
    with pytest.raises(UserError, match="ignore_index 0: not for targets that are probabilities"):
        loss(torch.zeros(2, K), torch.full((2, K), 0.25))


def test_repr_shows_classes_prior_and_options():
    shown = "4 classes, prior [0.7, 0.2, 0.07, 0.03], reduction='mean', ignore_index=-100, "
    shown += "label_smoothing=0.0"
    assert repr(PCSoftmaxLoss.from_counts(COUNTS)) == f"PCSoftmaxLoss({shown})"
    assert repr(VSLoss.from_counts(COUNTS)) == f"VSLoss({shown}, tau=1.25, gamma=0.15)"
    lade = LADELoss.from_counts(COUNTS, weight=0.5)
    assert repr(lade) == f"LADELoss({shown}, tau=1.0, weight=0.5, penalty=0.01)"
    many = PCSoftmaxLoss.from_counts(range(1, 1001), reduction="sum").to("cpu")
    assert "1000 classes, prior [2e-06, 4e-06, 5.99e-06, ..., 0.00199, 0.002, 0.002]" in repr(many)
    assert repr(many.to("meta")).startswith("PCSoftmaxLoss(1000 classes, reduction='sum', ")
