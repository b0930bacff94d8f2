"""`explain.html` in headless Chromium: its boxes, the slider, nothing from the network."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from infocam.figures import page
from infocam.figures.evidence import ClassBar, Figure, Panel
from infocam.figures.page import THRESHOLDS, page_record, write_pages
from infocam.maps.photographs import box_of, boxes_at
from mi_common.files import save_arrays

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
NAME = "<b>cat</b> & 'dog' \"cow\""
# Moves the slider as a hand does, and leaves what is shown in the page's title.
SCRIPT = """<script>
const seen = [];
function look(value) {
  const figures = [...document.querySelectorAll("figure[data-boxes]")];
  const rects = figures.map(figure => [...figure.querySelectorAll("rect")]);
  const boxes = rects.map(pair => pair.map(rect => rect.style.display == "none" ? null :
    ["x", "y", "width", "height"].map(name => Number(rect.getAttribute(name)))));
  seen.push([value, document.querySelector("output").textContent, boxes]);
}
look(null);
for (const value of VALUES) {
  slider.value = value;
  slider.dispatchEvent(new Event("input"));
  look(value);
}
document.getElementById("reset").click();
look("reset");
document.getElementById("maps").click();
look(getComputedStyle(document.querySelector(".overlay")).display);
document.title = JSON.stringify(seen);
</script>"""


def write_picture(folder, name: str, threshold: float) -> list[np.ndarray]:
    """The files of a picture with three maps, the last one without boxes; returns the maps."""
    rng = np.random.default_rng(len(name))
    maps = rng.normal(size=(3, 7, 9)).astype(np.float32)
    boxes = np.array([boxes_at(values, 60, 45, THRESHOLDS, "max") for values in maps])
    boxes[2] = -1
    panels = [
        Panel(
            title=f"{NAME} {i}",
            values=values,
            box=np.full(4, -1) if i == 2 else box_of(values, 60, 45, threshold, "max"),
            position=i,
            scale=3.0,
            unit="logits",
            class_name=NAME,
        )
        for i, values in enumerate(maps)
    ]
    picture = rng.integers(0, 256, (45, 60, 3)).astype(np.uint8)
    bars = [ClassBar(NAME, 0.25, 0)]
    figure = Figure(picture, (60, 45), "", panels, bars, "", "")
    record, jpeg = page_record(f"photos/{NAME}.png", figure, boxes, threshold)
    save_arrays(folder / f"{name}.npz", maps=maps, page=record, picture=jpeg)
    return list(maps)


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
def test_the_slider_moves_the_boxes_and_reset_brings_back_those_of_the_table(tmp_path):
    maps = write_picture(tmp_path, "a", 0.333) + write_picture(tmp_path, "bb", 0.333)
    (file,) = write_pages(tmp_path, ["a", "bb"])
    values = [0, 0.29, 0.57, 0.58, 0.99]
    text = file.read_text().replace("</body>", SCRIPT.replace("VALUES", str(values)) + "</body>")
    (tmp_path / "moved.html").write_text(text)
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    done = subprocess.run(
        [*command, f"--user-data-dir={tmp_path}/profile", f"file://{tmp_path}/moved.html"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1]
    seen = json.loads(title)

    def expected(threshold: float) -> list:
        box_pairs = []
        for i, values in enumerate(maps):
            x0, y0, x1, y1 = box_of(values, 60, 45, threshold, "max").tolist()
            box = None if i % 3 == 2 else [x0, y0, x1 - x0 + 1, y1 - y0 + 1]
            box_pairs.append([box, box])
        return box_pairs

    shown = [None, *values, "reset", "none"]  # at last the maps are hidden, and the boxes stay
    assert [value for value, _, _ in seen] == shown
    thresholds = [0.333, *values, 0.333, 0.333]
    for (_, text, boxes), threshold in zip(seen, thresholds, strict=True):
        assert float(text) == threshold and boxes == expected(threshold)


def test_a_page_is_complete_in_itself_and_shows_any_name_as_text(tmp_path):
    write_picture(tmp_path, "a", 0.3)
    (file,) = write_pages(tmp_path, ["a", "not there"])
    text = file.read_text()
    assert "http:" not in text and "https:" not in text and "default-src 'none'" in text
    sources = re.findall(r'(?:href|src)="([^"]{0,30})', text)
    assert len(sources) == 1 + 2 * 3 and all(source.startswith("data:image/") for source in sources)
    assert "<b>cat</b>" not in text.replace("<b>&lt;b&gt;cat", "") and "&lt;b&gt;cat" in text


def test_many_pictures_are_spread_over_pages_that_link_to_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "PICTURES_ON_A_PAGE", 2)
    names = ["a", "bb", "ccc", "dddd", "eeeee"]
    for name in names:
        write_picture(tmp_path, name, 0.3)
    files = write_pages(tmp_path, names)
    assert [file.name for file in files] == ["explain.html", "explain-2.html", "explain-3.html"]
    sections = [re.findall(r'<section id="(\w+)">', file.read_text()) for file in files]
    assert sections == [["a", "bb"], ["ccc", "dddd"], ["eeeee"]]
    links = re.findall(r'<a href="([^"]+)"', files[1].read_text())
    assert links == ["explain.html", "explain-3.html"]


def test_contours_of_the_page_lie_where_the_map_crosses_thirds_of_the_scale():
    ramp = np.linspace(-3, 3, 60)[None].repeat(45, axis=0)
    drawn = page.map_overlay(ramp, 3.0, 600, 450)
    for name, values in (("above", [1, 2]), ("below", [-1, -2])):
        x = [float(point.split()[0]) for point in re.findall(r"[\d.]+ [\d.]+", drawn[name])]
        on_ramp = np.interp(np.array(x) / 10 - 0.5, np.arange(60), ramp[0])
        distance = np.abs(on_ramp[:, None] - values).min(axis=1)
        assert len(x) > 20 and distance.max() < 0.1
