"""What the bands along the edges of feature maps contribute to boxes.

    python -m scripts.edge_bands runs/tiny-32-0

Convolutions continue an image with zeros, and even noise, which is the same everywhere, has bands
along the edges of its maps. This divides infoCAM by the mean infoCAM of such noise, as cameras
divide by the picture of a white wall, and scores it again. Unlike `--padding reflect` it leaves the
network as it is.

Writes `edge_bands.csv`, a row each for infoCAM and the divided infoCAM with the paired gain on
infoCAM and intervals over images, and `noise_map.csv`, the mean map of noise.
"""

from pathlib import Path

from mi_common import cli
from scripts.study_flags import add_study_arguments


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("run", type=Path, help="folder that infocam.train wrote")
    add_study_arguments(parser, "runs/edge_bands", seed=False)
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    import pandas as pd

    from mi_common import runtime
    from mi_common.records import check_output, prepare_output
    from mi_common.tables import to_markdown, write_csv
    from scripts.edge_band_maps import divided_rows, noise_map
    from scripts.localisation import open_run

    device, folder = runtime.from_flags(args), args.output_dir
    check_output(folder, vars(args), overwrite=args.overwrite)
    options = {"data_dir": args.data_dir, "test_images": args.test_images}
    opened = open_run(args.run, **options, num_workers=args.num_workers, runtime=device)
    field = noise_map(opened.classifier.network)
    rows = pd.DataFrame(divided_rows(opened.classifier, opened.sets, field))
    prepare_output(folder, vars(args), overwrite=args.overwrite)
    write_csv(rows.assign(run=str(args.run)), folder / "edge_bands.csv")
    write_csv(pd.DataFrame(field), folder / "noise_map.csv")
    print(to_markdown(pd.DataFrame(field.round(2))))
    print(to_markdown(rows))
    print(f"wrote {folder}/edge_bands.csv and noise_map.csv")


if __name__ == "__main__":
    main()
