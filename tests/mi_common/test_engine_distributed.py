"""Two gloo processes against one: the same weights, metrics and predictions."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from processes import run_two
from torch import nn
from torch.nn.functional import cross_entropy

from mi_common.engine import TensorBatches, fit, predict
from mi_common.records import RunFolder
from mi_common.runtime import seed_everything, setup

BATCH, EPOCHS = 16, 3


def resumed_weights(runtime, x, y, folder: Path, *, epochs: tuple[int, ...]) -> torch.Tensor:
    """First layer after runs of so many epochs, each taking up the one before, with dropout."""
    for total in epochs:
        seed_everything(0)
        model = nn.Sequential(nn.Linear(6, 12), nn.Dropout(0.5), nn.Linear(12, 4))
        batches = TensorBatches(x, y, batch_size=BATCH, seed=5, runtime=runtime)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.2)
        run = RunFolder(folder)
        fit(model, batches, cross_entropy, optimizer, epochs=total, runtime=runtime, run=run)
        if runtime.world_size > 1:
            dist.barrier()  # the checkpoint is written before anyone looks for it
    return model[0].weight.detach()


def train_and_predict(folder: Path) -> dict:
    """45 samples in batches of 16: the last has 13, so the processes' shares differ."""
    runtime = setup("cpu")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(45, 6, generator=generator)
    y = torch.randint(4, (45,), generator=generator)
    # A different start on each process: wrapping must begin from the first one's weights.
    torch.manual_seed(runtime.rank)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))
    batches = TensorBatches(x, y, batch_size=BATCH, seed=5, runtime=runtime)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
    metrics = fit(model, batches, cross_entropy, optimizer, epochs=EPOCHS, runtime=runtime)
    return {
        "weights": model.state_dict(),
        "losses": [m["loss"] for m in metrics],
        "logits": predict(model, x[:11], runtime=runtime, batch_size=3),
        "one row": predict(model, x[:1], runtime=runtime),
        "resumed": resumed_weights(runtime, x, y, folder / "resumed", epochs=(1, EPOCHS)),
        "uninterrupted": resumed_weights(runtime, x, y, folder / "whole", epochs=(EPOCHS,)),
        "rows": runtime.gather_rows(torch.arange(11)[runtime.rank :: runtime.world_size]),
    }


def worker(folder: Path) -> None:
    results = train_and_predict(folder / "two")
    torch.save(results, folder / f"{dist.get_rank()}.pt")


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> tuple[dict, dict, dict]:
    """Results of one process, and of both processes of two."""
    folder = tmp_path_factory.mktemp("ranks")
    run_two(worker, folder)
    one = train_and_predict(folder / "one")
    return one, torch.load(folder / "0.pt"), torch.load(folder / "1.pt")


def test_two_processes_reach_the_weights_of_one(runs):
    one, *two = runs
    for name, value in one["weights"].items():
        for part in two:
            torch.testing.assert_close(part["weights"][name], value, rtol=0, atol=1e-5)


def test_two_processes_log_the_loss_of_all_samples(runs):
    one, *two = runs
    for part in two:
        assert part["losses"] == pytest.approx(one["losses"], abs=1e-5)


def test_two_processes_resume_where_they_stopped(runs):
    for part in runs:
        torch.testing.assert_close(part["resumed"], part["uninterrupted"], rtol=0, atol=1e-6)


def test_prediction_returns_all_rows_in_order_on_every_process(runs):
    one, *two = runs
    assert one["logits"].shape == (11, 4)
    for part in two:
        torch.testing.assert_close(part["logits"], one["logits"], rtol=0, atol=1e-5)
        torch.testing.assert_close(part["one row"], one["one row"], rtol=0, atol=1e-5)
        assert part["rows"].tolist() == list(range(11))
