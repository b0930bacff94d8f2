"""Pictures: colours that survive grey and colour blindness, boxes in their places, sizes."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from infocam.figures import overlay
from infocam.figures.overlay import Overlay, draw_panel, save_gallery

NO_TRUTHS = np.zeros((0, 4), int)
# Viewing without long, middle or short-wave cones, on linear RGB (Machado et al. 2009).
COLOUR_BLINDNESS = {
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def luminance(colours: np.ndarray, seen: list | None = None) -> np.ndarray:
    """Relative luminance 0..1 of (..., 3) sRGB colours (IEC 61966-2-1), to an eye or another."""
    colours = np.asarray(colours, float)
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    return linear @ np.array(np.eye(3) if seen is None else seen).T @ [0.2126, 0.7152, 0.0722]


def picture(width: int, height: int, grey: int = 128) -> np.ndarray:
    return np.full((height, width, 3), grey, np.uint8)


def rectangles(panel: plt.Axes) -> list[tuple[float, ...]]:
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in panel.patches]


@pytest.fixture
def drawn(monkeypatch) -> list[plt.Figure]:
    """The figures that are saved from here on; they are written too, and stay open."""
    figures = []

    def save(figure, path, dpi):
        figures.append(figure)
        figure.tight_layout()
        figure.savefig(path, dpi=dpi)

    monkeypatch.setattr(overlay, "save_figure", save)
    yield figures
    plt.close("all")


@pytest.mark.parametrize("blindness", [None, *COLOUR_BLINDNESS])
@pytest.mark.parametrize("ground", [0.0, 0.5, 1.0])
def test_a_larger_value_is_lighter_on_any_ground_to_any_eye(ground, blindness):
    colours = plt.get_cmap(overlay.COLOURS)(np.linspace(0, 1, 256))[:, :3]
    mixed = (1 - overlay.MAP_SHARE) * ground + overlay.MAP_SHARE * colours
    steps = np.diff(luminance(mixed, COLOUR_BLINDNESS.get(blindness)))
    assert (steps > 0).all()


@pytest.mark.parametrize("colour", [overlay.TRUE_COLOUR, overlay.PREDICTED_COLOUR])
def test_one_line_of_a_box_stands_out_on_any_ground(colour):
    light, dark = luminance(to_rgb(colour)), luminance(to_rgb(overlay.HALO_COLOUR))
    for ground in np.linspace(0, 1, 101):  # contrast as the WCAG has it; 3 is its least for lines
        contrasts = [
            (max(ground, line) + 0.05) / (min(ground, line) + 0.05) for line in (light, dark)
        ]
        assert max(contrasts) > 3, ground


def test_zero_is_the_middle_of_the_colours_and_is_outlined_where_the_sign_changes():
    figure, (signed, positive, zero) = plt.subplots(1, 3)
    values = np.linspace(-1, 3, 20 * 30).reshape(20, 30)
    image = draw_panel(signed, picture(30, 20), values)
    assert image.get_clim() == (-3, 3)
    assert len(signed.collections) == 1
    (outline,) = signed.collections[0].get_paths()
    # Zero lies a quarter of the way down: between rows 4 and 5 of 0..19.
    assert outline.vertices[:, 1].min() > 4 and outline.vertices[:, 1].max() < 5.5
    draw_panel(positive, picture(30, 20), values + 1)
    assert not positive.collections
    assert draw_panel(zero, picture(30, 20), 0 * values).get_clim() == (-1, 1)
    plt.close(figure)


def test_boxes_enclose_whole_pixels_true_ones_solid_and_predicted_ones_dashed():
    figure, panel = plt.subplots()
    truths = np.array([[1, 2, 10, 20], [30, 30, 30, 30]])
    draw_panel(panel, picture(64, 64), np.eye(64), box=np.array([4, 5, 63, 60]), truths=truths)
    expected = [(3.5, 4.5, 60, 56), (0.5, 1.5, 10, 19), (29.5, 29.5, 1, 1)]
    assert rectangles(panel) == [box for box in expected for _ in range(2)]  # halo and line
    assert [patch.get_linestyle() for patch in panel.patches] == ["-", "--", "-", "-", "-", "-"]
    plt.close(figure)


def test_a_gallery_has_a_line_an_image_a_column_a_method_and_the_overlaps(drawn, tmp_path):
    maps = {"cam": np.ones((2, 2)), "infocam": np.eye(2)}
    boxes = {"cam": np.array([0, 0, 9, 9]), "infocam": np.array([0, 0, 9, 4])}
    rows = [
        Overlay(picture(40, 20), maps, boxes, np.array([[0, 0, 9, 9]]), "cat"),
        Overlay(picture(40, 40), maps, boxes, np.array([[20, 20, 29, 29], [0, 5, 9, 9]]), "dog"),
        Overlay(picture(40, 80), maps, {"cam": boxes["cam"]}, NO_TRUTHS, "cow"),
    ]
    save_gallery(tmp_path / "x.png", rows)
    (figure,) = drawn
    titles = [panel.get_title() for panel in figure.axes]
    assert titles == [
        *("cat", "cam  IoU 1.00", "infocam  IoU 0.50"),
        *("dog", "cam  IoU 0.50", "infocam  IoU 0.00"),
        *("cow", "cam", "infocam"),
    ]
    assert [len(panel.patches) // 2 for panel in figure.axes] == [1, 2, 2, 2, 3, 3, 0, 1, 0]
