"""The wheel holds the four packages alone, and the pages' snippets work with nothing else."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.version import Version

from tests.pages.made_files import INPUTS
from tests.pages.markdown import code_blocks

REPO = Path(__file__).resolve().parents[1]
PACKAGES = ("infocam", "mi_common", "mi_estimator", "pc_softmax")
SNIPPETS = [
    snippet
    for snippet in code_blocks("python")
    if "dask_jobqueue" not in snippet  # needs a Slurm cluster
    and "Trainer(" not in snippet  # needs transformers; see test_drop_in
]


def pip(*words: str | Path) -> None:
    command = [sys.executable, "-m", "pip", *words, "--no-deps", "--disable-pip-version-check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder with the wheel's content, made from a copy, as building leaves files behind."""
    try:
        version = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("no setuptools here; pip install -r requirements-dev.txt")
    if Version(version) < Version("77"):
        pytest.skip(f"setuptools {version} is too old; pip install -r requirements-dev.txt")
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for package in (*PACKAGES, "scripts", "tests"):
        shutil.copytree(REPO / package, source / package, ignore=ignored)
    for path in REPO.iterdir():
        if path.name == "LICENSE" or path.suffix in (".toml", ".txt", ".md"):
            shutil.copy(path, source)
    pip("wheel", source, "--no-build-isolation", "--wheel-dir", source / "wheels")
    pip("install", "--no-index", "--target", target, *(source / "wheels").iterdir())
    return target


def test_the_wheel_holds_the_modules_of_the_four_packages(installed):
    assert sorted(path.name for path in installed.iterdir() if path.suffix != ".dist-info") == [
        *PACKAGES
    ]
    for package in PACKAGES:
        modules = {
            root: {
                p.relative_to(root)
                for end in ("py", "html")
                for p in (root / package).rglob(f"*.{end}")
            }
            for root in (installed, REPO)
        }
        assert modules[installed] == modules[REPO] and len(modules[REPO]) > 1


def test_the_wheel_names_what_it_needs(installed):
    (distribution,) = importlib.metadata.distributions(path=[str(installed)])
    needed = [line for line in distribution.requires if "extra ==" not in line]
    listed = (REPO / "requirements.txt").read_text().splitlines()
    first = re.compile(r"[\w-]+").match
    assert [first(line)[0] for line in needed] == [first(line)[0] for line in listed]
    assert distribution.metadata.get_all("Provides-Extra") == ["dev", "cluster"]


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_a_snippet_of_the_pages_runs_from_another_folder(installed, tmp_path, number):
    check = "\nimport mi_common; print(mi_common.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", INPUTS + SNIPPETS[number] + check],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(installed / "mi_common/__init__.py")


def test_an_installed_entry_answers_from_another_folder(installed, tmp_path):
    command = [sys.executable, "-m", "pc_softmax.train", "--help"]
    environment = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and "--loss" in done.stdout
