"""What ends an entry in one line: disks, memory, closed output, odd arguments; not our own bugs."""

import contextlib
import errno
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from processes import REPO, run_two

from mi_common import cli
from mi_common.errors import UserError
from mi_common.runtime import setup

MEMORY = "not enough memory; use a smaller --batch-size, fewer samples or smaller images"


def raising(error: BaseException | type):
    @cli.entry
    def main(argv=None):
        raise error

    return main


def system_error(number: int, *file: str) -> OSError:
    return OSError(number, os.strerror(number), *file)


@pytest.mark.parametrize(
    "error, line",
    [
        (system_error(errno.ENOSPC, "a/b"), "a/b: No space left on device; free some space"),
        (system_error(errno.ENOSPC), "No space left on device; free some space"),
        (system_error(errno.EDQUOT, "a"), "a: Disk quota exceeded; free some space"),
        (system_error(errno.EACCES, "a"), "a: Permission denied"),
        (system_error(errno.EROFS, "a"), "a: Read-only file system"),
        (system_error(errno.EISDIR, "a"), "a: Is a directory"),
        (system_error(errno.ENOENT, "two\nlines"), "two lines: No such file or directory"),
        (system_error(errno.EIO), "Input/output error"),
        (OSError(), "OSError()"),
        (TimeoutError(), "TimeoutError()"),
        (OSError("first\nsecond line"), "second line"),
        (BrokenPipeError(), "the output was closed before it was complete"),
        (MemoryError(), MEMORY),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), MEMORY),
        (UserError("--x 3:\n no;\r\n  use 4\n"), "--x 3: no; use 4"),
        (UserError(f"In worker 0.\nTraceback:\n mi_common.errors.{'UserError: a'}"), "a"),
    ],
)
def test_what_the_machine_or_the_user_causes_is_one_line(user_error, error, line):
    assert user_error(raising(error), []) == f"error: {line}"


@pytest.mark.parametrize(
    "cause, line",
    [
        (lambda: Path("x" * 5000).read_text(), f"{'x' * 5000}: File name too long"),
        (lambda: Path("none/x").write_text("x"), "none/x: No such file or directory"),
        (lambda: torch.empty(2**50), MEMORY),
        (lambda: np.ones(2**50), MEMORY),
        (lambda: list(range(2**62)), MEMORY),
    ],
)
def test_what_the_libraries_raise_themselves_is_one_line(user_error, cause, line):
    @cli.entry
    def main(argv=None):
        cause()

    assert user_error(main, []) == f"error: {line}"


@pytest.mark.parametrize("error", [KeyError, IndexError, ValueError, TypeError, AssertionError])
def test_our_own_bugs_keep_their_traceback(error, capsys):
    for bug in (error("a bug"), RuntimeError("size mismatch"), NotImplementedError("later")):
        with pytest.raises(type(bug), match=str(bug)[1:-1]):
            raising(bug)([])
    assert capsys.readouterr().err == ""


def test_a_line_is_printed_while_torch_is_half_imported(monkeypatch, user_error):
    monkeypatch.setitem(sys.modules, "torch.distributed", ModuleType("torch.distributed"))
    assert user_error(raising(UserError("a: not b")), []) == "error: a: not b"


