"""`explain.html`: explained pictures side by side, with a slider that moves their boxes.

The page needs no network: pictures, maps and boxes are part of it. The boxes of a hundred
thresholds were computed by `infocam.scoring.boxes`; the page only looks them up.
"""

import base64
import io
import json
from pathlib import Path

import jinja2
import numpy as np
from contourpy import contour_generator
from PIL import Image

from infocam.figures.evidence import CLASS_COLOURS, CONTOURS, Figure, colours, percent
from infocam.scoring.boxes import resize_map
from mi_common.errors import UserError
from mi_common.files import read_arrays, write_text

THRESHOLDS = np.arange(100) / 100  # of the slider
PICTURES_ON_A_PAGE = 100
OVERLAY_SIDE = 320  # pixels; maps are smooth
JPEG_QUALITY = 85


def page_record(
    file: str, figure: Figure, boxes: np.ndarray, threshold: float
) -> tuple[str, np.ndarray]:
    """What the page shows of a picture, as JSON and as the bytes of a JPEG file.

    Args:
        boxes: (M, 100, 4) of each map at each threshold of `THRESHOLDS`; -1 for none.
        threshold: the one of the figure's boxes.
    """
    panels = [
        {
            "title": panel.title,
            "note": panel.note,
            "colour": CLASS_COLOURS[panel.position % len(CLASS_COLOURS)],
            "scale": panel.scale,
            "unit": panel.unit,
            "signed": panel.signed,
            "box": panel.box.tolist(),
            "boxes": boxes[i].tolist(),
        }
        for i, panel in enumerate(figure.panels)
    ]
    bars = [
        {
            "name": bar.name,
            "share": bar.probability,
            "text": " · ".join(filter(None, (percent(bar.probability), bar.detail))),
            "colour": None
            if bar.position is None
            else CLASS_COLOURS[bar.position % len(CLASS_COLOURS)],
        }
        for bar in figure.bars
    ]
    record = {"file": file, "size": figure.size, "panels": panels, "bars": bars}
    record["threshold"] = threshold
    buffer = io.BytesIO()
    Image.fromarray(figure.picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
    return json.dumps(record), np.frombuffer(buffer.getvalue(), np.uint8)


def write_pages(folder: Path, names: list[str]) -> list[Path]:
    """Writes explain.html, explain-2.html and so on, of the pictures whose `NAME.npz` is there."""
    names = [name for name in names if (folder / f"{name}.npz").exists()]
    starts = range(0, len(names), PICTURES_ON_A_PAGE)
    files = [f"explain{'' if i == 0 else f'-{i + 1}'}.html" for i in range(len(starts))]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("infocam.figures", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("page.html")
    for start, file in zip(starts, files, strict=True):
        of_page = names[start : start + PICTURES_ON_A_PAGE]
        shown = [picture_entry(folder / f"{name}.npz") for name in of_page]
        values = {"pictures": shown, "threshold": shown[-1]["threshold"], "gradient": _gradient()}
        write_text(folder / file, template.render(values, files=files, this=file))
    return [folder / file for file in files]


def picture_entry(path: Path) -> dict:
    """A picture as the template takes it."""
    arrays = read_arrays(path)
    try:
        record = json.loads(str(arrays["page"]))
        width, height = record["size"]
        picture = data_uri("jpeg", arrays["picture"].tobytes())
        for panel, values in zip(record["panels"], arrays["maps"], strict=True):
            panel |= map_overlay(values, panel["scale"], width, height)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not written by infocam.explain; move it") from error
    return record | {"name": path.stem, "picture": picture}


def map_overlay(values: np.ndarray, scale: float, width: int, height: int) -> dict:
    """The map as a transparent PNG, and its contours as paths in pixels of the full picture."""
    factor = min(1.0, OVERLAY_SIDE / max(width, height))
    size = [max(round(side * factor), 2) for side in (width, height)]
    values = resize_map(values, *size)
    rgba = colours()((values / scale + 1) / 2, bytes=True)
    # Cell centres: the left one of `size` columns is half a cell from the picture's left edge.
    x, y = ((np.arange(n) + 0.5) * full / n for n, full in zip(size, (width, height), strict=True))
    generator = contour_generator(x, y, values)
    paths = {
        name: " ".join(
            "M" + "L".join(f"{u:.1f} {v:.1f}" for u, v in line)
            for share in CONTOURS
            for line in generator.lines(sign * share * scale)
        )
        for name, sign in (("above", 1), ("below", -1))
    }
    return {"overlay": png_uri(rgba)} | paths


def _gradient() -> str:
    """The colours of the maps from end to end, as a CSS gradient."""
    rgba = colours()([0.0, 0.5, 1.0])
    stops = (f"rgb({r * 255:.0f} {g * 255:.0f} {b * 255:.0f} / {a:.2f})" for r, g, b, a in rgba)
    return f"linear-gradient(to right, {', '.join(stops)})"


def png_uri(pixels: np.ndarray) -> str:
    """(H, W, 3 or 4) uint8 pixels as a PNG in a data: address."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return data_uri("png", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
