"""Options of boxes: rules by hand and against slow versions, and their choice on validation."""

import cv2
import numpy as np
import pandas as pd
import pytest
from curve_checks import OURS, WSOL, evaluated
from slow_evaluation import TINY, plain_words, results_of

from infocam.data.load import load_splits
from infocam.evaluate import main
from infocam.maps.photographs import boxes_at
from infocam.names import BOX_RULES
from infocam.refinement import MEAN_WEIGHTS, box_grids
from infocam.scoring.boxes import BoxOptions, add_prior_map, mean_map, normalise
from infocam.scoring.metrics import box_iou

SIZE, TRUTH = np.array([[32, 32]]), [np.array([[4, 6, 20, 25]])]
EVERYTHING = ["--propagate", 1, 4, "--prior-map", "--threshold-rule", "adaptive"]


NO_CHOICE = {"prior_weight": 0.0, "mean_weight": 0.0}


def read_choices(printed: str) -> dict[str, dict[str, float]]:
    """The numbers that the validation images chose, by method, from what was printed."""
    choices = {}
    for line in printed.splitlines():
        _, found, rest = line.partition(": validation images choose for ")
        if found:
            method, _, pairs = rest.partition(": ")
            words = (pair.split(" ") for pair in pairs.split(", "))
            choices[method] = {name: float(v) for name, v in words if name != "box_rule"}
    return choices


def smooth_map(seed: int) -> np.ndarray:
    """A (32, 32) map with several blobs, nowhere constant."""
    values = np.random.default_rng(seed).normal(size=(6, 6)).astype(np.float32)
    return cv2.resize(values, (32, 32), interpolation=cv2.INTER_CUBIC)


