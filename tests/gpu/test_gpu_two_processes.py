"""Two processes with a GPU each, over NCCL, against one: the same weights and predictions."""

import os
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy

from mi_common.engine import TensorBatches, fit, predict
from mi_common.records import RunFolder
from mi_common.runtime import seed_everything, setup
from pc_softmax.networks import PaperNet
from tests.mi_common.processes import run_two

pytestmark = pytest.mark.gpu


def train_and_predict(device: str, folder: Path) -> dict:
    """45 images in batches of 16: the last has 13, so the processes' shares differ."""
    runtime = setup(device)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(45, 1, 28, 28, generator=generator)
    labels = torch.randint(4, (45,), generator=generator)
    for epochs in (1, 3):  # the second call takes up the first one's checkpoint
        seed_everything(runtime.rank)  # wrapping must begin from the first process's weights
        model = PaperNet(4).to(runtime.device)
        batches = TensorBatches(images, labels, batch_size=16, seed=5, runtime=runtime)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.5, fused=True)
        options = {"epochs": epochs, "runtime": runtime, "run": RunFolder(folder)}
        metrics = fit(model, batches, cross_entropy, optimizer, **options)
    return {
        "weights": {name: value.cpu() for name, value in model.state_dict().items()},
        "losses": [line["loss"] for line in metrics],
        "logits": predict(model, images[:11], runtime=runtime, batch_size=3),
    }


def worker(device: str, folder: Path) -> None:
    torch.backends.cudnn.allow_tf32 = False
    torch.save(train_and_predict(device, folder / "two"), folder / f"{os.environ['RANK']}.pt")


def test_two_gpus_reach_the_weights_and_predictions_of_one(device, tmp_path):
    if device == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip(f"needs two CUDA devices, there are {torch.cuda.device_count()}")
    run_two(worker, device, tmp_path)
    one = train_and_predict(device, tmp_path / "one")
    for rank in (0, 1):
        part = torch.load(tmp_path / f"{rank}.pt")
        assert part["losses"] == pytest.approx(one["losses"], abs=1e-4)
        torch.testing.assert_close(part["logits"], one["logits"], rtol=0, atol=1e-4)
        for name, value in one["weights"].items():
            torch.testing.assert_close(part["weights"][name], value, rtol=0, atol=1e-4)
