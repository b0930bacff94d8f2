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
    em_priors,
    pacc_prior,
    posterior_under,
    read_prior,
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


def test_em_of_weighted_samples_is_em_of_repeated_samples():
    logits, _ = gaussians(SHIFTED, 200, seed=2)
    draws = np.random.default_rng(0).integers(200, size=(3, 150))
    weights = np.stack([np.bincount(rows, minlength=200) for rows in draws]).astype(float)
    options = {"strength": 2.0, "tolerance": 1e-8, "first": SHIFTED}
    for prior, rows in zip(
        em_priors(logits, np.log(TRAIN), weights, **options), draws, strict=True
    ):
        expected = np.exp(em_prior(logits[rows], np.log(TRAIN), strength=2.0))
        assert prior == pytest.approx(expected, abs=1e-6)


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
    with pytest.raises(UserError, match=f"{said}.*use .*em"):
        bbse_prior(np.array(predicted), np.array(labels), np.array([0, 1, 2]), 3)


def test_em_with_a_dirichlet_prior_adds_samples_of_the_training_prior_to_certain_ones():
    logits = 1_000 * np.eye(3)[[0, 0, 0, 1]]
    expected = (np.array([3, 1, 0]) + 6 * TRAIN) / 10
    assert np.exp(em_prior(logits, np.log(TRAIN), strength=6)) == pytest.approx(expected)


def test_em_with_a_dirichlet_prior_has_the_highest_posterior_density():
    logits, _ = gaussians(SHIFTED, 20, seed=2)

    def log_density(prior: np.ndarray) -> float:
        likelihood = logsumexp(logits + np.log(prior), axis=1).sum()
        return likelihood + 3 * TRAIN @ np.log(prior)

    best = np.exp(em_prior(logits, np.log(TRAIN), strength=3))
    draws = np.random.default_rng(0).dirichlet(50 * best, size=500)
    assert log_density(best) > max(map(log_density, draws))


def test_pacc_recovers_a_shift_and_stays_where_there_is_none():
    validation, labels = gaussians(TRAIN, 20_000, seed=3)
    for prior in (SHIFTED, TRAIN):
        logits, _ = gaussians(prior, 20_000, seed=4)
        estimate = pacc_prior(validation, labels, logits, np.log(TRAIN))
        assert np.exp(estimate) == pytest.approx(prior, abs=0.02)


def test_pacc_by_hand():
    # Certain posteriors: 8 of 10 right, 4 of 5 right; 0.35 = 0.8 / 4 + 0.2 * 3 / 4 are seen as 0.
    labels = np.repeat([0, 1], [1_000, 500])
    seen = np.array([0] * 800 + [1] * 200 + [0] * 100 + [1] * 400)
    test = np.array([0] * 350 + [1] * 650)
    prior = np.array([2 / 3, 1 / 3])
    logits = 1_000 * np.eye(2)
    # Least squares along (w, 1 - w): 0.72 (w - 1/4) + 2 (w - 2/3) / 5,000 = 0.
    weight = (0.72 / 4 + 4 / 15_000) / (0.72 + 2 / 5_000)
    expected = (1_000 * np.array([weight, 1 - weight]) + prior) / 1_001
    estimate = pacc_prior(logits[seen], labels, logits[test], np.log(prior))
    assert np.exp(estimate) == pytest.approx(expected, abs=1e-6)


def test_pacc_leaves_two_classes_that_look_the_same_in_their_training_ratio():
    validation, labels = gaussians(TRAIN, 9_000, seed=3)
    logits, _ = gaussians(SHIFTED, 9_000, seed=4)
    validation[:, 2] = logits[:, 2] = -50  # class 2 is never seen, what it looks like is split
    prior = np.exp(pacc_prior(validation, labels, logits, np.log(TRAIN)))
    assert prior.sum() == pytest.approx(1) and (prior > 0).all()
    with pytest.raises(UserError, match=r"rank 2 for 3 classes; use pacc or em"):
        bbse_prior(validation.argmax(axis=1), labels, logits.argmax(axis=1), 3)


def test_pacc_without_samples_of_a_class_is_an_error():
    with pytest.raises(UserError, match=r"^pacc: classes \[1\] have no validation samples"):
        pacc_prior(np.eye(3)[[0, 2]], np.array([0, 2]), np.eye(3), np.log(TRAIN))


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
