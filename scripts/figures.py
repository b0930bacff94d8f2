"""Draws the figures of the pages from the committed rows.

    python -m scripts.figures --output-dir runs/figures
    python -m scripts.figures --only mi_hard.png

Each figure is drawn from the files of `--rows` that it needs and from nothing else;
`pictures.json`, beside the figures, holds their digests, which `scripts.make_tables --check` reads.
`scripts.idea_figure` draws the figure of the overview, which needs a network and a photograph.
"""

from pathlib import Path

from mi_common import cli

FIGURES = {  # the function that draws it, and its files with the columns or arrays they must have
    "mi_paper.png": ("draw_paper", {"mi_estimator.csv": "task estimator estimate truth"}),
    "mi_hard.png": ("draw_hard", {"mi_hard.csv": "task estimator n_train estimate truth status"}),
    "pc_softmax_classes.png": (
        "draw_classes",
        {"pc_softmax_classes.csv": "test_set loss rule seed class train_count accuracy"},
    ),
    "infocam_thresholds.png": (
        "draw_thresholds",
        {
            "infocam_thresholds.csv": "optimizer seed method threshold gt_known",
            "infocam_tiny_imagenet.csv": "optimizer map protocol seed method region_rule "
            "threshold_rule threshold gt_known",
        },
    ),
    "infocam_common_part.png": (
        "draw_common_part",
        {"infocam_common_part.csv": "head factor map_share gain gain_low gain_high"},
    ),
    "infocam_differences.png": (
        "draw_differences",
        {"infocam_differences.npz": "pictures labels truths methods maps boxes overlaps"},
    ),
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

    from mi_common.errors import UserError
    from scripts import figures_boxes, figures_scores
    from scripts.input_files import read_drawn
    from scripts.provenance import note_pictures

    functions = vars(figures_boxes) | vars(figures_scores)
    inputs = {  # all are read first: a missing file leaves nothing half done
        name: [
            read_drawn(args.rows / file, *names.split()) for file, names in FIGURES[name][1].items()
        ]
        for name in dict.fromkeys(args.only or FIGURES)
    }
    args.output_dir.mkdir(parents=True, exist_ok=True)
    for name, values in inputs.items():
        function, files = FIGURES[name]
        try:
            functions[function](*values, args.output_dir / name)
        except (TypeError, LookupError, ValueError, AttributeError) as error:
            problem = f"{' and '.join(files)} do not fit: {type(error).__name__}: {error}"
            raise UserError(f"{name}: {problem}; make them again") from error
        note_pictures(args.output_dir, {name: [args.rows / file for file in files]})
        print(f"wrote {args.output_dir / name}")


if __name__ == "__main__":
    main()
