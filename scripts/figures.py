"""Draws the figures of the pages from the committed rows.

    python -m scripts.figures --output-dir runs/figures
    python -m scripts.figures --only mi_hard.png

Each figure is drawn from the files of `--rows` that it needs and from nothing else.
`scripts.idea_figure` draws the figure of the overview, which needs a network and a photograph.
"""

from pathlib import Path

from mi_common import cli

FIGURES = {  # the files that each is drawn from
    "mi_paper.png": ("mi_estimator.csv",),
    "mi_hard.png": ("mi_hard.csv",),
    "pc_softmax_classes.png": ("pc_softmax_classes.csv",),
    "infocam_thresholds.png": ("infocam_thresholds.csv", "infocam_tiny_imagenet.csv"),
    "infocam_common_part.png": ("infocam_common_part.csv",),
    "infocam_differences.png": ("infocam_differences.npz",),
}


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    add = parser.add_argument
    text = f"figures to draw, of {', '.join(FIGURES)} (default: all)"
    add("--only", nargs="+", choices=FIGURES, metavar="FIGURE", help=text)
    add("--rows", type=Path, default=Path("resources"), help="folder of the committed rows")
    add("--output-dir", type=Path, default=Path("resources"), help="folder of the figures")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from scripts.figures_boxes import draw_common_part, draw_differences, draw_thresholds
    from scripts.figures_input import read_input
    from scripts.figures_scores import draw_classes, draw_hard, draw_paper

    draw = {
        "mi_paper.png": draw_paper,
        "mi_hard.png": draw_hard,
        "pc_softmax_classes.png": draw_classes,
        "infocam_thresholds.png": draw_thresholds,
        "infocam_common_part.png": draw_common_part,
        "infocam_differences.png": draw_differences,
    }
    inputs = {  # all are read first: a missing file leaves nothing half done
        name: [read_input(args.rows / file) for file in FIGURES[name]]
        for name in dict.fromkeys(args.only or FIGURES)
    }
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, files in inputs.items():
        draw[name](*files, args.output_dir / name)
        print(f"wrote {args.output_dir / name}")


if __name__ == "__main__":
    main()
