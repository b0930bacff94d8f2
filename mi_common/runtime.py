"""Device, precision, random seeds, and the process group of torchrun."""

import argparse
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from mi_common.allocator import keep_freed_memory
from mi_common.errors import UserError, require_memory
from mi_common.process import end_with_parent

READER_MEMORY = 100_000_000  # bytes that a data-loading worker uses
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """The resolved device, precision and processes."""

    device: torch.device
    precision: str = "fp32"
    compile: bool = False
    rank: int = 0
    world_size: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def on_main(self, function: Callable, *args, **kwargs) -> None:
        """Calls `function` in the first process. The others wait, and raise the same error."""
        error = None
        if self.is_main:
            try:
                function(*args, **kwargs)
            except Exception as caught:
                error = caught
        if error := self.gather(error)[0]:
            raise error

    def require_shared(self, folder: Path) -> None:
        """UserError if a process does not see the run folder that the first process made."""
        if not all(self.gather((folder / "config.json").exists())):
            raise UserError(f"{folder}: some machine does not see it; use a folder that all share")

    def say(self, text: str) -> None:
        """Prints once, however many processes there are."""
        if self.is_main:
            print(text, flush=True)

    def autocast(self) -> AbstractContextManager:
        """The precision's autocast context; does nothing for fp32."""
        return torch.autocast(
            self.device.type, dtype=_DTYPES[self.precision], enabled=self.precision != "fp32"
        )

    def scaler(self) -> torch.amp.GradScaler:
        """A gradient scaler that passes everything through unless the precision is fp16."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to call in training; state dicts are taken from the bare `model`."""
        if self.world_size > 1:
            ids = [self.device.index] if self.device.type == "cuda" else None
            model = nn.parallel.DistributedDataParallel(model, device_ids=ids)
        return torch.compile(model) if self.compile else model

    def gather(self, value: object) -> list:
        """The values that all processes hold, in the order of their ranks."""
        values = [value] * self.world_size
        if self.world_size > 1:
            dist.all_gather_object(values, value)
        return values

    def gather_rows(self, rows: torch.Tensor) -> torch.Tensor:
        """Joins the rows rank::world_size of all processes in the original order, on the CPU."""
        parts = self.gather(rows.cpu())
        joined = torch.empty(sum(map(len, parts)), *rows.shape[1:], dtype=rows.dtype)
        for rank, part in enumerate(parts):
            joined[rank :: self.world_size] = part
        return joined

    def describe(self) -> str:
        """One phrase for a script's first line."""
        detail = f"{torch.get_num_threads()} threads"
        if self.device.type == "cuda":
            detail = torch.cuda.get_device_name(self.device)
        processes = f", {self.world_size} processes" if self.world_size > 1 else ""
        compiled = ", compiled" if self.compile else ""
        return f"{self.device} ({detail}), {self.precision}{compiled}{processes}"


def default_runtime() -> Runtime:
    """A GPU if there is one, in fp32. For use as a library: changes no global setting."""
    return Runtime(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def setup(
    device: str = "auto",
    precision: str = "fp32",
    *,
    compile: bool = False,
    deterministic: bool = False,
) -> Runtime:
    """Resolves the device and joins torchrun's process group; UserError without such a device."""
    keep_freed_memory()
    world_size = int(os.environ.get("WORLD_SIZE", 1))
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"--device {device}: no CUDA device here; use --device cpu")
        if device == "cuda":
            device = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        elif world_size > 1:
            raise UserError(f"--device {device}: torchrun gives each process its own; use cuda")
        if int(device[5:]) >= torch.cuda.device_count():
            raise UserError(f"--device {device}: there are {torch.cuda.device_count()} devices")
        torch.cuda.set_device(device)
    if world_size > 1 and not dist.is_initialized():
        end_with_parent()
        # The other processes wait while the first one computes features, which may take hours.
        dist.init_process_group(
            "nccl" if device.startswith("cuda") else "gloo", timeout=timedelta(days=1)
        )
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # the call imports a compiler
        torch.use_deterministic_algorithms(deterministic)
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False  # fp32 is what --precision says
    rank = int(os.environ.get("RANK", 0))
    return Runtime(torch.device(device), precision, compile, rank, world_size)


@contextmanager
def one_thread() -> Iterator[None]:
    """Uses one thread: more do not speed up small networks, and slow them down on shared cores."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def from_flags(args: argparse.Namespace) -> Runtime:
    """`setup` with the flags of `cli.add_common_arguments`; UserError for too many workers."""
    workers = getattr(args, "num_workers", 0)
    require_memory(workers * READER_MEMORY, f"--num-workers {workers}", "use fewer")
    return setup(
        args.device, args.precision, compile=args.compile, deterministic=args.deterministic
    )


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict:
    """All random states, in types that `torch.load(weights_only=True)` reads."""
    version, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (version, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_rng_state(state: dict, device: torch.device) -> None:
    """Restores the states of `rng_state`."""
    random.setstate(state["python"])
    version, keys, position, has_gauss, cached = state["numpy"]
    keys = keys.cpu().numpy().astype(np.uint32)
    np.random.set_state((version, keys, position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    if device.type == "cuda" and state["cuda"] is not None:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
