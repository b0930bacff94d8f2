"""Class priors at test time: estimated, read, shifted and sampled."""

from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp

from mi_common.errors import UserError
from pc_softmax import priors
from pc_softmax.priors import (
    bbse_prior,
    em_prior,
    label_shifts,
    long_tailed_prior,
    posterior_under,
    read_prior,
    sample_shifted,
    total_variation,
)

TRAIN = np.array([0.7, 0.2, 0.1])
SHIFTED = np.array([0.1, 0.3, 0.6])
NAMES = ["ape", "bee", "cat"]


def gaussians(prior: np.ndarray, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Exact PC-softmax logits and labels: log densities of unit Gaussians at 0, 2 and 4."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(3, size=n, p=prior)
    x = 2 * labels + rng.normal(size=n)
    return -0.5 * (x[:, None] - 2 * np.arange(3)) ** 2, labels


def test_posterior_is_bayes_rule_and_a_zero_in_the_prior_stays_zero():
    densities = np.array([[0.2, 0.5, 0.1], [0.3, 0.3, 0.9]])
    joint = densities * SHIFTED
    posterior = np.exp(posterior_under(np.log(densities) + 7, np.log(SHIFTED)))
    assert posterior == pytest.approx(joint / joint.sum(axis=1, keepdims=True))
    with np.errstate(divide="ignore"):
        without_first = np.exp(posterior_under(np.log(densities), np.log([0, 0.5, 0.5])))
    assert without_first == pytest.approx(np.array([[0, 5 / 6, 1 / 6], [0, 1 / 4, 3 / 4]]))


def test_em_recovers_a_shift_from_exact_posteriors():
    logits, labels = gaussians(SHIFTED, 20_000, seed=0)
    prior = np.exp(em_prior(logits, np.log(TRAIN)))
    assert prior == pytest.approx(SHIFTED, abs=0.015)  # three standard errors are about 0.012
    assert prior.sum() == pytest.approx(1, abs=1e-12)
    truth = np.bincount(labels) / len(labels)
    assert total_variation(prior, truth) < 0.015 < 0.5 < total_variation(TRAIN, truth)


def test_em_is_the_iteration_of_mean_posteriors_and_its_limit_forgets_the_start(monkeypatch):
    monkeypatch.setattr(priors, "EM_TOLERANCE", 1e-12)
    logits, _ = gaussians(SHIFTED, 500, seed=1)
    log_prior = np.log(TRAIN)
    for _ in range(5_000):  # the slow, obvious way
        joint = logits + log_prior
        log_prior = np.log(np.exp(joint - logsumexp(joint, axis=1, keepdims=True)).mean(axis=0))
    for start in (TRAIN, SHIFTED, np.full(3, 1 / 3)):
        estimate = em_prior(logits, np.log(start))
        assert np.exp(estimate) == pytest.approx(np.exp(log_prior), abs=1e-9)


def test_em_returns_the_training_prior_if_there_is_no_shift():
    counts = np.array([[6, 2, 1], [1, 5, 0.5], [2, 1, 3]])  # joint counts of three values of x
    with_x = np.log(counts / counts.sum(axis=1, keepdims=True))
    prior = counts.sum(axis=0) / counts.sum()
    logits = np.repeat(with_x - np.log(prior), (2 * counts.sum(axis=1)).astype(int), axis=0)
    assert np.exp(em_prior(logits, np.log(prior))) == pytest.approx(prior, abs=1e-12)


def test_em_takes_a_class_that_is_not_there_towards_zero_at_any_scale_of_logits():
    logits = 1_000 * np.eye(3)[[0, 0, 0, 1]]
    log_prior = em_prior(logits, np.log(TRAIN))
    assert np.exp(log_prior) == pytest.approx([0.75, 0.25, 0], abs=1e-12)
    assert not np.isnan(log_prior).any()


def test_em_that_still_moves_is_a_user_error(monkeypatch):
    monkeypatch.setattr(priors, "EM_STEPS", 2)
    logits, _ = gaussians(SHIFTED, 100, seed=0)
    with pytest.raises(UserError, match=r"^em: .* after 2 steps; use bbse"):
        em_prior(logits, np.log(TRAIN))


def test_bbse_by_hand():
    labels = np.repeat([0, 1], [10, 5])
    predicted = np.array([0] * 8 + [1] * 2 + [0] + [1] * 4)  # 8 of 10 right, 4 of 5 right
    test = np.array([0] * 7 + [1] * 13)  # 0.8 / 4 + 0.2 * 3 / 4 = 0.35 are predicted as 0
    assert np.exp(bbse_prior(predicted, labels, test, 2)) == pytest.approx([1 / 4, 3 / 4])


def test_bbse_clips_a_negative_ratio_to_zero():
    labels, predicted = np.repeat([0, 1], 5), np.array([0, 0, 0, 0, 1, 0, 1, 1, 1, 1])
    test = np.array([0] * 9 + [1])  # more zeros than class 0 alone would give: 0.9 > 0.8
    assert bbse_prior(predicted, labels, test, 2).tolist() == [0, -np.inf]


def test_bbse_recovers_a_shift_and_stays_where_there_is_none():
    validation, labels = gaussians(TRAIN, 20_000, seed=3)
    for prior in (SHIFTED, TRAIN):
        logits, _ = gaussians(prior, 20_000, seed=4)
        estimate = bbse_prior(validation.argmax(axis=1), labels, logits.argmax(axis=1), 3)
        assert np.exp(estimate) == pytest.approx(prior, abs=0.025)


@pytest.mark.parametrize(
    ("labels", "predicted", "said"),
    [
        ([0, 0, 2, 2], [0, 1, 2, 2], r"classes \[1\] have no validation samples"),
        ([0, 1, 2, 2], [0, 0, 2, 2], r"rank 2 for 3 classes"),
        ([0, 1, 2, 0, 1, 2], [0, 1, 2, 1, 0, 2], r"rank 2 for 3 classes"),
    ],
)
def test_bbse_without_a_solution_is_an_error_that_offers_em(labels, predicted, said):
    with pytest.raises(UserError, match=f"{said}.*use em"):
        bbse_prior(np.array(predicted), np.array(labels), np.array([0, 1, 2]), 3)


def test_total_variation_by_hand():
    assert total_variation(TRAIN, SHIFTED) == pytest.approx(0.6)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("class,probability\nbee,0.3\ncat,0.6\nape,0.1\n", NAMES),
        ('\ufeffclass, probability\n"cat",0.6\nape, 0.1\n\nbee,0.3', NAMES),
        ("0.1\n0.3\n0.6\n", NAMES),
        ("\n0.1\n\n0.3\n0.6", ["ape", "bee", "ape"]),
        ('class,probability\n"b\n|<b>",0.3\n cat ,0.6\nape,0.1\n', [" ape", "b\n|<b>", "cat  "]),
        ('class,probability\n"owl, snowy",0.6\nape,0.1\nbee,0.3', ["ape", "bee", "owl, snowy"]),
        ("0.10001\n0.30003\n0.60006", NAMES),  # normalised
    ],
)
def test_a_prior_is_read_in_the_order_of_the_classes(tmp_path, text, names):
    path = tmp_path / "prior.csv"
    path.write_text(text, encoding="utf-8")
    assert np.exp(read_prior(path, names)) == pytest.approx(SHIFTED, rel=1e-12)


