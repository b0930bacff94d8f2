"""The pages: links lead somewhere, tables are whole, the first page stays short."""

import re

import pytest

from scripts.pages import PAGES, ROOT, TABLE, name_of
from tests.pages.markdown import anchor, anchors, links, prose

each_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def test_anchors_are_those_of_github():
    text = "# A: one, two\n## The paper's task\n```\n# no heading\n```\n### `x` & y-z\n"
    assert anchors(text) == {"a-one-two", "the-papers-task", "x--y-z"}


@each_page
def test_each_link_leads_to_a_file_or_heading(page):
    for link in links(page.read_text()):
        if re.match("https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert target.resolve().is_relative_to(ROOT)
        if anchor:
            assert anchor in anchors(target.read_text()), f"{name_of(page)}: {link}"


@each_page
def test_each_row_of_a_table_has_a_cell_for_each_column(page):
    previous = 0
    for line in prose(page.read_text()).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) if line.lstrip().startswith("|") else 0
        assert not (cells and previous) or cells == previous, f"{name_of(page)}: {line}"
        previous = cells


def test_every_page_is_linked_from_the_first_which_is_short():
    text = PAGES[0].read_text()
    linked = {(ROOT / link.partition("#")[0]).resolve() for link in links(text)}
    assert set(PAGES) <= linked | {PAGES[0]}
    assert len(text.splitlines()) <= 250 and len(text.split()) <= 2500


def test_each_table_is_made_from_rows_or_is_listed_as_made_by_hand():
    page = ROOT / "resources/README.md"
    section = page.read_text().partition("\n## Tables made by hand\n")[2].partition("\n## ")[0]
    listed = {
        f"{name_of((page.parent / path).resolve()) if path else name_of(page)}#{place}"
        for path, _, place in (link.partition("#") for link in links(section))
    }
    by_hand = set()
    for page in PAGES:
        heading = ""
        for line in TABLE.sub("", prose(page.read_text())).splitlines():
            if line.startswith("#"):
                heading = anchor(line.lstrip("# "))
            elif line.lstrip().startswith("|"):
                by_hand.add(f"{name_of(page)}#{heading}")
    assert by_hand == listed
