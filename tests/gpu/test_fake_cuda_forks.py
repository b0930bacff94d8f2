"""The fake GPU leaves a process as it was: what it forks can still train."""

import os
import subprocess
import sys
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
SCRIPT = """
import os
import sys

import torch
from fake_cuda import CUDA, fake_cuda

def train():
    torch.ones(1, requires_grad=True).backward()

with fake_cuda():
    torch.ones(1, device=CUDA)
train()
child = os.fork()
if child == 0:
    train()
    os._exit(0)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_a_process_that_used_the_fake_gpu_can_fork_one_that_trains():
    paths = os.pathsep.join([str(REPO), str(Path(__file__).parent)])
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PYTHONPATH": paths, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
