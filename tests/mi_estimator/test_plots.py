"""What the figures show: bins and bands of the calibration, cells and frames of the heat map."""

import numpy as np
import pandas as pd
import pytest
import torch

from mi_estimator import plots
from mi_estimator.plots import SAMPLES_A_BIN, plot_calibration, plot_errors, reliability

NAN = float("nan")


@pytest.fixture
def figures(monkeypatch) -> list:
    """The figures that would be written."""
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, *_, **__: drawn.append(figure))
    yield drawn
    for figure in drawn:
        plots.plt.close(figure)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Wilson (1927), as in the textbooks."""
    z, share = 1.959964, successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return centre - half, centre + half


def test_a_bin_is_merged_with_the_next_until_it_holds_enough():
    """Of 0.02, 0.32, 0.52, 0.97: the second bin has too few alone, the last two are enough."""
    groups = [(0.02, 60, 3), (0.32, 30, 12), (0.52, 25, 11), (0.97, 200, 190)]
    probability = np.concatenate([np.full(count, p) for p, count, _ in groups])
    true = np.concatenate([np.arange(count) < hits for _, count, hits in groups])
    shuffled = np.random.default_rng(0).permutation(len(true))
    bins = reliability(probability[shuffled], true[shuffled])
    assert bins["count"].tolist() == [60, 55, 200]
    means = [0.02, (30 * 0.32 + 25 * 0.52) / 55, 0.97]
    assert bins["predicted"].to_numpy() == pytest.approx(means)
    for line, (hits, n) in zip(bins.itertuples(), [(3, 60), (23, 55), (190, 200)], strict=True):
        assert line.frequency == pytest.approx(hits / n)
        assert (line.lower, line.upper) == pytest.approx(wilson(hits, n), abs=1e-6)


@pytest.mark.parametrize("n, bins", [(1, 1), (99, 1), (100, 2), (10_000, 20)])
def test_few_samples_have_few_bins(n, bins):
    probability = (np.arange(n) + 0.5) / n
    table = reliability(probability, np.ones(n, int))
    assert len(table) == bins and table["count"].sum() == n
    assert n < SAMPLES_A_BIN or table["count"].min() >= SAMPLES_A_BIN


def test_bands_cover_calibrated_predictions_in_95_of_100_bins():
    rng = np.random.default_rng(0)
    probability = rng.uniform(size=(50, 4000))
    tables = [reliability(p, rng.uniform(size=4000) < p) for p in probability]
    table = pd.concat(tables)
    inside = (table["lower"] <= table["predicted"]) & (table["predicted"] <= table["upper"])
    assert len(table) == 1000 and inside.mean() == pytest.approx(0.95, abs=0.02)


def drawn_points(figure) -> np.ndarray:
    """(bins, 2) predicted probability and frequency."""
    return figure.axes[0].containers[0].lines[0].get_xydata()


def test_the_calibration_is_under_the_class_frequencies_of_the_samples(figures, tmp_path):
    """Log ratios under another prior differ by a constant of each sample."""
    labels = torch.arange(400) % 4 // 3  # a quarter is of the second class
    posterior = torch.tensor([[0.88, 0.12], [0.38, 0.62]])[torch.arange(400) // 200]
    log_ratio = (posterior / torch.tensor([0.75, 0.25])).log()
    for shift in (0, torch.linspace(-3, 3, 400)[:, None]):
        plot_calibration(log_ratio + shift, labels, tmp_path / "x.png")
        expected = np.array([[0.12, 0.25], [0.62, 0.25]])  # of two classes, the second alone
        assert drawn_points(figures[-1]) == pytest.approx(expected, abs=1e-6)
        counts = [bar.get_height() for bar in figures[-1].axes[1].patches]
        assert sorted(counts)[-3:] == [0, 200, 200] and len(counts) == 20


def test_of_three_classes_each_sample_counts_three_times(figures, tmp_path):
    labels = torch.arange(300) % 3
    plot_calibration(torch.zeros(300, 3), labels, tmp_path / "x.png")
    assert drawn_points(figures[0]) == pytest.approx(np.array([[1 / 3, 1 / 3]]))
    assert sum(bar.get_height() for bar in figures[0].axes[1].patches) == 900


LINES = pd.MultiIndex.from_tuples([("a", 10), ("b", 10)], names=["task", "n_train"])
ERRORS = pd.DataFrame(
    {"oracle": [0.001, 0.1], "lda": [0.5, NAN], "qda": [0.0204, 5665.8], "ross": [0.0196, NAN]},
    index=LINES,
)
FAILED = pd.DataFrame(0, LINES, ERRORS.columns)
FAILED.loc[("b", 10), "lda"] = 3


@pytest.mark.parametrize("tasks", [2, 6])
def test_the_heat_map_has_numbers_frames_and_hatches(figures, tmp_path, tasks):
    """With more estimators than tasks, a line for each estimator; else one for each task."""
    more = pd.MultiIndex.from_tuples([(name, 10) for name in "abcdef"[:tasks]], names=LINES.names)
    plot_errors(ERRORS.reindex(more), FAILED.reindex(more).fillna(0), tmp_path / "x.png")
    axes = figures[0].axes[0]

    def place(x: float, y: float) -> tuple[float, float]:
        return (y, x) if tasks == 2 else (x, y)

    numbers = {place(*text.get_position()): text.get_text() for text in axes.texts}
    assert numbers == {
        (0, 0): "0.001",
        (1, 0): "0.500",
        (2, 0): "0.020",
        (3, 0): "0.020",
        (0, 1): "0.100",
        (2, 1): "5666",
    }
    colours = {place(*text.get_position()): text.get_color() for text in axes.texts}
    assert colours[0, 0] == "black" and colours[1, 0] == colours[2, 1] == "white"
    hatched, framed = set(), set()
    for patch in axes.patches:
        x, y = patch.get_xy()
        (hatched if patch.get_hatch() else framed).add(place(x + 0.5, y + 0.5))
    # 0.0204 and 0.0196 are equal to three digits; the oracle takes no part.
    assert framed == {(2, 0), (3, 0), (2, 1)} and hatched == {(1, 1)}
    names = list("abcdef"[:tasks]), list(ERRORS.columns)
    ticks = [label.get_text() for label in axes.get_yticklabels()]
    assert ticks == names[tasks == 2]
    assert [label.get_text() for label in axes.get_xticklabels()] == names[tasks != 2]


def test_the_heat_map_names_the_sizes_where_there_are_several(figures, tmp_path):
    index = LINES.set_levels([10, 2000], level="n_train").set_codes([0, 1], level="n_train")
    plot_errors(ERRORS.set_axis(index), FAILED.set_axis(index), tmp_path / "x.png")
    labels = [label.get_text() for label in figures[0].axes[0].get_xticklabels()]
    assert labels == ["a, 10", "b, 2,000"]
