"""How much of infoCAM's gain on CAM is the part that all class weights of a head share.

    python -m scripts.head_common_part runs/tiny-32-0 runs/tiny-sgd-0 --factors 0.5 1 2 --imagenet

Multiplies this common part of each head by each factor, which changes no probability, and scores
CAM again. With `--imagenet` the ImageNet head of EfficientNet-Lite0, on the features of the first
run, is one of the heads; its images must be those of Tiny-ImageNet.

Writes `common_part.csv` (see `scripts.head_parts.common_part_rows`) and `common_part.png`.
"""

from pathlib import Path

from mi_common import cli
from scripts.study_flags import add_study_arguments

IMAGENET = "ImageNet head"


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("runs", type=Path, nargs="+", help="folders that infocam.train wrote")
    add = add_study_arguments(parser, "runs/head_common_part", seed=False)
    text = "of the common part; 1 is the head as trained"
    add("--factors", type=cli.non_negative_float, nargs="+", default=[1.0], help=text)
    add("--imagenet", action="store_true", help="add the ImageNet head of EfficientNet-Lite0")
    add("--names", nargs="+", help="of the heads in the table and the plot (folders of the runs)")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    parser = get_parser()
    args = parser.parse_args(argv)
    if args.names and len(args.names) != len(args.runs):
        parser.error(f"--names: {len(args.names)} names for {len(args.runs)} runs; name each")
    names = args.names or [str(run) for run in args.runs]
    heads = [*names, IMAGENET] if args.imagenet else names
    if len(set(heads)) < len(heads):
        parser.error(f"heads {', '.join(heads)}: give each a name of its own with --names")

    import pandas as pd

    from mi_common import runtime
    from mi_common.records import check_output, prepare_output
    from mi_common.tables import to_markdown, write_csv
    from scripts.figures_boxes import draw_common_part
    from scripts.head_parts import common_part_rows, imagenet_weights, synsets_of
    from scripts.localisation import open_run

    device, folder = runtime.from_flags(args), args.output_dir
    check_output(folder, vars(args), overwrite=args.overwrite)
    rows = []
    for number, path in enumerate(args.runs):
        opened = open_run(
            path,
            data_dir=args.data_dir,
            test_images=args.test_images,
            num_workers=args.num_workers,
            runtime=device,
        )
        heads = {names[number]: opened.classifier.network.head.weight.detach()}
        if args.imagenet and number == 0:
            heads[IMAGENET] = imagenet_weights(synsets_of(opened.run, args.data_dir))
        for name, weights in heads.items():
            of_head = common_part_rows(opened.classifier, opened.sets, weights, args.factors)
            rows += [{"head": name} | row for row in of_head]
            print(to_markdown(pd.DataFrame(rows[-len(of_head) :])), flush=True)
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    table = pd.DataFrame(rows)
    write_csv(table, folder / "common_part.csv")
    draw_common_part(table, folder / "common_part.png")
    print(f"wrote {folder}/common_part.csv and common_part.png")


if __name__ == "__main__":
    main()
