"""The timings for a GPU run on a CPU too: small sizes here."""

import pandas as pd
import pytest
import torch
from torch import nn

from mi_common import engine
from scripts import gpu_timings, page_tables, timings


def test_both_loops_train_on_every_image_in_every_epoch(cpu):
    seen = []

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, inputs):
            seen.append(len(inputs))
            return self.head(inputs)

    labels = torch.arange(10) % 4
    ours, bare = gpu_timings.compare_loops(Counting(), torch.rand(10, 3), labels, 4, cpu)
    assert seen == 2 * (1 + gpu_timings.EPOCHS) * [4, 4, 2]
    assert ours["seconds"] > 0 and bare["seconds"] > 0


def test_the_bare_loop_takes_the_steps_of_the_project(cpu):
    """On one batch, which no order changes."""
    images, labels = torch.rand(6, 3), torch.arange(6) % 4
    weights = []
    for bare in (True, False):
        torch.manual_seed(0)
        head = nn.Linear(3, 4)
        optimizer = torch.optim.SGD(head.parameters(), lr=0.1, momentum=0.5, fused=True)
        if bare:
            gpu_timings.bare_epoch(head, images, labels, 6, optimizer, cpu)
        else:
            batches = engine.TensorBatches(images, labels, batch_size=6, seed=0, runtime=cpu)
            engine.fit(head, batches, nn.functional.cross_entropy, optimizer, epochs=1, runtime=cpu)
        weights.append(head.weight.detach().clone())
    torch.testing.assert_close(weights[0], weights[1])


def test_rows_compare_rates():
    row = gpu_timings.compared("any", 100, {"seconds": 4.0}, {"seconds": 2.0}, precision="fp32")
    assert (row["per_second"], row["bare"], row["ratio"]) == (25, 50, 0.5)


def test_training_and_extraction_have_a_row_for_each_precision(tmp_path):
    rows = gpu_timings.time_training("cpu", 4, 2, side=32, networks=("resnet18",))
    rows = [next(rows), next(rows)]  # the third is compiled, which takes minutes
    rows += gpu_timings.time_extraction("cpu", 3, 0, side=32)
    timings.write_rows(rows, gpu_timings.COLUMNS, tmp_path / "gpu", on_gpu=True)
    written = pd.read_csv(tmp_path / "gpu.csv")
    assert list(written["precision"]) == ["fp32", "bf16"] * 2
    assert list(written["what"].unique()) == ["training resnet18", "features of efficientnet_lite0"]
    assert written["ratio"].to_numpy() == pytest.approx(written["per_second"] / written["bare"])
    assert written["memory_gb"].isna().all() and written["machine"].notna().all()
    shown = page_tables.gpu_speed(written)
    assert list(shown["memory, GB"]) == [""] * 4
    assert list(shown["ratio"]) == [f"{ratio:.2f}" for ratio in written["ratio"]]
    assert "3 JPEG files" in written["note"].iloc[-1]


@pytest.mark.slow
def test_the_papers_estimates_are_timed_with_their_error():
    words = ["--n-train", "2000", "--n-test", "5000", "--epochs", "2"]
    (row,) = gpu_timings.time_suite("cpu", *words)
    assert row["seconds"] > 0 and row["note"].startswith("8 settings")


@pytest.mark.slow
def test_digits_are_timed_by_epoch_and_as_a_whole(pytestconfig):
    rows = list(gpu_timings.time_digits(pytestconfig.rootpath / "data", "cpu"))
    assert [row["precision"] for row in rows] == ["fp32"] * 2 + ["bf16"] * 2
    assert "16,500 images" in rows[0]["note"] and "DataLoader" in rows[0]["note"]
    assert "balanced accuracy 9" in rows[1]["note"]
