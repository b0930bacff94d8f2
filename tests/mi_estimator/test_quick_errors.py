"""Errors of a table come before slow imports, as the modules of a fresh process show."""

import subprocess
import sys

import pytest

FOLDER = ["--dataset", "folder", "--data-dir", "nowhere", "--backbone", "resnet18"]
LATER = {"matplotlib", "scipy", "sklearn", "torchvision", "torch._inductor"}
PROGRAM = """
import importlib
import sys

main = importlib.import_module(f"mi_estimator.{sys.argv[1]}").main
try:
    main(sys.argv[2:])
finally:
    print(*sys.modules)
"""


def modules_after_an_error(root, words: list, message: str) -> set[str]:
    """What a fresh process has imported when an entry has printed this one-line error."""
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "text, flags, message, slow",
    [
        (None, ["--label", "y"], "no such file", {*LATER, "torch"}),
        ("a,y\n1,0\n2,1\n", [], "--label", {*LATER, "torch"}),
        ("a,y\n1,0\n2,1,3\n", ["--label", "y"], "line 3", {*LATER, "torch"}),
        ("a,y\n1,0\n1,1\n", ["--label", "y"], "constant", {*LATER, "torch"}),
        # PyTorch counts the classes.
        ("a,y\n1,0\n2,1\n3,1\n", ["--label", "y"], "--folds 5", LATER),
    ],
)
def test_an_error_of_a_table_waits_for_no_slow_import(
    tmp_path, pytestconfig, text, flags, message, slow
):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    words = ["estimate", path, *flags, "--output-dir", tmp_path / "out"]
    imported = modules_after_an_error(pytestconfig.rootpath, words, message)
    assert "pandas" in imported and imported & slow == set()


@pytest.mark.parametrize(
    "words, message, slow",
    [
        (["rank", "missing.csv", "--label", "y"], "no such file", {*LATER, "torch"}),
        (["estimate", *FOLDER], "no folder nowhere/train", {*LATER, "timm"}),
        # The estimators that it checks are scikit-learn's.
        (["benchmark", "--n-train", "3"], "--n-train 3", LATER - {"scipy", "sklearn"}),
    ],
)
def test_errors_of_other_entries_wait_for_no_slow_import(pytestconfig, words, message, slow):
    imported = modules_after_an_error(pytestconfig.rootpath, words, message)
    assert "mi_common.cli" in imported and imported & slow == set()
