"""From a file to an estimate: the numbers agree with each other, and wrong input writes nothing."""

import math

import numpy as np
import pandas as pd
import pytest

from mi_estimator.estimate import main

FILES = {"config.json", "estimate.json", "table.md", "table.tex", "pmi.csv", "classes.csv"}
FILES |= {"pmi_by_class.png", "calibration.png"}
COUNTS = {"barbera": 48, "barolo": 59, "grignolino": 71}


def words(*given) -> list[str]:
    return [str(word) for word in [*given, "--device", "cpu"]]


def plug_in_entropy() -> float:
    shares = np.array(list(COUNTS.values())) / 178
    return -(shares * np.log(shares)).sum()


def test_every_file_is_written(plain):
    assert {path.name for path in plain.folder.iterdir()} - {".lock", ".written"} == FILES
    for name in ("pmi_by_class.png", "calibration.png"):
        assert (plain.folder / name).read_bytes().startswith(b"\x89PNG")


def test_the_estimate_is_the_mean_of_the_pointwise_values(plain):
    result, values = plain.result, plain.pmi["pmi_nats"].to_numpy()
    assert plain.pmi["sample"].tolist() == list(range(178))
    assert result["mutual_information"] == pytest.approx(values.mean(), abs=1e-12)
    half_width = 1.959964 * values.std(ddof=1) / math.sqrt(178)
    assert result["lower"] == pytest.approx(values.mean() - half_width, abs=1e-12)
    assert result["upper"] == pytest.approx(values.mean() + half_width, abs=1e-12)
    bits = result["mutual_information"] / math.log(2)
    assert result["mutual_information_bits"] == pytest.approx(bits, abs=1e-12)
    assert result["label_entropy"] == pytest.approx(plug_in_entropy(), abs=1e-6)
    share = result["mutual_information"] / result["label_entropy"]
    assert result["share_of_label_entropy"] == pytest.approx(share, abs=1e-12)
    assert 0.85 < share < 1
    assert (result["samples"], result["classes"]) == (178, 3)


def test_labels_predictions_and_folds_of_the_samples(plain, wine):
    labels = pd.read_csv(wine)["cultivar"]
    assert plain.pmi["label"].tolist() == labels.tolist()
    hit = plain.pmi["label"] == plain.pmi["predicted"]
    assert plain.result["accuracy"] == pytest.approx(hit.mean()) and hit.mean() > 0.95
    assert plain.result["majority_accuracy"] == pytest.approx(71 / 178)
    per_fold = plain.pmi.groupby(["fold", "label"]).size().unstack()
    assert per_fold.shape == (5, 3)
    assert ((per_fold - per_fold.mean()).abs() < 1).all(axis=None)


def test_class_contributions_sum_to_the_estimate(plain):
    classes = plain.classes.set_index("class")
    assert classes["samples"].to_dict() == COUNTS and list(classes.index) == sorted(COUNTS)
    total = classes["contribution"].sum()
    assert total == pytest.approx(plain.result["mutual_information"], abs=1e-12)
    for name, own in plain.pmi.groupby("label"):
        line = classes.loc[name]
        assert line["mean_pmi"] == pytest.approx(own["pmi_nats"].mean(), abs=1e-12)
        contribution = own["pmi_nats"].mean() * len(own) / 178
        assert line["contribution"] == pytest.approx(contribution, abs=1e-12)
        accuracy = (own["predicted"] == name).mean()
        assert line["accuracy"] == pytest.approx(accuracy, abs=1e-12)


def test_the_table_shows_nats_bits_and_the_p_value(plain):
    lines = (plain.folder / "table.md").read_text().splitlines()
    cells = dict(line.strip("| ").split(" | ") for line in lines)
    value = plain.result["mutual_information"]
    assert cells["mutual information"] == f"{value:.4f} nats ({value / math.log(2):.4f} bits)"
    assert cells["samples, classes"] == "178, 3"
    assert cells["p-value of independence"] == "0.010"
    assert plain.result["p_value"] == 1 / 100


