"""Attacks on command lines: absurd values for every flag of every entry, outputs anywhere."""

import argparse
import importlib
import os
from functools import partial
from pathlib import Path

import numpy as np

from tests.trust.cases import Case, Kind, pick, run
from tests.trust.commands import COMMANDS, EVERYTHING

TEXTS = ("", " ", "\0", "a\0b", "x" * 300, "x" * 5000, "\n", "a\nb", "\u202eé", "\U0001f4a5", "..")
TEXTS += ("/", "-", "--", "$(touch pwned)", "%s%n", "{}", "\udcff", "None", "a" + "/a" * 3000, "*")
TEXTS += ("~",)
NO_NUMBERS = ("", " ", "abc", "nan", "inf", "-inf", "1e400", "0x10", "1,5", "--", "\0", "x" * 5000)
NO_NUMBERS += ("[]", "1\n2", "\udcff", "None", "NaN", "++1", "1e", "½")
TOO_LARGE = ("99999999999999999999", "-99999999999999999999", "1" + "0" * 400, "-1", "9" * 5000)
NUMBERS = ("0", "1", "2", "0.5", "1e19", "1e300", "-0.0", "1e-300", "2147483647", "4294967296")
NUMBERS += ("1e9",)
# Where more means longer, a large number is no mistake.
LONG = {"epochs", "members", "permutations", "replicates", "folds", "samples", "n_train", "n_test"}
LONG |= {"augmented_copies", "faithfulness", "overlays", "gallery", "images_per_class"}
LONG |= {"test_images", "warmup_epochs", "seeds", "seed", "drw", "max_samples", "timeout"}
LONG |= {"val_per_class"}
OUTPUTS = {"output_dir", "page", "data_dir"}


def actions_of(entry: str) -> list[argparse.Action]:
    """The flags and positional arguments of an entry, without --help."""
    parser = importlib.import_module(entry).get_parser()
    return [action for action in parser._actions if action.dest != "help"]


def takes_number(action: argparse.Action) -> bool:
    if not callable(action.type) or (
        isinstance(action.type, type) and action.type not in (int, float)
    ):
        return False
    return _takes(action, "1") or _takes(action, "0.5")


def _takes(action: argparse.Action, text: str) -> bool:
    try:
        return isinstance(action.type(text), int | float)
    except (argparse.ArgumentTypeError, ValueError):
        return False


def special_file(rng: np.random.Generator, folder: Path) -> tuple[str, str]:
    """Something that is no file of the wanted kind, in words, and its path."""
    path = folder / "special"
    what = pick(
        rng, ("folder", "pipe", "loop", "dangling link", "empty file", "noise", "device", "zeros")
    )
    if what == "folder":
        path.mkdir()
    elif what == "pipe":
        os.mkfifo(path)
    elif what == "loop":
        path.symlink_to(path)
    elif what == "dangling link":
        path.symlink_to(folder / "nowhere")
    elif what == "empty file":
        path.touch()
    elif what == "noise":
        path.write_bytes(rng.bytes(1000))
    else:
        return what, "/dev/null" if what == "device" else "/dev/zero"
    return what, str(path)


def flag_case(rng, folder: Path, shop) -> Case:
    """One flag with an absurd value, added to a command that works."""
    name = pick(rng, [*COMMANDS, "infocam train", "pc train", "estimate", "coverage"])
    command = COMMANDS[name]
    keep, out = folder / "keep.txt", folder / "out"
    keep.write_text("the user's own")
    words = shop.words(name, out)
    action = pick(rng, actions_of(command.entry))
    flag = action.option_strings[0] if action.option_strings else ""
    how, values, must_refuse = _values(rng, action, folder)
    if how == "spelling":
        words += values
    elif flag:
        words += [flag, *values] if values != ["="] else [f"{flag}=x"]
        how = f"{flag} {' '.join(values)[:60]!r} ({how})"
    else:
        words[0] = values[0] if values else ""
        how = f"{action.dest} {words[0][:60]!r} ({how})"
    right = None if must_refuse else lambda answer: True
    act = partial(run, command.entry, *words)
    shell = lambda: "a shell ran" if (folder / "pwned").exists() else None  # noqa: E731
    return Case(f"{name}: {how}", act, right, False, (keep,), after=shell)


