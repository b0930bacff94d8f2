"""Attacks on the user's own samples as CSV: what spreadsheets write, and what misleads."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mi_estimator.samples import read_samples
from tests.trust.cases import Answer, Case, Kind, pick, run
from tests.trust.spoilers import spoil_text

CLASSES = [["owl", "cat", "bat"], ["Ä", "ß", "Ω"], ["a,b", 'say "x"', "c"], ["-1", "2", "10"]]
CLASSES += [["no", "yes"], ["1.5", "2.5"], ["two\nlines", "one line"]]


@dataclass
class Table:
    """(n, d) features, and the label of each row as text."""

    x: np.ndarray
    labels: list[str]

    @property
    def columns(self) -> list[str]:
        return [f"a{j}" for j in range(self.x.shape[1])]


def draw_table(rng: np.random.Generator, names: list[str] | None = None) -> Table:
    names = names or pick(rng, CLASSES)
    n, d = int(rng.integers(30, 80)), int(rng.integers(2, 5))
    labels = [names[k] for k in rng.permutation(np.arange(n) % len(names))]
    return Table(rng.normal(size=(n, d)).round(6), labels)


def is_table(table: Table, answer: Answer, x: np.ndarray | None = None) -> bool:
    """Whether samples are the table's, whatever their classes are called and in which order."""
    samples, x = answer.value, table.x if x is None else x
    if samples.x.shape != x.shape or not np.allclose(samples.x.numpy(), x, rtol=1e-6, atol=1e-7):
        return False
    pairs = set(zip(samples.y.tolist(), table.labels, strict=True))
    return len(pairs) == len(set(table.labels)) == len(samples.class_names)


def csv_text(
    table: Table,
    *,
    end: str = "\n",
    quote: bool = False,
    place: int | None = None,
    delimiter: str = ",",
) -> str:
    """CSV with the label column `y` at a place, the last if none is given."""
    place = len(table.columns) if place is None else place

    def line(cells: list[str], label: str) -> str:
        cells = [*cells[:place], label, *cells[place:]]
        special = [quote or any(c in cell for c in f'{delimiter}"\n') for cell in cells]
        quoted = [cell.replace('"', '""') for cell in cells]
        return delimiter.join(f'"{c}"' if s else c for c, s in zip(quoted, special, strict=True))

    pairs = zip(table.x.tolist(), table.labels, strict=True)
    rows = [line([repr(v) for v in row], label) for row, label in pairs]
    return end.join([line(table.columns, "y"), *rows]) + end


def _valid_csv(rng: np.random.Generator, table: Table) -> tuple[str, bytes]:
    text, place = csv_text(table), int(rng.integers(table.x.shape[1] + 1))
    plain = {
        "plain": text.encode(),
        "with a byte-order mark": text.encode("utf-8-sig"),
        "lines end in CR LF": csv_text(table, end="\r\n").encode(),
        "all cells quoted": csv_text(table, quote=True).encode(),
        f"label is column {place}": csv_text(table, place=place).encode(),
        "no end of the last line": text.rstrip("\n").encode(),
        "empty lines at the end": (text + "\n\n").encode(),
        "semicolons": csv_text(table, delimiter=";").encode(),
        "tabs and CR LF": csv_text(table, delimiter="\t", end="\r\n").encode(),
        "bars": csv_text(table, delimiter="|", place=place).encode(),
        "mark, quotes and CR LF": csv_text(table, end="\r\n", quote=True).encode("utf-8-sig"),
    }
    if not any("\n" in label for label in table.labels):
        plain["an empty line in the middle"] = text.replace("\n", "\n\n", 3).encode()
    return pick(rng, plain.items())


def _cells(table: Table) -> list[list[str]]:
    pairs = zip(table.x.tolist(), table.labels, strict=True)
    return [[*table.columns, "y"], *([*map(repr, row), label] for row, label in pairs)]


def _join(cells: list[list[str]]) -> bytes:
    return ("\n".join(",".join(row) for row in cells) + "\n").encode()


BAD_CELLS = (
    "",
    "nan",
    "NA",
    "inf",
    "-inf",
    "1e400",
    "abc",
    "1,5",
    "1 000",
    "0x1F",
    "१२x",
    "#REF!",
    "2020-01-01",
    "50%",
    "--",
    "1e39",
)


