"""Writes one self-contained HTML page on the three experiments: tables, plots, overlays.

    python -m scripts.report runs/quickstart

reads `mi_estimator/`, `pc_softmax/`, `infocam/` and `explain/` in that folder and writes
`report.html` there: first the findings with their intervals, then tables, plots and pictures. It
trains nothing. With `--figure FILE` it also draws one picture of the three experiments.
"""

from pathlib import Path

from mi_common import cli


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("runs", type=Path, help="folder that scripts/quickstart.sh wrote")
    parser.add_argument("--note", default="", help="text to show above all")
    parser.add_argument("--figure", type=Path, help="PNG to write with one picture of the three")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_common.files import write_atomically
    from scripts.report_page import build_report, check_figure, overview

    if args.figure:
        check_figure(args.figure, args.runs)
    text = build_report(args.runs, args.note)
    page = text.encode(errors="replace")  # a picture's name may be no text
    figure = overview(args.runs) if args.figure else None
    target = args.runs / "report.html"
    write_atomically(target, lambda partial: partial.write_bytes(page))
    print(f"report: {target}")
    if args.figure:
        write_atomically(args.figure, lambda partial: figure.save(partial, optimize=True))
        print(f"figure: {args.figure}")
    print(f"next: python -m webbrowser {target}")


if __name__ == "__main__":
    main()
