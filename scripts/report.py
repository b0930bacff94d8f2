"""One self-contained HTML page from the three experiments' folders: tables, plots, overlays.

    python -m scripts.report runs/quickstart

reads `mi_estimator/`, `pc_softmax/` and `infocam/` in that folder and writes `report.html` there,
and with `--figure FILE` one picture of the three. Nothing is computed again: both show the tables
and pictures that the scripts wrote.
"""

import base64
import html
import io
import json
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from common import cli
from common.errors import UserError
from common.records import write_atomically

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
       color: #1a1a1a; background: #fff }
h1 { line-height: 1.2 } h2 { margin-top: 3rem; border-top: 1px solid #ccc; padding-top: 1rem }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #e4e4e4 }
th { border-bottom: 1px solid #888 } td:first-child, th:first-child { text-align: left }
.wide { overflow-x: auto } img { max-width: 100% } code { font-size: .85rem }
.gallery { display: grid; grid-template-columns: repeat(auto-fit, minmax(26rem, 1fr)); gap: .5rem }
.run { color: #666; font-size: .85rem }
"""


@dataclass(frozen=True)
class Section:
    """What the page shows of one experiment; paths below the runs folder."""

    title: str
    text: str
    config: str
    tables: tuple[str, ...]
    figures: tuple[str, ...]
    gallery: str | None = None


SECTIONS = (
    Section(
        "Mutual information, estimated and exact",
        "Classifiers trained on samples of Gaussian classes, scored on fresh samples, in nats. The "
        "oracle averages the exact log density ratio over the same samples: its error is the "
        "sampling error. H(Y) is the cap of the mutual information.",
        "mi_estimator/config.json",
        ("mi_estimator/table.md",),
        ("mi_estimator/estimates.png",),
    ),
    Section(
        "PC-softmax on imbalanced MNIST",
        "3,000 training images of each odd digit, 300 of each even one. Percent, mean ± half the "
        "95 % interval over seeds, then the paired difference in points. Both losses predict by "
        "the argmax of the logits.",
        "pc_softmax/config.json",
        ("pc_softmax/table.md", "pc_softmax/differences.md"),
        ("pc_softmax/per_class.png",),
    ),
    Section(
        "infoCAM: the box of a digit that only its label was given for",
        "Percent of test images whose box meets the true one with an intersection over union of "
        "at least 0.5. The threshold of a map is chosen on held-out images; the oracle's is the "
        "best on the test images themselves.",
        "infocam/evaluation/config.json",
        ("infocam/evaluation/table.md",),
        ("infocam/evaluation/threshold_curves.png",),
        "infocam/evaluation/overlays",
    ),
)


def build_report(runs: Path) -> str:
    """The page's HTML.

    Raises:
        UserError: a file of an experiment is missing.
    """
    sections = "\n".join(_section(runs, section) for section in SECTIONS)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>A classifier is a mutual-information estimator
</title><style>{STYLE}</style></head><body>
<h1>A classifier is a mutual-information estimator</h1>
<p>With softmax corrected by the class probabilities, a network's normalised logits are pointwise
mutual information. Three experiments use that: an estimate of mutual information, a loss for
imbalanced labels, and maps that find the object.</p>
{sections}
</body></html>
"""


def _section(runs: Path, section: Section) -> str:
    parts = [f"<h2>{html.escape(section.title)}</h2>", f"<p>{html.escape(section.text)}</p>"]
    for name in section.tables:
        parts.append(
            f'<div class="wide">{markdown_table_to_html(_read(runs / name).decode())}</div>'
        )
    parts += [_image(runs / name) for name in section.figures]
    if section.gallery:
        overlays = sorted((runs / section.gallery).glob("*.png"))
        pictures = "".join(_image(path) for path in overlays)
        parts.append(
            "<p>Test images spread evenly over the set. White: true box; orange, dashed: predicted "
            "box. Yellow speaks for the class, blue against it.</p>"
            f'<div class="gallery">{pictures}</div>'
        )
    config = json.loads(_read(runs / section.config))
    run = f"{config['command']} · torch {config['torch']} · {config['gpu'] or config['cpu']}"
    parts.append(f'<p class="run"><code>{html.escape(run)}</code></p>')
    return "\n".join(parts)


def markdown_table_to_html(text: str) -> str:
    """A table of `common.tables.to_markdown` as HTML."""
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.strip()]
    head, _, *body = [[html.escape(cell.strip()) for cell in row] for row in rows]
    lines = ["".join(f"<th>{cell}</th>" for cell in head)]
    lines += ["".join(f"<td>{cell}</td>" for cell in row) for row in body]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


def overview(runs: Path) -> Image.Image:
    """The estimates, the accuracy of each class and four overlays in one picture.

    Raises:
        UserError: a picture is missing.
    """
    mi, pc, infocam = SECTIONS
    overlays = sorted((runs / infocam.gallery).glob("*.png"))[:4]
    rows = [[runs / mi.figures[0], runs / pc.figures[0]], overlays[:2], overlays[2:]]
    width, margin, top = 1600, 20, 0
    page = Image.new("RGB", (width, 2 * width), "white")
    for row in rows:
        pictures = [Image.open(io.BytesIO(_read(path))).convert("RGB") for path in row]
        aspects = [picture.width / picture.height for picture in pictures]
        height = int((width - margin * (len(row) - 1)) / max(sum(aspects), 1))
        left = 0
        for picture, aspect in zip(pictures, aspects, strict=True):
            page.paste(picture.resize((int(height * aspect), height), Image.LANCZOS), (left, top))
            left += int(height * aspect) + margin
        top += height + margin
    return page.crop((0, 0, width, top))


def _image(path: Path) -> str:
    data = base64.b64encode(_read(path)).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'


def _read(path: Path) -> bytes:
    if not path.exists():
        raise UserError(f"{path}: not there; the folders of scripts/quickstart.sh are wanted")
    return path.read_bytes()


def get_parser() -> cli.Parser:
    parser = cli.Parser("Write one HTML page from the folders of the three experiments.")
    parser.add_argument("runs", type=Path, help="folder with mi_estimator, pc_softmax and infocam")
    parser.add_argument("--figure", type=Path, help="PNG to write with one picture of the three")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    page = build_report(args.runs)
    target = args.runs / "report.html"
    write_atomically(target, lambda partial: partial.write_text(page, encoding="utf-8"))
    print(f"report: {target}")
    if args.figure:
        figure = overview(args.runs)
        write_atomically(args.figure, lambda partial: figure.save(partial, optimize=True))
        print(f"figure: {args.figure}")


if __name__ == "__main__":
    main()
