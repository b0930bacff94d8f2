"""`pc_softmax.train` end to end on generated digits: files, resume, refusals."""

import json
import os
import shutil

import numpy as np
import pytest
import torch

from mi_common.datasets import idx_images
from mi_common.errors import UserError
from mi_common.recipes import flat
from mi_common.records import RunFolder
from pc_softmax.data import load_data
from pc_softmax.losses import build_loss
from pc_softmax.networks import PaperNet
from pc_softmax.predictions import Predictions
from pc_softmax.recipes import RECIPES, Settings
from pc_softmax.train import main

SQUEEZENET = ["--network", "squeezenet1_1", "--weights", "none"]
SIZES = {"paper-window": 372, "official": 100}


def arguments(digits_dir, folder, *more) -> list[str]:
    words = ["--data-dir", digits_dir, "--output-dir", folder, "--device", "cpu", "--epochs", 2]
    return [str(word) for word in [*words, "--lr", 0.03, "--batch-size", 16, "--seed", 3, *more]]


@pytest.fixture(scope="module")
def run(digits_dir, tmp_path_factory) -> RunFolder:
    """A finished run; not to be written to."""
    folder = tmp_path_factory.mktemp("train") / "run"
    main(arguments(digits_dir, folder))
    return RunFolder(folder)


def contents(folder) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def arrays(run: RunFolder) -> dict[str, np.ndarray]:
    with np.load(run.path / "predictions.npz") as file:
        return dict(file)


