"""A head that is trained on true boxes: a control for methods that see labels alone.

    python -m scripts.box_head runs/tiny-32-0 --seeds 0 1 2

Choe et al. (2020) ask for it: whoever chooses thresholds on validation boxes may as well learn from
them. A small head on the frozen features, the run's infoCAM, or both predicts a box and is trained
on the validation images; its number of epochs is chosen on a fifth of them.

Writes `box_head.csv`, a row for each input and seed: the GT-known localisation of the head, that of
infoCAM with its threshold from the same boxes, and the gain, with intervals over images; and
`table` (.md, .tex).
"""

from pathlib import Path

from mi_common import cli
from scripts.study_flags import add_study_arguments

INPUTS = ("map", "features", "features+map")


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    text = "folder that infocam.train wrote with a frozen backbone"
    parser.add_argument("run", type=Path, help=text)
    add = add_study_arguments(parser, "runs/box_head", seeds=[0, 1, 2])
    add("--inputs", choices=INPUTS, nargs="+", default=list(INPUTS), help="of the head")
    add("--epochs", type=cli.positive_int, default=16, help="at most; the best is chosen")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    for name in ("seeds", "inputs"):
        if len(set(values := getattr(args, name))) < len(values):
            parser.error(f"--{name} {' '.join(map(str, values))}: give each once")

    import pandas as pd

    from mi_common import runtime
    from mi_common.records import check_output, prepare_output
    from mi_common.tables import formatted, summarise, to_markdown, write_csv, write_tables
    from scripts.box_head_training import box_head_rows
    from scripts.localisation import open_run

    device, folder = runtime.from_flags(args), args.output_dir
    check_output(folder, vars(args), overwrite=args.overwrite)
    options = {"data_dir": args.data_dir, "test_images": args.test_images}
    opened = open_run(args.run, **options, num_workers=args.num_workers, runtime=device)
    rows = pd.DataFrame(
        box_head_rows(
            opened.classifier, opened.sets, args.inputs, epochs=args.epochs, seeds=args.seeds
        )
    )
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_csv(rows.assign(run=str(args.run)), folder / "box_head.csv")
    metrics = ["gt_known", "infocam", "gain"]
    table = summarise(rows[["inputs", "seed", *metrics]], ["inputs"], metrics)
    table = formatted(table, metrics, digits=1, scale=100)
    write_tables(table, folder / "table")
    print("Mean ± half the 95 % interval over seeds; intervals over images: box_head.csv.\n")
    print(to_markdown(table))
    print(f"wrote {folder}/box_head.csv and table")


if __name__ == "__main__":
    main()
