"""`pc_softmax.adjust` on exact posteriors of Gaussian classes: formats, scores, refusals."""

import json

import numpy as np
import pandas as pd
import pytest

from mi_common.files import write_text
from pc_softmax import adjust, evaluate
from pc_softmax.logit_files import read_logits
from pc_softmax.predictions import Predictions
from tests.pc_softmax.test_evaluate import COUNTS, LOG_PRIOR, NAMES, exact_logits, save_run

FEW = ["--bootstrap", 5]


def run_main(main, *words) -> None:
    main([str(word) for word in words])


def save_csv(path, logits, labels) -> None:
    frame = pd.DataFrame(logits, columns=NAMES)
    frame.insert(1, "label", np.array(NAMES)[labels])
    frame.to_csv(path, index=False)


@pytest.mark.parametrize("target", ["em", "bbse", "uniform", "train"])
def test_scores_are_those_of_evaluate_on_the_same_logits(tmp_path, target):
    arrays = save_run(tmp_path / "run")
    given = {name: arrays[f"official_{name}"] for name in ("logits", "labels")}
    np.savez(tmp_path / "test.npz", **given, class_names=NAMES)
    save_csv(tmp_path / "val.csv", arrays["validation_logits"], arrays["validation_labels"])
    words = ["--validation", tmp_path / "val.csv", "--train-counts", *COUNTS, "--bootstrap", 0]
    run_main(adjust.main, tmp_path / "test.npz", *words, "--target-prior", target)
    run_main(evaluate.main, tmp_path / "run", "--test-sets", "official", "--target-prior", target)
    expected, actual = (
        pd.read_csv(folder / "scores.csv").iloc[0]
        for folder in (tmp_path / "run/evaluation", tmp_path / "test-adjusted")
    )
    assert expected.index.tolist() == actual.index.tolist()
    numbers = expected.drop(["test_set", "target_prior"])
    assert actual[numbers.index].to_dict() == pytest.approx(numbers.to_dict(), abs=1e-6)
    predictions = pd.read_csv(tmp_path / "test-adjusted/predictions.csv")
    right = predictions["class"].to_numpy() == np.array(NAMES)[given["labels"]]
    assert right.mean() == pytest.approx(expected["accuracy"])


def test_without_labels_the_posterior_and_the_priors_are_written(tmp_path, capsys):
    logits = exact_logits([0.2, 0.2, 0.6], 3_000, seed=5)[0]
    pd.DataFrame(logits, columns=NAMES).to_csv(tmp_path / "x.csv", index=False)
    (tmp_path / "counts.csv").write_text("class,count\ncat,10\nape,150\nbee,40\n")
    words = ["--train-counts", tmp_path / "counts.csv", "--logits", "pc-softmax", *FEW]
    run_main(adjust.main, tmp_path / "x.csv", *words, "--output-dir", tmp_path / "out")
    printed = capsys.readouterr().out
    assert "Note: logits are not calibrated; give --validation." in printed
    assert "\nClass frequencies, estimated by em, from logits that nothing calibrates\n" in printed
    assert "bbse needs validation samples: give --validation\n" in printed
    priors = pd.read_csv(tmp_path / "out/priors.csv").set_index("class")
    assert priors.index.tolist() == NAMES and "bbse" not in priors
    assert priors["train"].to_numpy() == pytest.approx(COUNTS / 200)
    assert priors["em"].to_numpy() == pytest.approx([0.2, 0.2, 0.6], abs=0.03)
    with np.load(tmp_path / "out/posterior.npz") as file:
        log_posterior = file["log_posterior"]
    expected = logits + np.log(priors["em"].to_numpy())
    expected -= np.log(np.exp(expected).sum(axis=1, keepdims=True))
    assert log_posterior == pytest.approx(expected, abs=1e-5)
    frequencies = pd.read_csv(tmp_path / "out/class_frequencies.csv")
    assert frequencies["estimate"].to_numpy() == pytest.approx(priors["em"].to_numpy())
    assert (frequencies["lower"] < frequencies["upper"]).all()
    result = json.loads((tmp_path / "out/result.json").read_text())
    assert (result["target_prior"], result["n"]) == ("em", 3_000)


def test_the_prior_of_validation_labels_is_the_training_prior(tmp_path, capsys):
    logits, labels = exact_logits([0.75, 0.2, 0.05], 2_000, seed=1)
    save_csv(tmp_path / "val.csv", logits + LOG_PRIOR, labels)
    save_csv(tmp_path / "test.csv", *exact_logits([1 / 3] * 3, 300, seed=2))
    run_main(adjust.main, tmp_path / "test.csv", "--validation", tmp_path / "val.csv", *FEW)
    assert "\nClass frequencies, estimated by em\n" in capsys.readouterr().out
    priors = pd.read_csv(tmp_path / "test-adjusted/priors.csv")
    assert priors["train"].to_numpy() == pytest.approx([0.75, 0.2, 0.05])


