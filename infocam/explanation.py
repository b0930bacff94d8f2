"""Explains picture files one after another, and writes what it finds as it goes."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from infocam.box_table import BOX, BoxTable
from infocam.figures.evidence import (
    CONTOURS,
    LEGEND,
    ClassBar,
    Figure,
    Panel,
    percent,
    save_explanation,
    shrunk,
)
from infocam.figures.page import THRESHOLDS, page_record, write_pages
from infocam.maps.photographs import Explanation, boxes_at, explain
from infocam.models.classifiers import Classifier
from infocam.names import GRADIENT_METHODS
from mi_common.errors import UserError
from mi_common.files import save_arrays
from mi_common.pictures import printable, read_image
from mi_common.progress import Progress
from mi_common.runtime import Runtime
from mi_common.tables import to_markdown

MAX_ROWS = 20  # of the printed table
MAX_BARS = 5  # most likely classes in the chart
EXPLAIN_OPTIONS = ("labels", "top", "image_size", "region", "threshold", "normalisation")
EXPLAIN_OPTIONS += ("box_rule", "prior")
SCALE_LOGS = 3  # the colours end at this times log K, or further: see `colour_scale`


@dataclass(frozen=True)
class Options:
    """How pictures are explained and drawn; see `infocam.maps.photographs.explain`."""

    methods: list[str]
    labels: list[int] | None
    top: int
    image_size: int | None
    region: int
    threshold: float
    normalisation: str
    box_rule: str
    prior: bool
    figure_format: str


@dataclass
class Report:
    """What became of the files: rows of boxes.csv, and the unreadable files with a reason each."""

    rows: list[dict] = field(default_factory=list)
    unreadable: list[tuple[Path, str]] = field(default_factory=list)


def explain_files(
    paths: list[Path],
    folder: Path,
    classifier: Classifier,
    options: Options,
    *,
    prepare: Callable[[], None],
    runtime: Runtime,
) -> Report:
    """Explains the files and adds figures, arrays, boxes.csv, boxes.json and the page to a folder.

    `prepare` makes the folder; it is called when the first picture is explained. UserError if no
    file is readable, and for options that do not fit the network.
    """
    report, table = Report(), None
    explain_options = {name: getattr(options, name) for name in EXPLAIN_OPTIONS}
    try:
        with Progress("pictures", len(paths)) as progress:
            for path in paths:
                try:
                    image = read_image(path)
                except UserError as error:
                    reason = str(error).removeprefix(f"{path}: ")
                    report.unreadable.append((path, reason))
                    progress.step()
                    continue
                explanation = explain(
                    image, classifier, options.methods, **explain_options, runtime=runtime
                )
                if table is None:
                    prepare()
                    table = BoxTable(folder)
                    taken = {existing.stem for existing in folder.iterdir()}
                stem = free_stem(path.stem, taken)
                taken.add(stem)
                write_explanation(
                    folder / stem, printable(path), image, explanation, classifier, options
                )
                rows = box_rows(stem, printable(path), explanation, classifier.class_names)
                table.add(rows)
                report.rows += rows
                progress.step()
                progress.finish(f"{path.name}: {_in_words(explanation, classifier.class_names)}")
    finally:
        if table is not None:  # after an interruption too
            table.write_json()
            write_pages(folder, table.names())
    if table is None:
        path, reason = report.unreadable[0]
        raise UserError(f"none of {len(paths)} pictures could be read, first {path}: {reason}")
    return report


def print_report(report: Report, folder: Path) -> None:
    """Prints a table of the first boxes, the unreadable files, and what was written."""
    rows = [
        {
            "name": row["name"],
            "class": row["class"],
            "probability": percent(float(row["probability"])),
            "method": row["method"],
            "box x0 y0 x1 y1": " ".join(str(row[side]) for side in BOX).strip() or "none",
        }
        for row in report.rows[:MAX_ROWS]
    ]
    print("\n" + to_markdown(pd.DataFrame(rows)))
    if len(report.rows) > len(rows):
        print(f"and {len(report.rows) - len(rows)} more rows in {folder}/boxes.csv")
    for path, reason in report.unreadable:
        print(f"left out {printable(path)}: {reason}")
    pictures = counted(len({row["name"] for row in report.rows}))
    print(f"wrote {folder}: figures of {pictures}, boxes.csv, boxes.json; open explain.html")


def _in_words(explanation: Explanation, class_names: list[str]) -> str:
    best = int(explanation.probabilities.argmax())
    return f"{class_names[best]} {percent(explanation.probabilities[best])}"


def write_explanation(
    stem: Path,
    file: str,
    image: Image.Image,
    explanation: Explanation,
    classifier: Classifier,
    options: Options,
) -> None:
    """Writes the figure and then the arrays of one picture."""
    figure = figure_of(image, explanation, classifier.class_names, options)
    save_explanation(stem.with_name(f"{stem.name}.{options.figure_format}"), figure)
    rules = options.normalisation, options.box_rule
    boxes = [boxes_at(m, *image.size, THRESHOLDS, *rules) for m in explanation.maps]
    boxes = np.where(np.array(explanation.mostly_against)[:, None, None], -1, boxes)
    names = ("maps", "methods", "labels", "boxes", "scores", "probabilities")
    arrays = {name: getattr(explanation, name) for name in names}
    record, picture = page_record(file, figure, boxes, options.threshold)
    arrays |= {"class_names": classifier.class_names, "page": record, "picture": picture}
    save_arrays(stem.with_name(f"{stem.name}.npz"), **arrays)


def figure_of(
    image: Image.Image, explanation: Explanation, class_names: list[str], options: Options
) -> Figure:
    """What is drawn of an explanation, in words and colours."""
    positions = {label: i for i, label in enumerate(dict.fromkeys(explanation.labels))}
    scale = colour_scale(explanation)
    panels = []
    for i, method in enumerate(explanation.methods):
        label, values = explanation.labels[i], explanation.maps[i]
        of_gradient = method in GRADIENT_METHODS
        unit = "" if of_gradient else ("nats" if options.prior else "logits")
        end = float(values.max()) or 1.0 if of_gradient else scale
        note = ""
        if explanation.mostly_against[i]:
            note = "(mostly evidence against it, so no box)"
        elif values.max() < end * CONTOURS[0]:
            note = f"(weak: nowhere above {values.max():.2g} {unit})"
        title = title_of(method, class_names[label], explanation.against[i])
        panels.append(
            Panel(
                title=title,
                values=values,
                box=explanation.boxes[i],
                position=positions[label],
                scale=end,
                unit=unit,
                class_name=class_names[label],
                signed=not of_gradient,
                note=note,
            )
        )
    probabilities, names = explanation.probabilities, list(map(class_names.__getitem__, positions))
    title = f"picture with the box of {names[0]}" if len(names) == 1 else "picture with boxes"
    shown = np.argsort(-probabilities, kind="stable")[:MAX_BARS].tolist()
    shown += [label for label in positions if label not in shown]
    bars = []
    for k in shown:
        rank = 1 + int((probabilities > probabilities[k]).sum())
        detail = f"PMI {explanation.scores[k]:.1f} nats" if options.prior else ""
        name = class_names[k] if rank <= MAX_BARS else f"{class_names[k]} (rank {rank:,})"
        bars.append(ClassBar(name, float(probabilities[k]), positions.get(k), detail))
    shares = "one and two thirds"
    height = "range" if options.normalisation != "max" else "highest value"
    return Figure(
        picture=shrunk(np.asarray(image)),
        size=image.size,
        title=title,
        panels=panels,
        bars=bars,
        chart_title="probability of each class, by the network",
        legend=LEGEND.format(shares, options.threshold, height),
    )


def colour_scale(explanation: Explanation) -> float:
    """The value at which the colours of all maps of one figure end, except of gradient methods.

    It is the largest absolute value, but at least 3 log K. A map must average log K nats over the
    image to single out one class of K, so 3 log K where the object covers a third of the image.
    Weaker maps, such as those of a picture of one colour, stay pale.
    """
    pairs = zip(explanation.methods, explanation.maps, strict=True)
    largest = [float(np.abs(m).max()) for method, m in pairs if method not in GRADIENT_METHODS]
    return max([SCALE_LOGS * math.log(max(len(explanation.scores), 2)), *largest])


def counted(pictures: int) -> str:
    return f"{pictures:,} picture{'s' * (pictures != 1)}"


def title_of(method: str, name: str, against: str) -> str:
    """What a map shows, in words."""
    kind, _, _ = method.partition(":")
    return {
        "cam": f"class activation map of {name}",
        "infocam": f"evidence for {name}",
        "infocam+": f"{name} rather than {against}, the least likely class",
        "lowest": f"{name} rather than the least likely ({against})",
        "similar": f"{name} rather than {against}",
        "posterior": f"{name} rather than the likely others",
        "class": f"{name} rather than {against}",
    }.get(kind, f"{method} of {name}")


def method_name(method: str, class_names: list[str]) -> str:
    kind, _, number = method.partition(":")
    return f"class:{class_names[int(number)]}" if kind == "class" else method


def box_rows(stem: str, file: str, explanation: Explanation, class_names: list[str]) -> list[dict]:
    """A row of boxes.csv for each map."""
    rows = []
    for i, (label, method) in enumerate(zip(explanation.labels, explanation.methods, strict=True)):
        box = explanation.boxes[i].tolist()
        row = {"name": stem, "file": file, "class": class_names[label]}
        row["probability"] = f"{explanation.probabilities[label]:.6g}"
        row["method"] = method_name(method, class_names)
        row |= dict(zip(BOX, box if box[0] >= 0 else [""] * 4, strict=True))
        rows.append(row | {"score": f"{explanation.scores[label]:.6g}"})
    return rows


def free_stem(stem: str, taken: set[str]) -> str:
    """The stem itself if it is not taken, otherwise with the first free number: `cat-2`."""
    numbered = (f"{stem}-{number}" for number in itertools.count(2))
    return next(name for name in itertools.chain([stem], numbered) if name not in taken)
