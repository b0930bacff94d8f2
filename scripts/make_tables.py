"""Makes the tables and the numbers of all pages from the rows in `resources/`.

    python -m scripts.make_tables --check

changes nothing and ends with status 1 if a page and its rows disagree. Without `--check` the pages
are written. Each table of rows must have its sidecar, which says where they are from, and with
`--check` no picture may be older than its rows (`scripts.provenance`). See `scripts.pages` for the
markers, and `resources/README.md`.
"""

import difflib
import sys

from mi_common import cli


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("--check", action="store_true", help="report differences, change nothing")
    text = "print the numbers for sentences whose names contain TEXT, and do no more"
    parser.add_argument("--values", metavar="TEXT", help=text)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_common.errors import UserError
    from mi_common.files import write_text
    from scripts import page_tables, page_tables_boxes, pages, provenance
    from scripts.page_values import compute_values

    for table in sorted((pages.ROOT / "resources").glob("*.csv")):
        provenance.check_sidecar(table)
    values = compute_values(pages.ROOT / "resources")
    if args.values is not None:
        shown = {name: value for name, value in values.items() if args.values in name}
        if not shown:
            raise UserError(f"--values {args.values}: no name contains it; '' prints all names")
        print("\n".join(f"{name}: {value}" for name, value in shown.items()))
        return
    functions = {
        name: value
        for module in (page_tables, page_tables_boxes)
        for name, value in vars(module).items()
        if getattr(value, "__module__", None) == module.__name__  # not what it imports
    }
    sentences = pages.read_sentences(pages.ROOT / "scripts/page_sentences.txt")
    changed = 0
    for page in pages.PAGES:
        name, old = pages.name_of(page), page.read_text()
        try:
            new = pages.with_tables(old, functions)
            for sentence in sentences.pop(name, []):
                new = pages.with_numbers(new, sentence, values)
        except UserError as error:
            raise UserError(f"{name}: {error}") from error
        if new == old:
            continue
        changed += 1
        lines = [text.splitlines(keepends=True) for text in (old, new)]
        sys.stdout.writelines(difflib.unified_diff(*lines, name, "from the rows", n=0))
        if not args.check:
            write_text(page, new)
    if args.check:
        provenance.check_pictures(pages.ROOT / "resources")
    if sentences:
        raise UserError(f"page_sentences.txt: {next(iter(sentences))}: no such page")
    print(f"{changed} of {len(pages.PAGES)} pages differ from the rows")
    if args.check and changed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