def test_both_formats_hold_the_same(tmp_path):
    logits, labels = exact_logits([0.2, 0.3, 0.5], 20, seed=0)
    save_csv(tmp_path / "x.csv", logits, labels)
    np.savez(tmp_path / "x.npz", logits=logits, labels=labels, class_names=NAMES)
    for name in ("x.csv", "x.npz"):
        read = read_logits(tmp_path / name)
        assert read.values == pytest.approx(logits) and read.labels.tolist() == labels.tolist()
        assert read.class_names == NAMES


def write(folder, **files: str) -> None:
    for name, text in files.items():
        write_text(folder / f"{name}.csv", text)


@pytest.mark.parametrize(
    ("text", "words", "said"),
    [
        ("a,b\n1,2\n", [], "the training prior is unknown; give --train-counts or --validation"),
        ("a,b\n1,x\n", [], "row 1 has 'x' in column 'b'; give a number"),
        ("a,b\n1,\n", [], "row 1 has '' in column 'b'; give a number"),
        ("a,b\n1,2,3\n", [], "rows have more cells than the header; name every column"),
        ("a,a\n1,2\n", [], "two columns are named 'a'"),
        ("0.5,1.2\n1,2\n", [], "the first row holds numbers; it must hold the names of classes"),
        ("a,b\n1,inf\n", [], "logits: 1 of 1 samples have values that are not finite"),
        ("a\n1\n", [], "1 samples of 1 classes"),
        ("a,b\n", [], "0 samples of 2 classes"),
        ("a,b,label\n1,2,c\n", [], "label 'c' is no class"),
        ("a,b,label\n1,2,2\n", [], "column label: 2 is no class; use 0 to 1"),
        ("a,b\n1,2\n", ["--train-counts", 5], "--train-counts 5: give 2 whole numbers above 0"),
        ("a,b\n1,2\n", ["--train-counts", 5, 0], "--train-counts 5 0: give 2 whole numbers"),
        ("a,b\n1,2\n", ["--train-counts", "{counts}"], "two lines for class 'a'"),
        ("a,b\n1,2\n", ["--train-counts", "{long}"], "long.csv: give 2 whole numbers above 0"),
        ("a,b\n1,2\n", ["--train-counts", "{wide}"], "use the header class,count or a number a"),
        ("a,b\n1,2\n", ["--validation", "{x}"], "--validation: the file has no labels"),
        ("a,b\n1,2\n", ["--validation", "{y}"], "--validation: its classes are not those"),
        ("a,c\n1,2\n", ["--validation", "{y}"], "--validation: no sample of class 'c'"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, user_error, text, words, said):
    texts = {"x": text, "y": "a,c,label\n1,2,a\n", "wide": "5\n6\n7,8\n", "long": "5\n6\n7\n"}
    texts["counts"] = "class,count\na,5\nb,6\na,7\n"
    write(tmp_path, **texts)
    paths = {name: tmp_path / f"{name}.csv" for name in texts}
    words = [str(word).format(**paths) for word in words]
    assert said in user_error(adjust.main, [tmp_path / "x.csv", *words])
    assert set(tmp_path.iterdir()) == set(paths.values())


def validation(logits) -> dict:
    return {
        "logits": np.zeros((2, 2)),
        "validation_logits": logits,
        "validation_labels": np.array([0, 1]),
    }


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"scores": np.zeros((2, 2))}, "no array 'logits' but scores"),
        ({"logits": np.zeros(2)}, "logits are float64 (2,); give (N, K) numbers"),
        ({"logits": np.zeros((2, 2)), "labels": np.zeros(3)}, "labels: float64 (3,); give 2 whole"),
        ({"logits": np.zeros((2, 2)), "labels": np.array([0, 0.5])}, "give 2 whole numbers"),
        ({"logits": np.zeros((2, 2)), "class_names": np.array(["a"])}, "must be 2 texts"),
        ({"logits": np.zeros((2, 2)), "files": np.array([1, "b"], object)}, "holds Python objects"),
        (validation(np.zeros(2)), "validation_logits are float64 (2,); give (N, K) numbers"),
        (validation(np.zeros((2, 3))), "validation_logits: (2, 3); give (M, 2) numbers"),
        (validation(np.full((2, 2), np.nan)), "validation_logits: 2 of 2 samples have values that"),
    ],
)
def test_wrong_arrays_are_named(tmp_path, user_error, arrays, said):
    np.savez(tmp_path / "x.npz", **arrays)
    assert said in user_error(adjust.main, [tmp_path / "x.npz", "--train-counts", 1, 1])


def test_predictions_of_a_run_are_named_as_such(tmp_path, user_error):
    save_run(tmp_path)
    assert "no array 'logits' but" in user_error(adjust.main, [tmp_path / "predictions.npz"])
    assert Predictions.load(tmp_path / "predictions.npz").class_names == NAMES
