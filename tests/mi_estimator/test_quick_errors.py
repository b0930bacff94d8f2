"""Errors of a table come before slow imports, as the modules of a fresh process show."""

import subprocess
import sys

import pytest

CHECKED_LATER = {"matplotlib", "scipy", "sklearn", "torchvision", "torch._inductor"}
PROGRAM = """
import sys
from mi_estimator.estimate import main

try:
    main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stdout)
"""


@pytest.mark.parametrize(
    "text, flags, message, slow",
    [
        (None, ["--label", "y"], "no such file", {*CHECKED_LATER, "torch"}),
        ("a,y\n1,0\n2,1\n", [], "--label", {*CHECKED_LATER, "torch"}),
        ("a,y\n1,0\n2,1,3\n", ["--label", "y"], "line 3", {*CHECKED_LATER, "torch"}),
        ("a,y\n1,0\n1,1\n", ["--label", "y"], "constant", {*CHECKED_LATER, "torch"}),
        # PyTorch counts the classes.
        ("a,y\n1,0\n2,1\n3,1\n", ["--label", "y"], "--folds 5", CHECKED_LATER),
    ],
)
def test_an_error_of_a_table_waits_for_no_slow_import(
    tmp_path, pytestconfig, text, flags, message, slow
):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(path), *flags, "--output-dir", str(tmp_path / "out")],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    imported = set(done.stdout.split())
    assert "pandas" in imported and imported & slow == set()