HEADER = "class,probability\n"
FORM = "use the header class,probability or a number a line"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.5\n0.5\n", "2 probabilities for 3 classes"),
        ("", "0 probabilities for 3 classes"),
        ("0.5\n0.5\n0\n", "class 'cat' has 0.0"),
        ("0.7\n-0.1\n0.4\n", "class 'bee' has -0.1"),
        ("0.5\nnan\n0.5\n", "class 'bee' has nan"),
        ("0.5\n0.4\n0.2\n", "the probabilities sum to 1.1"),
        ("0.5\ninf\n0.2\n", "the probabilities sum to inf"),
        ("9" * 3000 + "\n.5\n.5", "the probabilities sum to inf"),
        ("0.5\nhalf\n0.2\n", FORM),
        ("0.5,0.4,0.1\n", FORM),
        (HEADER + "ape\nbee,0.4\ncat,0.6\n", FORM),
        (HEADER + "ape,.1,1\nbee,.1\ncat,.8", FORM),
        (HEADER + "ape,0.1\nbee,0.9\n", "no line for class 'cat'"),
        (HEADER + "ape,0.1\ncow,0.9\n", "unknown class 'cow'"),
        (HEADER + "ape,.1\n ape ,.1\nbee,.1\ncat,.8", "two lines for class 'ape'"),
        (HEADER + "a\0\n", r"unknown class 'a\x00'"),
        (HEADER + "x" * 500, f"unknown class '{'x' * 100}...'"),
        ("0.5\n" * 3000, "over 4036 bytes"),
        ("0" * 10_000, "over 4036 bytes"),
    ],
)
def test_a_file_that_is_not_a_prior_is_an_error_with_its_path(tmp_path, text, said):
    path = tmp_path / "prior.csv"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        read_prior(path, NAMES)
    assert str(error.value).startswith(f"{path}: ") and said in str(error.value)


