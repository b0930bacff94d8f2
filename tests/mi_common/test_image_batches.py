"""Batches of image files: the seed's order and random parts, in any number of processes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mi_common.backbones import InputSpec
from mi_common.engine import ImageBatches, TensorBatches, fit
from mi_common.image_sets import ImageFileDataset, ImageSet
from mi_common.pictures import read_image
from mi_common.runtime import Runtime, seed_everything

CPU = Runtime(torch.device("cpu"))
SPEC = InputSpec(8)


def rank(number: int, world_size: int) -> Runtime:
    return Runtime(torch.device("cpu"), rank=number, world_size=world_size)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> ImageSet:
    """Seven noisy pictures, labelled by their number."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    paths = [folder / f"{i}.png" for i in range(7)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (11, 13, 3)).astype(np.uint8)).save(path)
    return ImageSet("mini", paths, torch.arange(7), list("abcdefg"))


def batches(files, transform=None, *, workers=0, seed=3, runtime=CPU, batch_size=3) -> ImageBatches:
    options = {"batch_size": batch_size, "seed": seed, "runtime": runtime, "num_workers": workers}
    return ImageBatches(files, transform or SPEC.random_transform(), **options)


def drawn(source, epoch: int) -> tuple[torch.Tensor, torch.Tensor]:
    steps = list(source.epoch(epoch))
    return torch.cat([images for images, _, _ in steps]), torch.cat([y for _, y, _ in steps])


def test_an_epoch_has_every_image_with_its_label_in_the_order_of_tensor_batches(files):
    source = batches(files, SPEC.transform())
    images, labels = drawn(source, 2)
    assert sorted(labels.tolist()) == list(range(7))
    for image, label in zip(images, labels.tolist(), strict=True):
        assert torch.equal(image, SPEC.transform()(read_image(files.images[label])))
    tensors = TensorBatches(files.labels, files.labels, batch_size=3, seed=3, runtime=CPU)
    assert [size for _, _, size in source.epoch(2)] == [3, 3, 1]
    assert torch.equal(torch.cat([y for _, y, _ in tensors.epoch(2)]), labels)


def test_order_and_random_parts_do_not_depend_on_the_number_of_workers(files):
    images, labels = drawn(batches(files), 1)
    state = torch.get_rng_state()
    torch.rand(5)  # nor on the global random state
    for workers in (0, 2):
        again, order = drawn(batches(files, workers=workers), 1)
        assert torch.equal(again, images) and torch.equal(order, labels)
    torch.set_rng_state(state)


def test_every_epoch_and_seed_has_an_order_and_random_parts_of_its_own(files):
    found = {}
    for seed, epoch in ((3, 0), (3, 1), (4, 0)):
        images, labels = drawn(batches(files, seed=seed), epoch)
        found[seed, epoch] = images[labels.argsort()], tuple(labels.tolist())
    assert len({order for _, order in found.values()}) == 3
    first, *others = [images for images, _ in found.values()]
    for other in others:  # each of the seven images is another part of it
        assert ((first - other).abs().amax(dim=(1, 2, 3)) > 0.05).all()


def test_the_largest_seed_that_a_flag_takes_works(files):
    many = files.select(torch.arange(7).repeat(1000))
    first, *others = (
        next(batches(many, seed=seed, batch_size=4).epoch(5))[0]
        for seed in (2**32 - 1, 2**32 - 1, 2**32 - 2)
    )
    assert torch.equal(first, others[0]) and not torch.equal(first, others[1])


def test_a_random_part_is_the_images_own_wherever_it_stands_in_the_list(files):
    """With a seed, reading order and neighbours do not matter; the global state is left alone."""
    dataset = ImageFileDataset(files.images, SPEC.random_transform(), seed=5)
    torch.manual_seed(0)
    state = torch.get_rng_state()
    forward = [dataset[i] for i in range(7)]
    backward = [dataset[i] for i in reversed(range(7))][::-1]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(torch.stack(forward), torch.stack(backward))


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 4))
def test_processes_share_each_batch_and_leave_out_less_than_one_each(n, batch_size, world_size):
    """The lists alone, without reading: transforms and pictures play no part in them."""
    batch_size = max(batch_size, world_size)
    files = ImageSet("none", [None] * n, torch.arange(n), ["only"])
    parts = [
        batches(files, runtime=rank(r, world_size), batch_size=batch_size)
        for r in range(world_size)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFileDataset, "__getitem__", lambda self, i: torch.zeros(3, 1, 1))
        steps = [list(part.epoch(2)) for part in parts]
    assert {len(own) for own in steps} == {len(parts[0])}
    seen = [y for own in steps for _, labels, _ in own for y in labels.tolist()]
    assert len(seen) == len(set(seen)) and 0 <= n - len(seen) < world_size
    for together in zip(*steps, strict=True):
        sizes = [len(labels) for _, labels, _ in together]
        assert min(sizes) > 0 and {size for _, _, size in together} == {sum(sizes)}


def test_fit_learns_from_files_what_it_learns_from_the_same_tensors(files):
    tensors = torch.stack([SPEC.transform()(read_image(path)) for path in files.images])
    weights = []
    for source in (
        batches(files, SPEC.transform()),
        TensorBatches(tensors, files.labels, batch_size=3, seed=3, runtime=CPU),
    ):
        seed_everything(0)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 8, 7))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = torch.nn.functional.cross_entropy
        fit(model, source, loss, optimizer, epochs=2, runtime=CPU)
        weights.append(model[1].weight.detach())
    torch.testing.assert_close(weights[0], weights[1])
