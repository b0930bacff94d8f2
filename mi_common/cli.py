"""The command line that all entry scripts share: one-line errors, the same flags in the same order.

An entry parses first and imports after, so that --help is quick and needs no library; see
`pc_softmax/train.py`.
"""

import argparse
import contextlib
import functools
import math
import os
import re
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from mi_common import sessions
from mi_common.errors import UserError, one_line
from mi_common.files import release_locks
from mi_common.process import kill_workers

PRECISIONS = ("fp32", "bf16", "fp16")
# Of flags, in the order of --help; "run" comes last.
GROUPS = ("data", "estimate", "loss", "network", "training")
HELP_WIDTH = 100
_EXAMPLE = re.compile(r"^ {4}(python -m (\S+)(?:.*\\\n)*.*)$", re.MULTILINE)
_HANDLED = (signal.SIGINT, signal.SIGTERM)


class _HelpFormatter(argparse.HelpFormatter):
    """At most 100 columns, a short usage, the example unwrapped, defaults where there are any."""

    def __init__(self, prog: str):
        terminal = shutil.get_terminal_size(fallback=(HELP_WIDTH, 24)).columns
        super().__init__(prog, max_help_position=30, width=min(HELP_WIDTH, terminal))

    def _format_usage(self, usage, actions, groups, prefix) -> str:
        positionals = [action for action in actions if not action.option_strings]
        text = super()._format_usage(usage, positionals, [], prefix)
        return text.rstrip() + " [flags]\n\n"

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text if text.startswith("example:") else super()._fill_text(text, width, indent)

    def _get_help_string(self, action: argparse.Action) -> str:
        default = action.default
        if isinstance(action, argparse.BooleanOptionalAction) and default is not None:
            default = "on" if default else "off"
        elif isinstance(default, list | tuple):
            default = " ".join(map(str, default))
        elif default is None or default is False or default is argparse.SUPPRESS:
            return action.help
        return f"{action.help} (default: {default})".replace("%", "%%")


class Parser(argparse.ArgumentParser):
    """A parser with one-line errors, defaults and an example in its help, and no short-hands.

    The first paragraph of the entry's docstring describes the script. Its first indented line
    `python -m MODULE ...` is the example, and gives the name for usage and errors.
    """

    can_resume = False  # whether the flags that were parsed last have --resume

    def __init__(self, docstring: str):
        example = _EXAMPLE.search(docstring)
        super().__init__(
            prog=f"python -m {example[2]}" if example else None,
            description=docstring.strip().partition("\n\n")[0],
            epilog=f"example: {example[1]}" if example else None,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
        )
        for title in GROUPS:
            self.add_argument_group(title)

    def add_argument_group(self, title: str, *args, **kwargs) -> argparse._ArgumentGroup:
        """The group of this title, a new one only if there is none; `GROUPS` come first."""
        for group in self._action_groups:
            if group.title == title:
                return group
        return super().add_argument_group(title, *args, **kwargs)

    def format_help(self) -> str:
        self._action_groups.sort(key=lambda group: group.title == "run")
        return super().format_help()

    def parse_args(self, args=None, namespace=None) -> argparse.Namespace:
        for word in sys.argv[1:] if args is None else args:
            if "\0" in word or any(0xD800 <= ord(letter) < 0xE000 for letter in word):
                self.error(f"{word!r}: not text that can name a file")
        arguments = super().parse_args(args, namespace)
        Parser.can_resume = hasattr(arguments, "resume")
        return arguments

    def error(self, message: str):
        _report(f"{self.prog}: error: {message} (see --help)")
        self.exit(2)


def _report(line: str) -> None:
    """Prints one line on stderr, under torchrun once on each machine."""
    if _claim_report():
        print(" ".join(line.split()), file=sys.stderr)


def _claim_report() -> bool:
    """True in the first process of this machine that asks, under the same torchrun."""
    distributed = sys.modules.get("torch.distributed")  # a signal may come while it is imported
    is_initialized = getattr(distributed, "is_initialized", None)
    if is_initialized is None or not is_initialized():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        store = distributed.distributed_c10d._get_default_store()
        return store.add(f"reported on machine {os.environ.get('GROUP_RANK', 0)}", 1) == 1
    except RuntimeError:  # the first process, which holds the store, is gone
        return True


class _Terminated(BaseException):
    """SIGTERM, raised in the main thread so that files are closed and tidied up."""


def _ignore(signum, frame) -> None:
    """Used instead of SIG_IGN, with which Python complains about a pending signal."""


def _on_signal(signum, frame: FrameType | None) -> None:
    _ignore_signals()  # a second one must not stop the tidying up
    if _is_importing(frame):  # the library that is imported could swallow an exception
        _tidy_up(_stop_message(signum))
        release_locks()
        os._exit(128 + signum)
    raise _Terminated if signum == signal.SIGTERM else KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None and frame.f_code.co_filename != "<frozen importlib._bootstrap>":
        frame = frame.f_back
    return frame is not None


def _ignore_signals() -> None:
    for number in _HANDLED:
        signal.signal(number, _ignore)
    if hasattr(signal, "SIGCHLD"):  # not on Windows
        # torch would raise an error when a signal has also ended its DataLoader workers.
        signal.signal(signal.SIGCHLD, _ignore)


