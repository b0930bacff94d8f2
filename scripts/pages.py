"""The project's pages in Markdown: which there are, their code blocks, links and tables."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Not the pages that tools leave in hidden folders.
PAGES = [
    ROOT / "README.md",
    *sorted(p for p in ROOT.glob("*/README.md") if not p.parent.name.startswith(".")),
]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def code_blocks(language: str) -> list[str]:
    """The code blocks of all pages in a language such as `bash`."""
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [block for page in PAGES for block in pattern.findall(page.read_text())]


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to a page's headings."""
    titles = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
