"""torchrun on two machines, here two nodes of one process each on the loopback address."""

import socket

import numpy as np
import pytest
import torch
from processes import ended, started

from mi_common.records import RunFolder
from pc_softmax.train import main

# The backbone is frozen: batch norm in training would see another share of the images.
TRAIN = "--dataset digits --freeze-backbone --epochs 3 --device cpu --num-workers 0"


@pytest.mark.slow
def test_two_nodes_give_the_results_of_one_process_and_write_them_once(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    run, alone = RunFolder(tmp_path / "run"), RunFolder(tmp_path / "alone")
    words = ["-m", "torch.distributed.run", "--nnodes", 2, "--nproc-per-node", 1]
    words += ["--master-addr", "127.0.0.1", "--master-port", port]
    train = ["-m", "pc_softmax.train", *TRAIN.split(), "--output-dir", run.path]
    with (
        started(*words, "--node-rank", 0, *train) as first,
        started(*words, "--node-rank", 1, *train) as second,
    ):
        main([*TRAIN.split(), "--output-dir", str(alone.path)])
        results = [ended(process, 120) for process in (first, second)]
    assert [(status, errors) for status, _, errors in results] == [(0, []), (0, [])]
    (first_line, *_), nothing = (lines for _, lines, _ in results)
    assert first_line == (
        f"pc_softmax: cpu (1 threads), fp32, 2 processes, seed 0, writing {run.path}"
    )
    assert nothing == []
    assert {path.name for path in run.path.iterdir()} == {
        path.name for path in alone.path.iterdir()
    }
    assert run.metrics_file.read_text().count("\n") == 3
    scores, wanted = (folder.result()["test_sets"]["official"] for folder in (run, alone))
    assert scores == pytest.approx(wanted, abs=0.003)
    weights, wanted = (folder.load_checkpoint()["model"] for folder in (run, alone))
    for name, value in wanted.items():
        torch.testing.assert_close(weights[name], value, rtol=0, atol=1e-4)
    with (
        np.load(run.path / "predictions.npz") as two,
        np.load(alone.path / "predictions.npz") as one,
    ):
        assert set(two) == set(one)
        np.testing.assert_allclose(two["official_logits"], one["official_logits"], atol=1e-3)
        assert np.array_equal(two["official_labels"], one["official_labels"])
