"""The names that the flags offer are those that the heavy modules implement."""

import subprocess
import sys

import pytest
import torch

from mi_common.errors import UserError
from pc_softmax.losses import build_loss
from pc_softmax.names import LOSSES


def test_build_loss_builds_these_losses_and_no_other():
    kinds = {type(build_loss(name, torch.tensor([3, 2, 1]))) for name in LOSSES}
    assert len(kinds) == len(LOSSES)
    with pytest.raises(UserError, match="use one of " + ", ".join(LOSSES)):
        build_loss("hinge", torch.tensor([1, 1]))


def test_names_import_nothing_heavy():
    code = (
        "import sys, pc_softmax.names; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
