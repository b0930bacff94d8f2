"""The loop: resumed equals uninterrupted, every sample once, errors, precision."""

import json
import re

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mi_common.engine import TensorBatches, fit, predict
from mi_common.errors import UserError
from mi_common.records import RunFolder
from mi_common.runtime import Runtime, seed_everything

CPU = Runtime(torch.device("cpu"))
EPOCHS = 4


class Stopped(Exception):
    """Stands for a killed process."""


def digits(n: int = 203) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(n, 8, generator=generator)
    return x, (x @ torch.randn(8, 3, generator=generator)).argmax(1)


def train(epochs=EPOCHS, *, run=None, stop_at_step=None, precision="fp32") -> tuple:
    """A small run with dropout, momentum and a schedule; what a script would do anew each time."""
    seed_everything(3)
    runtime = Runtime(torch.device("cpu"), precision)
    model = nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, 3)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    batches = TensorBatches(*digits(), batch_size=32, seed=3, runtime=runtime)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=0.1, total_steps=EPOCHS * len(batches)
    )
    steps = 0

    def loss(logits, labels):
        nonlocal steps
        steps += 1
        if steps == stop_at_step:
            raise Stopped
        return cross_entropy(logits, labels)

    options = {"epochs": epochs, "runtime": runtime, "scheduler": scheduler, "run": run}
    metrics = fit(model, batches, loss, optimizer, **options)
    return model.state_dict(), [{k: v for k, v in m.items() if k != "seconds"} for m in metrics]


def logged(run: RunFolder) -> list[dict]:
    """The lines of metrics.jsonl."""
    if not run.metrics_file.exists():
        return []
    return [json.loads(line) for line in run.metrics_file.read_text().splitlines()]


def assert_same_run(first, second):
    assert first[1] == second[1]
    assert first[0].keys() == second[0].keys()
    for name, value in first[0].items():
        assert torch.equal(value, second[0][name]), name


def test_a_run_continued_after_fewer_epochs_equals_an_uninterrupted_one(tmp_path):
    whole = train()
    for epochs in (1, 3):
        partial = train(epochs, run=RunFolder(tmp_path))
        assert [m["epoch"] for m in partial[1]] == list(range(1, epochs + 1))
    torch.rand(17)  # whatever the resuming script draws before must not matter
    assert_same_run(train(run=RunFolder(tmp_path)), whole)
    lines = logged(RunFolder(tmp_path))
    assert [{k: v for k, v in m.items() if k != "seconds"} for m in lines] == whole[1]


@pytest.mark.parametrize("stop_at_step", [3, 12, 28])
def test_a_run_killed_within_an_epoch_equals_an_uninterrupted_one(tmp_path, stop_at_step):
    """Seven batches an epoch: killed in the first, the second, and at the last step of all."""
    with pytest.raises(Stopped):
        train(run=RunFolder(tmp_path), stop_at_step=stop_at_step)
    assert len(logged(RunFolder(tmp_path))) == (stop_at_step - 1) // 7
    assert_same_run(train(run=RunFolder(tmp_path)), train())


def test_a_run_killed_between_metrics_and_checkpoint_equals_an_uninterrupted_one(tmp_path):
    run = RunFolder(tmp_path)
    train(2, run=run)
    checkpoint = run.checkpoint_file.read_bytes()
    train(3, run=run)
    run.checkpoint_file.write_bytes(checkpoint)
    assert_same_run(train(run=run), train())
    assert len(logged(run)) == EPOCHS


@pytest.mark.parametrize("damage", ["missing", "shorter", "garbled"])
def test_the_checkpoint_says_how_many_epochs_are_done_whatever_the_metrics_file_holds(
    tmp_path, damage
):
    run = RunFolder(tmp_path)
    train(3, run=run)
    lines = run.metrics_file.read_text().splitlines(keepends=True)
    if damage == "missing":
        run.metrics_file.unlink()
    else:
        run.metrics_file.write_text(lines[0] if damage == "shorter" else "{")
    assert_same_run(train(run=run), train())
    assert [line["epoch"] for line in logged(run)] == [1, 2, 3, 4]
    assert run.metrics_file.read_text().startswith("".join(lines))


@pytest.mark.parametrize("foreign", [{"w": torch.zeros(2)}, {"model": {}, "metrics": []}])
def test_a_foreign_checkpoint_is_one_line(tmp_path, foreign):
    run = RunFolder(tmp_path)
    torch.save(foreign, run.checkpoint_file)
    with pytest.raises(
        UserError, match=r"checkpoint\.pt: (not a checkpoint|belongs to another).*; delete it"
    ):
        train(run=run)


def test_a_finished_run_is_not_trained_further(tmp_path):
    first = train(run=RunFolder(tmp_path))
    assert_same_run(train(run=RunFolder(tmp_path), stop_at_step=1), first)


