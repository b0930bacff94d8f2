"""Two processes that train a network with batch norm on image files, and share its features."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from processes import run_two
from torch.nn.functional import cross_entropy

from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.engine import ImageBatches, fit, predict
from mi_common.features import cached_features
from mi_common.image_sets import ImageSet
from mi_common.records import RunFolder
from mi_common.runtime import setup

SPEC = InputSpec(8)


def make_network() -> GlobalAveragePoolClassifier:
    torch.manual_seed(0)
    layers = torch.nn.Conv2d(3, 6, 3, stride=2), torch.nn.BatchNorm2d(6), torch.nn.ReLU()
    return GlobalAveragePoolClassifier(torch.nn.Sequential(*layers), 6, 2, SPEC)


def worker(folder: Path) -> None:
    runtime = setup("cpu")
    paths = sorted((folder / "pictures").iterdir())
    files = ImageSet("mini", paths, torch.arange(len(paths)) % 2, ["even", "odd"])
    network, seen = make_network(), []
    options = {"kind": "pooled", "runtime": runtime, "num_workers": 0}
    network.backbone.register_forward_hook(lambda *call: seen.append(len(call[2])))
    features = [
        torch.from_numpy(np.array(cached_features(network, files, folder / "cache", **options)))
        for _ in range(2)
    ]
    computed = sum(seen)
    shared = {"batch_size": 4, "seed": 0, "runtime": runtime, "num_workers": 0}
    batches = ImageBatches(files, SPEC.random_transform(), **shared)
    labels = [y.tolist() for _, y, _ in batches.epoch(0)]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    run = RunFolder(folder / "run")
    fit(network, batches, cross_entropy, optimizer, epochs=2, runtime=runtime, run=run)
    images = torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    logits = predict(network, images, runtime=runtime)
    found = {"computed": computed, "features": features, "labels": labels, "logits": logits}
    torch.save(found | {"state": network.state_dict()}, folder / f"{runtime.rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> tuple[RunFolder, list[dict]]:
    """The run of both processes, and what each of them found."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "pictures").mkdir()
    rng = np.random.default_rng(0)
    for i in range(10):
        pixels = rng.integers(0, 256, (9, 9, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "pictures" / f"{i}.png")
    run_two(worker, folder)
    return RunFolder(folder / "run"), [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def test_features_are_computed_by_the_first_process_and_read_by_both(results):
    _, found = results
    assert [one["computed"] for one in found] == [10 + 2, 0]  # two to fold batch norms
    features = [values for one in found for values in one["features"]]
    assert features[0].shape == (10, 6)
    assert all(torch.equal(features[0], other) for other in features[1:])


def test_each_batch_of_files_is_split_between_them(results):
    _, (first, second) = results
    assert [len(batch) for batch in first["labels"]] == [2, 2, 1]
    assert [len(batch) for batch in second["labels"]] == [2, 2, 1]
    drawn = [label for batch in first["labels"] + second["labels"] for label in batch]
    assert sorted(drawn) == [0] * 5 + [1] * 5


def test_the_predictions_of_both_are_those_of_the_checkpoint(results):
    """Each sees other images, so batch norms would differ if they were not shared."""
    run, found = results
    state = run.load_checkpoint()["model"]
    network = make_network()
    network.load_state_dict(state)
    images = torch.randn(9, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        wanted = network.eval()(images)
    assert (
        state["backbone.1.running_mean"] - make_network().backbone[1].running_mean
    ).abs().max() > 0.01
    for one in found:
        for name, value in state.items():
            torch.testing.assert_close(one["state"][name], value, rtol=0, atol=1e-6, msg=name)
        torch.testing.assert_close(one["logits"], wanted, rtol=0, atol=1e-5)
