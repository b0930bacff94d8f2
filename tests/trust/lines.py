"""Annotation files as lines of fields: other ways to write the same, and damage."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.trust.cases import Answer, Case, pick
from tests.trust.spoilers import spoil_text

NO_NUMBERS = ("", "abc", "-1", "1.5", "nan", "inf", "9" * 20, "1e3", "0x10", "--", "+-1")
DAMAGES = ("field",) * 5 + ("line", "twice", "spoiled", "text", "gone", "beyond")
TOO_LARGE = ("2147483647", "4294967296", "1" + "0" * 30)


@dataclass
class Lines:
    """A text file of fields, and what it must not hold.

    Attributes:
        between: what separates fields.
        wrong: what no field of a column may be, by column.
        head: lines before the first that counts.
        mark: a byte-order mark is allowed.
        free: damages of DAMAGES that still make a valid file.
    """

    path: Path
    rows: list[list[str]]
    between: str
    wrong: dict[int, tuple[str, ...]] = field(default_factory=dict)
    head: int = 0
    mark: bool = False
    free: tuple[str, ...] = ()

    def text(self, end: str = "\n") -> str:
        return end.join(self.between.join(row) for row in self.rows) + end

    def write(self, data: bytes | None = None) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(self.text().encode() if data is None else data)

    def rewrite(self, rng: np.random.Generator) -> str:
        """Writes it in another way that means the same."""
        options = {
            "plain": self.text().encode(),
            "lines end in CR LF": self.text("\r\n").encode(),
            "no end of the last line": self.text()[:-1].encode(),
            "empty lines": self.text("\n\n").encode(),
        }
        if self.mark:
            options["a byte-order mark"] = self.text().encode("utf-8-sig")
        what, data = pick(rng, options.items())
        self.write(data)
        return what

    def damage(self, rng: np.random.Generator) -> tuple[str, str]:
        """Writes it damaged; which of DAMAGES it was, and what in words."""
        how, row = pick(rng, DAMAGES), int(rng.integers(self.head, len(self.rows)))
        fields = self.rows[row]
        column, wrong = pick(rng, self.wrong.items())
        if how in ("field", "beyond"):
            fields[column] = pick(rng, wrong if how == "field" else TOO_LARGE)
            what = f"row {row}, field {column}: {fields[column]!r}"
        elif how == "line":
            blank = ["", ""] if len(fields) > 1 else ["junk", "junk"]  # no line is no damage
            self.rows[row] = pick(rng, (fields[:-1] or blank, [*fields, "7"], ["junk"], blank))
            what = f"row {row}: {self.rows[row]}"
        elif how == "twice":
            self.rows.insert(row, list(fields))
            what = f"row {row} twice"
        elif how == "text":
            self.write(pick(rng, (b"", b"\n\n", self.text().encode("utf-16"), rng.bytes(300))))
            return how, "another text"
        elif how == "gone":
            self.path.unlink()
            if rng.random() < 0.5:
                self.path.mkdir()
            return how, "a folder" if self.path.exists() else "no file"
        else:
            what, data = spoil_text(rng, self.text().encode())
            self.write(data)
            # Any letter may be in a name; only what is no text at all cannot be right.
            return "text" if "UTF-8" in what or what.startswith("noise") else how, what
        self.write()
        return how, what


def attack_lines(
    rng: np.random.Generator,
    files: list[Lines],
    chosen: Lines,
    act: Callable[[], object],
    right: Callable[[Answer], object],
    root: Path,
) -> Case:
    """Writes all files, one of them in another way or damaged; `right` knows the plain answer."""
    for file in files:
        file.write()
    name, kind = chosen.path.name, rng.random()
    if kind < 0.25:
        return Case(f"{name}: {chosen.rewrite(rng)}", act, right, True, (root,))
    if kind < 0.28:  # a mark where none is expected may be refused, but not misread
        chosen.write(chosen.text().encode("utf-8-sig"))
        return Case(f"{name}: a byte-order mark", act, right, False, (root,))
    how, what = chosen.damage(rng)
    accepts = None
    if how in chosen.free:  # another file, but a valid one
        accepts = lambda answer: True  # noqa: E731
    elif how == "spoiled":
        accepts = right
    return Case(f"{name}: {what}", act, accepts, False, (root,))


def draw_boxes(rng: np.random.Generator, n: int, width: int, height: int) -> np.ndarray:
    """(n, 4) x0 y0 x1 y1 inside of an image."""
    corners = np.sort(rng.integers(0, [[width], [height]], size=(n, 2, 2)), axis=2)
    return corners.transpose(0, 2, 1).reshape(n, 4)


def same_boxes(expected: list, found: list) -> bool:
    """Whether each image has exactly its one box."""
    return len(expected) == len(found) and all(
        np.array_equal(np.reshape(a, (-1, 4)), b) for a, b in zip(expected, found, strict=True)
    )
