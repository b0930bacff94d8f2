"""One-line errors with status 2, checked numbers, and the same flags in every entry script."""

import argparse
import importlib
from pathlib import Path

import pytest

from mi_common import cli
from mi_common.errors import UserError

REPO = Path(__file__).resolve().parents[2]
ENTRIES = [
    f"{path.parent.name}.{path.stem}"
    for folder in ("mi_estimator", "pc_softmax", "infocam")
    for path in sorted((REPO / folder).glob("*.py"))
    if "def get_parser" in path.read_text()
]
SHARED_ORDER = ["seed", "seeds", "device", "precision", "compile", "data_dir", "output_dir"]
SHARED_ORDER += ["num_workers", "resume", "overwrite", "deterministic", "dataset", "epochs"]
SHARED_ORDER += ["batch_size", "lr", "weight_decay"]


@cli.entry
def main(argv=None):
    """A script with the shared flags."""
    parser = cli.Parser("A script.")
    cli.add_common_arguments(parser, output_dir="runs/x", seeds=[0])
    add = parser.add_argument_group("training").add_argument
    add("--epochs", type=cli.positive_int, default=8, help="passes over the data")
    add("--lr", type=cli.positive_float, default=0.01, help="learning rate")
    args = parser.parse_args(argv)
    if args.epochs == 13:
        raise UserError("--epochs 13: no; use 12")
    return args


@pytest.mark.parametrize(
    "argv, parts",
    [
        (["--epochs", "0"], ["--epochs", "'0'", "whole number above 0"]),
        (["--epoch", "3"], ["unrecognized arguments", "--epoch 3"]),
        (["--precision", "fp64"], ["--precision", "'fp64'", "fp32", "bf16", "fp16"]),
        (["--resume", "--overwrite"], ["not allowed with"]),
        (["--seeds"], ["--seeds", "expected at least one"]),
        (["--device", "gpu"], ["--device", "'gpu'", "auto, cpu, cuda, cuda:N"]),
    ],
)
def test_wrong_flags_are_one_line_with_value_and_what_is_allowed(user_error, argv, parts):
    line = user_error(main, argv)
    for part in [*parts, "--help"]:
        assert part in line


def test_help_shows_the_defaults_that_say_something(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    for default in ("(default: 8)", "(default: 0.01)", "(default: auto)"):
        assert default in text
    assert "(default: None)" not in text and "(default: False)" not in text


def test_defaults_and_values_arrive():
    args = main([])
    assert (args.seeds, args.epochs, args.lr) == ([0], 8, 0.01)
    assert (args.data_dir, args.output_dir) == (Path("data"), Path("runs/x"))
    args = main(["--seeds", "3", "1", "--lr", "1e-3", "--no-compile", "--deterministic"])
    assert (args.seeds, args.lr, args.compile, args.deterministic) == ([3, 1], 1e-3, False, True)


NUMBERS = {
    cli.positive_int: (["1", "20"], ["0", "-1", "nan", "inf", "1.5", "1e3", "x", ""]),
    cli.non_negative_int: (["0", "7"], ["-1", "nan", "inf", "0.0", "x", ""]),
    cli.positive_float: (["1e-9", "3"], ["0", "-0.1", "nan", "inf", "-inf", "1e999", "x", ""]),
    cli.non_negative_float: (["0", "0.5"], ["-1e-9", "nan", "inf", "x", ""]),
    cli.fraction: (["0", "0.999"], ["1", "-0.1", "nan", "inf", "x", ""]),
}


@pytest.mark.parametrize(
    "parse, text", [(parse, text) for parse, (good, _) in NUMBERS.items() for text in good]
)
def test_allowed_numbers_are_parsed(parse, text):
    assert parse(text) == float(text)


@pytest.mark.parametrize(
    "parse, text", [(parse, text) for parse, (_, bad) in NUMBERS.items() for text in bad]
)
def test_other_numbers_are_refused_by_value(parse, text):
    with pytest.raises(argparse.ArgumentTypeError) as error:
        parse(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_device_names_are_kept(text):
    assert cli.device_name(text) == text


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cuda0", "cpu:0", "CPU"])
def test_other_device_names_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="auto, cpu, cuda, cuda:N"):
        cli.device_name(text)


def actions(name: str) -> list[argparse.Action]:
    return importlib.import_module(name).get_parser()._actions


@pytest.mark.parametrize("name", ENTRIES)
def test_shared_flags_stand_in_the_same_order(name):
    order = [action.dest for action in actions(name) if action.dest in SHARED_ORDER]
    assert order == [word for word in SHARED_ORDER if word in order]
    # All run a network but these two, which read saved logits.
    runs_network = name not in ("pc_softmax.evaluate", "pc_softmax.adjust")
    assert "output_dir" in order and ("device" in order) == runs_network


@pytest.mark.parametrize("name", ENTRIES)
def test_every_flag_has_help_and_one_spelling(name):
    for action in actions(name):
        assert action.help, action.option_strings
        for flag in action.option_strings:
            assert "_" not in flag
        assert not action.option_strings or action.dest == action.option_strings[-1].removeprefix(
            "--no-"
        ).removeprefix("--").replace("-", "_")


@pytest.mark.parametrize("name", ENTRIES)
def test_defaults_are_within_their_own_choices(name):
    for action in actions(name):
        if action.choices is not None and action.default is not None:
            many = isinstance(action.default, list | tuple)
            values = action.default if many else [action.default]
            assert set(values) <= set(action.choices), action.option_strings


@pytest.mark.parametrize("name", ENTRIES)
def test_help_prints_every_flag_and_ends_with_status_0(name, capsys):
    with pytest.raises(SystemExit) as stopped:
        importlib.import_module(name).main(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    for action in actions(name):
        assert all(flag in shown.out for flag in action.option_strings)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_unknown_flag_is_one_line_and_status_2(name, user_error):
    line = user_error(importlib.import_module(name).main, ["--no-such-flag"])
    assert "--no-such-flag" in line or "arguments are required" in line
