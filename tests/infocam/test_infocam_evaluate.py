"""`infocam.evaluate` end to end on trained runs: the numbers of results.csv, the cache."""

import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from slow_evaluation import (
    DIGITS,
    HUNDREDTHS,
    METHODS,
    RULES,
    SCORED,
    network_of,
    plain_words,
    results_of,
    slow_scores,
    tiny_features,
)

from infocam.data.load import load_splits
from infocam.evaluate import main
from infocam.scoring.boxes import centre_boxes
from infocam.scoring.metrics import box_iou
from mi_common.files import read_json


def check_rows(rows: pd.DataFrame, parts: dict, features: dict, head, slow_hits) -> None:
    """Every row of results.csv against the slow evaluation of the given feature maps."""
    rows = rows.set_index(["method", "threshold_rule"])[SCORED]
    for method in METHODS:
        (hits, correct), (validation_hits, _) = (
            slow_hits(features[part], head, parts[part].labels, parts[part].boxes, method)
            for part in ("test", "validation")
        )
        for rule in RULES:
            expected = slow_scores(hits, validation_hits, correct, HUNDREDTHS, rule)
            assert rows.loc[(method, rule)].tolist() == pytest.approx(expected), (method, rule)
    sides = (1 + np.arange(100)) / 100
    fitting = {
        part: np.array(
            [box_iou(b, centre_boxes(64, 64, sides))[0] >= 0.5 for b in parts[part].boxes]
        )
        for part in ("test", "validation")
    }
    for rule in RULES[1:]:
        expected = slow_scores(
            fitting["test"], fitting["validation"], correct, sides.tolist(), rule
        )
        assert rows.loc[("centre-box", rule)].tolist() == pytest.approx(expected), rule
    whole = fitting["test"][:, -1]
    expected = [1.0, whole.mean(), (whole & correct).mean(), whole.mean()]
    assert rows.loc[("whole-image", "none")].tolist() == pytest.approx(expected)


def test_results_on_scattered_digits_equal_a_slow_evaluation(
    digits_run, evaluate_words, tmp_path, small_window, slow_hits
):
    more = ["--test-images", 25, "--overlays", 2, "--gallery", 1, "--faithfulness", 2]
    main(evaluate_words(digits_run, tmp_path / "out", *more))
    rows = results_of(tmp_path / "out")
    parts = load_splits("scattered-digits", digits_run.data_dir, **DIGITS)
    network = network_of(digits_run)
    with torch.inference_mode():
        features = {
            part: network.features(network.spec.normalise(d.images)).numpy()
            for part, d in parts.items()
        }
    check_rows(rows, parts, features, network.head, slow_hits)
    assert len(set(rows["gt_known"])) > 2  # the methods do not all hit alike
    assert set(rows["map"]) == {"16x16"}
    faithful = rows.groupby("method")[["insertion", "deletion"]].first()
    assert faithful.loc[["centre-box", "whole-image"]].isna().all(axis=None)
    assert faithful.loc[[*METHODS, "random"]].apply(lambda c: c.between(0, 1)).all(axis=None)
    assert "insertion" in (tmp_path / "out/table.md").read_text().splitlines()[0]


def test_results_on_tiny_imagenet_equal_a_slow_evaluation(tiny_run, tiny_evaluation, slow_hits):
    rows = results_of(tiny_evaluation)
    assert list(map(tuple, rows[["method", "threshold_rule"]].to_numpy())) == [
        ("whole-image", "none"),
        *[("centre-box", rule) for rule in RULES[1:]],
        *[(method, rule) for method in (*METHODS, "random") for rule in RULES],
    ]
    network = network_of(tiny_run)
    parts, features = tiny_features(tiny_run, network)
    check_rows(rows, parts, features, network.head, slow_hits)
    assert rows["top1_loc"].max() > 0
    with torch.inference_mode():
        guesses = network.head(torch.from_numpy(features["test"]).mean(dim=(2, 3))).argmax(dim=1)
    accuracy = (guesses == parts["test"].labels).float().mean().item()
    assert rows["accuracy"].tolist() == pytest.approx([accuracy] * len(rows))
    (seed,), (region,), (rule,) = (set(rows[name]) for name in ("seed", "region", "region_rule"))
    assert (seed, region, rule) == (1, 1, "off")
    assert set(rows["map"]) == {"7x7"} and set(rows["protocol"]) == {"infocam"}


