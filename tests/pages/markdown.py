"""The parts of a page in Markdown: code blocks, their commands, links, anchors."""

import re
from pathlib import Path

from scripts.pages import PAGES


def blocks(page: Path) -> list[tuple[str, str]]:
    """The language and the text of each code block of a page, in order."""
    return re.findall(r"^```(\w*)\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def code_blocks(language: str) -> list[str]:
    """The code blocks of all pages in a language such as `bash`."""
    return [text for page in PAGES for name, text in blocks(page) if name == language]


def shell_commands(text: str) -> list[str]:
    """The commands of a bash block: continued lines joined, `for` loops of one line unrolled."""
    commands = []
    for line in text.replace("\\\n", " ").splitlines():
        if loop := re.fullmatch(r"for (\w+) in (.+?); do (.+); done", line.strip()):
            commands += [loop[3].replace(f"${loop[1]}", value) for value in loop[2].split()]
        elif line.strip() and not line.lstrip().startswith("#"):
            commands.append(line.strip())
    return commands


def prose(text: str) -> str:
    """A page without its code blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def links(text: str) -> list[str]:
    """Targets of a page's links and pictures."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(text))


def anchor(heading: str) -> str:
    """The anchor that GitHub gives to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(text: str) -> set[str]:
    return {anchor(title) for title in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)}
