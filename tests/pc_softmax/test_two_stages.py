"""`--init` and `--retrain-head`: what is taken over, what is new, and which runs are refused."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from mi_common.records import RunFolder
from mi_common.runtime import seed_everything
from pc_softmax.data import load_data
from pc_softmax.networks import PaperNet
from pc_softmax.train import main

STILL = ["--lr", 1e-30]  # nothing moves: what a stage starts from is what it saves
FROZEN = ["--dataset", "cub", "--network", "timm:mobilenetv3_small_050", "--weights", "none"]
FROZEN += ["--image-size", 32, "--num-workers", 0]


def arguments(data_dir, folder, *more, seed=3) -> list[str]:
    words = ["--data-dir", data_dir, "--output-dir", folder, "--device", "cpu", "--seed", seed]
    return [str(word) for word in [*words, "--epochs", 1, "--loss", "softmax", *more]]


@pytest.fixture(scope="module")
def stages(digits_dir, tmp_path_factory) -> tuple[RunFolder, RunFolder]:
    """A softmax run of MNIST and cRT on it; not to be written to."""
    folder = tmp_path_factory.mktemp("stages")
    fast = ["--lr", 0.03, "--batch-size", 16]
    main(arguments(digits_dir, folder / "first", *fast))
    second = ["--init", folder / "first", "--retrain-head"]
    main(arguments(digits_dir, folder / "second", *fast, *second))
    return RunFolder(folder / "first"), RunFolder(folder / "second")


@pytest.fixture(scope="module")
def frozen(cub_dir, tmp_path_factory) -> RunFolder:
    """A run on the features of a random network that its seed draws."""
    folder = tmp_path_factory.mktemp("frozen")
    shutil.copytree(cub_dir, folder, dirs_exist_ok=True)
    main(arguments(folder, folder / "run", *FROZEN))
    return RunFolder(folder / "run")


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return run.load_checkpoint()["model"]


def official(run: RunFolder) -> np.ndarray:
    with np.load(run.path / "predictions.npz") as file:
        return file["official_logits"]


def paper_net(state: dict, head: nn.Module | None = None) -> nn.Module:
    network = PaperNet()
    network.load_state_dict(state)
    if head is not None:
        network.head = head
    return network.eval()


def test_a_retrained_head_is_all_that_changes(stages, digits_dir):
    first, second = stages
    assert weights(second).keys() == {"weight", "bias"}
    assert first.result()["backbone_sha256"] == second.result()["backbone_sha256"]
    images = load_data("mnist", digits_dir, imbalance="paper").tests["official"].images
    pixels = (images / 255 - 0.1307) / 0.3081
    head = nn.Linear(500, 10)
    head.load_state_dict(weights(second))
    with torch.inference_mode():
        expected = paper_net(weights(first), head)(pixels).numpy()
    np.testing.assert_allclose(official(second), expected, rtol=0, atol=1e-4)
    assert np.abs(official(first) - expected).max() > 0.1
    with np.load(second.path / "predictions.npz") as file:  # classes were drawn equally often
        assert file["logit_log_prior"] == pytest.approx(np.log(np.full(10, 0.1)))
        assert np.exp(file["log_prior"])[0] == pytest.approx(300 / 480)


def test_it_starts_from_a_new_layer_and_init_alone_from_the_old_one(stages, digits_dir, tmp_path):
    first, _ = stages
    init = ["--init", first.path, *STILL]
    main(arguments(digits_dir, tmp_path / "new", *init, "--retrain-head", seed=8))
    seed_everything(8)
    fresh = PaperNet().head.state_dict()
    assert all(torch.equal(weights(RunFolder(tmp_path / "new"))[k], v) for k, v in fresh.items())
    main(arguments(digits_dir, tmp_path / "old", *init, seed=8))
    assert np.array_equal(official(RunFolder(tmp_path / "old")), official(first))
    main(arguments(digits_dir, tmp_path / "head", *init, "--freeze-backbone", seed=8))
    head = weights(RunFolder(tmp_path / "head"))
    assert all(torch.equal(head[k], weights(first)[f"head.{k}"]) for k in ("weight", "bias"))


def test_the_balanced_second_stage_predicts_rare_classes_more_often(stages):
    first, second = (official(run).argmax(axis=1) for run in stages)
    assert (second != 0).mean() > (first != 0).mean() + 0.2


@pytest.mark.parametrize("losses", [("ldam", "softmax"), ("softmax", "ldam")])
def test_a_new_last_layer_may_be_of_another_kind(digits_dir, tmp_path, losses, user_error):
    first, second = (["--loss", loss, *STILL] for loss in losses)
    main(arguments(digits_dir, tmp_path / "first", *first))
    init = ["--init", tmp_path / "first"]
    main(arguments(digits_dir, tmp_path / "second", *second, *init, "--retrain-head"))
    results = [RunFolder(tmp_path / name).result() for name in ("first", "second")]
    assert results[0]["backbone_sha256"] == results[1]["backbone_sha256"]
    line = user_error(main, arguments(digits_dir, tmp_path / "third", *second, *init))
    assert f"--init {tmp_path / 'first'}" in line and "'head.bias'" in line


def test_a_frozen_run_is_retrained_on_the_same_features_only(frozen, user_error, tmp_path):
    data_dir = frozen.path.parent
    second = [*FROZEN, "--init", frozen.path, "--retrain-head"]
    cached = len(list((data_dir / "features").glob("*.npy")))
    main(arguments(data_dir, tmp_path / "second", *second))
    result = RunFolder(tmp_path / "second").result()
    assert result["backbone_sha256"] == frozen.result()["backbone_sha256"]
    assert len(list((data_dir / "features").glob("*.npy"))) == cached == 3
    for words, seed in ((second, 4), ([*second, "--network", "efficientnet_lite0"], 3)):
        line = user_error(main, arguments(data_dir, tmp_path / "third", *words, seed=seed))
        assert f"--init {frozen.path}: its head was trained on other features" in line
    assert not (tmp_path / "third").exists()


def test_a_whole_network_goes_on_from_a_head_that_was_trained_alone(frozen, tmp_path):
    words = [*FROZEN, "--init", frozen.path, "--no-freeze-backbone", *STILL]
    main(arguments(frozen.path.parent, tmp_path / "whole", *words))
    state = weights(RunFolder(tmp_path / "whole"))
    head = weights(frozen)
    assert all(torch.equal(state[f"head.{name}"], value) for name, value in head.items())


def test_runs_that_do_not_fit_are_one_line_and_nothing_is_written(
    stages, frozen, digits_dir, tmp_path, user_error
):
    first, _ = stages
    for name in ("unfinished", "other", "empty"):
        shutil.copytree(first.path, tmp_path / name)
    (tmp_path / "unfinished/result.json").unlink()
    (tmp_path / "empty/checkpoint.pt").unlink()
    config = json.loads((first.path / "config.json").read_text())
    changed = copy.deepcopy(config)
    changed["entry"] = "infocam.train"
    (tmp_path / "other/config.json").write_text(json.dumps(changed))
    cases = [
        ([tmp_path / "unfinished"], "unfinished holds no finished run"),
        ([tmp_path / "none"], "none holds no finished run"),
        ([tmp_path / "other"], "other: written by infocam.train"),
        ([tmp_path / "empty"], "empty: no checkpoint.pt; train again"),
        ([first.path, "--network", "small-cnn"], "do not fit"),
        ([frozen.path], "its head was trained on other features"),
    ]
    for more in ([], ["--retrain-head"]):
        for init, said in cases:
            words = arguments(digits_dir, tmp_path / "run", "--init", *init, *more)
            assert said in user_error(main, words)
            assert not (tmp_path / "run").exists()
