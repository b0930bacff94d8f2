"""The figures of the pages: what they show is in the committed rows."""

import shutil
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mi_common.files import read_arrays
from mi_common.tables import interval_half_width
from mi_estimator.tasks.suites import PUBLISHED
from scripts import figures, figures_boxes
from scripts.provenance import PICTURES

RESOURCES = Path(__file__).parents[2] / "resources"
NEEDED = sorted({file for _, files in figures.FIGURES.values() for file in files})


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> dict[str, plt.Figure]:
    """Each figure by the name of its file, drawn into a folder with a copy of the rows it needs."""
    folder = tmp_path_factory.mktemp("figures")
    (folder / "rows").mkdir()
    for file in NEEDED:
        shutil.copy(RESOURCES / file, folder / "rows")
    by_name, close = {}, plt.close
    plt.close = lambda figure: by_name.setdefault(list(figures.FIGURES)[len(by_name)], figure)
    try:
        words = ["--rows", str(folder / "rows"), "--output-dir", str(folder / "pictures")]
        figures.main(words)
    finally:
        plt.close = close
    written = {path.name for path in (folder / "pictures").iterdir()}
    assert written == {*figures.FIGURES, PICTURES}
    yield by_name
    for figure in by_name.values():
        close(figure)


def lines(axes: plt.Axes) -> dict[str, np.ndarray]:
    """(N, 2) points by name of the legend; of names that stand for several lines, the first."""
    found = {}
    for line in axes.lines:
        found.setdefault(line.get_label(), line.get_xydata())
    for bars in axes.containers:
        found[bars.get_label()] = bars[0].get_xydata()
    return found


def test_the_pages_show_each_figure_which_is_small_and_in_full_colour():
    pages = "".join(path.read_text() for path in RESOURCES.parent.glob("*/README.md"))
    for name in figures.FIGURES:
        assert f"](../resources/{name})" in pages, name
        assert (RESOURCES / name).stat().st_size < 300_000, name
        with Image.open(RESOURCES / name) as picture:
            assert picture.mode in ("RGB", "RGBA") and picture.width >= 790, name


@pytest.mark.parametrize("panel, counts", [(0, "balanced"), (1, "imbalanced")])
def test_paper_shows_our_means_and_the_published_estimates(drawn, panel, counts):
    rows = pd.read_csv(RESOURCES / "mi_estimator.csv")
    axes = drawn["mi_paper.png"].axes[panel]
    points = lines(axes)
    tasks = [f"gaussian-d{dim}-{counts}" for dim in (1, 2, 5, 10)]
    for estimator, name in (("pc-softmax", "PC-softmax"), ("softmax-log-k", "softmax + log K")):
        of_estimator = rows[rows["estimator"] == estimator].groupby("task")["estimate"]
        ours = [of_estimator.get_group(task) for task in tasks]
        assert points[f"{name}, ours"][:, 1] == pytest.approx([v.mean() for v in ours])
        published = [PUBLISHED.get((task, estimator), np.nan) for task in tasks]
        shown = points[f"{name}, the paper's"][:, 1]
        assert shown == pytest.approx(published, nan_ok=True)
    truths = [rows.query("task == @task").truth.iloc[0] for task in tasks]
    bars = [line.get_xydata() for line in axes.lines if len(line.get_xdata()) == 2]
    levels = [bar[0, 1] for bar in bars if np.ptp(bar[:, 0]) == pytest.approx(0.8)]
    assert levels == pytest.approx(truths)


def test_hard_has_a_cell_for_each_task_and_estimator(drawn):
    rows = pd.read_csv(RESOURCES / "mi_hard.csv")
    axes = drawn["mi_hard.png"].axes[0]
    tasks = [label.get_text() for label in axes.get_xticklabels()]
    estimators = [label.get_text() for label in axes.get_yticklabels()]
    assert set(tasks) == set(rows["task"]) and set(estimators) == set(rows["estimator"])
    cells = {text.get_position(): text.get_text() for text in axes.texts}
    assert len(cells) == len(tasks) * len(estimators)
    for task, estimator in (("gaussian-d100", "auto"), ("rare0.005", "softmax-log-k")):
        of_cell = rows.query("task == @task and estimator == @estimator")
        rmse = np.sqrt(np.mean((of_cell["estimate"] - of_cell["truth"]) ** 2))
        assert cells[tasks.index(task), estimators.index(estimator)] == f"{rmse:.3f}"


