"""Learning rates and optimisers in real steps of a network, deferred class weights."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from mi_common.recipes import Training
from mi_common.records import RunFolder
from mi_common.training import ImageClassifier
from pc_softmax.data import ImbalancedData, load_data
from pc_softmax.losses import LDAMLoss, class_balanced_weights
from pc_softmax.networks import build_network
from pc_softmax.train import main

# A batch of all images: one step an epoch.
PLAIN = {"epochs": 1, "batch_size": 10_000, "lr": 0.1, "momentum": 0.0}


@pytest.fixture(scope="module")
def digits() -> ImbalancedData:
    return load_data("digits", Path("none"), imbalance="exp:50")


@pytest.fixture
def classifier(digits, cpu, tmp_path) -> ImageClassifier:
    torch.manual_seed(0)
    options = {"weights": "none", "image_size": None, "cosine_head": False}
    network = build_network("small-cnn", digits.train, **options)
    return ImageClassifier(network, head_only=False, cache_dir=tmp_path, runtime=cpu)


def one_step(classifier: ImageClassifier, data: ImbalancedData, **options) -> dict[str, tuple]:
    """Value before the only step, gradient there, and value after, of every parameter."""
    before = copy.deepcopy(classifier.network).train()
    inputs = before.spec.normalise(data.train.images)
    F.cross_entropy(before(inputs), data.train.labels).backward()
    classifier.fit(data.train, F.cross_entropy, Training(**PLAIN | options), seed=0)
    after = dict(classifier.network.named_parameters())
    return {k: (p.detach(), p.grad, after[k].detach()) for k, p in before.named_parameters()}


def test_the_head_has_a_learning_rate_of_its_own(classifier, digits):
    steps = one_step(classifier, digits, head_lr_ratio=20.0)
    assert {"head.weight", "head.bias", "backbone.0.weight"} <= steps.keys()
    for name, (value, gradient, after) in steps.items():
        lr = 0.1 * (20 if name.startswith("head.") else 1)
        torch.testing.assert_close(after, value - lr * gradient, rtol=0, atol=2e-5, msg=name)
    assert steps["head.weight"][1].abs().max() > 1e-3


def test_adamw_decays_weights_and_steps_by_the_learning_rate(classifier, digits):
    options = {"optimizer": "adamw", "weight_decay": 0.2, "lr": 0.01, "head_lr_ratio": 3.0}
    for name, (value, gradient, after) in one_step(classifier, digits, **options).items():
        lr = 0.01 * (3 if name.startswith("head.") else 1)
        clear = gradient.abs() > 1e-4  # rounding turns the sign of what is nearly zero
        expected = value * (1 - lr * 0.2) - lr * gradient / (gradient.abs() + 1e-8)
        torch.testing.assert_close(after[clear], expected[clear], rtol=0, atol=1e-4, msg=name)


def arguments(digits_dir, folder, *more) -> list[str]:
    words = ["--data-dir", digits_dir, "--output-dir", folder, "--device", "cpu", "--seed", 1]
    return [str(word) for word in [*words, "--batch-size", 48, *more]]


def test_the_schedule_reaches_the_optimiser_of_a_run(digits_dir, tmp_path):
    words = ["--schedule", "step", "--warmup-epochs", 1, "--epochs", 4, "--lr", 0.02]
    main(arguments(digits_dir, tmp_path / "run", *words, "--head-lr-ratio", 10))
    run = RunFolder(tmp_path / "run")
    # After 10, 20, 30 and 40 of 40 steps, of the backbone.
    assert [line["lr"] for line in run.load_checkpoint()["metrics"]] == pytest.approx(
        [0.02, 2e-3, 2e-4, 2e-4]
    )
    groups = run.load_checkpoint()["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == pytest.approx([2e-4, 2e-3])
    assert [group["momentum"] for group in groups] == [0.5, 0.5]
    assert [len(group["params"]) for group in groups] == [6, 2]


def test_class_weights_work_from_the_epoch_of_drw_on_after_a_resume_too(
    digits_dir, tmp_path, monkeypatch
):
    used, weight, save_epoch = [], LDAMLoss._weight, RunFolder.save_epoch

    def recorded(self, logits):
        used.append(weight(self, logits))
        return used[-1]

    def stop_after_two(self, checkpoint):
        save_epoch(self, checkpoint)
        if len(checkpoint["metrics"]) == 2:
            raise KeyboardInterrupt

    words = arguments(digits_dir, tmp_path, "--loss", "ldam", "--drw", 1, "--epochs", 3)
    monkeypatch.setattr(LDAMLoss, "_weight", recorded)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "save_epoch", stop_after_two)
        with pytest.raises(SystemExit):
            main(words)
    main([*words, "--resume"])
    balanced = class_balanced_weights(torch.tensor([300] + [20] * 9)).float()
    assert len(used) == 30
    assert all(torch.equal(w, torch.ones(10)) for w in used[:10])
    assert all(torch.allclose(w, balanced) for w in used[10:])
    assert balanced.max() / balanced.min() > 10
    assert json.loads((tmp_path / "config.json").read_text())["flags"]["drw"] == 1
