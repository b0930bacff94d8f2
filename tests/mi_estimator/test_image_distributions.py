"""Images that hold their latents, and a noisy label whose bound is that of its channel."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from mi_common.errors import UserError
from mi_estimator.tasks.gaussians import GaussianClasses
from mi_estimator.tasks.images import BlobImages, NoisyMnist
from mi_estimator.tasks.vectors import ConcentricClasses
from tests.idx_files import write_mnist

BLOBS = BlobImages(GaussianClasses(2, (1, 2, 3, 4, 5)))
COUNTS = [3, 5, 4, 4, 6, 2, 4, 4, 5, 3]  # images of each digit in the made-up set


def draw(distribution, n, seed=0, **kwargs):
    return distribution.sample(n, torch.Generator().manual_seed(seed), **kwargs)


@pytest.fixture
def data_dir(tmp_path):
    """An MNIST whose images are all of one grey, ten times the digit."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(10), COUNTS)).astype(np.uint8)
    images = np.broadcast_to(10 * labels[:, None, None], (len(labels), 28, 28))
    return write_mnist(tmp_path, (images, labels), (images, labels))


def test_images_hold_their_latents():
    images, labels = draw(BLOBS, 5000)
    latents, latent_labels = draw(BLOBS.base, 5000)
    assert images.shape == (5000, 1, 28, 28) and images.dtype == torch.float32
    assert torch.equal(labels, latent_labels)
    assert images.min() >= 0 and images.max() <= 1
    assert images.flatten(1).max(dim=1).values.min() > 0.9
    torch.testing.assert_close(BLOBS.inverse(images.double()).float(), latents, rtol=0, atol=2e-5)
    # The first feature is the row: down is more.
    one = BLOBS.forward(torch.tensor([[8.0, -8.0]], dtype=torch.float64))[0, 0]
    shift = 9.5 * math.tanh(1)
    assert divmod(int(one.argmax()), 28) == (round(13.5 + shift), round(13.5 - shift))


@pytest.mark.parametrize("base", [BLOBS.base, ConcentricClasses(2)])
def test_the_oracle_reads_images_and_knows_the_truth(base):
    blobs, n = BlobImages(base), 20_000
    x, y = draw(blobs, n, seed=1)
    latents, _ = draw(base, n, seed=1)
    ratio = blobs.log_ratio(x)
    torch.testing.assert_close(ratio, base.log_ratio(latents), rtol=1e-3, atol=1e-3)
    scores = ratio[torch.arange(n), y]
    value, error = blobs.mutual_information()
    assert (value, error) == base.mutual_information()
    assert abs(value - scores.mean()) < 4 * scores.std() / n**0.5


def test_noisy_mnist_has_the_bound_of_its_channel(data_dir):
    task = NoisyMnist(0.2, data_dir)
    p = np.array(COUNTS) / 40
    joint = p[:, None] * np.where(np.eye(10), 0.8, 0.2 / 9)
    marginal = joint.sum(axis=0)
    value, error = task.mutual_information()
    expected = (joint * np.log(joint / (p[:, None] * marginal))).sum()
    assert value == pytest.approx(expected, abs=1e-12) and error == 0
    assert task.label_entropy == pytest.approx(-(marginal * np.log(marginal)).sum(), abs=1e-12)
    assert task.truth_is_upper_bound and not BLOBS.truth_is_upper_bound
    no_noise = NoisyMnist(0.0, data_dir)
    assert no_noise.mutual_information()[0] == pytest.approx(no_noise.label_entropy, abs=1e-12)
    no_signal = NoisyMnist(0.9, data_dir)
    assert no_signal.mutual_information()[0] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("exact_counts", [True, False])
def test_noisy_mnist_samples_follow_the_channel(data_dir, exact_counts):
    task, n = NoisyMnist(0.3, data_dir), 50_000
    x, y = draw(task, n, exact_counts=exact_counts)
    assert x.shape == (n, 1, 28, 28) and (x.dtype, y.dtype) == (torch.float32, torch.int64)
    grey = x[:, 0, 3, 4] * 255 / 10
    digit = grey.round().long()
    assert (grey - digit).abs().max() < 1e-4
    drawn = torch.bincount(10 * digit + y, minlength=100).view(10, 10)
    joint = np.array(COUNTS)[:, None] / 40 * np.where(np.eye(10), 0.7, 0.3 / 9)
    assert stats.chisquare(drawn.numpy(), n * joint, axis=None).pvalue > 1e-3
    if exact_counts:
        assert np.abs(torch.bincount(y).numpy() - n * joint.sum(axis=0)).max() < 1 + 1e-6
    again, other = draw(task, 100, seed=3), draw(task, 100, seed=4)
    assert torch.equal(again[0], draw(task, 100, seed=3)[0])
    assert not torch.equal(again[1], other[1])


def test_noisy_mnist_draws_every_image_alike(data_dir):
    images = torch.arange(40, dtype=torch.uint8)[:, None].repeat(1, 784)
    for stem in ("train", "t10k"):
        file = data_dir / "MNIST" / "raw" / f"{stem}-images-idx3-ubyte"
        file.write_bytes(file.read_bytes()[:16] + images.numpy().tobytes())
    x, _ = draw(NoisyMnist(0.5, data_dir, "test"), 40_000)
    drawn = torch.bincount((x[:, 0, 0, 0] * 255).round().long(), minlength=40)
    assert len(drawn) == 40 and ((drawn - 1000).abs() < 4 * 1000**0.5).all()


def test_what_cannot_be_is_a_user_error(tmp_path):
    task = NoisyMnist(0.2, tmp_path / "nowhere")  # nothing is read yet
    with pytest.raises(UserError, match="no mnist data"):
        task.mutual_information()
    with pytest.raises(UserError, match="log ratio of this task is not known"):
        task.log_ratio(torch.zeros(1, 1, 28, 28))
