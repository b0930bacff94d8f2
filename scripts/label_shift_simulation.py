"""Which estimate of the class prior to trust, by the number of validation images: a simulation.

    python -m scripts.label_shift_simulation --draws 10

Classifiers of Gaussian classes, calibrated, over-confident and biased, with 2, 10 and 100 classes;
1 to 300 validation images of the rarest class; test sets of 50 to 5,000 images whose class ratio is
1, 10 and 100. Writes `label_shift_simulation.csv`: for each cell of this grid and method the mean
over draws of the total variation between estimated and true prior, and of the accuracy gain on the
argmax, in points; and `table` (.md, .tex) with their means by number of validation images.
"""

from pathlib import Path

from mi_common import cli

PER_CLASS, TESTS, RATIOS = (1, 3, 10, 30, 100, 300), (50, 500, 5000), (1.0, 10.0, 100.0)
CLASSES = (2, 10, 100)


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    add = parser.add_argument_group("run").add_argument
    add("--classes", nargs="+", type=int, choices=CLASSES, default=CLASSES, help="classes")
    add("--draws", type=cli.positive_int, default=10, help="classifiers a cell; a fifth at K = 100")
    text = "validation images of the rarest class"
    add("--per-class", nargs="+", type=cli.positive_int, default=PER_CLASS, help=text)
    add("--tests", nargs="+", type=cli.positive_int, default=TESTS, help="test images")
    add("--seed", type=cli.seed_number, default=0, help="of the first draw")
    add("--output-dir", type=Path, default=Path("runs/label_shift"), help="folder to write")
    add("--overwrite", action="store_true", help="replace an earlier table")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    import pandas as pd
    from tqdm import tqdm

    from mi_common.errors import UserError
    from mi_common.records import prepare_output
    from mi_common.tables import to_markdown, write_csv, write_tables
    from scripts import label_shift

    for name in ("classes", "per_class", "tests"):
        setattr(args, name, list(dict.fromkeys(getattr(args, name))))
    cells = [
        (num_classes, quality, training, per_class)
        for num_classes in args.classes
        for per_class in args.per_class
        for quality in label_shift.QUALITIES
        for training in label_shift.TRAININGS
        if label_shift.validation_counts(num_classes, training, per_class).sum()
        <= label_shift.MOST_VALIDATION
    ]
    if not cells:
        limit = f"more than {label_shift.MOST_VALIDATION:,} validation images"
        raise UserError(f"--per-class {min(args.per_class)}: {limit} in each cell; give fewer")
    folder, summaries = args.output_dir, []
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    for cell in tqdm(cells, desc="cells", disable=None):
        rows = []
        draws = args.draws if cell[0] < max(CLASSES) else max(1, args.draws // 5)
        for seed in range(args.seed, args.seed + draws):
            rows += label_shift.simulate(*cell, args.tests, RATIOS, seed=seed)
        summaries.append(label_shift.summary(pd.DataFrame(rows)))
        table = pd.concat(summaries)
        write_csv(table, folder / "label_shift_simulation.csv", float_format="%.5g")
    shown = label_shift.shown(table)
    write_tables(shown, folder / "table")
    print(to_markdown(shown))
    print(f"wrote {folder}/label_shift_simulation.csv, table.md and table.tex")


if __name__ == "__main__":
    main()