def test_classes_shows_means_and_intervals_of_rare_and_frequent_digits(drawn):
    rows = pd.read_csv(RESOURCES / "pc_softmax_classes.csv").query("test_set == 'official'")
    rare, frequent = drawn["pc_softmax_classes.png"].axes
    for axes, digits in ((rare, range(0, 10, 2)), (frequent, range(1, 10, 2))):
        assert [label.get_text() for label in axes.get_xticklabels()] == [*map(str, digits)]
        for loss, rule, name in (
            ("pc-softmax", "as trained", "PC-softmax"),
            ("softmax", "prior subtracted", "softmax, log prior subtracted"),
            ("softmax", "as trained", "softmax"),
        ):
            of_rule = rows[rows["loss"].eq(loss) & rows["rule"].eq(rule)]
            values = [100 * of_rule[of_rule["class"] == digit]["accuracy"] for digit in digits]
            assert lines(axes)[name][:, 1] == pytest.approx([v.mean() for v in values])
            (bars,) = (bars for bars in axes.containers if bars.get_label() == name)
            heights = [np.ptp(segment[:, 1]) for segment in bars[2][0].get_segments()]
            assert heights == pytest.approx([2 * interval_half_width(v) for v in values])


@pytest.mark.parametrize("panel, optimizer", [(0, "adamw"), (1, "sgd")])
def test_thresholds_shows_the_curves_and_dots_that_lie_on_them(drawn, panel, optimizer):
    curves = pd.read_csv(RESOURCES / "infocam_thresholds.csv").query("optimizer == @optimizer")
    axes = drawn["infocam_thresholds.png"].axes[panel]
    for method, name in (("cam", "CAM"), ("infocam", "infoCAM")):
        rows = curves[curves["method"] == method]
        expected = np.column_stack([rows["threshold"], 100 * rows["gt_known"]])
        assert lines(axes)[name] == pytest.approx(expected) and len(expected) == 100
        colour = next(line.get_color() for line in axes.lines if line.get_label() == name)
        dots = [v for v in axes.lines if v.get_color() == colour and len(v.get_xdata()) == 1]
        assert dots[0].get_xydata()[0].tolist() in expected.round(9).tolist()


def test_dots_and_levels_are_of_the_seed_of_the_curves(tmp_path, monkeypatch):
    curves = pd.read_csv(RESOURCES / "infocam_thresholds.csv").assign(seed=1)
    scores = pd.read_csv(RESOURCES / "infocam_tiny_imagenet.csv")
    drawn = []
    monkeypatch.setattr(figures_boxes, "save_figure", lambda figure, path: drawn.append(figure))
    figures_boxes.draw_thresholds(curves, scores, tmp_path / "x.png")
    plt.close(drawn[0])
    of_seed = "seed == 1 and optimizer == 'adamw' and map == '7x7' and region_rule == 'off'"
    rows = scores.query(f"{of_seed} and threshold_rule == 'validation'").set_index("method")
    rows = rows[rows["protocol"] == "infocam"]
    panel = drawn[0].axes[0]
    dots = [line.get_xydata()[0] for line in panel.lines if len(line.get_xdata()) == 1]
    expected = rows.loc[["infocam", "cam"], ["threshold", "gt_known"]].to_numpy() * (1, 100)
    assert np.array(dots) == pytest.approx(expected)
    level = lines(panel)["centred box"][0, 1]
    assert level == pytest.approx(100 * rows.loc["centre-box", "gt_known"])


def test_common_part_shows_a_point_for_each_row(drawn):
    rows = pd.read_csv(RESOURCES / "infocam_common_part.csv")
    axes = drawn["infocam_common_part.png"].axes[0]
    points = lines(axes)
    for head, group in rows.groupby("head"):
        expected = 100 * group.sort_values("map_share")[["map_share", "gain"]].to_numpy()
        assert points[head] == pytest.approx(expected)
        (bars,) = (bars for bars in axes.containers if bars.get_label() == head)
        ends = np.array([segment[:, 1] for segment in bars[2][0].get_segments()])
        group = group.sort_values("map_share")
        assert ends == pytest.approx(100 * group[["gain_low", "gain_high"]].to_numpy())


