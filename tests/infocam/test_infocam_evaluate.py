"""`infocam.evaluate` end to end: the numbers of results.csv, pictures, the cache."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from common.records import RunFolder
from infocam import evaluate, overlay, plots
from infocam.boxes import THRESHOLDS, centre_boxes
from infocam.data import load_parts
from infocam.evaluate import main
from infocam.metrics import box_iou
from infocam.networks import build_network

COLUMNS = "method,threshold_rule,threshold,gt_known,top1_loc,max_box_acc,n_images"
METHODS = ["cam", "infocam", "infocam+"]
RULES = ["held-out", "oracle"]
DIGITS = {"images_per_class": 14, "held_out_per_class": 4, "test_images": 25}
TINY = {"images_per_class": 6, "held_out_per_class": 2, "test_images": None}


@pytest.fixture(scope="module")
def tiny_evaluation(tiny_run, evaluate_words, tmp_path_factory):
    """The folder of an evaluation of the Tiny-ImageNet run; not to be written to."""
    folder = tmp_path_factory.mktemp("tiny-evaluation") / "out"
    main(evaluate_words(tiny_run, folder, "--overlays", 5))
    return folder


def network_of(run) -> torch.nn.Module:
    """The run's network, put together without `infocam.evaluate`."""
    flags, state = RunFolder(run.folder).config(), RunFolder(run.folder).load_checkpoint()["model"]
    classes = 4 if flags["dataset"] == "tiny-imagenet" else 10
    network = build_network(flags["network"], weights=flags["weights"], num_classes=classes)
    (network.head if classes == 4 else network).load_state_dict(state)
    return network.eval()


def slow_scores(hits, held_out_hits, correct, thresholds, rule) -> list[float]:
    """threshold, gt_known, top1_loc and max_box_acc, image by image."""
    chooser = hits if rule == "oracle" else held_out_hits
    counts = [int(chooser[:, t].sum()) for t in range(len(thresholds))]
    best = counts.index(max(counts))
    known = sum(bool(h[best]) for h in hits)
    both = sum(bool(h[best]) and bool(c) for h, c in zip(hits, correct, strict=True))
    most = max(int(hits[:, t].sum()) for t in range(len(thresholds)))
    n = len(hits)
    return [thresholds[best], known / n, both / n, most / n]


def check_rows(rows: pd.DataFrame, parts: dict, features: dict, head, slow_hits) -> None:
    """Every row of results.csv against the slow evaluation of the given feature maps."""
    rows = rows.set_index(["method", "threshold_rule"])
    found = {}
    for method in METHODS:
        found[method] = [
            slow_hits(features[part], head, parts[part].labels, parts[part].boxes, method)
            for part in ("test", "held-out")
        ]
        (hits, correct), (held_out_hits, _) = found[method]
        for rule in RULES:
            expected = slow_scores(hits, held_out_hits, correct, THRESHOLDS.tolist(), rule)
            assert rows.loc[(method, rule)].tolist()[:4] == pytest.approx(expected), (method, rule)
    sides = (1 + np.arange(100)) / 100
    fitting = {
        part: np.array(
            [box_iou(b, centre_boxes(64, 64, sides))[0] >= 0.5 for b in parts[part].boxes]
        )
        for part in ("test", "held-out")
    }
    for rule in RULES:
        expected = slow_scores(fitting["test"], fitting["held-out"], correct, sides.tolist(), rule)
        assert rows.loc[("centre-box", rule)].tolist()[:4] == pytest.approx(expected), rule
    whole = fitting["test"][:, -1]
    expected = [1.0, whole.mean(), (whole & correct).mean(), whole.mean()]
    assert rows.loc[("whole-image", "none")].tolist()[:4] == pytest.approx(expected)


def test_results_on_scattered_digits_equal_a_slow_evaluation(
    digits_run, evaluate_words, tmp_path, small_window, slow_hits
):
    main(evaluate_words(digits_run, tmp_path / "out", "--test-images", 25, "--overlays", 2))
    rows = pd.read_csv(tmp_path / "out/results.csv")
    parts = load_parts("scattered-digits", digits_run.data_dir, **DIGITS)
    network = network_of(digits_run)
    with torch.inference_mode():
        features = {part: network.features(d.images).numpy() for part, d in parts.items()}
    assert set(rows["n_images"]) == {25}
    check_rows(rows, parts, features, network.head, slow_hits)
    assert len(set(rows["gt_known"])) > 2  # the methods do not all hit alike


