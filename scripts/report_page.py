"""The report: HTML and one picture from the tables and figures of the three experiments."""

import base64
import html
import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from PIL import Image

from mi_common.errors import UserError
from mi_common.files import read_json
from mi_common.pictures import image_size, read_image

MAX_PIXELS = 50_000_000  # of a picture; ours have a tenth
MAX_BYTES = 50_000_000  # of a file
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
    """What the page shows of one experiment. Paths are relative to the runs folder."""

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
        "sampling error. H(Y) is the upper limit of the mutual information.",
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
        "infoCAM: boxes of digits, learned from labels alone",
        "Percent of test images whose box has an intersection over union of at least 0.5 with "
        "the true one. The threshold of a map is chosen on validation images; the oracle's is the "
        "best on the test images themselves.",
        "infocam/evaluation/config.json",
        ("infocam/evaluation/table.md",),
        ("infocam/evaluation/threshold_curves.png",),
        "infocam/evaluation/overlays",
    ),
)


def build_report(runs: Path) -> str:
    """The page's HTML; UserError for a missing or damaged file of an experiment."""
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
        parts.append(f'<div class="wide">{_table(runs / name)}</div>')
    parts += [_image(runs / name) for name in section.figures]
    if section.gallery and (overlays := sorted((runs / section.gallery).glob("*.png"))):
        pictures = "".join(map(_image, overlays))
        parts.append(
            "<p>Test images spread evenly over the set. White: true box; orange, dashed: predicted "
            "box. Yellow is evidence for the class, blue is evidence against it.</p>"
            f'<div class="gallery">{pictures}</div>'
        )
    config = read_json(_checked(runs / section.config))
    if missing := [key for key in ("command", "torch", "gpu", "cpu") if key not in config]:
        raise UserError(f"{runs / section.config}: no {missing[0]!r}; run the experiment again")
    run = f"{config['command']} · torch {config['torch']} · {config['gpu'] or config['cpu']}"
    parts.append(f'<p class="run"><code>{html.escape(run)}</code></p>')
    return "\n".join(parts)


def _table(path: Path) -> str:
    data = _checked(path).read_bytes()
    try:
        return markdown_table_to_html(data.decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise UserError(f"{path}: not a Markdown table; run the experiment again") from error


def markdown_table_to_html(text: str) -> str:
    """A table of `mi_common.tables.to_markdown` as HTML; ValueError when the text is no table."""
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    if len(rows) < 2 or set(rows[1]) != {"---"} or len(set(map(len, rows))) > 1:
        raise ValueError("not a Markdown table")
    head, _, *body = [[cell.replace(r"\|", "|") for cell in row] for row in rows]
    with pd.option_context("display.max_colwidth", None):
        return pd.DataFrame(body, columns=head).to_html(index=False, escape=True, border=0)


def overview(runs: Path) -> Image.Image:
    """The estimates, the accuracy of each class and four overlays; UserErrors of `_picture`."""
    mi, pc, infocam = SECTIONS
    overlays = sorted((runs / infocam.gallery).glob("*.png"))[:4]
    rows = [[runs / mi.figures[0], runs / pc.figures[0]], overlays[:2], overlays[2:]]
    width, margin, top = 1600, 20, 0
    page = Image.new("RGB", (width, 2 * width), "white")
    for row in filter(None, rows):  # infoCAM may have drawn no overlays
        pictures = [_picture(path) for path in row]
        aspects = [picture.width / picture.height for picture in pictures]
        height = max(int((width - margin * (len(row) - 1)) / max(sum(aspects), 1)), 1)
        left = 0
        for picture, aspect in zip(pictures, aspects, strict=True):
            size = (max(int(height * aspect), 1), height)
            page.paste(picture.resize(size, Image.LANCZOS), (left, top))
            left += size[0] + margin
        top += height + margin
    return page.crop((0, 0, width, top))


def _image(path: Path) -> str:
    _picture(path)
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<img alt="{html.escape(path.stem)}" src="data:image/png;base64,{data}">'


def _picture(path: Path) -> Image.Image:
    """An RGB picture; UserError when it is missing, damaged or huge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see MAX_PIXELS
        width, height = image_size(_checked(path))
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width} x {height} pixels, more than {MAX_PIXELS:,}")
    return read_image(path)


def _checked(path: Path) -> Path:
    """The path of a file, if it is there and small enough; otherwise UserError."""
    if not path.is_file():
        raise UserError(f"{path}: not found; give the output folder of scripts/quickstart.sh")
    if (size := path.stat().st_size) > MAX_BYTES:
        raise UserError(f"{path}: {size:,} bytes, more than {MAX_BYTES:,}")
    return path


def check_figure(figure: Path, runs: Path) -> None:
    """UserError when `--figure` is no PNG, or would replace a picture of the report."""
    if figure.suffix.lower() != ".png":
        raise UserError(f"--figure {figure}: the name must end in .png")
    shown = {(runs / name).resolve() for section in SECTIONS for name in section.figures}
    galleries = {(runs / section.gallery).resolve() for section in SECTIONS if section.gallery}
    if figure.resolve() in shown or figure.resolve().parent in galleries:
        raise UserError(f"--figure {figure}: is a picture of the report; choose another name")
