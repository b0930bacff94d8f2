"""What a run was made with, for config.json."""

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import torch

LIBRARIES = ("torch", "torchvision", "numpy", "timm", "scikit-learn")


def environment() -> dict:
    """Command, versions, commit and hardware; the commit is None without a repository or git."""
    try:
        describe = ["git", "describe", "--always", "--dirty"]
        options = {"cwd": Path(__file__).parent, "capture_output": True, "text": True}
        commit = subprocess.run(describe, **options).stdout.strip() or None
    except OSError:
        commit = None
    module = getattr(sys.modules["__main__"], "__spec__", None)
    script = ["python", "-m", module.name] if module else ["python", sys.argv[0]]
    return {
        "command": shlex.join([*script, *sys.argv[1:]]),
        "commit": commit,
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "cpu": f"{_processor()}, {os.cpu_count()} cores",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")  # platform.processor() is empty on many Linux systems
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