def test_results_on_tiny_imagenet_equal_a_slow_evaluation(tiny_run, tiny_evaluation, slow_hits):
    text = (tiny_evaluation / "results.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = pd.read_csv(tiny_evaluation / "results.csv")
    assert list(map(tuple, rows[["method", "threshold_rule"]].to_numpy())) == [
        ("whole-image", "none"),
        *[(method, rule) for method in ("centre-box", *METHODS) for rule in RULES],
    ]
    assert set(rows["n_images"]) == {12}
    parts = load_parts("tiny-imagenet", tiny_run.data_dir, **TINY)
    network = network_of(tiny_run)
    transform = network.spec.transform()
    features = {}
    for part in ("held-out", "test"):
        pictures = [Image.open(path).convert("RGB") for path in parts[part].images.paths]
        with torch.inference_mode():
            maps = network.features(torch.stack([transform(picture) for picture in pictures]))
        features[part] = maps.half().float().numpy()  # the cache keeps 16 bits
    check_rows(rows, parts, features, network.head, slow_hits)
    assert rows["top1_loc"].max() > 0


def test_table_shows_the_percent_of_results(tiny_evaluation):
    rows = pd.read_csv(tiny_evaluation / "results.csv")
    lines = (tiny_evaluation / "table.md").read_text().splitlines()
    assert lines[0] == "| " + COLUMNS.replace(",", " | ") + " |"
    for row, line in zip(rows.itertuples(), lines[2:], strict=True):
        scores = [f"{100 * v:.1f}" for v in (row.gt_known, row.top1_loc, row.max_box_acc)]
        cells = [row.method, row.threshold_rule, f"{row.threshold:.2f}", *scores, "12"]
        assert line == "| " + " | ".join(cells) + " |"


def test_overlays_are_readable_pictures_of_images_spread_evenly(tiny_evaluation):
    files = sorted(path.name for path in (tiny_evaluation / "overlays").iterdir())
    assert files == [f"{i:05d}.png" for i in (0, 3, 6, 8, 11)]
    for path in [tiny_evaluation / "threshold_curves.png", *tiny_evaluation.glob("overlays/*")]:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert np.asarray(picture.convert("L")).std() > 5


def test_second_evaluation_reads_the_cached_maps_and_gives_the_same(
    tiny_run, tiny_evaluation, evaluate_words, tmp_path, trunk_must_rest
):
    main(evaluate_words(tiny_run, tmp_path / "out", "--overlays", 0, "--methods", "infocam", "cam"))
    again, first = (pd.read_csv(f / "results.csv") for f in (tmp_path / "out", tiny_evaluation))
    assert again["method"].tolist() == ["whole-image"] + [
        method for method in ("centre-box", "infocam", "cam") for _ in RULES
    ]
    index = ["method", "threshold_rule"]
    first = first.set_index(index).loc[list(map(tuple, again[index].to_numpy()))]
    pd.testing.assert_frame_equal(again.set_index(index), first)
    assert not (tmp_path / "out/overlays").exists()


def test_fewer_test_images_do_not_move_the_held_out_threshold(
    tiny_run, tiny_evaluation, evaluate_words, tmp_path
):
    main(evaluate_words(tiny_run, tmp_path / "out", "--overlays", 1, "--test-images", 3))
    few, all_images = (
        pd.read_csv(f / "results.csv").query("threshold_rule == 'held-out'")
        for f in (tmp_path / "out", tiny_evaluation)
    )
    assert set(few["n_images"]) == {3}
    assert few["threshold"].tolist() == all_images["threshold"].tolist()


def rectangles(panel) -> list[tuple[float, ...]]:
    return [(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in panel.patches]


def test_picture_draws_boxes_around_whole_pixels(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(overlay, "save_figure", lambda figure, path, dpi: drawn.append(figure))
    picture = np.zeros((64, 64, 3), np.uint8)
    values = np.linspace(-1, 3, 64 * 64).reshape(64, 64)
    truths = np.array([[1, 2, 10, 20], [30, 30, 30, 30]])
    box = np.array([4, 5, 63, 60])
    overlay.save_overlay(tmp_path / "x.png", picture, {"cam": values}, {"cam": box}, truths, "cat")
    left, right = drawn[0].axes
    true = [(0.5, 1.5, 10, 19), (29.5, 29.5, 1, 1)]
    assert rectangles(left) == [b for b in true for _ in range(2)]
    assert rectangles(right) == [(3.5, 4.5, 60, 56)] * 2 + rectangles(left)
    assert right.images[1].get_clim() == (-3, 3)  # signed: zero is the middle of the colours


def test_figure_shows_percent_at_each_threshold_and_marks_the_chosen(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    hit = np.array([[1, 0, 1], [0, 0, 1]], bool)
    baselines = {"whole-image": 0.25, "centre-box": 0.75}
    plots.plot_threshold_curves(
        np.array([0, 0.1, 0.2]), {"cam": hit}, {"cam": 2}, baselines, tmp_path / "x.png"
    )
    curve, dot, whole, centre = drawn[0].axes[0].lines
    assert curve.get_xydata().tolist() == [[0, 50], [0.1, 0], [0.2, 100]]
    assert dot.get_xydata().tolist() == [[0.2, 100]]
    assert (whole.get_ydata()[0], centre.get_ydata()[0]) == (25, 75)


def test_overwrite_replaces_an_evaluation(tiny_run, tiny_evaluation, evaluate_words, tmp_path):
    shutil.copytree(tiny_evaluation, tmp_path / "out")
    main(evaluate_words(tiny_run, tmp_path / "out", "--overwrite", "--overlays", 2))
    files = sorted(path.name for path in (tmp_path / "out/overlays").iterdir())
    assert files == ["00000.png", "00011.png"]
    same = [(f / "results.csv").read_text() for f in (tmp_path / "out", tiny_evaluation)]
    assert same[0] == same[1]


def test_most_and_least_likely_classes_are_those_of_the_logits_with_their_bias(
    digits_run, small_window, cpu, tmp_path
):
    part = load_parts("scattered-digits", digits_run.data_dir, **DIGITS)["test"]
    network = network_of(digits_run).requires_grad_(False)
    network.head.bias[3], network.head.bias[5] = 100, -100
    options = {"cache_dir": tmp_path, "num_workers": 0, "runtime": cpu}
    found = evaluate.localise(network, part, ["infocam+"], **options)
    assert found.predicted.tolist() == [3] * 25
    contrasts = network.head.weight[part.labels] - network.head.weight[5]
    with torch.inference_mode():
        maps = torch.einsum("nchw,nc->nhw", network.features(part.images), contrasts)
    np.testing.assert_allclose(found.maps["infocam+"], maps, rtol=0, atol=1e-4)
    assert found.boxes["infocam+"].shape == (25, 100, 4)
    assert list(tmp_path.iterdir()) == []  # tensors are not cached