def test_with_four_classes_the_label_is_always_among_five(tiny_evaluation):
    rows = results_of(tiny_evaluation)
    assert rows["top5_loc"].tolist() == pytest.approx(rows["gt_known"].tolist())
    assert (rows["top1_loc"] <= rows["top5_loc"]).all()


def test_random_maps_are_one_direction_of_the_features(tiny_run, tiny_evaluation):
    network = network_of(tiny_run)
    parts, features = tiny_features(tiny_run, network)
    direction = torch.randn(features["test"].shape[1], generator=torch.Generator().manual_seed(0))
    maps = np.einsum("bchw,c->bhw", features["test"], direction.numpy())
    folder = tiny_evaluation / "maps/test/random"
    saved = np.stack([np.load(folder / f"{name}.npy") for name in parts["test"].image_names])
    # Folded batch norms round otherwise, which moves a few of 1,280 channels by a step of 16 bits.
    np.testing.assert_allclose(saved, maps, rtol=0, atol=0.02)


def test_table_shows_the_percent_of_results(tiny_evaluation):
    rows = results_of(tiny_evaluation)
    header, _, *lines = (tiny_evaluation / "table.md").read_text().splitlines()
    shown = ["max_box_acc", "max_box_acc_v2", "pointing", "energy"]  # no masks: no PxAP
    columns = ["method", "region", "region_rule", "threshold_rule", "threshold"]
    assert header == f"| {' | '.join([*columns, 'gt_known', 'top1_loc', 'top5_loc', *shown])} |"
    for row, line in zip(rows.to_dict("records"), lines, strict=True):
        cells = [row["method"], "1", "off", row["threshold_rule"], f"{row['threshold']:.2f}"]
        for name in ("gt_known", "top1_loc"):
            value, low, high = (100 * row[f"{name}{end}"] for end in ("", "_low", "_high"))
            cells.append(f"{value:.1f} ({low:.1f} to {high:.1f})")
        cells += [f"{100 * row[name]:.1f}" for name in ("top5_loc", *shown)]
        assert line == "| " + " | ".join(cells) + " |"
    assert (tiny_evaluation / "table.tex").read_text().startswith(r"\begin{tabular}")


def test_differences_over_images_equal_those_of_the_rows(tiny_evaluation):
    """A test image each is 1 / 12, so the counts must give the difference of two scores."""
    rows = results_of(tiny_evaluation).set_index(["method", "threshold_rule"])
    differences = pd.read_csv(tiny_evaluation / "differences.csv")
    keys = [
        (f"{method} - {baseline}", rule)
        for method in ("cam", "infocam", "infocam+", "random")
        for rule in RULES
        for baseline in ("cam", "infocam", "centre-box")
        if baseline != method and (baseline, rule) != ("centre-box", "fixed")
    ]
    assert list(map(tuple, differences[["method", "threshold_rule"]].to_numpy())) == keys
    for line in differences.to_dict("records"):
        method, baseline = line["method"].split(" - ")
        for name in ("gt_known", "top1_loc"):
            scores = [rows.loc[(who, line["threshold_rule"]), name] for who in (method, baseline)]
            assert line[name] == pytest.approx(scores[0] - scores[1])
        assert (line["won"] - line["lost"]) / 12 == pytest.approx(line["gt_known"])
        assert (line["n"], line["seed"], line["map"]) == (12, 1, "7x7")
    text = (tiny_evaluation / "differences.md").read_text()
    assert "| infocam - cam | off | validation | 12 |" in text


def test_the_choice_file_holds_what_the_rows_of_the_validation_rule_use(tiny_run, tiny_evaluation):
    rows = results_of(tiny_evaluation).query("threshold_rule == 'validation'")
    (run, chosen), *others = read_json(tiny_evaluation / "chosen.json")["chosen"].items()
    assert (run, others) == (str(tiny_run.folder), [])
    curves = pd.read_csv(tiny_evaluation / "threshold_curves.csv")
    hits = curves.groupby("method")["validation_gt_known"].max()
    assert list(chosen["methods"]) == [*METHODS, "random"]
    for method, choice in chosen["methods"].items():
        (threshold,) = rows[rows["method"] == method]["threshold"]
        assert choice == {
            "region": 1,
            "threshold": threshold,
            "validation_gt_known": pytest.approx(hits[method]),
        }
    assert chosen["best_method"] == hits[METHODS].idxmax()
    assert chosen["validation_images"] == 8