def entry(main: Callable) -> Callable:
    """Decorates a `main`: errors of the user or the machine end with one line on stderr.

    Wrong input, files and disks that fail, and too little memory end with exit status 2, Ctrl-C
    with 130, SIGTERM with 143. Worker processes are ended and the locks of folders released. Under
    torchrun one process of each machine reports.
    """

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None):
        handlers = {}
        if threading.current_thread() is threading.main_thread():
            handlers = {number: signal.signal(number, _on_signal) for number in _HANDLED}
        Parser.can_resume = False
        sessions.start_command()
        try:
            try:
                result = main(argv)
                sessions.end_all(finished=True)
                sys.stdout.flush()  # a full disk is an error, not a success
                return result
            except (UserError, OSError, MemoryError, RuntimeError) as error:
                if "killed by signal: Terminated" in str(error):  # a DataLoader worker got it first
                    raise _Terminated from None
                if not (message := one_line(error)):
                    raise
                _end(2, f"error: {message}")
        except KeyboardInterrupt:
            _end(130, _stop_message(signal.SIGINT))
        except _Terminated:
            _end(143, _stop_message(signal.SIGTERM))
        finally:
            for number in handlers:
                signal.signal(number, _ignore)  # nothing may stop the tidying up
            sessions.end_all(finished=False)
            release_locks()
            for number, handler in handlers.items():
                # Other code that called this goes on. A script ends: Python would bring back the
                # default action of signals before the process has ended.
                signal.signal(number, signal.SIG_IGN if argv is None else handler)

    return wrapped


def _stop_message(signum: int) -> str:
    remedy = "run the command again"
    if Parser.can_resume:
        remedy = "finished parts are kept, go on with --resume"
    return f"{'terminated' if signum == signal.SIGTERM else 'interrupted'}; {remedy}"


def _end(status: int, line: str):
    with contextlib.suppress(ValueError):  # not in the main thread
        _ignore_signals()
    _tidy_up(line)
    raise SystemExit(status) from None


def _tidy_up(line: str) -> None:
    """Ends worker processes, empties the buffer of stdout, and prints the last line."""
    kill_workers()
    try:
        sys.stdout.flush()
    except OSError:  # Python would try again at its end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _report(line)


def _number(convert: Callable, accept: Callable, allowed: str, limit: float) -> Callable:
    def parse(text: str):
        try:
            value = convert(text)
            good = math.isfinite(value) and value < limit and accept(value)
        except (ValueError, OverflowError):
            good = False
        if not good:
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed} below {limit:.10g}")
        return value

    return parse


# Larger ones overflow somewhere in a library, and none makes sense.
_INT, _FLOAT = 2**31, 1e12
positive_int = _number(int, lambda v: v > 0, "a whole number above 0 and", _INT)
non_negative_int = _number(int, lambda v: v >= 0, "a whole number from 0 to", _INT)
positive_float = _number(float, lambda v: v > 0, "a number above 0 and", _FLOAT)
non_negative_float = _number(float, lambda v: v >= 0, "a number from 0 to", _FLOAT)


def count_to(limit: int) -> Callable:
    """A type for counts that would otherwise take all memory."""
    return _number(int, lambda v: v > 0, "a whole number above 0 and", limit + 1)


image_side = count_to(4096)  # pixels
seed_number = _number(int, lambda v: v >= 0, "a whole number from 0 to", 2**32)
worker_count = _number(int, lambda v: v >= 0, "a whole number from 0 to", 1025)
fraction = _number(float, lambda v: v >= 0, "a number from 0 to", 1)


def device_name(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`; `runtime.setup` checks that it exists."""
    if text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isdecimal()):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not one of auto, cpu, cuda, cuda:N")


def add_common_arguments(
    parser: Parser,
    *,
    output_dir: str | None,
    folder: str = "",
    seeds: list[int] | None = None,
    seed: bool = True,
    data: bool | str = True,
    workers: bool = True,
    resume: bool = True,
) -> None:
    """Adds the flags that every script has, in one order; a script leaves out what it cannot use.

    Args:
        output_dir: default of --output-dir; None if it depends on other flags.
        folder: in that case, the default for --help, such as "runs/DATASET-SEED".
        seeds: default of --seeds for many-run scripts; None gives a single --seed.
        data: whether to add --data-dir; a text is its help, and then it has no default.
    """
    group = parser.add_argument_group("run")
    add, switch = group.add_argument, {"action": argparse.BooleanOptionalAction, "default": False}
    if seeds is not None:
        add("--seeds", type=seed_number, nargs="+", default=seeds, help="random seeds")
    elif seed:
        add("--seed", type=seed_number, default=0, help="random seed")
    add("--device", type=device_name, default="auto", help="auto, cpu, cuda or cuda:N")
    add("--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the network")
    add("--compile", **switch, help="compile the network with torch.compile")
    if isinstance(data, str):
        add("--data-dir", type=Path, help=data)
    elif data:
        add("--data-dir", type=Path, default=Path("data"), help="folder of the data sets")
    text = "folder to write" + ("" if output_dir else f" (default: {folder})")
    add("--output-dir", type=Path, default=output_dir and Path(output_dir), help=text)
    if workers:
        text = "processes to read images or compute"
        add("--num-workers", type=worker_count, default=2, help=text)
    existing = group.add_mutually_exclusive_group()
    if resume:
        text = "continue the run in the output folder"
        existing.add_argument("--resume", action="store_true", help=text)
    text = "delete the content of the output folder first"
    existing.add_argument("--overwrite", action="store_true", help=text)
    add("--deterministic", **switch, help="deterministic kernels only, slower on a GPU")


def add_cluster_argument(parser: Parser) -> None:
    """--cluster, for scripts whose work is many independent computations."""
    parser.add_argument_group("run").add_argument(
        "--cluster",
        metavar="ADDRESS",
        help="compute on the workers of this Dask scheduler, such as tcp://HOST:8786, instead of "
        "--num-workers; they must see the same folders",
    )