@pytest.mark.parametrize("names", [["ape", "bee", "ape"], ["ape", "bee", " ape"]])
def test_a_file_cannot_name_classes_that_share_a_name(tmp_path, names):
    path = tmp_path / "prior.csv"
    path.write_text("class,probability\nape,0.1\nbee,0.3\nape,0.6\n")
    with pytest.raises(UserError, match=r"give one number a line: .* named 'ape'"):
        read_prior(path, names)


@pytest.mark.parametrize("name", ["", "none.csv", "image.png", "n" * 300, "a\0b"])
def test_a_prior_that_is_not_a_text_file_is_an_error(tmp_path, name):
    (tmp_path / "image.png").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(UserError, match=r"cannot be read as text \(\w+Error\)"):
        read_prior(tmp_path / name, NAMES)


def test_an_endless_file_is_not_read_to_its_end():
    with pytest.raises(UserError, match=r"^/dev/zero: over 4036 bytes"):
        read_prior(Path("/dev/zero"), NAMES)


def test_long_tailed_prior_follows_the_training_counts_or_turns_them_around():
    counts = np.array([10, 1000, 100])
    forward = np.exp(long_tailed_prior(counts, 4))
    assert forward == pytest.approx(np.array([1 / 4, 1, 1 / 2]) / 1.75)
    backward = np.exp(long_tailed_prior(counts, 4, backward=True))
    assert backward == pytest.approx(np.array([1, 1 / 4, 1 / 2]) / 1.75)
    equals = np.exp(long_tailed_prior(np.array([5, 5, 9, 5]), 8))
    assert equals == pytest.approx(np.array([4, 2, 8, 1]) / 15)


def test_shifts_go_from_the_training_order_to_its_reverse_then_draw():
    counts = np.array([300, 20, 5])
    shifts = list(label_shifts(counts, np.random.default_rng(0)))
    assert [(name, ratio) for name, ratio, _ in shifts[:11]] == [
        *(("forward", ratio) for ratio in (50, 25, 10, 5, 2)),
        ("uniform", 1),
        *(("backward", ratio) for ratio in (2, 5, 10, 25, 50)),
    ]
    assert [name for name, _, _ in shifts[11:]] == [f"dirichlet {i}" for i in range(1, 6)]
    for name, ratio, log_prior in shifts:
        prior = np.exp(log_prior)
        assert prior.sum() == pytest.approx(1)
        assert prior.max() / prior.min() == pytest.approx(ratio)
        if name in ("forward", "backward"):
            assert prior.argmax() == {"forward": 0, "backward": 2}[name]
    assert len({log_prior.tobytes() for *_, log_prior in shifts[11:]}) == 5
    again, other = (list(label_shifts(counts, np.random.default_rng(seed))) for seed in (0, 1))
    assert np.array_equal(shifts[-1][2], again[-1][2])
    assert not np.array_equal(shifts[-1][2], other[-1][2])


@pytest.mark.parametrize(
    ("available", "prior", "expected"),
    [
        ([100, 100, 100], [0.5, 0.3, 0.2], [100, 60, 40]),
        ([100, 100, 100], [1 / 3, 1 / 3, 1 / 3], [100, 100, 100]),
        ([10, 10, 10], [0.6, 0.25, 0.15], [10, 4, 2]),  # 16.67 samples: 4.17 and 2.5
        ([10, 10, 10], [0.9, 0.09, 0.01], [10, 1, 1]),  # 0.1 of a sample becomes one
        ([30, 10, 5], [0.2, 0.3, 0.5], [2, 3, 5]),
        ([7, 7, 7], [0.7, 0.2, 0.1], [7, 2, 1]),  # 2 and 1 exactly, whatever floats make of it
    ],
)
def test_a_shifted_sample_has_exactly_its_counts_without_replacement(available, prior, expected):
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(3), available))
    rows = sample_shifted(labels, np.log(prior), np.random.default_rng(1))
    assert np.bincount(labels[rows]).tolist() == expected
    assert (np.diff(rows) > 0).all()  # ascending, none twice


def test_a_shifted_sample_is_drawn_by_its_generator_and_evenly():
    labels = np.repeat([0, 1], 20)
    draws = [
        sample_shifted(labels, np.log([0.8, 0.2]), np.random.default_rng(seed))
        for seed in (0, 0, *range(1, 400))
    ]
    assert np.array_equal(draws[0], draws[1]) and not np.array_equal(draws[0], draws[2])
    often = np.bincount(np.concatenate(draws[1:]), minlength=40) / 400
    assert often[:20].tolist() == [1] * 20
    assert often[20:] == pytest.approx(np.full(20, 1 / 4), abs=0.09)  # four standard errors


def test_a_test_set_without_a_class_cannot_be_shifted():
    with pytest.raises(UserError, match=r"classes \[1\] have no samples in the test set"):
        sample_shifted(np.array([0, 2, 2]), np.log(TRAIN), np.random.default_rng(0))