def test_network_is_the_papers():
    network = PaperNet()
    assert network(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    convolutions = (25 + 1) * 20 + (20 * 25 + 1) * 50
    assert sum(p.numel() for p in network.parameters()) == convolutions + 801 * 500 + 501 * 10


def test_predictions_hold_logits_labels_and_priors_of_both_test_sets(run, digits_dir):
    saved = arrays(run)
    by_class = ("log_prior", "logit_log_prior", "counts", "class_names", "head_norms", "head_bias")
    assert {name: array.shape for name, array in saved.items()} == {
        **dict.fromkeys(by_class, (10,)),
        **{f"{name}_logits": (n, 10) for name, n in SIZES.items()},
        **{f"{name}_labels": (n,) for name, n in SIZES.items()},
    }
    assert saved["counts"].tolist() == [300] + [20] * 9
    assert np.exp(saved["log_prior"]) == pytest.approx(saved["counts"] / 480)
    assert saved["logit_log_prior"] == pytest.approx(np.log(np.full(10, 0.1)))  # of PC-softmax
    assert saved["class_names"].tolist() == list("0123456789")
    labels = idx_images("mnist", digits_dir, "train")[1].numpy()
    with np.load(run.path / "indices.npz") as indices:
        sizes = {"train": 480, "test_paper-window": 372, "test_official": 100}
        assert {name: len(rows) for name, rows in indices.items()} == sizes
        assert np.array_equal(saved["paper-window_labels"], labels[indices["test_paper-window"]])
        assert np.bincount(labels[indices["train"]]).tolist() == [300] + [20] * 9
    assert saved["official_labels"].tolist() == list(range(10)) * 10


def test_argmax_of_the_saved_logits_gives_the_scores_of_the_result(run):
    saved, result = arrays(run), run.result()
    assert list(result["test_sets"]) == list(SIZES)
    for name, n in SIZES.items():
        right = saved[f"{name}_logits"].argmax(axis=1) == saved[f"{name}_labels"]
        by_class = [right[saved[f"{name}_labels"] == k].mean() for k in range(10)]
        assert result["test_sets"][name] == pytest.approx(
            {
                "accuracy": right.mean(),
                "balanced_accuracy": np.mean(by_class),
                "worst_class_accuracy": min(by_class),
                "n_test": n,
            }
        )
    assert result["n_train"] == 480
    assert result["test_sets"]["official"]["accuracy"] > 0.25  # chance is 0.1
    assert result["seconds"] == pytest.approx(
        sum(line["seconds"] for line in run.load_checkpoint()["metrics"])
    )


def test_saved_logits_and_head_are_those_of_the_checkpoint(run, digits_dir):
    network = PaperNet()
    network.load_state_dict(run.load_checkpoint()["model"])
    images = load_data("mnist", digits_dir, imbalance="paper").tests["official"].images
    with torch.inference_mode():
        logits = network((images.float() / 255 - 0.1307) / 0.3081).numpy()  # as the original does
        norms = [row.square().sum().sqrt().item() for row in network.head.weight]
        bias = network.head.bias.numpy()
    saved = arrays(run)
    np.testing.assert_allclose(saved["official_logits"], logits, rtol=0, atol=1e-4)
    assert saved["head_norms"] == pytest.approx(norms)
    assert np.array_equal(saved["head_bias"], bias)


@pytest.mark.parametrize(
    ("loss", "words", "cosine", "scale"),
    [
        ("softmax", [], False, 1),
        ("pc-softmax", ["--head", "cosine"], True, 30),
        ("pc-softmax", ["--head", "cosine", "--scale", 7], True, 7),
        ("ldam", [], True, 30),
        ("ldam", ["--head", "linear", "--scale", 7], False, 1),
    ],
)
def test_a_cosine_heads_logits_are_its_scale_times_the_cosines(
    digits_dir, tmp_path, loss, words, cosine, scale
):
    still = ["--epochs", 1, "--lr", 1e-30]  # the epoch's loss is that of the saved network
    main(arguments(digits_dir, tmp_path / "run", "--loss", loss, *still, *words))
    run, data = RunFolder(tmp_path / "run"), load_data("mnist", digits_dir, imbalance="paper")
    network = PaperNet(cosine_head=cosine)
    network.load_state_dict(run.load_checkpoint()["model"])
    pixels = {
        name: (images.images.float() / 255 - 0.1307) / 0.3081
        for name, images in (("train", data.train), ("official", data.tests["official"]))
    }
    with torch.inference_mode():
        outputs = {name: network(images) for name, images in pixels.items()}
        # LDAM scales cosines itself, behind the margins.
        factor, options = (1, {"scale": scale}) if loss == "ldam" else (scale, {})
        value = build_loss(loss, data.counts, **options)(
            factor * outputs["train"], data.train.labels
        )
    saved = arrays(run)
    np.testing.assert_allclose(
        saved["official_logits"], scale * outputs["official"], rtol=0, atol=1e-4
    )
    assert run.load_checkpoint()["metrics"][0]["loss"] == pytest.approx(value.item(), abs=1e-4)
    assert (Predictions.load(run.path / "predictions.npz").head is None) == cosine
    flags = json.loads((run.path / "config.json").read_text())["flags"]
    assert flags["head"] == ("cosine" if cosine else "linear")
    # Runs from before there was the flag have the loss's own head.
    assert Settings.from_flags(flags | {"head": None}).head == (
        "cosine" if loss == "ldam" else "linear"
    )


def test_the_data_sets_recipe_is_the_originals_and_flags_change_it(run):
    flags = json.loads((run.path / "config.json").read_text())["flags"]
    given = {"epochs": 2, "batch_size": 16, "lr": 0.03, "seed": 3}
    recipe = {"imbalance": "paper", "network": "paper-net", "freeze_backbone": False}
    recipe |= {"momentum": 0.5, "schedule": "constant", "optimizer": "sgd", "weight_decay": 0}
    assert {name: flags[name] for name in given | recipe} == given | recipe
    paper = {"epochs": 8, "batch_size": 64, "lr": 0.01} | recipe
    assert {name: flat(RECIPES["mnist"])[name] for name in paper} == paper


def test_the_small_network_learns_imbalanced_digits_in_a_few_epochs(tmp_path):
    words = ["--dataset", "digits", "--output-dir", tmp_path / "run", "--device", "cpu"]
    main([str(word) for word in [*words, "--epochs", 6, "--loss", "softmax"]])
    run = RunFolder(tmp_path / "run")
    assert arrays(run)["counts"].tolist() == [128, 99, 76, 59, 46, 35, 27, 21, 16, 12]
    assert run.result()["test_sets"]["official"]["balanced_accuracy"] > 0.75  # chance is 0.1


def test_interrupted_run_resumes_to_the_same_predictions(
    run, digits_dir, tmp_path, monkeypatch, capsys
):
    replaced = []
    replace, save_epoch = os.replace, RunFolder.save_epoch

    def stop_after_first_epoch(self, checkpoint):
        save_epoch(self, checkpoint)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_epoch", stop_after_first_epoch)
        with pytest.raises(SystemExit) as stopped:
            main(arguments(digits_dir, tmp_path / "run"))
    assert stopped.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1].endswith("go on with --resume")
    half = RunFolder(tmp_path / "run")
    assert not half.finished
    (first_epoch,) = half.load_checkpoint()["metrics"]

    monkeypatch.setattr(
        "mi_common.files.os.replace", lambda a, b: (replaced.append(b), replace(a, b))
    )
    main(arguments(digits_dir, tmp_path / "run", "--resume"))
    assert half.load_checkpoint()["metrics"][0] == first_epoch  # with its old seconds
    assert len(half.load_checkpoint()["metrics"]) == 2
    assert replaced[-1].name == "result.json"
    assert {path.name for path in replaced} >= {"predictions.npz", "indices.npz", "checkpoint.pt"}
    whole, resumed = arrays(run), arrays(half)
    assert whole.keys() == resumed.keys()
    assert all(np.array_equal(whole[name], resumed[name]) for name in whole)


