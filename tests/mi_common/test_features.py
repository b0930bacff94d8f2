"""Cached outputs of a frozen network: computed once, never half, never another network's."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mi_common import cli
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.errors import UserError
from mi_common.features import cached_features
from mi_common.image_sets import ImageSet
from mi_common.pictures import read_image
from mi_common.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
SIZE = 12


class Counter(list):
    """What copies of a network count together."""

    def __deepcopy__(self, memo):
        return self


class CountingTrunk(nn.Module):
    """A small convolution with a batch norm that counts the images it has seen."""

    def __init__(self):
        super().__init__()
        self.counter = Counter([0])
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3, stride=4), nn.BatchNorm2d(6), nn.ReLU())

    @property
    def seen(self) -> int:
        return self.counter[0]

    def forward(self, images):
        if images.min() < 0:  # not the image in 0..1 that tries the folding of batch norms
            self.counter[0] += len(images)
        return self.layers(images)


@pytest.fixture
def network() -> GlobalAveragePoolClassifier:
    torch.manual_seed(0)
    return GlobalAveragePoolClassifier(CountingTrunk(), 6, 4, InputSpec(SIZE)).train()


def write_images(folder, n=5, seed=0) -> ImageSet:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    paths = [folder / f"{i}.png" for i in range(n)]
    for path in paths:
        Image.fromarray(generator.integers(0, 256, (9, 14, 3)).astype(np.uint8)).save(path)
    return ImageSet("mini", paths, torch.zeros(n, dtype=torch.int64), ["only"])


@pytest.fixture
def files(tmp_path) -> ImageSet:
    return write_images(tmp_path / "images")


def features(
    network, files, cache, kind="maps", *, runtime=CPU, batch_size=2, workers=0, size=SIZE
):
    network.spec = dataclasses.replace(network.spec, size=size)
    options = {"kind": kind, "runtime": runtime, "batch_size": batch_size, "num_workers": workers}
    return cached_features(network, files, cache, **options)


def slow_maps(network, files, size=SIZE) -> np.ndarray:
    """One image at a time, in eval mode, without a cache."""
    network.eval()
    transform = network.spec.transform(size)
    with torch.inference_mode():
        maps = [network.features(transform(read_image(path))[None])[0] for path in files.images]
    return torch.stack(maps).numpy()


def test_maps_are_those_of_the_network_in_eval_mode(network, files, tmp_path):
    maps = features(network, files, tmp_path / "cache")
    assert maps.dtype == np.float16 and maps.shape == (5, 6, 3, 3)
    expected = slow_maps(network, files)
    assert expected.std() > 0.1
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-3)
    larger = features(network, files, tmp_path / "cache", size=20)
    np.testing.assert_allclose(larger, slow_maps(network, files, 20), rtol=1e-3, atol=1e-3)


def test_pooled_is_the_mean_of_the_maps(network, files, tmp_path):
    pooled = features(network, files, tmp_path / "cache", "pooled")
    maps = features(network, files, tmp_path / "cache", "maps")
    assert pooled.shape == (5, 6)
    expected = maps.astype(np.float64).mean(axis=(2, 3))
    np.testing.assert_allclose(pooled, expected, rtol=2e-3, atol=2e-3)


def test_the_second_call_does_not_run_the_network(network, files, tmp_path):
    first = features(network, files, tmp_path / "cache")
    assert network.backbone.seen == 5
    second = features(network, files, tmp_path / "cache", batch_size=5)
    assert network.backbone.seen == 5
    assert np.array_equal(first, second)
    assert isinstance(second, np.memmap) and second.mode == "c"


def test_whatever_changes_the_values_makes_a_new_file(network, files, tmp_path):
    cache = tmp_path / "cache"
    features(network, files, cache)
    reflected = GlobalAveragePoolClassifier(network.backbone, 6, 4, network.spec)
    reflected.border = (4, 1)
    variants = [
        {"kind": "pooled"},
        {"size": 16},
        {"runtime": Runtime(torch.device("cpu"), "bf16")},
        {"files": files.select(torch.tensor([0, 1, 2, 4, 3]))},
        {"files": files.select(torch.tensor([0, 1]))},
        {"network": reflected},
    ]
    for count, variant in enumerate(variants, start=2):
        features(**{"network": network, "files": files, "cache": cache} | variant)
        assert len(list(cache.glob("*.npy"))) == count, variant


@pytest.mark.parametrize("changed", ["layers.0.weight", "layers.1.running_mean"])
def test_other_weights_make_a_new_file(network, files, tmp_path, changed):
    features(network, files, tmp_path / "cache")
    other = GlobalAveragePoolClassifier(CountingTrunk(), 6, 4, network.spec)
    other.load_state_dict(network.state_dict())
    with torch.no_grad():
        dict(other.backbone.state_dict())[changed][0] += 0.5
    maps = features(other, files, tmp_path / "cache")
    np.testing.assert_allclose(maps, slow_maps(other, files), rtol=1e-3, atol=1e-3)
    assert not np.allclose(maps, features(network, files, tmp_path / "cache"), atol=1e-2)


def test_another_head_uses_the_same_file(network, files, tmp_path):
    features(network, files, tmp_path / "cache")
    other = GlobalAveragePoolClassifier(network.backbone, 6, 9, network.spec)
    features(other, files, tmp_path / "cache")
    assert network.backbone.seen == len(files)


def test_the_network_can_be_trained_after_its_features_were_cached(network, files, tmp_path):
    features(network, files, tmp_path / "cache")
    before = network.backbone.layers[0].weight.detach().clone()
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    network.train()(torch.randn(4, 3, SIZE, SIZE)).square().sum().backward()
    optimizer.step()
    assert not torch.equal(network.backbone.layers[0].weight, before)


def test_two_splits_with_the_same_file_names_do_not_share_features(network, tmp_path):
    """train/cat/0.png and val/cat/0.png are different images."""
    train = write_images(tmp_path / "train/cat", seed=1)
    val = write_images(tmp_path / "val/cat", seed=2)
    features(network, train, tmp_path / "cache")
    np.testing.assert_allclose(
        features(network, val, tmp_path / "cache"), slow_maps(network, val), rtol=1e-3, atol=1e-3
    )


def test_a_half_written_file_is_never_taken(network, files, tmp_path):
    cache = tmp_path / "cache"
    good = files.images[4].read_bytes()
    files.images[4].write_bytes(b"not an image")
    with pytest.raises(UserError, match=r"4\.png: not a readable image"):
        features(network, files, cache, batch_size=1)
    assert network.backbone.seen == 4
    assert list(cache.glob("*.npy*")) == []
    files.images[4].write_bytes(good)
    np.testing.assert_allclose(
        features(network, files, cache), slow_maps(network, files), rtol=1e-3, atol=1e-3
    )


def test_a_corrupt_image_in_a_worker_process_is_one_line(network, files, tmp_path, user_error):
    files.images[3].write_bytes(b"not an image")

    @cli.entry
    def main(argv=None):
        # The error is let go before it is raised anew: held by pytest, its traceback would keep
        # the workers until the garbage collector stops them, which takes ten seconds.
        try:
            features(network, files, tmp_path / "cache", workers=2)
        except UserError as error:
            message = str(error)
        raise UserError(message)

    line = user_error(main, [])
    assert line == f"error: {files.images[3]}: not a readable image (UnidentifiedImageError)"


def test_workers_do_not_change_the_features_or_their_order(network, files, tmp_path):
    alone = features(network, files, tmp_path / "a")
    assert np.array_equal(features(network, files, tmp_path / "b", workers=2), alone)


def copies(network, files, cache, *numbers) -> list[np.ndarray]:
    options = {"kind": "pooled", "runtime": CPU, "num_workers": 0, "batch_size": 2}
    return [cached_features(network, files, cache, augmentation=n, **options) for n in numbers]


def test_every_augmented_copy_has_a_file_of_its_own_that_is_computed_once(network, files, tmp_path):
    cache = tmp_path / "cache"
    whole = features(network, files, cache, "pooled")
    first = [array.copy() for array in copies(network, files, cache, 0, 1, 2)]
    assert len(list(cache.glob("*.npy"))) == 4 and network.backbone.seen == 4 * len(files)
    for i, one in enumerate([whole, *first]):
        for other in [whole, *first][:i]:
            assert (np.abs(one - other).max(axis=1) > 1e-3).all()  # of every single image
    torch.rand(3)
    again = copies(network, files, cache, 0, 1, 2)
    assert network.backbone.seen == 4 * len(files)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    elsewhere = copies(network, files, tmp_path / "other", 2)
    assert np.array_equal(elsewhere[0], first[2])


def test_a_picture_replaced_in_a_folder_of_ones_own_is_computed_anew(network, tmp_path):
    own = replace(write_images(tmp_path / "own"), name="folder")
    before = features(network, own, tmp_path / "cache").copy()
    write = Image.fromarray(np.full((9, 14, 3), 200, np.uint8)).save
    write(own.images[1])
    after = features(network, replace(own), tmp_path / "cache")  # as another run reads it
    assert [np.array_equal(a, b) for a, b in zip(before, after, strict=True)] == [1, 0, 1, 1, 1]


def test_more_or_fewer_images_compute_only_what_no_file_holds(network, files, tmp_path):
    cache = tmp_path / "cache"
    features(network, files.select(torch.tensor([3, 0])), cache)
    assert network.backbone.seen == 2
    maps = features(network, files, cache)
    assert network.backbone.seen == 5
    np.testing.assert_allclose(maps, slow_maps(network, files), rtol=1e-3, atol=1e-3)
    seen = network.backbone.seen
    assert np.array_equal(
        features(network, files.select(torch.tensor([4, 1])), cache), maps[[4, 1]]
    )
    assert network.backbone.seen == seen


def test_after_an_interruption_only_the_rest_is_computed(network, files, tmp_path, monkeypatch):
    monkeypatch.setattr("mi_common.features.PART_ROWS", 2)
    cache = tmp_path / "cache"
    expected = np.array(features(network, files, tmp_path / "whole"))
    network.backbone.counter[0] = 0

    def interrupted(module, inputs):
        if network.backbone.seen == 4:
            raise KeyboardInterrupt

    hook = network.backbone.register_forward_pre_hook(interrupted)
    with pytest.raises(KeyboardInterrupt):
        features(network, files, cache)
    hook.remove()
    assert len(list(cache.glob("*-part-*.npy"))) == 2
    maps = features(network, files, cache)
    assert network.backbone.seen == 5
    assert np.array_equal(maps, expected)
    assert len(list(cache.glob("*.npy"))) == len(list(cache.glob("*.keys"))) == 1


def test_a_damaged_file_that_others_would_use_is_named(network, files, tmp_path):
    cache = tmp_path / "cache"
    features(network, files.select(torch.tensor([3, 0])), cache)
    (path,) = cache.glob("*.npy")
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path.name}: damaged; delete it"):
        features(network, files, cache)
    path.unlink()
    maps = features(network, files, cache)
    np.testing.assert_allclose(maps, slow_maps(network, files), rtol=1e-3, atol=1e-3)
