"""Draws the idea of the project in one figure: logits, information, and its three uses.

    python -m scripts.idea_figure coffee.png

The picture's logits and map are those of EfficientNet-Lite0; the numbers are the committed rows of
`resources/`. Writes `resources/idea.png`.
"""

from pathlib import Path

from mi_common import cli

OUTPUT = Path("resources/idea.png")


def get_parser() -> cli.Parser:
    parser = cli.Parser(__doc__)
    parser.add_argument("picture", type=Path, help="photograph of an object that ImageNet knows")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)

    from infocam.models.classifiers import imagenet_classifier
    from mi_common import runtime
    from mi_common.pictures import read_image
    from scripts.idea_panels import ESTIMATES, ROWS, TABLES, draw_idea
    from scripts.provenance import note_pictures

    device = runtime.setup("cpu")
    options = {"weights": "imagenet", "output_stride": 16}
    classifier = imagenet_classifier("efficientnet_lite0", **options, runtime=device)
    draw_idea(OUTPUT, read_image(args.picture), classifier, device)
    files = [ROWS / file for file in (ESTIMATES, *TABLES.values())]
    note_pictures(OUTPUT.parent, {OUTPUT.name: files})
    print(f"wrote {OUTPUT}")


if __name__ == "__main__":
    main()
