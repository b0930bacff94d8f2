"""The command line that all entry scripts share: one-line errors, the same flags in the same order.

@cli.entry
def main(argv=None):
    args = get_parser().parse_args(argv)
"""

import argparse
import functools
import math
import sys
from collections.abc import Callable
from pathlib import Path

from common.errors import UserError

PRECISIONS = ("fp32", "bf16", "fp16")


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows defaults, but not the None or False that only says that a flag is absent."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if action.default is None or action.default is False:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with one-line errors, defaults in its help, and no short-hands."""

    def __init__(self, description: str, **kwargs):
        kwargs.setdefault("formatter_class", _HelpFormatter)
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(description=description, **kwargs)

    def error(self, message: str):
        self.exit(2, f"{self.prog}: error: {message} (see --help)\n")


def entry(main: Callable) -> Callable:
    """Decorates a `main`: a UserError becomes one line on stderr and exit status 2."""

    @functools.wraps(main)
    def wrapped(argv: list[str] | None = None):
        try:
            return main(argv)
        except UserError as error:
            # One that crossed from a worker process carries that process's traceback before it.
            message = str(error).rpartition("common.errors.UserError: ")[2]
            print("error:", " ".join(message.split()), file=sys.stderr)
            raise SystemExit(2) from None
        except KeyboardInterrupt:
            print("interrupted; finished parts are kept, go on with --resume", file=sys.stderr)
            raise SystemExit(130) from None

    return wrapped


def _number(convert: Callable, accept: Callable, allowed: str) -> Callable:
    def parse(text: str):
        try:
            value = convert(text)
            good = math.isfinite(value) and accept(value)
        except (ValueError, OverflowError):
            good = False
        if not good:
            raise argparse.ArgumentTypeError(f"{text!r} is not {allowed}")
        return value

    return parse


positive_int = _number(int, lambda v: v > 0, "a whole number above 0")
non_negative_int = _number(int, lambda v: v >= 0, "a whole number from 0")
positive_float = _number(float, lambda v: v > 0, "a number above 0")
non_negative_float = _number(float, lambda v: v >= 0, "a number from 0")
seed_number = _number(int, lambda v: 0 <= v < 2**32, "a whole number from 0 to 2**32 - 1")
fraction = _number(float, lambda v: 0 <= v < 1, "a number from 0 to below 1")


def device_name(text: str) -> str:
    """`auto`, `cpu`, `cuda` or `cuda:N`; whether it exists is `runtime.setup`'s to say."""
    if text in ("auto", "cpu", "cuda") or (text.startswith("cuda:") and text[5:].isdecimal()):
        return text
    raise argparse.ArgumentTypeError(f"{text!r} is not one of auto, cpu, cuda, cuda:N")


def add_common_arguments(
    parser: argparse.ArgumentParser,
    *,
    output_dir: str | None,
    seeds: list[int] | None = None,
    seed: bool = True,
    data: bool = True,
    workers: bool = True,
    resume: bool = True,
) -> None:
    """Adds the flags that every script has, in one order; a script leaves out what it cannot use.

    Args:
        output_dir: default of --output-dir; None when it depends on other flags.
        seeds: default of --seeds for many-run scripts; None gives a single --seed.
        seed: whether chance has a part in the script at all.
        data: whether the script reads a data set (--data-dir).
        workers: whether it has work for several processes (--num-workers).
        resume: whether it can go on where it stopped (--resume).
    """
    group = parser.add_argument_group("run")
    if seeds is None and seed:
        group.add_argument("--seed", type=seed_number, default=0, help="random seed")
    elif seeds is not None:
        group.add_argument(
            "--seeds", type=seed_number, nargs="+", default=seeds, help="random seeds"
        )
    group.add_argument(
        "--device", type=device_name, default="auto", help="auto, cpu, cuda or cuda:N"
    )
    group.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="arithmetic of the network"
    )
    group.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="compile the network with torch.compile",
    )
    if data:
        group.add_argument(
            "--data-dir", type=Path, default=Path("data"), help="folder of the data sets"
        )
    group.add_argument(
        "--output-dir",
        type=Path,
        default=None if output_dir is None else Path(output_dir),
        help="folder to write" + (", made from the flags if not given" if not output_dir else ""),
    )
    if workers:
        group.add_argument(
            "--num-workers", type=non_negative_int, default=2, help="worker processes"
        )
    existing = group.add_mutually_exclusive_group()
    if resume:
        existing.add_argument(
            "--resume", action="store_true", help="go on with what is in the output folder"
        )
    existing.add_argument(
        "--overwrite", action="store_true", help="delete what is in the output folder first"
    )
    group.add_argument(
        "--deterministic",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="deterministic kernels only, slower on a GPU",
    )


def add_training_arguments(
    parser: argparse.ArgumentParser,
    *,
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    weight_decay: float | None = None,
    by_dataset: dict[str, str] | None = None,
) -> None:
    """--epochs --batch-size --lr --weight-decay with a script's own defaults.

    Args:
        by_dataset: where defaults depend on the data set or task, the text that says how, by name.
    """
    group = parser.add_argument_group("training")

    def add(name: str, default: float | None, parse: Callable, text: str) -> None:
        note = f" ({by_dataset[name]})" if by_dataset and name in by_dataset else ""
        group.add_argument(
            f"--{name.replace('_', '-')}", type=parse, default=default, help=text + note
        )

    add("epochs", epochs, positive_int, "passes over the data")
    add("batch_size", batch_size, positive_int, "samples a step, all processes together")
    add("lr", lr, positive_float, "(peak) learning rate")
    add("weight_decay", weight_decay, non_negative_float, "weight decay")
