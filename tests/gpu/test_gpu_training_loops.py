"""The timings of `scripts.speed` on the GPU."""

import pytest
import torch

from scripts import gpu_timings

pytestmark = pytest.mark.gpu


def test_memory_is_the_most_that_tensors_took_in_the_block(gpu):
    if gpu.device.type != "cuda":
        pytest.skip("only a GPU counts its memory")
    before = torch.cuda.memory_allocated(gpu.device)
    with gpu_timings.clock(gpu.device) as row:
        torch.empty(2**29, dtype=torch.uint8, device=gpu.device)
    assert row["memory_gb"] == pytest.approx(before / 2**30 + 0.5, abs=0.01)


def test_both_loops_train_a_network_on_the_device(gpu, device):
    rows = gpu_timings.time_training(device, 8, 4, side=64, networks=("resnet18",))
    for row, precision in zip(rows, ("fp32", "bf16"), strict=False):
        assert row["precision"] == precision
        assert row["ratio"] == pytest.approx(row["per_second"] / row["bare"])
        if gpu.device.type == "cuda":
            assert 0 < row["memory_gb"] < 4
        if precision == "bf16":
            break  # the next row is compiled