def test_pictures_are_readable_and_overlays_spread_evenly(tiny_evaluation):
    files = sorted(path.name for path in (tiny_evaluation / "overlays").iterdir())
    assert files == [f"{i:05d}.{end}" for i in (0, 3, 6, 8, 11) for end in ("npz", "png")]
    galleries = sorted(path.name for path in tiny_evaluation.glob("*.png"))
    assert galleries == [
        *(f"gallery_{name}.png" for name in ("best", "differ", "worst")),
        "threshold_curves.png",
    ]
    for path in [*tiny_evaluation.glob("*.png"), *tiny_evaluation.glob("overlays/*.png")]:
        with Image.open(path) as picture:
            assert min(picture.size) > 100
            assert np.asarray(picture.convert("L")).std() > 5


def test_threshold_curves_agree_with_the_rows(tiny_evaluation):
    curves = pd.read_csv(tiny_evaluation / "threshold_curves.csv").set_index("method")
    rows = results_of(tiny_evaluation).set_index(["method", "threshold_rule"])
    for method in (*METHODS, "random"):
        curve = curves.loc[method]
        assert curve["threshold"].tolist() == HUNDREDTHS
        assert curve["gt_known"].max() == pytest.approx(rows.loc[(method, "oracle"), "gt_known"])
        best = curve["threshold"].iloc[curve["validation_gt_known"].argmax()]
        assert best == rows.loc[(method, "validation"), "threshold"]


def test_second_evaluation_reads_the_cached_maps_and_gives_the_same(
    tiny_run, tiny_evaluation, tmp_path, backbone_must_rest
):
    more = ["--overlays", 0, "--methods", "infocam", "cam", "infocam"]
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", *more)])
    again, first = results_of(tmp_path / "out"), results_of(tiny_evaluation)
    assert again["method"].drop_duplicates().tolist() == [
        *("whole-image", "centre-box"),
        *("infocam", "cam", "random"),
    ]
    index = ["method", "threshold_rule"]
    first = first.set_index(index).loc[list(map(tuple, again[index].to_numpy()))]
    pd.testing.assert_frame_equal(again.set_index(index), first)
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == [
        *("by_object.csv", "by_object.md", "by_object.tex", "chosen.json", "config.json"),
        *("differences.csv", "differences.md", "differences.tex"),
        *("results.csv", "table.md", "table.tex"),
        *(f"threshold_curves.{end}" for end in ("csv", "png", "svg")),
    ]


def test_fewer_test_images_do_not_move_the_validation_threshold(
    tiny_run, tiny_evaluation, tmp_path
):
    more = ["--overlays", 1, "--test-images", 3]
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", *more)])
    few, all_images = (
        results_of(folder).query("threshold_rule == 'validation'")
        for folder in (tmp_path / "out", tiny_evaluation)
    )
    assert few["threshold"].tolist() == all_images["threshold"].tolist()
    thirds = few["gt_known"] * 3
    assert thirds.tolist() == pytest.approx(thirds.round().tolist())
    names = sorted(path.name for path in (tmp_path / "out/overlays").iterdir())
    assert names == ["00000.npz", "00000.png"]


def test_without_a_terminal_each_step_prints_a_line(tiny_run, tmp_path, capsys):
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", "--overlays", 0)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:7] == [
        *(f"{tiny_run.folder}: 8 validation images", "maps, 8/8"),
        *(f"{tiny_run.folder}: 12 test images", "maps, 12/12"),
        *("validation boxes, 8/8", "test boxes, 12/12"),
    ]


def test_overwrite_replaces_an_evaluation(tiny_run, tiny_evaluation, evaluate_words, tmp_path):
    shutil.copytree(tiny_evaluation, tmp_path / "out")
    main(evaluate_words(tiny_run, tmp_path / "out", "--overwrite", "--overlays", 2))
    files = sorted(path.name for path in (tmp_path / "out/overlays").iterdir())
    assert files == [f"{name}.{end}" for name in ("00000", "00011") for end in ("npz", "png")]
    assert not (tmp_path / "out/maps").exists()
    same = [(f / "results.csv").read_text() for f in (tmp_path / "out", tiny_evaluation)]
    assert same[0] == same[1]


def test_two_workers_write_the_same_results(tiny_run, tiny_evaluation, evaluate_words, tmp_path):
    words = ["--num-workers", 2, "--overlays", 0, "--gallery", 0]
    main(evaluate_words(tiny_run, tmp_path / "out", *words))
    same = [(f / "results.csv").read_text() for f in (tmp_path / "out", tiny_evaluation)]
    assert same[0] == same[1]
