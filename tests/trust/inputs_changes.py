"""Attacks on what lies between two commands: data that changed, priors, the folders of a report."""

import json
import os
import shutil
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pc_softmax.priors import read_prior
from tests.scripts.report_runs import TABLES
from tests.trust.cases import Answer, Case, Kind, pick, run
from tests.trust.commands import COMMANDS
from tests.trust.inputs_pictures import encoded, png_bomb
from tests.trust.inputs_runs import agrees
from tests.trust.spoilers import damage, spoil_json, spoil_text


def _other_pixels(path: Path, rng: np.random.Generator, *, same_size: bool) -> None:
    """Another picture under the same name; of the same length in bytes if told so."""
    image = Image.open(path).convert("RGB")
    noise = rng.integers(0, 256, (image.height, image.width, 3), np.uint8)
    before = path.stat().st_size
    data = encoded(Image.fromarray(noise), "PNG")
    if same_size:  # a PNG may have anything behind its end
        data = encoded(Image.fromarray(noise // 64 * 64), "PNG").ljust(before, b"\0")
    path.write_bytes(data)


def change_case(rng, folder: Path, shop) -> Case:
    """A run is resumed after its pictures changed, or were only moved."""
    command, own = pick(rng, (("pc frozen", "pc-frozen"), ("infocam frozen", "infocam-frozen")))
    state = pick(rng, ("part", "whole"))
    out = shop.copy(f"{own}/{state}", folder / "out")
    data = shop.copy("pictures", folder / "pictures")
    if rng.random() < 0.5:
        shutil.rmtree(data / "features")
    pictures = sorted(data.glob("train/*/*.png"))
    path = pictures[int(rng.integers(len(pictures)))]
    what = pick(
        rng,
        (
            *("nothing", "moved", "touched", "replaced", "replaced", "same size", "added"),
            *("removed", "renamed class", "another set", "swapped"),
        ),
    )
    boxes = data / "boxes.csv"
    if what == "moved":
        data = data.rename(folder / "elsewhere")
    elif what == "touched":
        os.utime(path, (1e9, 1e9))
    elif what in ("replaced", "same size"):
        _other_pixels(path, rng, same_size=what == "same size")
    elif what == "added":
        shutil.copy2(path, path.with_name("new.png"))
        with boxes.open("a") as file:
            file.write(f"train/{path.parent.name}/new.png,1,1,5,5\n")
    elif what == "removed":
        path.unlink()
        gone = path.relative_to(data).as_posix()
        boxes.write_text("".join(s for s in boxes.open() if not s.startswith(gone)))
    elif what == "renamed class":
        for part in ("train", "test"):
            (data / part / "cat").rename(data / part / "zebra")
        boxes.write_text(boxes.read_text().replace("/cat/", "/zebra/"))
    elif what == "another set":
        for each in pictures:
            _other_pixels(each, rng, same_size=False)
    elif what == "swapped":  # two pictures of different classes
        other = data / "train" / ("owl" if path.parent.name == "cat" else "cat") / path.name
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)
    same = what in ("nothing", "moved", "touched")
    act = partial(run, COMMANDS[command].entry, *shop.words(command, out, data), "--resume")
    right = partial(agrees, shop.root / own / "whole", out) if same else None
    return Case(f"{own} {state}: {what}", act, right, same, (), (out,))


def digits_case(rng, folder: Path, shop) -> Case:
    """A run on scattered digits is resumed with other digits."""
    state = pick(rng, ("part", "whole"))
    out = shop.copy(f"infocam/{state}", folder / "out")
    raw = folder / "data/MNIST/raw"
    shutil.copytree(shop.root / "mnist/MNIST/raw", raw)
    what = pick(rng, ("nothing", "labels", "pixels"))
    path = raw / f"train-{'labels-idx1' if what == 'labels' else 'images-idx3'}-ubyte"
    data = bytearray(path.read_bytes())
    head = 8 if what == "labels" else 16
    if what != "nothing":  # half of all of them, so that the few that are drawn change
        values = np.frombuffer(data, np.uint8, offset=head).copy()
        changed = (values + 1) % 10 if what == "labels" else 255 - values
        data[head:] = changed.tobytes()
        path.write_bytes(data)
    mnist, same = str(shop.root / "mnist"), what == "nothing"
    words = [w.replace(mnist, str(folder / "data")) for w in shop.words("infocam train", out)]
    right = partial(agrees, shop.root / "infocam/whole", out) if same else None
    act = partial(run, "infocam.train", *words, "--resume")
    return Case(f"{state}: {what}", act, right, same, (), (out,))


def prior_case(rng, folder: Path, shop) -> Case:
    """A file of --target-prior."""
    names = pick(rng, (["cat", "owl", "dog"], ["a,b", 'say "x"', "c"], ["0", "1"], ["Ä", "ß"]))
    values = rng.dirichlet(np.ones(len(names))) * 0.9 + 0.1 / len(names)
    path = folder / "prior.csv"
    quoted = [
        f'"{name.replace(chr(34), chr(34) * 2)}"' if set(name) & set(',"') else name
        for name in names
    ]
    lines = [f"{q},{v!r}" for q, v in zip(quoted, values.tolist(), strict=True)]
    header = "class,probability"
    order = rng.permutation(len(names))
    bare = [repr(v) for v in values.tolist()]
    row = int(rng.integers(len(names)))

    def right(answer: Answer) -> bool:
        return np.allclose(np.exp(answer.value), values / values.sum(), atol=1e-9)

    def text(rows: list[str], end: str = "\n") -> bytes:
        return (end.join(rows) + end).encode()

    shuffled = [header, *(lines[i] for i in order)]
    valid = {
        "with header": text([header, *lines]),
        "in another order": text(shuffled),
        "bare": text(bare),
        "CR LF": text(shuffled, "\r\n"),
        "mark": b"\xef\xbb\xbf" + text(shuffled),
        "blanks": text([f" {b} " for b in bare]),
        "empty lines": text(bare, "\n\n"),
    }
    wrong = ("0", "-0.1", "nan", "inf", "", "abc", "1e400", "0,5", "1e-400", "½", "0x1p-2", "2")
    bad = pick(rng, wrong)
    invalid = {
        f"line {bad!r}": text([*bare[:row], bad, *bare[row + 1 :]]),
        f"class with {bad!r}": text(
            [header, *lines[:row], f"{quoted[row]},{bad}", *lines[row + 1 :]]
        ),
        "a class twice": text([header, *lines, lines[row]]),
        "a class less": text([header, *lines[1:]]),
        "another class": text([header, *lines[:-1], f"zebra,{values[-1]!r}"]),
        "empty": b"",
        "one more": text([*bare, "0.1"]),
        "one less": text(bare[1:]),
        "no header": text(lines),
        "half": text([repr(v / 2) for v in values.tolist()]),
        "utf-16": text(bare).decode().encode("utf-16"),
        "header alone": text([header]),
        "swapped header": text(["probability,class", *lines]),
        "percent": text([f"{100 * v}%" for v in values.tolist()]),
        "quote": text(['"' + bare[0], *bare[1:]]),
    }
    kind = pick(rng, ("valid", "invalid", "invalid", "spoiled"))
    what, data = pick(rng, (valid if kind != "invalid" else invalid).items())
    if kind == "spoiled":
        what, data = spoil_text(rng, data)
    path.write_bytes(data)
    accepts = None if kind == "invalid" else right
    return Case(what, partial(read_prior, path, names), accepts, kind == "valid", (path,))


def report_case(rng, folder: Path, shop) -> Case:
    """`scripts.report` on folders of which one file is not what it was."""
    runs = shop.copy("report", folder / "runs")
    unread = {path.with_suffix(".png") for end in ("svg", "npz") for path in runs.rglob(f"*.{end}")}
    files = sorted(path for path in runs.rglob("*") if path.is_file() and path not in unread)
    path, page = pick(rng, files), runs / "report.html"
    page.write_text("an earlier page")
    data, right, must_read = path.read_bytes(), None, False
    how = pick(rng, ("nothing", "gone", "empty", "folder", "spoiled", "injected"))
    if how == "nothing":
        must_read = True
        right = lambda _: page.read_text().count("<table") == TABLES  # noqa: E731
    elif how in ("gone", "folder"):
        path.unlink()
        if how == "folder":
            path.mkdir()
        # Of pictures in a gallery there may be any number, and a PNG stands in for an SVG.
        spare = path.suffix in (".npz", ".svg") or path.parent.name == "overlays"
        right = (lambda answer: True) if spare and how == "gone" else None
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "injected":
        path = pick(rng, [each for each in files if each.suffix in (".md", ".json")])
        evil = "<script>alert(1)</script>"  # the page has a script of its own
        text = f"| a | b |\n| --- | --- |\n| {evil} | &{evil} |\n"
        if path.suffix == ".json":
            text = json.dumps(json.loads(path.read_text()) | {"command": evil, "cpu": evil})
        path.write_text(text)
        right = lambda answer: evil not in page.read_text()  # noqa: E731
    else:
        spoilers = {".json": spoil_json, ".png": _spoil_png, ".npz": damage}
        what, changed = spoilers.get(path.suffix, spoil_text)(rng, data)
        path.write_bytes(changed)
        how = f"{path.suffix}: {what}"

        def right(answer: Answer) -> bool:
            """A key that the page does not show, or a picture that still opens, does no harm."""
            if path.suffix == ".png":
                Image.open(path).load()
            return page.read_text().count("<table") == TABLES

    act = partial(run, "scripts.report", runs)
    kept = tuple(each for each in files if each.exists() and each.is_file())
    return Case(f"{path.relative_to(runs)}: {how}", act, right, must_read, kept, (page,))


def _spoil_png(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    if rng.random() < 0.3:
        return "claims 10**9 pixels", png_bomb(40_000, 40_000)
    return damage(rng, data)


_FROZEN = ("pictures", "pc-frozen", "pc-frozen part", "infocam-frozen", "infocam-frozen part")
KINDS = {
    "changed pictures": Kind(change_case, _FROZEN, 2),
    "changed digits": Kind(digits_case, ("mnist", "infocam", "infocam part"), 0.3),
    "priors": Kind(prior_case, share=2),
    "report": Kind(report_case, ("report",)),
}
