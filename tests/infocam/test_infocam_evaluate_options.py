"""`infocam.evaluate` with regions, the prior, other protocols and several runs."""

import numpy as np
import pandas as pd
import pytest
import torch
from slow_evaluation import (
    HUNDREDTHS,
    METHODS,
    RULES,
    TINY,
    network_of,
    plain_words,
    results_of,
    slow_scores,
    tiny_features,
)

from infocam import train
from infocam.data.load import load_splits
from infocam.evaluate import main
from infocam.maps.cam import region_filter
from infocam.scoring.metrics import Evaluator
from infocam.scoring.protocols import PROTOCOLS
from mi_common.records import RunFolder
from scripts import page_tables_boxes

# Regions, the prior, protocols.


def test_a_region_adds_rows_and_validation_images_choose_between_them(
    tiny_run, tiny_evaluation, tmp_path, slow_hits
):
    more = ["--overlays", 0, "--methods", "cam", "infocam", "--region", 3]
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", *more)])
    rows, without = results_of(tmp_path / "out"), results_of(tiny_evaluation)
    plain = rows[rows["region_rule"] == "off"].reset_index(drop=True)
    kept = without[without["method"] != "infocam+"].reset_index(drop=True)
    pd.testing.assert_frame_equal(plain, kept)
    network = network_of(tiny_run)
    parts, features = tiny_features(tiny_run, network)
    filtered = {
        part: region_filter(torch.from_numpy(maps), 3).numpy() for part, maps in features.items()
    }
    filtered_rows = rows[rows["region_rule"] == "fixed"].set_index(["method", "threshold_rule"])
    assert set(filtered_rows["region"]) == {3}
    curves = pd.read_csv(tmp_path / "out/threshold_curves.csv")
    most = curves.groupby(["method", "region"])["validation_gt_known"].max()
    for method in ("cam", "infocam"):  # the filter is linear, and no logits are needed
        (hits, _), (validation_hits, _) = (
            slow_hits(filtered[part], network.head, parts[part].labels, parts[part].boxes, method)
            for part in ("test", "validation")
        )
        for rule in RULES:
            threshold, known, _, best = slow_scores(
                hits, validation_hits, np.ones(12), HUNDREDTHS, rule
            )
            scores = filtered_rows.loc[(method, rule), ["threshold", "gt_known", "max_box_acc"]]
            assert scores.tolist() == pytest.approx([threshold, known, best]), (method, rule)
    validation_rows = rows[rows["region_rule"] == "validation"]
    for method in ("cam", "infocam", "random"):
        size = 3 if most[method, 3] > most[method, 1] else 1
        of_method = validation_rows[validation_rows["method"] == method].drop(columns="region_rule")
        assert set(of_method["region"]) == {size}
        same = rows[(rows["method"] == method) & (rows["region"] == size)]
        same = same[same["region_rule"] != "validation"].drop(columns="region_rule")
        assert of_method.to_csv(index=False) == same.to_csv(index=False)


@pytest.mark.parametrize("loss", ["softmax", "pc-softmax"])
def test_the_prior_leaves_boxes_of_contrasts_and_gives_maps_in_nats(
    loss, tiny_run, tiny_words, tiny_evaluation, tmp_path
):
    folder = tiny_run.folder
    if loss == "pc-softmax":
        folder = tmp_path / "run"
        train.main(tiny_words(folder, "--loss", loss))
    saved = {}
    for name, words in (("without", []), ("with", ["--prior"])):
        more = ["--overlays", 0, "--save-maps", "--methods", "cam", "infocam", *words]
        main([str(folder), *plain_words(tiny_run, tmp_path / name, *more)])
        saved[name] = results_of(tmp_path / name)
    # Equal classes: the argmax is the same too. The 0..1 map moves by rounding alone.
    columns = [name for name in saved["with"] if name not in ("loss", "run")]
    pd.testing.assert_frame_equal(saved["with"][columns], saved["without"][columns], rtol=1e-4)
    parts = load_splits("tiny-imagenet", tiny_run.data_dir, **TINY)
    head = network_of(tiny_run).head
    head.load_state_dict(RunFolder(folder).load_checkpoint()["model"])
    _, features = tiny_features(tiny_run, network_of(tiny_run))
    for i, name in enumerate(parts["test"].image_names):
        with torch.no_grad():
            logits = head(torch.from_numpy(features["test"][i]).mean(dim=(1, 2))).numpy()
        # Equal priors of a quarter shift all logits of softmax alike, which leaves the PMI.
        information = logits - np.log(np.exp(logits).mean())
        label = int(parts["test"].labels[i])
        cam, infocam = (
            np.load(tmp_path / "with/maps/test" / m / f"{name}.npy").mean()
            for m in ("cam", "infocam")
        )
        assert cam == pytest.approx(information[label], abs=1e-4)
        others = np.delete(information, label).mean()
        assert infocam == pytest.approx(information[label] - others, abs=1e-4)


