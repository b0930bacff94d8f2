"""The report: what the three experiments wrote, as one HTML page."""

import re
import warnings
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from xml.etree import ElementTree

import jinja2
import numpy as np
import pandas as pd
from PIL import Image

from infocam.figures.page import data_uri, map_overlay, picture_entry, png_uri
from infocam.scoring.metrics import box_iou
from mi_common.errors import UserError
from mi_common.files import damaged_file, read_arrays, read_json
from mi_common.pictures import image_size, read_image
from mi_common.records import RunFolder
from scripts.finished_runs import read_config
from scripts.report_sections import SECTIONS, Section, checked_file

MAX_PIXELS = 50_000_000  # of a picture; ours have a tenth
FOLDED_RULES = ("fixed", "oracle")  # thresholds that were not chosen on validation images
BOX_COLOUR = "#e69f00"
MISSING = "–"  # a flag or score that a run lacks, which makes a column vary as "" does not
TABLES_OF_RUNS = {"table.md": "Results", "differences.md": "Paired differences"}
PLOTS_OF_RUNS = {
    "estimates.png": "Estimates and exact values",
    "per_class.png": "Accuracy of each class",
    "threshold_curves.png": "Share of boxes that hit at each threshold of the map",
}
HEADS = {"gt_known": "GT-known", "top1_loc": "top-1", "top5_loc": "top-5"}
HEADS |= {"max_box_acc": "MaxBoxAcc", "max_box_acc_v2": "MaxBoxAccV2"}


@dataclass(frozen=True)
class Table:
    """A table without its constant columns; `folded` rows are shown on demand."""

    caption: str
    constants: str  # "test set official, n 3"
    heads: list[str]
    numeric: list[bool]  # of each column
    rows: list[list[str]]
    folded: list[list[str]]


def build_report(runs: Path, note: str = "") -> str:
    """The page's HTML; UserError for a missing or damaged file of an experiment.

    `note` is shown above all.
    """
    return _render([_part(runs / section.folder, section) for section in SECTIONS], note=note)


def compare_runs(runs: list[Path]) -> str:
    """A page of any runs: where their flags differ, their scores, tables, plots and pictures.

    UserError for a folder without config.json, or with a damaged file.
    """
    parts, rows = [], []
    for number, folder in enumerate(runs):
        tables = tuple((n, text) for n, text in TABLES_OF_RUNS.items() if (folder / n).exists())
        plots = [(n, text) for n, text in PLOTS_OF_RUNS.items() if (folder / n).exists()]
        gallery = "overlays" if (folder / "overlays").is_dir() else None
        gallery = "." if (folder / "explain.html").exists() else gallery
        section = Section(f"run-{number}", str(folder), str(folder), "", "", "")
        section = replace(section, tables=tables, figure=plots[0] if plots else None)
        parts.append(_part(folder, replace(section, gallery=gallery)))
        flags = {name: str(value) for name, value in parts[-1]["flags"].items()}
        flags.pop("output_dir", None)  # the folder itself
        # A name that no flag has; "run" is a flag of pc_softmax.evaluate.
        rows.append({"output folder": str(folder)} | flags | _scores(folder))
    table = table_of(pd.DataFrame(rows).fillna(MISSING), "Where flags and scores differ")
    return _render(parts, note="", compared=table)


def _scores(folder: Path) -> dict[str, str]:
    """The numbers of result.json by name, those of test sets too, if there is one.

    UserError for a damaged one; that of a training run has a checksum.
    """
    run = RunFolder(folder)
    result = read_json(run.result_file) if run.finished else {}
    if "checksum" in result:
        result = run.result()
    scores = pd.json_normalize(result, sep=" ", max_level=2)  # deeper: a prior, class by class
    return {
        name.removeprefix("test_sets "): f"{value:.4g}"
        for name, (value,) in scores.astype(object).items()
        if isinstance(value, (int, float))
    }


def _render(parts: list[dict], *, note: str, compared: Table | None = None) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html").render(parts=parts, note=note, compared=compared)


def _part(folder: Path, section: Section) -> dict:
    """A section as the template takes it."""
    config = read_json(checked_file(folder / "config.json"))
    if missing := [key for key in ("command", "torch", "gpu", "cpu") if key not in config]:
        raise UserError(f"{folder / 'config.json'}: no {missing[0]!r}; run the experiment again")
    if "sessions" in config:
        read_config(folder)  # its errors: the last command may be unfinished
    flags = config.get("flags") if isinstance(config.get("flags"), dict) else {}
    pictures = []
    if section.gallery:
        paths = sorted((folder / section.gallery).glob("*.npz"))
        pictures = [_gallery_entry(checked_file(path)) for path in paths]
    return {
        "section": section,
        "findings": section.findings(folder),
        "tables": [table_of(_read_table(folder / name), text) for name, text in section.tables],
        "plot": _plot_uri(folder / section.figure[0]) if section.figure else None,
        "pictures": pictures,
        "command": config["command"],
        "machine": f"torch {config['torch']} · {config['gpu'] or config['cpu']}",
        "flags": flags,
    }


