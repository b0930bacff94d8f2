"""Fixtures that all tests share: one thread, reproducible examples, one-line errors, real data."""

import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import torch

from mi_common.runtime import Runtime

REPO = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)  # sums in one order, and room for the tests that start processes
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def seeded() -> None:
    """What a test draws without a seed does not depend on the tests before it."""
    torch.manual_seed(0)


@pytest.fixture
def cpu() -> Runtime:
    return Runtime(torch.device("cpu"))


@pytest.fixture
def user_error(capsys) -> Callable[[Callable, list], str]:
    """Runs an entry's `main`, checks status 2 and one line on stderr, and returns the line."""

    def run(main: Callable, argv: list) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in argv])
        lines = capsys.readouterr().err.splitlines()
        assert stopped.value.code == 2
        assert len(lines) == 1, lines
        return lines[0]

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of tiny-imagenet-200.zip and cub-200-2011-annotations.zip."""
    folder = Path(os.environ.get("PCS_SHARED_DATA", REPO.parent / "shared" / "data"))
    for name in ("tiny-imagenet-200.zip", "cub-200-2011-annotations.zip"):
        if not (folder / name).is_file():
            pytest.skip(f"no {name} in {folder}; set PCS_SHARED_DATA to its folder")
    return folder