def test_differences_shows_both_directions_with_their_overlaps(drawn):
    arrays = read_arrays(RESOURCES / "infocam_differences.npz")
    assert arrays["methods"].tolist() == ["cam", "infocam"]
    right = arrays["overlaps"] >= 0.5
    assert right.tolist() == [[False, True]] * 4 + [[True, False]] * 4
    gains = np.abs(np.diff(arrays["overlaps"]))[:, 0]
    assert (np.diff(gains[:4]) <= 0).all() and (np.diff(gains[4:]) <= 0).all()
    titles = [axes.get_title() for axes in drawn["infocam_differences.png"].axes]
    digits, overlaps = arrays["labels"], arrays["overlaps"]
    for index, (row, column) in ((0, (0, 0)), (3, (0, 3)), (5, (2, 1))):
        words = ["wrong", "right"] if row == 0 else ["right", "wrong"]
        for number, name in enumerate(("CAM", "infoCAM")):
            verdict = f"{overlaps[index, number]:.2f}: {words[number]}"
            title = f"{name}, digit {digits[index]}\noverlap {verdict}"
            assert titles[4 * (row + number) + column] == title
    page = " ".join((RESOURCES.parent / "infocam/README.md").read_text().split())
    counts = arrays["counts"]
    assert f"boxes {counts[0]} of the 2,000 test images right, CAM alone {counts[1]}." in page


def test_a_file_that_is_missing_or_lacks_a_column_is_named(tmp_path, user_error):
    words = ["--rows", tmp_path, "--output-dir", tmp_path / "out"]
    message = user_error(figures.main, words)
    assert f"{tmp_path}/mi_estimator.csv: no such file; resources/README.md says" in message
    (tmp_path / "mi_hard.csv").write_text("task,estimator\na,b\n")
    message = user_error(figures.main, [*words, "--only", "mi_hard.png"])
    assert f"{tmp_path}/mi_hard.csv: no n_train; it must hold task, estimator" in message
    (tmp_path / "mi_hard.csv").write_text("")
    assert "mi_hard.csv: no table" in user_error(figures.main, [*words, "--only", "mi_hard.png"])
    rows = pd.read_csv(RESOURCES / "mi_hard.csv")
    rows.loc[0, "estimate"] = np.nan
    rows.to_csv(tmp_path / "mi_hard.csv", index=False)
    message = user_error(figures.main, [*words, "--only", "mi_hard.png"])
    assert "mi_hard.csv: a missing value in estimate" in message
    np.savez(tmp_path / "infocam_differences.npz", pictures=np.array([0, np.nan]))
    message = user_error(figures.main, [*words, "--only", "infocam_differences.png"])
    assert "infocam_differences.npz: no labels; it must hold" in message
    assert not (tmp_path / "out").exists()


def test_rows_that_a_figure_cannot_show_are_named_with_it(tmp_path, user_error):
    rows = tmp_path / "rows"
    rows.mkdir()
    hard = pd.read_csv(RESOURCES / "mi_hard.csv")  # of other tasks than the paper's
    hard.to_csv(rows / "mi_estimator.csv", index=False)
    curves = pd.read_csv(RESOURCES / "infocam_thresholds.csv")
    two = pd.concat([curves, curves.assign(seed=1)])
    two.to_csv(rows / "infocam_thresholds.csv", index=False)
    shutil.copy(RESOURCES / "infocam_tiny_imagenet.csv", rows)
    words = ["--rows", rows, "--output-dir", tmp_path / "out", "--only"]
    for name, files in (
        ("mi_paper.png", "mi_estimator.csv"),
        ("infocam_thresholds.png", "infocam_thresholds.csv and infocam_tiny_imagenet.csv"),
    ):
        message = user_error(figures.main, [*words, name])
        assert f"{name}: {files} do not fit: " in message
        plt.close("all")
    assert list((tmp_path / "out").iterdir()) == []
