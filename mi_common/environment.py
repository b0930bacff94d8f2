"""Command, versions, commit and hardware of a run, for config.json."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch


def environment() -> dict:
    """Command, versions, commit and hardware of this process."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
    )
    cuda = torch.cuda.is_available()
    module = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["python", "-m", module.name] if module else ["python", sys.argv[0]]
    return {
        "command": shlex.join([*script, *sys.argv[1:]]),
        "commit": git.stdout.strip() or None,
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchvision", "numpy", "timm")},
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if cuda else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on many Linux systems
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