def _invalid_csv(rng: np.random.Generator, table: Table) -> tuple[str, bytes]:
    """A CSV that must be refused."""
    cells = _cells(table)
    row, column = int(rng.integers(1, len(cells))), int(rng.integers(table.x.shape[1]))
    options = ("cell", "cell", "cell", "duplicate header", "long line", "long lines", "short line")
    options += ("index", "pandas index", "no label", "one class", "header only", "empty", "utf-16")
    options += ("open quote", "constant", "label missing", "binary", "all text", "names")
    options += ("a cell of two delimiters", "a quantity for a label")
    how = pick(rng, options)
    order = sorted(range(1, len(cells)), key=lambda i: cells[i][-1])
    if how == "cell":
        cells[row][column] = pick(rng, BAD_CELLS)
        if "," in cells[row][column]:
            cells[row][column] = f'"{cells[row][column]}"'
        how += f" {cells[row][column]!r} in row {row}"
    elif how == "duplicate header":
        cells[0][column] = pick(rng, ("y", cells[0][column - 1]))
    elif how == "long line":
        cells[row].append("1")
    elif how == "long lines":
        cells[1:] = [[*cells_of, "1"] for cells_of in cells[1:]]
    elif how == "short line":
        cells[row].pop()
    elif how in ("index", "pandas index"):  # rows sorted by label: the index gives it away
        name = "" if how == "index" else "Unnamed: 0"
        sorted_rows = [[str(k), *cells[i]] for k, i in enumerate(order)]
        cells = [[name, *cells[0]], *sorted_rows]
    elif how == "no label":
        cells[0][-1] = "z"
    elif how == "one class":
        cells[1:] = [[*cells_of[:-1], "same"] for cells_of in cells[1:]]
    elif how == "header only":
        del cells[1:]
    elif how == "constant":
        for cells_of in cells[1:]:
            cells_of[column] = "7"
    elif how == "label missing":
        cells[row][-1] = ""
    elif how == "all text":
        cells[1:] = [["word", *cells_of[1:]] for cells_of in cells[1:]]
    elif how == "names":
        cells[1:] = [[f"person {k}", *cells_of[1:]] for k, cells_of in enumerate(cells[1:])]
    elif how == "a quantity for a label":
        cells[1:] = [[*cells_of[:-1], f"{k}.5"] for k, cells_of in enumerate(cells[1:])]
    elif how == "a cell of two delimiters":
        cells = [[f"{cells_of[0]};{cells_of[0]}", *cells_of[1:]] for cells_of in cells]
    data = _join(cells)
    changed = {
        "empty": b"",
        "utf-16": data.decode().encode("utf-16"),
        "open quote": data.replace(b"\n", b'\n"', row + 1).replace(b'\n"', b"\n", row),
        "binary": rng.bytes(500),
    }
    return how, changed.get(how, data)


def csv_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    path = folder / pick(rng, ("table.csv", "TABLE.CSV", "ta ble,é.csv"))
    act = partial(read_samples, path, "y")
    kind = pick(rng, ("valid", "valid", "invalid", "invalid", "invalid", "spoiled", "special"))
    table = draw_table(rng, None if kind == "valid" else ["owl", "cat", "bat"])
    right, must_read = partial(is_table, table), kind == "valid"
    if kind == "valid":
        what, data = _valid_csv(rng, table)
    elif kind == "invalid":
        right, (what, data) = None, _invalid_csv(rng, table)
    elif kind == "spoiled":
        what, data = spoil_text(rng, csv_text(table).encode())
        right = None if "UTF-8" in what or what.startswith("noise") else right
    else:
        return _special_csv(rng, path, table)
    path.write_bytes(data)
    return Case(what, act, right, must_read, (path,))


def _warned(answer: Answer) -> bool:
    return any("warning" in s and "serial" in s for s in answer.printed.splitlines())


def _special_csv(rng: np.random.Generator, path: Path, table: Table) -> Case:
    cells = _cells(table)
    what = pick(rng, ("id", "zeros", "NA", "chunks", "folder", "gone", "loop"))
    if what == "id":  # may be used, but not without a warning that names it
        cells = [["serial", *cells[0]], *([str(i), *row] for i, row in enumerate(cells[1:], 7))]
        path.write_bytes(_join(cells))
        words = f"--label y --estimator lda --device cpu --output-dir {path.parent}/out".split()
        return Case("an id column", partial(run, "mi_estimator.estimate", path, *words), _warned)
    if what in ("zeros", "NA"):  # labels that pandas reads as something else
        names = ["1", "01", "2"] if what == "zeros" else ["NA", "EU", "US"]
        table = Table(table.x, [names[i % 3] for i in range(len(table.x))])
        path.write_bytes(_join(_cells(table)))
        return Case(f"labels {names}", partial(read_samples, path, "y"), partial(is_table, table))
    if what == "chunks":  # pandas guesses the type of a column chunk by chunk
        n = 300_000
        lines = [f"{i % 97},{i % 89},{i % 2}" for i in range(n)] + ["1,2,b", "3,4,b"]
        path.write_text("a0,a1,y\n" + "\n".join(lines) + "\n")
        right = lambda answer: len(answer.value.class_names) == 3  # noqa: E731
        return Case("a label of numbers, then text", partial(read_samples, path, "y"), right, True)
    if what == "folder":
        path.mkdir()
    elif what == "loop":
        path.symlink_to(path.name)
    return Case(f"{what} in place of the file", partial(read_samples, path, "y"))


KINDS = {"table: CSV": Kind(csv_case, share=3)}
