"""Writes one self-contained HTML page on the three experiments: tables, plots, overlays.

    python -m scripts.report runs/quickstart

reads `mi_estimator/`, `pc_softmax/`, `infocam/` and `explain/` in that folder and writes
`report.html` there: first the findings with their intervals, then tables, plots and pictures. It
trains nothing.

    python -m scripts.report --compare runs/pc_softmax/a runs/pc_softmax/b

shows any output folders side by side: where their flags and scores differ, tables and plots.
"""

from pathlib import Path

from mi_common import cli

SHRUNK = "A check of the machinery, everything shrunk: these numbers mean nothing."


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    text = "folder that scripts/quickstart.sh wrote"
    parser.add_argument("runs", type=Path, nargs="?", help=text)
    text = "in place of it, output folders of any scripts to show side by side"
    parser.add_argument("--compare", type=Path, nargs="+", metavar="RUN", help=text)
    text = "HTML file to write (default: report.html in RUNS; runs/compare.html with --compare)"
    parser.add_argument("--page", type=Path, help=text)
    text = "say above all that the runs were shrunk, as by scripts/quickstart.sh --smoke"
    parser.add_argument("--smoke", action="store_true", help=text)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    if (args.runs is None) == (args.compare is None):
        parser.error("give the folder of the quick start, or --compare RUN RUN")
    if args.compare and args.smoke:
        parser.error("--smoke is for the quick start, not for --compare")

    from mi_common.errors import UserError
    from mi_common.files import write_atomically
    from scripts.finished_runs import require_outside_runs
    from scripts.report_page import build_report, compare_runs

    if args.page and args.page.suffix != ".html":
        raise UserError(f"--page {args.page}: not a name that ends with .html")
    if args.page:
        require_outside_runs(args.page, "--page")
    note = SHRUNK if args.smoke else ""
    text = compare_runs(args.compare) if args.compare else build_report(args.runs, note)
    page = text.encode(errors="replace")  # a picture's name may be no text
    target = args.page or (Path("runs/compare.html") if args.compare else args.runs / "report.html")
    write_atomically(target, lambda partial: partial.write_bytes(page))
    print(f"report: {target}")
    print(f"next: python -m webbrowser {target}")


if __name__ == "__main__":
    main()
