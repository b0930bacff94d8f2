"""Finds pictures that CAM and infoCAM box differently, for one of the figures of `scripts.figures`.

    python -m scripts.figures_pictures runs/reproduce_infocam/digits-0

Of the test images of a run on scattered digits that one of them boxes right and the other wrong, it
takes the four with the largest difference of overlap in each direction. Writes
`resources/infocam_differences.npz`.
"""

from pathlib import Path

from mi_common import cli

OUTPUT = Path("resources/infocam_differences.npz")


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("run", type=Path, help="run of infocam.train on scattered-digits")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from mi_common import runtime
    from mi_common.files import save_arrays
    from scripts.differing_pictures import differing_pictures

    arrays = differing_pictures(args.run, runtime=runtime.setup("cpu"))
    save_arrays(OUTPUT, **arrays)
    infocam, cam = arrays["counts"]
    print(f"wrote {OUTPUT}; infoCAM alone boxes {infocam} images right, CAM alone {cam}")


if __name__ == "__main__":
    main()
