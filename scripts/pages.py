"""The project's pages in Markdown: their tables and the numbers of their sentences.

A table between the lines `<!-- table: FUNCTION resources/FILE.csv NAME=VALUE -->` and
`<!-- end -->` is what a function of `scripts.page_tables` makes of the rows of that file. A
sentence of `scripts/page_sentences.txt` shows numbers that `scripts.page_values` computes.
"""

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from mi_common.errors import UserError
from mi_common.tables import to_markdown
from scripts import input_files
from scripts.provenance import SOURCE

ROOT = Path(__file__).resolve().parents[1]
# Not the pages that tools leave in hidden folders.
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in ROOT.glob("*/README.md") if not p.parent.name.startswith(".")),
]
TABLE = re.compile(r"^<!-- table: (.+?) -->\n(.*?)^<!-- end -->$", re.DOTALL | re.MULTILINE)
MARKER = re.compile(r"^[ \t]*<!--[ \t]*(?:table|end)\b.*", re.MULTILINE)
MARKERS = ("<!-- table: FUNCTION resources/FILE.csv OPTION=VALUE -->", "<!-- end -->")
_NUMBER = r"[+−-]?\d(?:[\d.,]*\d)?"
NUMBER = rf"({_NUMBER}(?:\s±\s{_NUMBER})?)"


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read_rows(file: Path) -> pd.DataFrame:
    """Rows without their `source`, which tells runs apart that a table may average."""
    return input_files.read_rows(file).drop(columns=SOURCE, errors="ignore")


def apply(name: str, function: Callable, *rows: pd.DataFrame, **options: str):
    """What a function of this name makes of rows; UserError if they do not fit it."""
    try:
        return function(*rows, **options)
    except UserError:
        raise
    except (TypeError, LookupError, ValueError, AttributeError, ArithmeticError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise UserError(f"these rows and options do not fit {name}: {problem}") from error


def with_tables(text: str, functions: Mapping[str, Callable[..., pd.DataFrame]]) -> str:
    """A page with the tables between its markers made anew; UserError for a wrong marker."""
    markers = MARKER.findall(text)
    for place, marker in enumerate(markers):
        if not re.fullmatch(r"<!-- table: .+? -->" if place % 2 == 0 else MARKERS[1], marker):
            raise UserError(f"{marker}: {' and '.join(MARKERS)} take turns, on lines of their own")
    if len(markers) % 2:
        raise UserError(f"{markers[-1]}: no {MARKERS[1]} after it")

    def table(match: re.Match) -> str:
        marker = f"<!-- table: {match[1]} -->"
        name, *words = match[1].split()
        files = [word for word in words if "=" not in word]
        options = dict(word.split("=", 1) for word in words if "=" in word)
        if name not in functions:
            raise UserError(f"{marker}: no function {name} of page tables")
        try:
            rows = [read_rows(ROOT / file) for file in files]
            markdown = to_markdown(apply(name, functions[name], *rows, **options))
        except UserError as error:
            raise UserError(f"{marker}: {error}") from error
        return f"{marker}\n\n{markdown}\n{MARKERS[1]}"

    return TABLE.sub(table, text)


def with_numbers(text: str, sentence: str, values: Mapping[str, str]) -> str:
    """A page with the numbers of one sentence made anew.

    Args:
        sentence: as on the page, with `{NAME}` in place of each number, or `{+NAME}` of one whose
            interval must be above zero; line breaks do not matter.
        values: the numbers as shown, such as `0.9` or `1.24 ± 0.59`, by name.

    UserError if a name has no value or one that is not a number, such as `nan`, or one that belies
    the sentence, such as a negative one behind a plus; or if the page has no such sentence or more
    than one.
    """
    literals, names = re.split(r"\{[^{}]+\}", sentence), re.findall(r"\{\+?([^{}]+)\}", sentence)
    for name in names:
        if name not in values:
            close = ", ".join(map(repr, difflib.get_close_matches(name, values))) or "none"
            remedy = "--values '' prints all names"
            raise UserError(f"{sentence!r}: no value {name!r}; close: {close}; {remedy}")
        if not re.fullmatch(NUMBER, values[name]):
            problem = f"{name} is {values[name]}, no number for a sentence"
            raise UserError(f"{sentence!r}: {problem}; are rows or seeds missing?")
        mean, _, half_width = values[name].replace(",", "").partition(" ± ")
        belied = f"+{{{name}}}" in sentence and float(mean) < 0
        if belied or (f"{{+{name}}}" in sentence and float(mean) <= float(half_width or 0)):
            problem = f"{name} is {values[name]}, not above zero"
            raise UserError(f"{sentence!r}: {problem}; change the sentence")
    escaped = [r"\s+".join(map(re.escape, re.split(r"\s+", literal))) for literal in literals]
    matches = list(re.finditer(NUMBER.join(escaped), text))
    if len(matches) != 1:
        raise UserError(
            f"{len(matches)} sentences like {sentence!r}; change it in page_sentences.txt, too"
        )
    for number, name in reversed(list(enumerate(names, start=1))):
        start, end = matches[0].span(number)
        if re.sub(r"\s", " ", text[start:end]).replace("−", "-") != values[name]:
            text = text[:start] + values[name].replace("-", "−") + text[end:]
    return text


def read_sentences(file: Path) -> dict[str, list[str]]:
    """Page names with their sentences, from a file with `== PAGE` lines and empty lines between."""
    by_page = {}
    for block in re.split(r"\n\s*\n", file.read_text()):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if lines and lines[0].startswith("== "):
            sentences = by_page.setdefault(lines.pop(0).removeprefix("== "), [])
        if lines:
            sentences.append("\n".join(lines))
    return by_page