def _values(rng, action: argparse.Action, folder: Path) -> tuple[str, list[str], bool]:
    """In words, the values of a flag, and whether no program should accept them."""
    if rng.random() < 0.08:
        wrong = [["--no-such-flag"], ["--epo", "1"], ["extra", "words"], [f"{'--x' * 2000}"]]
        wrong += [["--\n"], ["-"], ["--", "x"], ["--help=1"]]
        return "spelling", pick(rng, wrong), True
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "a value for a switch", ["="], True
    if rng.random() < 0.06 and action.nargs not in ("*", "?") and action.option_strings:
        return "no value", [], True
    if action.choices is not None:
        return "no choice", [pick(rng, TEXTS)], True
    if takes_number(action):
        kind = pick(rng, ("no number", "no number", "too large", "number"))
        if kind == "no number":
            return kind, [pick(rng, NO_NUMBERS)], True
        if kind == "too large" or action.dest in LONG:
            value = pick(rng, TOO_LARGE)
            return "too large", [value], not _takes(action, "0.5")
        return kind, [pick(rng, NUMBERS)], False
    if action.type is Path:
        if action.dest in OUTPUTS or rng.random() < 0.5:
            return "path", [pick(rng, TEXTS)], False
        what, path = special_file(rng, folder)
        return what, [path], False
    many = int(rng.integers(1, 4)) if action.nargs in ("+", "*") else 1
    return "text", [pick(rng, TEXTS) for _ in range(many)], False


def output_case(rng, folder: Path, shop) -> Case:
    """--output-dir where nothing can be written, or where something else is."""
    name = pick(rng, [name for name, command in COMMANDS.items() if command.has_output_dir])
    file, foreign = folder / "file.txt", folder / "foreign"
    file.write_text("the user's own")
    foreign.mkdir()
    (foreign / "notes.txt").write_text("notes")
    (folder / "to-foreign").symlink_to(foreign)
    places = {
        "a file": file,
        "below a file": file / "out",
        "a foreign folder": foreign,
        "a link": folder / "to-foreign",
        "a device": Path("/dev/null"),
        "below a device": Path("/dev/null/x"),
        "no file system": Path("/proc/1/x"),
        "a long name": folder / ("x" * 300),
        "a long path": folder.joinpath(*["y" * 200] * 25),
    }
    what, out = pick(rng, places.items())
    words = shop.words(name, out)
    if COMMANDS[name].resumes and rng.random() < 0.3:
        words.append("--resume")
    act = partial(run, COMMANDS[name].entry, *words)
    return Case(f"{name}: {what}", act, None, False, (file, foreign))


OVERWRITERS = {"estimate": "table.csv", "pc train": "pictures", "pc frozen": "pictures"}
OVERWRITERS |= {"pc evaluate": "pc/whole", "infocam frozen": "pictures", "saved maps": "maps"}
OVERWRITERS |= {"infocam evaluate": "infocam/whole", "explain": "photograph.png"}
OVERWRITERS |= {"compare": "pictures", "benchmark": "pictures", "coverage": "pictures"}
OVERWRITERS |= {"infocam train": "pictures", "rank": "table.csv"}
CONFIGS = (None, "{}", '{"name": "my package"}', '{"flags": {}}', "", "[]")
CONFIGS += ('{"flags": {"epochs": 1}}',)


def overwrite_case(rng, folder: Path, shop) -> Case:
    """--overwrite where the user's own files are: whatever happens, they stay."""
    name = pick(rng, OVERWRITERS)
    home = folder / "home"
    home.mkdir()
    inner = OVERWRITERS[name]
    source = shop.copy(inner, home / Path(inner).name)
    (home / "keep.txt").write_text("the user's own")
    folders = {
        "the folder of the input": home,
        "around it": folder,
        "the input": source,
        "the folder with dots": home / ".." / "home",
        "a link": folder / "link",
    }
    what, out = pick(rng, folders.items())
    (folder / "link").symlink_to(home)
    config = pick(rng, CONFIGS)
    real = (shop.root / "estimate/whole/config.json").read_text()
    if rng.random() < 0.4:
        config = real
    if config is not None and out.is_dir() and not (out / "config.json").exists():
        (out / "config.json").write_text(config)
    words = [word.replace(str(shop.root / inner), str(source)) for word in shop.words(name, out)]
    case = f"{name}: {what}, config.json {'of a run' if config == real else config!r}"
    act = partial(run, COMMANDS[name].entry, *words, "--overwrite")
    return Case(case, act, lambda answer: True, False, (home / "keep.txt", source))


_NEEDS = (*EVERYTHING, "estimate")
KINDS = {
    "flags": Kind(flag_case, _NEEDS, 6),
    "output folders": Kind(output_case, _NEEDS),
    "--overwrite": Kind(overwrite_case, _NEEDS, 1.5),
}