@pytest.mark.parametrize("name", ["wsol", "infocam-legacy"])
def test_other_protocols_box_the_same_maps_by_their_rules(
    name, tiny_run, tiny_evaluation, tmp_path
):
    more = ["--overlays", 1, "--protocol", name]
    main([str(tiny_run.folder), *plain_words(tiny_run, tmp_path / "out", *more)])
    rows = results_of(tmp_path / "out").set_index(["method", "threshold_rule"])
    part = load_splits("tiny-imagenet", tiny_run.data_dir, **TINY)["test"]
    for method in METHODS:
        folder = tiny_evaluation / "maps/test" / method
        maps = [np.load(folder / f"{image}.npy") for image in part.image_names]
        # The original reads Tiny-ImageNet's corners as width and height.
        evaluator = Evaluator(PROTOCOLS[name], misread=name == "infocam-legacy")
        evaluator.accumulate(maps, part.boxes, part.sizes)
        curves = evaluator.compute()
        hits = (curves.largest >= 0.5).mean(axis=0)
        oracle = rows.loc[(method, "oracle")]
        assert oracle[["gt_known", "threshold"]].tolist() == [
            pytest.approx(hits.max()),
            curves.thresholds[hits.argmax()],
        ]
        assert oracle["energy"] == pytest.approx(curves.energy.mean())
        position = int(np.flatnonzero(curves.thresholds <= 0.2)[-1])
        assert rows.loc[(method, "fixed"), "gt_known"] == pytest.approx(hits[position])
    assert set(rows["protocol"]) == {name}


# Several runs.


def test_two_seeds_make_means_and_paired_differences(
    tiny_run, second_run, tiny_evaluation, tmp_path
):
    words = plain_words(tiny_run, tmp_path / "both", "--overlays", 1)
    main([str(tiny_run.folder), str(second_run), *words])
    rows = results_of(tmp_path / "both")
    first = rows[rows["seed"] == 1].reset_index(drop=True)
    pd.testing.assert_frame_equal(first, results_of(tiny_evaluation))
    assert sorted(set(rows["seed"])) == [1, 2]
    assert set(rows["run"]) == {str(tiny_run.folder), str(second_run)}
    header, _, *lines = (tmp_path / "both/table.md").read_text().splitlines()
    columns = header.strip("| ").split(" | ")
    table = [dict(zip(columns, line.strip("| ").split(" | "), strict=True)) for line in lines]
    by_seed = rows.set_index(["seed", "method", "threshold_rule"])["gt_known"]
    for line in table:
        pair = [by_seed[s, line["method"], line["threshold_rule"]] for s in (1, 2)]
        half = 12.7062 * abs(pair[0] - pair[1]) / 2  # Student's quantile with one degree of freedom
        assert line["gt_known"] == f"{100 * np.mean(pair):.1f} ± {100 * half:.1f}"
        assert line["n"] == "2"
    assert len(table) == len(first)
    text = (tmp_path / "both/differences.md").read_text()
    pair = [by_seed[s, "infocam", "validation"] - by_seed[s, "cam", "validation"] for s in (1, 2)]
    over_seeds = pd.read_csv(tmp_path / "both/over_seeds.csv")
    rule = "method == 'infocam' and baseline == 'cam' and threshold_rule == 'validation'"
    (seeds,) = over_seeds.query(rule).to_dict("records")
    chosen = rows.query("method == 'infocam' and threshold_rule == 'validation'")
    assert seeds["validation_gt_known"] == pytest.approx(chosen["validation_gt_known"].mean())
    assert seeds["gt_known"] == pytest.approx(np.mean(pair))
    ends = [100 * seeds[f"gt_known{end}"] for end in ("", "_low", "_high")]
    (line,) = (row for row in text.splitlines() if "| infocam - cam | off | validation |" in row)
    assert "| 2 | 12 | {:.1f} ({:.1f} to {:.1f}) |".format(*ends) in line
    assert "infocam+ - centre-box" in text
    cells = page_tables_boxes.box_options(over_seeds.assign(optimizer="sgd")).set_index("method")
    means = [np.mean([by_seed[s, m, "validation"] for s in (1, 2)]) for m in ("infocam", "cam")]
    assert cells.loc["infocam", "SGD, 7x7"] == f"{100 * means[0]:.1f}"
    assert cells.loc["cam", "SGD, 7x7"].startswith(f"{100 * means[1]:.1f}, {0 - ends[0]:+.1f} (")
    by_object = pd.read_csv(tmp_path / "both/by_object_over_seeds.csv")
    quarters = by_object.query(f"{rule} and property == 'area'")
    assert quarters["n"].sum() == 12
    assert quarters["n"] @ quarters["gt_known"] / 12 == pytest.approx(np.mean(pair), abs=1e-6)