def test_only_the_first_process_of_a_machine_reports(monkeypatch, capsys):
    monkeypatch.setenv("LOCAL_RANK", "1")
    for error, status in (
        (UserError("no"), 2),
        (system_error(errno.ENOSPC), 2),
        (KeyboardInterrupt(), 130),
    ):
        with pytest.raises(SystemExit) as stopped:
            raising(error)([])
        assert stopped.value.code == status
    with pytest.raises(SystemExit):
        cli.Parser("x").parse_args(["--none"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("resumes, advice", [(True, "go on with --resume"), (False, "run the c")])
def test_ctrl_c_names_resume_only_where_there_is_one(capsys, resumes, advice):
    @cli.entry
    def main(argv=None):
        parser = cli.Parser("x")
        cli.add_common_arguments(parser, output_dir="x", resume=resumes)
        parser.parse_args(argv)
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        main([])
    line = capsys.readouterr().err
    assert advice in line and ("--resume" in line) == resumes
    with pytest.raises(SystemExit):  # before the flags are read
        raising(KeyboardInterrupt())([])
    assert capsys.readouterr().err == "interrupted; run the command again\n"


@cli.entry
def parse(argv=None):
    parser = cli.Parser("x")
    parser.add_argument("words", nargs="*")
    for name, kind in vars(cli).items():
        if getattr(kind, "__qualname__", "").startswith("_number."):
            parser.add_argument(f"--{name}", type=kind)
    parser.add_argument("--side", type=cli.count_to(4096))
    return parser.parse_args(argv)


NUMBERS = [name for name in vars(parse([])) if name != "words"]
assert {"positive_int", "non_negative_float", "seed_number", "fraction"} < set(NUMBERS)


@pytest.mark.parametrize("word", ["a\0b", "\udcff.csv", "--output-dir=\ud800", "\0"])
def test_words_that_can_name_no_file_are_one_line(user_error, word):
    line = user_error(parse, ["x", word])
    assert line.isprintable() and "not text that can name a file" in line
    assert repr(word) in line


HUGE = ["1e19", "-1e19", "1e400", "NaN", "inf", "0x10", "", "9" * 5000, "٣" * 20]
HUGE += [str(sign * 10**power) for sign in (1, -1) for power in (19, 30, 400)]


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("text", HUGE)
def test_numbers_that_no_library_takes_are_one_line_for_every_type(user_error, name, text):
    line = user_error(parse, [f"--{name}={text}"])
    assert f"argument --{name}: {text!r} is not a " in line and " below " in line


def fail_on_main(folder: Path) -> None:
    runtime = setup("cpu")
    statuses = []
    for error in (UserError("--x 3: no"), system_error(errno.ENOSPC, "a.pt"), None):
        done = []

        def work(error=error, done=done):
            done.append(runtime.rank)
            if error is not None:
                raise error

        @cli.entry
        def main(argv=None, work=work):
            runtime.on_main(work)

        with contextlib.redirect_stderr((folder / f"{runtime.rank}.txt").open("a")) as file, file:
            try:
                main([])
                statuses.append(0)
            except SystemExit as stopped:
                statuses.append(stopped.code)
        assert done == ([0] if runtime.is_main else [])
    (folder / f"{runtime.rank}.status").write_text(str(statuses))


def test_an_error_of_the_first_process_ends_all_and_one_reports_it(tmp_path):
    run_two(fail_on_main, tmp_path, method="fork")
    assert [(tmp_path / f"{rank}.status").read_text() for rank in (0, 1)] == ["[2, 2, 0]"] * 2
    printed = [(tmp_path / f"{rank}.txt").read_text() for rank in (0, 1)]
    assert sorted(printed) == ["", "error: --x 3: no\n"]  # and nothing of what follows


PRINTING = """
import sys
from mi_common import cli

@cli.entry
def main(argv):
    for i in range(int(argv[0])):
        print("x" * 50)

main(sys.argv[1:])
"""


@pytest.mark.parametrize("lines", [1, 100, 10_000])
def test_output_that_cannot_be_written_is_one_line_and_no_success(lines):
    words = [sys.executable, "-c", PRINTING, str(lines)]
    how = {"stderr": subprocess.PIPE, "text": True}
    how["env"] = os.environ | {"PYTHONPATH": str(REPO), "PYTHONUNBUFFERED": ""}
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, **how)
    assert (done.returncode, done.stderr) == (
        2,
        "error: No space left on device; free some space\n",
    )
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        done = subprocess.run(words, stdout=closed, **how)
    assert (done.returncode, done.stderr) == (
        2,
        "error: the output was closed before it was complete\n",
    )
