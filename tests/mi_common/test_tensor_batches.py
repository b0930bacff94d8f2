"""Batches of tensors: every sample once, in an order of seed and epoch, shared by processes."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mi_common.engine import TensorBatches
from mi_common.errors import UserError
from mi_common.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


@given(st.integers(1, 60), st.integers(1, 25), st.integers(0, 5), st.integers(0, 3))
def test_every_sample_comes_once_an_epoch_in_the_seeds_order(n, batch_size, seed, epoch):
    inputs, labels = torch.arange(n), torch.arange(n) + 1000
    batches = TensorBatches(inputs, labels, batch_size=batch_size, seed=seed, runtime=CPU)
    steps = list(batches.epoch(epoch))
    assert len(steps) == len(batches) == -(-n // batch_size)
    drawn = torch.cat([x for x, _, _ in steps])
    assert sorted(drawn.tolist()) == list(range(n))
    assert all(torch.equal(x + 1000, y) and len(x) == size for x, y, size in steps)
    torch.rand(3)  # the order depends on seed and epoch, not on the global state
    again = TensorBatches(inputs, labels, batch_size=batch_size, seed=seed, runtime=CPU)
    assert torch.equal(torch.cat([x for x, _, _ in again.epoch(epoch)]), drawn)


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        batches = TensorBatches(
            torch.arange(50), torch.zeros(50), batch_size=8, seed=seed, runtime=CPU
        )
        return tuple(torch.cat([x for x, _, _ in batches.epoch(epoch)]).tolist())

    orders = {order(seed, epoch) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6
    assert tuple(range(50)) not in orders


@given(st.integers(1, 40), st.integers(1, 15), st.integers(2, 4))
def test_processes_share_each_batch_and_never_get_an_empty_one(n, batch_size, world_size):
    batch_size = max(batch_size, world_size)
    parts = [
        TensorBatches(
            torch.arange(n),
            torch.arange(n),
            batch_size=batch_size,
            seed=1,
            runtime=Runtime(torch.device("cpu"), rank=rank, world_size=world_size),
        )
        for rank in range(world_size)
    ]
    one = TensorBatches(
        torch.arange(n), torch.arange(n), batch_size=batch_size, seed=1, runtime=CPU
    )
    assert len({len(part) for part in parts}) == 1
    for (whole, _, _), *steps in zip(one.epoch(2), *[p.epoch(2) for p in parts], strict=False):
        assert sorted(torch.cat([x for x, _, _ in steps]).tolist()) == sorted(whole.tolist())
        assert all(len(x) > 0 and size == len(whole) for x, _, size in steps)
    left_out = n - sum(len(x) for part in parts for x, _, _ in part.epoch(2))
    assert 0 <= left_out < world_size


def test_balanced_batches_take_classes_in_turn_and_the_samples_of_each_in_turn():
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(3).repeat_interleave(torch.tensor([900, 90, 10]))[order]
    batches = TensorBatches(
        torch.arange(1000), labels, batch_size=64, seed=0, runtime=CPU, balanced=True
    )
    epochs = [torch.cat([x for x, _, _ in batches.epoch(epoch)]) for epoch in range(3)]
    for drawn in epochs:
        turns = labels[drawn]
        # All three classes in each three draws, in one of six orders.
        assert turns[:999].view(-1, 3).sort(dim=1).values.unique(dim=0).tolist() == [[0, 1, 2]]
        assert len(turns[:999].view(-1, 3).unique(dim=0)) == 6
        counts = drawn.bincount(minlength=1000)
        for label, per_sample in ((0, [0, 1]), (1, [3, 4]), (2, [33, 34])):
            assert counts[labels == label].unique().tolist() == per_sample
            assert counts[labels == label].sum() in (333, 334)
    assert not torch.equal(*epochs[:2])
    assert torch.equal(epochs[1], torch.cat([x for x, _, _ in batches.epoch(1)]))


def test_half_precision_inputs_become_float32_a_batch_at_a_time():
    inputs = torch.randn(10, 4).half()
    batches = TensorBatches(inputs, torch.arange(10), batch_size=4, seed=0, runtime=CPU)
    assert batches.inputs.dtype == torch.float16
    for x, y, _ in batches.epoch(0):
        assert x.dtype == torch.float32 and torch.equal(x, inputs[y].float())


def test_too_small_a_batch_is_a_user_error():
    two = Runtime(torch.device("cpu"), world_size=2)
    with pytest.raises(UserError, match="--batch-size 1"):
        TensorBatches(torch.zeros(5, 2), torch.zeros(5), batch_size=1, seed=0, runtime=two)


def shifts(image: torch.Tensor) -> list[torch.Tensor]:
    """All versions of an 8 x 8 image, shifted by a pixel at most, mirrored or not."""
    versions = []
    for mirrored in (image, image.flip(2)):
        padded = torch.zeros(1, 10, 10)
        padded[:, 1:9, 1:9] = mirrored
        versions += [padded[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    return versions


def test_augmented_images_are_shifted_and_mirrored_by_seed_and_epoch():
    images = torch.rand(60, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 0.1
    shuffling = {"batch_size": 32, "seed": 0, "runtime": CPU}
    batches = TensorBatches(images, torch.arange(60), augment=True, **shuffling)
    used = set()
    for inputs, labels, _ in batches.epoch(0):
        for image, number in zip(inputs, labels.tolist(), strict=True):
            same = [torch.equal(image, version) for version in shifts(images[number])]
            assert sum(same) == 1
            used.add(same.index(True))
    assert len(used) > 12  # of 18
    first, again, later = (next(batches.epoch(epoch))[0] for epoch in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, later)


def test_a_label_for_each_input():
    with pytest.raises(UserError, match="5 inputs but 6 labels"):
        TensorBatches(torch.zeros(5, 2), torch.zeros(6), batch_size=2, seed=0, runtime=CPU)
