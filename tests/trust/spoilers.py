"""Damage: bytes that rot, texts that are none, JSON, tables and checkpoints of another form.

Each function takes a random generator and what is there, and returns the damage in words with the
damaged bytes; `spoil` and `spoil_checkpoint` write the file themselves.
"""

import json
from pathlib import Path

import numpy as np
import torch

from tests.trust.cases import pick


def damage(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    """Bytes that rotted, in words and as they are; they differ from `data`."""
    how = pick(rng, ("flip", "flip", "flip", "flips", "zeros", "cut", "empty", "noise", "appended"))
    changed, n = bytearray(data), len(data)
    place = int(rng.integers(n))
    if how in ("flip", "flips"):
        for where in [place, *rng.integers(n, size=7 if how == "flips" else 0)]:
            changed[where] ^= 1 << int(rng.integers(8))
    elif how == "zeros":
        half = n // 2
        changed[half:] = bytes(n - half)
    elif how == "cut":
        del changed[place:]
    elif how == "empty":
        changed.clear()
    elif how == "noise":
        block = min(int(rng.integers(1, 4096)), n - place)
        changed[place : place + block] = rng.bytes(block)
    else:
        changed += rng.bytes(int(rng.integers(1, 100)))
    if bytes(changed) == data:
        return "cut", data[: n // 2]
    return f"{how} at byte {place} of {n}", bytes(changed)


def spoil_text(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    """Bytes of a text file with something in them that no text has."""
    place = int(rng.integers(len(data) + 1))
    options = [("a zero byte", b"\0"), ("no UTF-8", b"\xff"), ("no UTF-8", b"\xc3\x28")]
    options += [("a control character", b"\x01"), ("noise", rng.bytes(40) + b"\xfe")]
    how, put = pick(rng, options)
    return f"{how} at byte {place} of {len(data)}", data[:place] + put + data[place:]


NESTED = b"[" * 100_000
ABSURD_JSON = (b"{}", b"[]", b"null", b"3", b'"text"', b"NaN", b"", b"{", NESTED)
ABSURD_JSON += (b"\xef\xbb\xbf{}", b'{"flags": null}', b'{"flags": []}', b'{"flags": {}}')
ABSURD_JSON += (b'{"flags": "x"}', b'{"a": 1e999}', b"\xff\xfe{\0}\0")


class Hostile:
    """Opening its pickle would write a file."""

    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def code_ran(marker: Path) -> str | None:
    return "code from a file ran" if marker.exists() else None


def spoil_json(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    how = pick(rng, ("absurd", "spoiled", "cut", "key", "value"))
    if how == "absurd":
        data = pick(rng, ABSURD_JSON)
        return f"{data[:30]!r}", data
    if how == "spoiled":
        return spoil_text(rng, data)
    if how == "cut":
        place = int(rng.integers(len(data) - 2))
        return f"cut at {place} of {len(data)}", data[:place]
    value = json.loads(data)
    inner = value.get("flags", value) if pick(rng, (True, False)) else value
    key = pick(rng, inner or value or {"": ""})
    if how == "key":
        inner.pop(key, None)
        return f"without {key}", json.dumps(value).encode()
    # Another type; another number of the same type would be another run's file, not a damaged one.
    put = pick(
        rng, ([3], {}, {"a": {"b": []}}, "text" if not isinstance(inner.get(key), str) else 1)
    )
    inner[key] = put
    return f"{key} = {put!r}", json.dumps(value).encode()


def spoil_lines(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    """A damaged metrics.jsonl."""
    lines = data.splitlines(keepends=True)
    options = {
        "empty": b"",
        "without its last line": b"".join(lines[:-1]),
        "its last line twice": data + lines[-1],
        "a list": b"[1, 2]\n",
        "text": b"epoch 1 loss 2.3\n",
        "no end": data[:-1],
        "cut": data[: len(data) // 2],
        "a line of nothing": data + b"{}\n",
        "nested": NESTED,
        "from the future": data + lines[-1].replace(b'"epoch": 1', b'"epoch": 2'),
    }
    return pick(rng, options.items()) if rng.random() < 0.8 else spoil_text(rng, data)


def spoil_checkpoint(rng: np.random.Generator, path: Path, shop, own: str) -> str:
    """Damages checkpoint.pt; most often by bits."""
    how = pick(rng, ("damage",) * 6 + ("foreign", "hostile", "key", "value", "tensor", "weights"))
    if how == "damage":
        what, data = damage(rng, path.read_bytes())
        path.write_bytes(data)
        return what
    state = torch.load(path, weights_only=True)
    if how == "foreign":
        other = "infocam" if own.startswith("pc") else "pc"
        path.write_bytes((shop.root / other / "whole/checkpoint.pt").read_bytes())
        return f"that of a run of {other}"
    if how == "hostile":
        torch.save(state | {"extra": Hostile(path.parent.parent / "marker")}, path)
    elif how == "key":
        key = pick(rng, state)
        del state[key]
        torch.save(state, path)
        how = f"without {key}"
    elif how == "value":
        key, put = pick(rng, state), pick(rng, (None, [], {}, "text", -1, 10**6, 1.5))
        torch.save(state | {key: put}, path)
        how = f"{key} = {put!r}"
    elif how == "tensor":
        torch.save(torch.zeros(3), path)
    else:
        name = pick(rng, state["model"])
        torch.save(state | {"model": state["model"] | {name: torch.zeros(2, 2)}}, path)
        how = f"weights {name} of another shape"
    return how


def spoil_table(rng: np.random.Generator, data: bytes) -> tuple[str, bytes]:
    """A damaged results.csv."""
    lines = data.splitlines(keepends=True)
    row = int(rng.integers(1, len(lines)))
    cells = lines[row].rstrip(b"\n").split(b",")
    cell = int(rng.integers(len(cells)))
    what = pick(
        rng, ("cut", "cut", "cut", "cell", "cell", "twice", "header", "more", "fewer", "text")
    )
    if what == "text":
        return spoil_text(rng, data)
    if what == "cut":
        place = int(rng.integers(len(data)))
        return f"cut at {place} of {len(data)}", data[:place]
    if what == "cell":
        put = pick(rng, (b"", b"abc", b"nan", b"inf", b'"', b"1e999", b"-"))
        what = f"row {row}, cell {cell} {put!r}"
        lines[row] = b",".join([*cells[:cell], put, *cells[cell + 1 :]]) + b"\n"
    elif what == "twice":
        lines.insert(row, lines[row])
    elif what == "header":
        twice = lines[0].replace(b"seed", b"task").replace(b"replicate", b"task")
        others = (b"", b"a,b\n", lines[0].replace(b",", b";"), lines[0].upper(), twice)
        lines[0] = pick(rng, others)
    elif what == "more":
        lines[row] = lines[row].rstrip(b"\n") + b",1\n"
    elif what == "fewer":
        lines[row] = b",".join(cells[:-1]) + b"\n"
    return what, b"".join(lines)


def spoil(rng: np.random.Generator, path: Path, shop, own: str) -> str:
    """Damages one file of a run folder in a way that its format suggests."""
    if rng.random() < 0.08:
        path.unlink()
        if rng.random() < 0.3:
            path.mkdir()
            return f"{path.name} is a folder"
        return f"no {path.name}"
    if path.name == "checkpoint.pt":
        return f"{path.name}: {spoil_checkpoint(rng, path, shop, own)}"
    spoilers = {".json": spoil_json, ".jsonl": spoil_lines, ".csv": spoil_table}
    what, data = spoilers.get(path.suffix, damage)(rng, path.read_bytes())
    path.write_bytes(data)
    return f"{path.name}: {what}"