def test_resume_of_a_finished_run_trains_nothing_and_prints_its_table(
    run, digits_dir, tmp_path, capsys
):
    folder = tmp_path / "run"
    shutil.copytree(run.path, folder)
    before = contents(folder)
    main(arguments(digits_dir, folder, "--resume"))
    accuracy = 100 * run.result()["test_sets"]["official"]["accuracy"]
    assert f"| official | 100 | {accuracy:.2f} % |" in capsys.readouterr().out
    assert contents(folder) == before


def test_seed_draws_the_initial_weights(digits_dir, tmp_path, monkeypatch):
    initial = []

    def stop(model, *args, **options):
        initial.append(next(model.parameters()).detach().clone())
        raise UserError("enough")

    monkeypatch.setattr("mi_common.training.fit", stop)
    for number, seed in enumerate((3, 3, 4)):
        with pytest.raises(SystemExit):
            main(arguments(digits_dir, tmp_path / str(number), "--seed", seed))
    assert torch.equal(initial[0], initial[1])
    assert not torch.equal(initial[0], initial[2])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--epochs", 1], "exists; use --resume, --overwrite or another --output-dir"),
        (["--resume", "--lr", 0.1], "--lr 0.03 -> 0.1"),
    ],
)
def test_a_run_is_not_changed_by_other_flags(run, digits_dir, user_error, words, said):
    before = contents(run.path)
    assert said in user_error(main, arguments(digits_dir, run.path, *words))
    assert contents(run.path) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--loss", "hinge"], "'hinge'"),
        (["--dataset", "cifar"], "'cifar'"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--momentum", "1"], "'1' is not a number from 0 to below 1"),
        (["--imbalance", "exp:0.5"], "'exp:0.5' is not one of none, paper, step:RATIO, exp:RATIO"),
        (["--network", "resnet7"], "network 'resnet7': use efficientnet_lite0, timm:NAME or"),
        (["--dataset", "digits", *SQUEEZENET], "squeezenet1_1: cannot take images of 8 pixels"),
        (["--dataset", "cifar10", "--network", "paper-net"], "28 x 28 grey images only, not cifar"),
        (["--image-size", "32"], "--image-size: only for image files, not mnist"),
        (["--augmented-copies", "2"], "--augmented-copies: only for image files and a frozen"),
        (["--drw", "1"], "--drw: not for the loss pc-softmax; use one of weighted"),
        (["--drw", "2", "--loss", "ldam"], "--drw 2: must be below --epochs 2"),
        (
            ["--label-smoothing", "0.1", "--loss", "ldam"],
            "--label-smoothing: not for the loss ldam",
        ),
        (["--retrain-head"], "--retrain-head: give the run of the first stage with --init RUN"),
        (["--init", "nowhere"], "nowhere holds no finished run"),
        (
            ["--skip-unreadable"],
            "--skip-unreadable: only for tiny-imagenet, cub, folder, not mnist",
        ),
    ],
)
def test_wrong_flags_are_one_line_and_leave_no_folder(
    digits_dir, tmp_path, user_error, words, said
):
    assert said in user_error(main, arguments(digits_dir, tmp_path / "run", *words))
    assert list(tmp_path.iterdir()) == []