def test_checkpoint_reads_with_weights_only_and_holds_all_states(tmp_path):
    weights, _ = train(2, run=RunFolder(tmp_path))
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert set(checkpoint) == {"model", "optimizer", "scheduler", "scaler", "metrics", "rng"}
    assert [line["epoch"] for line in checkpoint["metrics"]] == [1, 2]
    assert checkpoint["scheduler"]["last_epoch"] == 14
    for name, value in weights.items():
        assert torch.equal(checkpoint["model"][name], value)
    assert checkpoint["rng"]  # that it is the right one, the resumed runs above show


def test_metrics_are_the_mean_over_samples_not_over_batches():
    """An uneven last batch (70 = 2 * 32 + 6) must weigh by its size."""
    x, y = digits(70)
    model = nn.Linear(8, 3)
    expected = cross_entropy(model(x), y).item()
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    batches = TensorBatches(x, y, batch_size=32, seed=0, runtime=CPU)
    metrics = fit(model, batches, cross_entropy, still, epochs=1, runtime=CPU)
    assert metrics[0]["loss"] == pytest.approx(expected, rel=1e-6)


def test_diverging_loss_is_a_user_error_and_keeps_the_last_good_checkpoint(tmp_path):
    run = RunFolder(tmp_path)
    x, y = digits(64)
    model = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = TensorBatches(x, y, batch_size=32, seed=0, runtime=CPU)
    fit(model, batches, cross_entropy, optimizer, epochs=1, runtime=CPU, run=run)

    def diverging(logits, labels):
        return cross_entropy(logits, labels) * float("inf")

    with pytest.raises(UserError, match=re.escape("in epoch 2; use a lower --lr")):
        fit(model, batches, diverging, optimizer, epochs=2, runtime=CPU, run=run)
    assert len(run.load_checkpoint()["metrics"]) == len(logged(run)) == 1


@pytest.mark.parametrize(
    ("answers", "epochs"),
    [([True], 1), ([False, False, True], 3), ([None, False, 0], 5), ([False] * 4 + [True], 5)],
)
def test_training_ends_after_the_epoch_whose_caller_says_so(tmp_path, answers, epochs):
    x, y = digits(64)
    model = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = TensorBatches(x, y, batch_size=32, seed=0, runtime=CPU)
    asked = []

    def after_epoch():
        saved = run.load_checkpoint()
        assert saved["metrics"] == logged(run) and len(logged(run)) == len(asked) + 1
        assert torch.equal(saved["model"]["weight"], model.weight)
        asked.append(answers[len(asked)] if len(asked) < len(answers) else False)
        return asked[-1]

    run = RunFolder(tmp_path)
    options = {"epochs": 5, "runtime": CPU, "run": run, "after_epoch": after_epoch}
    metrics = fit(model, batches, cross_entropy, optimizer, **options)
    assert [line["epoch"] for line in metrics] == list(range(1, epochs + 1))
    assert len(asked) == len(logged(run)) == epochs
    assert not model.training


def test_the_caller_is_told_every_epoch_that_begins_after_a_resume_too(tmp_path):
    x, y = digits(64)
    told = []

    def told_so_far(epochs: int) -> list[int]:
        model = nn.Linear(8, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        batches = TensorBatches(x, y, batch_size=32, seed=0, runtime=CPU)
        options = {"runtime": CPU, "run": RunFolder(tmp_path), "before_epoch": told.append}
        fit(model, batches, cross_entropy, optimizer, epochs=epochs, **options)
        return told

    assert told_so_far(2) == [0, 1]
    assert told_so_far(2) == [0, 1]  # nothing left to train
    assert told_so_far(5) == [0, 1, 2, 3, 4]


def test_predict_gives_every_row_in_order_in_eval_mode():
    model = nn.Sequential(nn.Dropout(0.9), nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    x = torch.randn(23, 4)
    logits = predict(model, x, runtime=CPU, batch_size=5)
    assert not model.training and not any(part.training for part in model)
    assert logits.dtype == torch.float32 and not logits.requires_grad
    torch.testing.assert_close(logits, model(x).detach())


@pytest.mark.parametrize("precision, dtype", [("bf16", torch.bfloat16), ("fp16", torch.float16)])
def test_half_precision_trains_on_the_cpu_and_resumes(tmp_path, precision, dtype):
    single, half = train(), train(precision=precision)
    losses = [m["loss"] for m in half[1]]
    assert losses == pytest.approx([m["loss"] for m in single[1]], abs=0.03)
    assert losses != [m["loss"] for m in single[1]]
    assert losses[-1] < 0.8 * losses[0]
    assert all(value.dtype != dtype for value in half[0].values())  # master weights stay float32
    train(2, run=RunFolder(tmp_path), precision=precision)
    assert_same_run(train(run=RunFolder(tmp_path), precision=precision), half)