def test_the_training_value_is_above_the_held_out_value(plain, wine, estimated):
    """For LDA and for the default network; early stopping and calibration keep the latter close."""
    flags = ["--epochs", 10, "--lr", 0.01, "--folds", 3]
    network = estimated(*flags, source=(wine, "--label", "cultivar"))
    for run in (plain, network):
        result = run.result
        assert result["training_value"] > result["mutual_information"]
        assert result["lower"] < result["mutual_information"] < result["upper"]
        assert 0.8 < result["mutual_information"] < result["label_entropy"]
    assert network.result["p_value"] is None
    assert set(network.pmi["fold"]) == {0, 1, 2}
    assert "p-value" not in (network.folder / "table.md").read_text()


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--dataset", "mnist"], "give a FILE with --label COLUMN, or --dataset NAME"),
        (["--label", "cultivar", "--folds", 1], "--folds 1: at least 2"),
        (["--label", "cultivar", "--folds", 49], "--folds 49: barbera (48); use fewer folds"),
        (["--label", "grape"], "--label grape: no such column; the columns are alcohol, malic"),
        (["--label", "cultivar", "--val-fraction", 1], "'1' is not a number from 0 to below 1"),
        (["--label", "cultivar", "--members", 0], "'0' is not a whole number above 0"),
        (["--label", "cultivar", "--estimator", "oracle"], "invalid choice: 'oracle'"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(wine, tmp_path, user_error, flags, message):
    line = user_error(main, words(wine, *flags, "--output-dir", tmp_path / "out"))
    assert message in line
    assert not (tmp_path / "out").exists()


def test_an_image_set_goes_through_the_cnn(small_mnist, estimated):
    source = ("--dataset", "mnist", "--data-dir", small_mnist)
    flags = ["--max-samples", 120, "--folds", 2, "--members", 2]
    run = estimated(*flags, "--epochs", 4, "--batch-size", 10, "--lr", 0.005, source=source)
    assert run.pmi["label"].tolist() == [0, 1, 2, 3] * 30
    assert run.result["label_entropy"] == pytest.approx(math.log(4))
    assert 0.8 * math.log(4) < run.result["mutual_information"] <= math.log(4) + 1e-6
    assert run.result["accuracy"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("name", ["lda", "gradient-boosting", "ross", "mixed-ksg"])
def test_images_for_estimators_without_a_network_are_refused(
    small_mnist, tmp_path, user_error, name
):
    flags = ["--dataset", "mnist", "--data-dir", small_mnist, "--estimator", name]
    line = user_error(main, words(*flags, "--output-dir", tmp_path / "out"))
    remedy = "images need --backbone, or a network such as pc-softmax"
    assert line == f"error: --estimator {name}: {remedy}"
    assert not (tmp_path / "out").exists()


def test_the_weights_of_auto_are_printed_and_written(wine, estimated, capsys):
    candidates = ("lda", "logistic-regression", "qda")
    words = ("--label", "cultivar", "--estimator", "auto", "--folds", 2, "--candidates")
    run = estimated(source=(wine, *words, *candidates))
    weights, skipped = run.result["weights"], run.result["skipped"]
    assert set(weights) | set(skipped) >= set(candidates)
    assert sum(weights.values()) == pytest.approx(1)
    assert list(weights.values()) == sorted(weights.values(), reverse=True)
    printed = capsys.readouterr().out
    for name, weight in weights.items():
        assert f"| {name} | {weight:.2f} |" in printed or weight < 0.01
    assert all(f"{name} ({reason})" in printed for name, reason in skipped.items())


def test_a_class_without_a_validation_sample_is_named(tmp_path, estimated, capsys):
    table = pd.DataFrame({"a": np.random.default_rng(0).normal(size=40), "y": "common"})
    table.loc[:2, "y"] = "rare"
    table.to_csv(tmp_path / "table.csv", index=False)
    words = ("--label", "y", "--estimator", "lda", "--folds", 3)
    estimated(source=(tmp_path / "table.csv", *words))
    assert "warning: classes rare have fewer than 3" in capsys.readouterr().err
