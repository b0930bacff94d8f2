"""The figure of an explanation: colours, lines, scales, boxes, words."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from infocam.explanation import colour_scale, title_of
from infocam.figures import evidence
from infocam.figures.evidence import ClassBar, Figure, Panel, percent, save_explanation, shrunk
from infocam.maps.photographs import Explanation

NO_BOX = np.full(4, -1)
RED_GREEN_BLUE_WEIGHTS = [0.2126, 0.7152, 0.0722]  # of luminance (IEC 61966-2-1)


def panel(values, **options) -> Panel:
    given = {"box": NO_BOX, "position": 0, "scale": 3.0, "unit": "nats", "class_name": "cat"}
    return Panel(title="evidence for cat", values=np.asarray(values, float), **given | options)


def figure_of(panels: list[Panel]) -> Figure:
    picture = np.full((30, 40, 3), 128, np.uint8)
    bars = [ClassBar("cat", 0.7, 0), ClassBar("a dog", 0.2, None, "PMI 0.1 nats")]
    return Figure(picture, (400, 300), "picture", panels, bars, "probabilities", "yellow: for")


@pytest.fixture
def drawn(monkeypatch, tmp_path):
    """Draws a figure; its axes by title."""

    def draw(figure: Figure) -> dict[str, plt.Axes]:
        figures = []
        monkeypatch.setattr(
            evidence, "save_figure", lambda figure, *_, **__: figures.append(figure)
        )
        save_explanation(tmp_path / "x.png", figure)
        return {axes.get_title(): axes for axes in figures[0].axes}

    yield draw
    plt.close("all")


def test_no_evidence_leaves_the_photograph_and_more_covers_more():
    values = np.linspace(0, 1, 255)
    rgba = evidence.colours()(values)
    assert rgba[127, 3] == 0
    assert (np.diff(rgba[127:, 3]) > 0).all() and (np.diff(rgba[:128, 3]) < 0).all()
    assert rgba[0, 3] == rgba[-1, 3] == evidence.HIGHEST_SHARE < 0.7
    np.testing.assert_allclose(rgba[-1, :3], to_rgb(evidence.FOR_COLOUR))
    # On mid-grey, evidence for the class is lighter and evidence against it darker, in grey too.
    mixed = rgba[:, 3:] * rgba[:, :3] + (1 - rgba[:, 3:]) * 0.5
    assert (np.diff(mixed @ RED_GREEN_BLUE_WEIGHTS) > 0).all()


def test_lines_stand_at_thirds_of_the_scale_dashed_where_evidence_is_against(drawn):
    ramp = np.linspace(-3, 3, 40)[None].repeat(30, axis=0)
    axes = drawn(figure_of([panel(ramp)]))["evidence for cat"]
    against, for_it = sorted(axes.collections, key=lambda lines: lines.levels[0])
    np.testing.assert_allclose(for_it.levels, [1, 2])
    np.testing.assert_allclose(against.levels, [-2, -1])
    assert [style[1] is None for style in for_it.get_linestyle()] == [True, True]
    assert [style[1] is None for style in against.get_linestyle()] == [False, False]
    for lines in (for_it, against):
        for level, path in zip(lines.levels, lines.get_paths(), strict=True):
            x = (path.vertices[:, 0] + 0.5) / 400 * 40 - 0.5  # columns of the map
            np.testing.assert_allclose(np.interp(x, np.arange(40), ramp[0]), level, atol=0.1)


@pytest.mark.parametrize("signed", [True, False])
def test_the_bar_below_a_map_names_its_ends_and_unit(drawn, signed):
    drawn_axes = drawn(figure_of([panel(np.eye(3), signed=signed)]))
    (bar,) = drawn_axes["evidence for cat"].child_axes
    texts = [text.get_text() for text in bar.get_xticklabels()]
    assert texts == [*(["against  −3"] if signed else []), "0 nats", "for  3"]
    assert bar.get_xlim() == (-3 if signed else 0, 3)


def test_boxes_enclose_whole_pixels_and_several_classes_are_named(drawn):
    first = panel(np.eye(3), box=np.array([10, 20, 30, 60]))
    second = panel(np.eye(3), box=np.array([50, 60, 70, 99]), position=1, class_name="dog")
    third = panel(np.eye(3), position=2, class_name="cow")
    axes = drawn(figure_of([first, second, third]))["picture"]
    corners = [(*p.get_xy(), p.get_width(), p.get_height()) for p in axes.patches]
    boxes = [(9.5, 19.5, 21, 41), (49.5, 59.5, 21, 40)]
    assert corners == [box for box in boxes for _ in range(2)]  # halo and line
    assert [text.get_text() for text in axes.texts] == ["cat", "dog"]
    colours = [patch.get_edgecolor()[:3] for patch in axes.patches[1::2]]
    assert colours == [to_rgb(c) for c in evidence.CLASS_COLOURS[:2]]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_every_map_has_a_place_and_the_chart_the_probabilities(drawn, count):
    panels = [panel(np.eye(3), note=f"note {k}") for k in range(count)]
    axes = drawn(figure_of(panels))
    assert [f"evidence for cat\nnote {k}" in axes for k in range(count)] == [True] * count
    chart = axes["probabilities"]
    assert [bar.get_width() for bar in chart.patches[2:]] == [0.7, 0.2]
    texts = [text.get_text() for text in chart.texts]
    assert texts == ["cat", "70 %", "a dog", "20 % · PMI 0.1 nats"]


def test_maps_of_a_figure_share_a_scale_that_noise_does_not_fill():
    def explanation(peaks: list[float], methods: list[str]) -> Explanation:
        maps, count = np.array([[[peak, 0]] for peak in peaks]), len(peaks)
        scores, boxes = np.zeros(1000), np.full((count, 4), -1)
        labels, against = [0] * count, [""] * count
        return Explanation(maps, methods, labels, against, [False] * count, boxes, scores, scores)

    assert colour_scale(explanation([30, -40], ["infocam", "similar"])) == 40
    assert colour_scale(explanation([30, 90], ["infocam", "grad-cam"])) == 30
    assert colour_scale(explanation([5, 2], ["infocam", "similar"])) == 3 * math.log(1000)


@pytest.mark.parametrize(
    ("method", "title"),
    [
        ("infocam", "evidence for daisy"),
        ("similar", "daisy rather than bee"),
        ("class:4", "daisy rather than bee"),
        ("infocam+", "daisy rather than bee, the least likely class"),
        ("cam", "class activation map of daisy"),
        ("layer-cam", "layer-cam of daisy"),
    ],
)
def test_titles_say_what_is_shown(method, title):
    assert title_of(method, "daisy", "bee") == title


@pytest.mark.parametrize(
    ("probability", "text"),
    [(1, "100 %"), (0.0996, "10 %"), (0.0994, "9.9 %"), (0.0012, "0.1 %"), (0.0004, "< 0.1 %")],
)
def test_probabilities_in_words(probability, text):
    assert percent(probability) == text


def test_a_large_picture_is_shrunk_and_a_small_one_kept():
    assert shrunk(np.zeros((3000, 1500, 3), np.uint8)).shape == (640, 320, 3)
    assert shrunk(np.zeros((9000, 2, 3), np.uint8)).shape == (640, 1, 3)
    assert shrunk(np.zeros((30, 15, 3), np.uint8)).shape == (30, 15, 3)


def test_an_svg_has_the_same_bytes_each_time(tmp_path):
    for name in ("a", "b"):
        save_explanation(tmp_path / name / "x.svg", figure_of([panel(np.eye(3))]))
    first, second = ((tmp_path / name / "x.svg").read_text() for name in ("a", "b"))
    assert first == second and first.startswith("<?xml") and "<image " in first
