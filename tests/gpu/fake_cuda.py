"""A GPU that is not there: tensors with shapes, types and devices, but without values.

    network = PaperNet()                # what looks at values is built first
    with fake_cuda():
        network.to(CUDA)
        logits = network(torch.rand(2, 1, 28, 28, device=CUDA))

An operation on tensors of two devices raises, as it does on a real GPU. Tensors made before count
as what they are, CPU tensors, and a network that was moved can be used again under the same
context. Backward passes do not work.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

CUDA = torch.device("cuda", 0)
# The first backward pass of a process starts a thread for each device. It must not find the fake
# one: PyTorch refuses backward passes in a fork of a process that has such threads.
torch.ones(1, requires_grad=True).backward()
_MODE = FakeTensorMode(allow_non_fake_inputs=True)


@contextmanager
def fake_cuda() -> Iterator[None]:
    with _MODE:
        yield


def assert_on_cuda(tensor: torch.Tensor, *shape: int, dtype: torch.dtype = torch.float32) -> None:
    assert (tensor.device, tuple(tensor.shape), tensor.dtype) == (CUDA, shape, dtype)