def components(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """The sets of pixels that touch, corners included, found by walking from pixel to pixel."""
    left, found = set(zip(*map(np.ndarray.tolist, np.nonzero(mask)), strict=True)), []
    while left:
        stack, seen = [left.pop()], set()
        while stack:
            y, x = stack.pop()
            seen.add((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(seen)
    return found


def slow_box(values: np.ndarray, threshold: float, rule: str) -> list[float]:
    """The box of a map at a threshold by a rule, pixel by pixel."""
    if rule == "mean":
        shifted = [threshold + shift for shift in (-0.1, -0.05, 0, 0.05, 0.1)]
        return np.mean([slow_box(values, t, "largest") for t in shifted], axis=0).tolist()
    mask = np.floor(values * 255) > min(max(int(threshold * 255), 0), 254)
    if rule == "peak":
        peak = np.unravel_index(values.argmax(), values.shape)
        (pixels,) = (part for part in components(mask) if peak in part)
        (y0, x0), (y1, x1) = np.min(list(pixels), axis=0), np.max(list(pixels), axis=0)
        return [int(side) for side in (x0, y0, x1, y1)]
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, 2)
    x, y, width, height = cv2.boundingRect(max(contours, key=cv2.contourArea))
    return [x, y, x + width - 1, y + height - 1]


@pytest.mark.parametrize("mean_weight", [0, 0.4])
@pytest.mark.parametrize("rule", ["largest", "mean", "peak"])
def test_boxes_of_every_rule_equal_a_slow_version(rule, mean_weight):
    options, plain = BoxOptions(mean_weight=mean_weight, box_rule=rule), set()
    for seed in range(5):
        values = smooth_map(seed)
        curves = evaluated([values], TRUTH, SIZE, box_options=options)
        scores = normalise(values)
        shift = mean_weight * float(scores.mean())
        for position in range(0, 100, 7):
            box = np.array([slow_box(scores, position / 100 + shift, rule)])
            expected = box_iou(box, TRUTH[0])[0, 0]
            assert curves.largest[0, position] == pytest.approx(expected, rel=1e-6), position
        plain.add(np.array_equal(curves.largest, evaluated([values], TRUTH, SIZE).largest))
    assert plain == {rule == "largest" and mean_weight == 0}


def test_the_rule_of_the_box_leaves_the_other_scores():
    values = [smooth_map(seed) for seed in range(4)]
    for protocol in (OURS, WSOL):
        plain = evaluated(values, TRUTH * 4, np.repeat(SIZE, 4, axis=0), rules=protocol)
        for rule in ("mean", "peak"):
            options = {"rules": protocol, "box_options": BoxOptions(box_rule=rule)}
            found = evaluated(values, TRUTH * 4, np.repeat(SIZE, 4, axis=0), **options)
            for name in ("any_contour", "pointing", "energy"):
                assert np.array_equal(getattr(found, name), getattr(plain, name)), (rule, name)


def test_the_prior_map_is_the_mean_of_maps_in_0_to_1():
    maps = np.array([[[0, 2], [4, 0]], [[5, 5], [5, 1]], [[3, 3], [3, 3]]], np.float32)
    prior_map = mean_map(maps)
    np.testing.assert_allclose(prior_map, [[1 / 3, 0.5], [2 / 3, 0]], rtol=1e-6)
    expected = [[0.5 / 3, 0.75], [4 / 3, 0]]
    np.testing.assert_allclose(add_prior_map(maps[:1], prior_map, 0.5)[0], expected, rtol=1e-6)


def test_each_option_alone_and_all_together():
    assert box_grids(None, "fixed", "largest") == {}
    mean, prior = {"box_rule": ("mean",)}, {"prior_weight": (0, 2.0)}
    assert box_grids((0, 2.0), "fixed", "largest") == {"prior map": prior}
    assert box_grids((0, 2.0), "adaptive", "mean") == {
        "mean box": mean,
        "prior map": prior,
        "adaptive threshold": {"mean_weight": MEAN_WEIGHTS},
        "mean box, prior map, adaptive threshold": {
            **mean,
            **prior,
            "mean_weight": MEAN_WEIGHTS,
        },
    }


def test_evaluation_with_every_option_agrees_with_one_made_by_hand(
    tiny_run, tiny_evaluation, tmp_path, capsys
):
    more = ["--overlays", 0, "--save-maps", "--methods", "infocam", *EVERYTHING]
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", *more)])
    rows = results_of(tmp_path / "out")
    kept = results_of(tiny_evaluation)
    kept = kept[~kept["method"].isin(["cam", "infocam+"])].reset_index(drop=True)
    added = rows["method"].str.contains(",|propagated|mean map")
    plain = rows[~added].reset_index(drop=True)
    pd.testing.assert_frame_equal(plain[kept.columns], kept)
    assert plain[[*NO_CHOICE, "box_rule", "exponent"]].isna().all(axis=None)
    choices = read_choices(capsys.readouterr().out)
    names = ["", "prior map", "adaptive threshold", "prior map, adaptive threshold"]
    names = [f", {name}" if name else "" for name in names]
    expected = [f"{m}{name}" for m in ("infocam", "propagated infocam") for name in names]
    assert set(choices) == {*expected} - {"infocam"}
    best = {}
    parts = load_splits("tiny-imagenet", tiny_run.data_dir, **TINY)
    for method in expected:
        base, choice = method.partition(",")[0], NO_CHOICE | choices.get(method, {})
        maps = {}
        for split in ("validation", "test"):
            folder = tmp_path / "out/maps" / split / base
            images = parts[split].image_names
            maps[split] = np.stack([np.load(folder / f"{name}.npy") for name in images])
        prior_map = np.mean([normalise(values) for values in maps["validation"]], axis=0)
        options, curves = BoxOptions(mean_weight=choice["mean_weight"]), {}
        for split, part in parts.items():
            if split in maps:
                values = [normalise(m) + choice["prior_weight"] * prior_map for m in maps[split]]
                arguments = (values, part.boxes, part.sizes)
                curves[split] = evaluated(*arguments, box_options=options)
        hits = (curves["validation"].largest >= 0.5).mean(axis=0)
        best[method] = hits.max()
        threshold = int(hits.argmax())
        row = rows[(rows["method"] == method) & (rows["threshold_rule"] == "validation")].iloc[0]
        hits = (curves["test"].largest >= 0.5).mean(axis=0)
        expected_scores = [threshold / 100, hits[threshold], best[method]]
        found = row[["threshold", "gt_known", "validation_gt_known"]].tolist()
        assert found == pytest.approx(expected_scores)
        if method in choices:
            columns = [name for name in NO_CHOICE if name in choices[method]]
            assert row[columns].tolist() == [choices[method][name] for name in columns]
        if method == "infocam":
            curves = {
                split: evaluated([prior_map] * len(part), part.boxes, part.sizes)
                for split, part in parts.items()
                if split in maps
            }
            position = (curves["validation"].largest >= 0.5).mean(axis=0).argmax()
            of_mean = rows[rows["method"] == "mean map of infocam"].set_index("threshold_rule")
            found = of_mean.loc["validation", ["threshold", "gt_known"]].tolist()
            expected_hits = (curves["test"].largest[:, position] >= 0.5).mean()
            assert found == pytest.approx([position / 100, expected_hits])
    for name in names:  # an option's candidates include none of it
        assert best[f"infocam{name}"] >= best["infocam"]


def test_photographs_take_the_rules_of_boxes():
    values = smooth_map(1)
    thresholds = np.array([0.2, 0.55, 0.9])
    for rule in BOX_RULES:
        boxes = boxes_at(values, 32, 32, thresholds, "minmax", rule)
        expected = [slow_box(normalise(values), t, rule) for t in thresholds]
        assert boxes.tolist() == np.rint(expected).tolist(), rule
    assert boxes_at(values * 0, 32, 32, thresholds, "minmax", "peak").tolist() == [[-1] * 4] * 3