def _read_table(path: Path) -> pd.DataFrame:
    data = checked_file(path).read_bytes()
    try:
        return read_markdown_table(data.decode())
    except ValueError as error:  # UnicodeDecodeError is one
        raise UserError(f"{path}: not a Markdown table; run the experiment again") from error


def read_markdown_table(text: str) -> pd.DataFrame:
    """A table of `mi_common.tables.to_markdown`; ValueError when the text is no table."""
    lines = [line for line in text.splitlines() if line.strip()]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    if len(rows) < 2 or set(rows[1]) != {"---"} or len(set(map(len, rows))) > 1:
        raise ValueError("not a Markdown table")
    head, _, *body = [[cell.replace(r"\|", "|") for cell in row] for row in rows]
    return pd.DataFrame(body, columns=head)


def table_of(frame: pd.DataFrame, caption: str) -> Table:
    """Without columns that hold one value, and with rows of `FOLDED_RULES` apart.

    Empty cells do not make a column vary. A table of a single row keeps its columns.
    """
    values = [set(frame.iloc[:, i]) - {""} for i in range(frame.shape[1])]
    kept = [i for i, of in enumerate(values) if len(of) > 1 or len(frame) < 2]
    names = [HEADS.get(name, name.replace("_", " ")) for name in frame.columns]
    dropped = [i for i in range(frame.shape[1]) if i not in kept and values[i]]
    constants = ", ".join(f"{names[i]} {next(iter(values[i]))}" for i in dropped)
    folded = frame.get("threshold_rule", pd.Series("", frame.index)).isin(FOLDED_RULES)
    rows = frame.iloc[:, kept]
    return Table(
        caption,
        constants,
        [names[i] for i in kept],
        [
            bool(values[i])
            and all(re.match(r"[<≤+−-]?\s?\d", text) for text in values[i] - {MISSING})
            for i in kept
        ],
        rows[~folded].to_numpy().tolist(),
        rows[folded].to_numpy().tolist(),
    )


def _plot_uri(path: Path) -> str:
    """A plot as a data: address, of the SVG beside the PNG where there is one."""
    svg = path.with_suffix(".svg")
    if not svg.exists():
        _picture(path)
        return data_uri("png", path.read_bytes())
    data = checked_file(svg).read_bytes()
    try:
        root = ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:
        raise damaged_file(svg) from error
    if root.tag != "{http://www.w3.org/2000/svg}svg":
        raise damaged_file(svg)
    return data_uri("svg+xml", data)


def _gallery_entry(path: Path) -> dict:
    """A picture of `infocam.explain` or of `infocam.evaluate` as the template takes it."""
    arrays = read_arrays(path)
    if "page" in arrays:
        methods = arrays.get("methods", np.array([])).tolist()
        entry = picture_entry(path)
        return entry | {"truths": [], "methods": methods, "file": PurePath(entry["file"]).name}
    try:
        picture, truths = arrays["picture"], arrays["truths"].astype(int)
        height, width = picture.shape[:2]
        panels = []
        for values, box in zip(arrays["maps"], arrays["boxes"].astype(int), strict=True):
            panel = {"box": box.tolist(), "colour": BOX_COLOUR, "title": "", "note": ""}
            if len(truths) and box[0] >= 0:
                panel["title"] = f"IoU {box_iou(box[None], truths).max():.2f}"
            scale = float(np.abs(values).max()) or 1.0
            panels.append(panel | map_overlay(values, scale, width, height))
        entry = {"file": str(arrays["title"]), "size": (width, height), "panels": panels}
        entry |= {"picture": png_uri(picture), "truths": truths.tolist(), "bars": []}
        return entry | {"methods": arrays["methods"].tolist()}
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"{path}: not written by infocam.evaluate; evaluate again") from error


def _picture(path: Path) -> Image.Image:
    """An RGB picture; UserError when it is missing, damaged or huge."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # see MAX_PIXELS
        width, height = image_size(checked_file(path))
    if width * height > MAX_PIXELS:
        raise UserError(f"{path}: {width} x {height} pixels, more than {MAX_PIXELS:,}")
    return read_image(path)
