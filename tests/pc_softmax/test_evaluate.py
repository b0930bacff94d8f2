"""`pc_softmax.evaluate` end to end on exact posteriors of Gaussian classes."""

import json
import math
import shlex

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mi_common.errors import UserError
from mi_common.files import lock, release_locks, write_text
from pc_softmax import adapter as adapter_module
from pc_softmax import evaluation, plots
from pc_softmax.evaluate import main
from pc_softmax.evaluation import evaluate
from pc_softmax.plots import plot_shift
from pc_softmax.predictions import Predictions
from pc_softmax.shift_tables import shift_table

COUNTS = np.array([150, 40, 10])
LOG_PRIOR = np.log(COUNTS / 200)
NAMES = ["ape", "bee", "cat"]
WRITTEN = {"config.json", "scores.csv", "table.md", "table.tex", "per_class.csv", "confusion.csv"}
WRITTEN |= {"confusion.png", "reliability.png", "mistakes.csv", "result.json"}
SHIFT = {f"shift.{end}" for end in ("csv", "md", "tex", "png")}
SHIFT |= {"shift_gains.md", "shift_gains.tex"}


def exact_logits(prior, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Log densities of unit Gaussians at 0, 2 and 4, and labels with exactly the given prior."""
    labels = np.repeat(np.arange(3), np.rint(np.multiply(prior, n)).astype(int))
    x = 2 * labels + np.random.default_rng(seed).normal(size=len(labels))
    return -0.5 * (x[:, None] - 2 * np.arange(3)) ** 2, labels


def save_run(folder, *, validation: bool = True, **changes) -> dict[str, np.ndarray]:
    """A run of softmax, whose logits hold the training prior; returns what it saved."""
    splits = {
        "imbalanced": exact_logits([0.75, 0.2, 0.05], 2_000, seed=0),
        "official": exact_logits([1 / 3, 1 / 3, 1 / 3], 3_000, seed=3),
    }
    if validation:
        splits["validation"] = exact_logits([0.75, 0.2, 0.05], 6_000, seed=2)
    arrays = {"log_prior": LOG_PRIOR, "counts": COUNTS, "logit_log_prior": LOG_PRIOR}
    arrays["class_names"] = np.array(NAMES)
    for name, (logits, labels) in splits.items():
        arrays |= {f"{name}_logits": (logits + LOG_PRIOR).astype(np.float32)}
        arrays |= {f"{name}_labels": labels}
    arrays |= changes
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "predictions.npz", **arrays)
    return arrays


def accuracy(arrays: dict, name: str, added: np.ndarray) -> float:
    """Of the argmax of saved logits plus the given logs."""
    predicted = (arrays[f"{name}_logits"].astype(float) + added).argmax(axis=1)
    return (predicted == arrays[f"{name}_labels"]).mean()


def files(folder) -> dict[str, bytes]:
    paths = [path for path in folder.rglob("[!.]*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def raising(error: BaseException):
    """A function that raises the error, whatever it is given."""

    def stop(*_, **__):
        raise error

    return stop


@pytest.fixture(scope="module")
def shifted(tmp_path_factory):
    """A run with `--shift`, what it saved, and what was printed; not to be written to."""
    folder = tmp_path_factory.mktemp("evaluate") / "run"
    arrays, lines = save_run(folder), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        main([str(folder), "--shift", "--seed", "5", "--resamples", "2"])
    return folder, arrays, "\n".join(lines)


def test_every_file_is_written_and_no_partial_one_is_left(shifted):
    folder, _, printed = shifted
    assert set(files(folder / "evaluation")) == WRITTEN | SHIFT
    assert (folder / "evaluation/table.md").read_text() in printed
    assert (folder / "evaluation/shift.md").read_text() in printed
    for name in ("confusion", "reliability", "shift"):
        Image.open(folder / f"evaluation/{name}.png").verify()


def test_scores_under_the_uniform_prior_stand_in_all_files(shifted):
    folder, arrays, printed = shifted
    rows = pd.read_csv(folder / "evaluation/scores.csv").set_index("test_set")
    result = json.loads((folder / "evaluation/result.json").read_text())
    assert list(rows.index) == list(result["test_sets"]) == ["imbalanced", "official"]
    assert result["target_prior"] == "uniform" and set(rows["target_prior"]) == {"uniform"}
    for name, n in (("imbalanced", 2_000), ("official", 3_000)):
        assert rows["accuracy"][name] == pytest.approx(accuracy(arrays, name, -LOG_PRIOR))
        assert rows["n_test"][name] == n
        scores = result["test_sets"][name]
        assert scores.pop("prior") == pytest.approx(dict.fromkeys(NAMES, 1 / 3))
        assert rows.loc[name].drop("target_prior").dropna().to_dict() == pytest.approx(scores)
    assert rows["majority_accuracy"].tolist() == pytest.approx([0.75, 1 / 3])
    assert rows["label_entropy"]["official"] == pytest.approx(math.log(3))
    assert "prior_total_variation" not in rows
    cells = [f"{100 * accuracy(arrays, name, -LOG_PRIOR):.2f} %" for name in rows.index]
    assert f"| accuracy | {cells[0]} | {cells[1]} |" in printed
    assert "| target prior | uniform | uniform |" in printed


def test_classes_and_confusions_are_those_by_hand(shifted):
    folder, arrays, _ = shifted
    classes = pd.read_csv(folder / "evaluation/per_class.csv")
    confusion = pd.read_csv(folder / "evaluation/confusion.csv")
    assert list(classes) == ["test_set", "class", "train_count", "n", "accuracy", "precision"]
    assert list(confusion) == ["test_set", "true_class", *NAMES]
    for number, name in enumerate(("imbalanced", "official")):
        predicted = (arrays[f"{name}_logits"] - LOG_PRIOR).argmax(axis=1)
        labels = arrays[f"{name}_labels"]
        for k in range(3):
            line = classes.iloc[3 * number + k]
            assert line[:4].tolist() == [name, NAMES[k], COUNTS[k], (labels == k).sum()]
            assert line["accuracy"] == pytest.approx((predicted[labels == k] == k).mean())
            assert line["precision"] == pytest.approx((labels[predicted == k] == k).mean())
            line = confusion.iloc[3 * number + k]
            counts = np.bincount(predicted[labels == k], minlength=3).tolist()
            assert line.tolist() == [name, NAMES[k], *counts]


FILE_PRIOR = np.log([0.2, 0.2, 0.6])
UNIFORM = np.log(np.full(3, 1 / 3))


@pytest.mark.parametrize(
    ("target", "in_logits", "added"),
    [
        ("argmax", LOG_PRIOR, 0),
        ("train", LOG_PRIOR, 0),
        ("uniform", LOG_PRIOR, -LOG_PRIOR),
        ("prior.txt", LOG_PRIOR, FILE_PRIOR - LOG_PRIOR),
        ("argmax", UNIFORM, 0),  # logits without a prior
        ("uniform", UNIFORM, 0),
        ("train", UNIFORM, LOG_PRIOR),
    ],
)
def test_a_target_prior_replaces_the_one_in_the_logits(
    tmp_path, monkeypatch, target, in_logits, added
):
    arrays = save_run(tmp_path, logit_log_prior=in_logits, validation=False)
    (tmp_path / "prior.txt").write_text("0.2\n0.2\n0.6\n")
    monkeypatch.chdir(tmp_path)
    saved = Predictions.load(tmp_path / "predictions.npz")
    for name in ("imbalanced", "official"):
        assert evaluate(saved, name, target).scores["accuracy"] == accuracy(arrays, name, added)


@pytest.mark.parametrize("target", ["em", "bbse", "pacc", "auto"])
def test_estimated_priors_are_near_the_labels_and_say_how_near(tmp_path, target):
    save_run(tmp_path)
    main([str(tmp_path), "--target-prior", target])
    result = json.loads((tmp_path / "evaluation/result.json").read_text())
    assert "prior_total_variation" in result["uses_test_labels"]
    for name, truth in (("imbalanced", [0.75, 0.2, 0.05]), ("official", [1 / 3] * 3)):
        prior = list(result["test_sets"][name]["prior"].values())
        distance = np.abs(np.subtract(prior, truth)).sum() / 2
        assert result["test_sets"][name]["prior_total_variation"] == pytest.approx(distance)
        assert 0 < distance < 0.05  # the training prior is 0.42 away from the balanced set
    table = (tmp_path / "evaluation/table.md").read_text()
    assert f"| target prior | {target} | {target} |" in table
    assert "| total variation, estimated prior to test labels | 0.0" in table


def test_one_test_set_into_another_folder_and_the_next_command(tmp_path, capsys):
    save_run(tmp_path)
    folder = tmp_path / "one test set"
    main([str(tmp_path), "--output-dir", str(folder), "--test-sets", "official"])
    assert pd.read_csv(folder / "scores.csv")["test_set"].tolist() == ["official"]
    assert not (tmp_path / "evaluation").exists()
    next_command = capsys.readouterr().out.splitlines()[-1].removeprefix("next: python -m ")
    main([*shlex.split(next_command)[1:], "--resamples", "1"])
    assert (tmp_path / "one test set-auto/shift.csv").exists()


def test_shift_shows_every_prior_on_subsets_of_the_official_test_set(shifted):
    folder, arrays, _ = shifted
    rows = pd.read_csv(folder / "evaluation/shift.csv")
    methods = ["argmax", "uniform", "train", "em", "bbse", "pacc", "oracle: known prior"]
    distances = [f"{name}_total_variation" for name in ("em", "bbse", "pacc")]
    assert list(rows) == ["shift", "ratio", "resample", "n", *methods, *distances]
    assert len(rows) == 16 * 2 and rows["resample"].tolist() == [0, 1] * 16
    whole = rows[rows["shift"] == "uniform"]  # ratio 1 of a balanced set is all of a resample
    assert whole["n"].tolist() == [3_000, 3_000]
    assert (whole["argmax"] == whole["train"]).all()
    assert whole["argmax"].mean() == pytest.approx(accuracy(arrays, "official", 0), abs=0.02)
    assert (whole["uniform"] == whole["oracle: known prior"]).all()
    assert (rows["oracle: known prior"] >= rows["uniform"] - 0.01).all()
    last = rows[(rows["shift"] == "backward") & (rows["ratio"] == 50)].iloc[0]
    assert last["n"] == 1_000 + math.floor(1_000 / math.sqrt(50)) + 20
    assert last["oracle: known prior"] > last["uniform"] + 0.05 > last["train"] + 0.2
    assert (abs(rows["em"] - rows["oracle: known prior"]) < 0.02).all()
    assert (rows[distances] < 0.08).all().all() and (rows[distances] > 0).all().all()


def test_shift_is_drawn_by_the_seed(shifted):
    folder, _, _ = shifted
    saved = Predictions.load(folder / "predictions.npz")
    same, other = (
        shift_table(saved, "official", np.random.default_rng(seed), resamples=2)[0]
        for seed in (5, 6)
    )
    written = pd.read_csv(folder / "evaluation/shift.csv")
    pd.testing.assert_frame_equal(same, written, check_dtype=False)
    assert (other["uniform"] != written["uniform"]).sum() > 20


def test_shift_without_validation_leaves_two_out_and_an_estimate_that_fails_is_no_number(
    tmp_path, capsys, monkeypatch
):
    save_run(tmp_path, validation=False)
    monkeypatch.setattr(adapter_module, "em_prior", raising(UserError("em: no estimate")))
    main([str(tmp_path), "--shift", "--test-sets", "imbalanced", "--resamples", "1"])
    rows = pd.read_csv(tmp_path / "evaluation/shift.csv")
    assert not any(column.startswith(("bbse", "pacc")) for column in rows)
    assert rows["em"].isna().all() and rows["em_total_variation"].isna().all()
    assert rows["train"].notna().all()
    printed = capsys.readouterr().out
    for line in ("Without bbse and pacc: ", "Note: logits are not calibrated", "of imbalanced"):
        assert line in printed
    assert "No estimate in 16 of 16 subsets: em: no estimate" in printed
    assert "nan" not in (tmp_path / "evaluation/shift.md").read_text()


def test_an_infinite_nll_is_null_in_the_result_and_inf_in_the_table(tmp_path):
    # Some of class 1 are predicted as class 2 in validation, none in the test set: ratio below 0.
    predicted, labels = np.array([0] * 9 + [1]), np.array([0] * 8 + [1, 2])
    validation, true = np.array([0, 2, 2, 0, 1, 2]), np.array([0, 1, 2, 0, 1, 2])
    changes = {"official_labels": labels, "official_logits": 9 * np.eye(3)[predicted] + LOG_PRIOR}
    changes |= {"validation_labels": true, "validation_logits": np.eye(3)[validation] + LOG_PRIOR}
    save_run(tmp_path, **changes)
    main([str(tmp_path), "--target-prior", "bbse", "--test-sets", "official"])
    text = (tmp_path / "evaluation/result.json").read_text()
    scores = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert scores["test_sets"]["official"]["nll"] is None
    assert scores["test_sets"]["official"]["prior"]["cat"] == 0
    assert "| NLL, nats | inf |" in (tmp_path / "evaluation/table.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--target-prior", "bbse"], "bbse needs validation samples: train with --val-fraction"),
        (
            ["--target-prior", "emm"],
            "--target-prior emm: neither argmax, uniform, train, em, bb",
        ),
        (["--target-prior", "{run}/wrong.csv"], "wrong.csv: 2 probabilities for 3 classes"),
        (["--test-sets", "offical"], "--test-sets offical: the run has imbalanced, official"),
        (["--seed", "-1"], "'-1' is not a whole number from 0"),
        (["--output-dir", "{run}", "--overwrite"], "holds the run itself; choose another folder"),
        (["--output-dir", "{run}/..", "--overwrite"], "holds the run itself"),
        (["--output-dir", "{run}/wrong.csv"], "wrong.csv is a file"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, user_error, words, said):
    run = tmp_path / "run"
    save_run(run, validation=False)
    (run / "wrong.csv").write_text("0.5\n0.5\n")
    before = files(tmp_path)
    assert said in user_error(main, [run, *(word.format(run=run) for word in words)])
    assert files(tmp_path) == before and not (run / "evaluation").exists()


def test_an_earlier_evaluation_is_replaced_with_overwrite_alone(tmp_path, user_error):
    save_run(tmp_path)
    main([str(tmp_path)])
    lock(tmp_path / "evaluation")
    write_text(tmp_path / "evaluation/shift.csv", "of an earlier evaluation")
    release_locks()
    before = files(tmp_path)
    line = user_error(main, [tmp_path, "--target-prior", "train"])
    assert f"{tmp_path}/evaluation exists; use --overwrite or another --output-dir" in line
    # One that fails leaves the earlier one as it is, even when it may be replaced.
    user_error(main, [tmp_path, "--target-prior", "none.csv", "--overwrite"])
    assert files(tmp_path) == before
    main([str(tmp_path), "--target-prior", "train", "--overwrite"])
    assert {path.name for path in (tmp_path / "evaluation").glob("[!.]*")} == WRITTEN


def test_an_evaluation_that_is_cut_off_has_no_result(tmp_path, monkeypatch):
    save_run(tmp_path)
    monkeypatch.setattr(evaluation, "plot_reliability", raising(KeyboardInterrupt()))
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    names = {path.name for path in (tmp_path / "evaluation").iterdir()}
    assert "scores.csv" in names and "result.json" not in names


def test_shift_is_drawn_with_a_line_a_method_and_the_estimates_below(shifted, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    rows = pd.read_csv(shifted[0] / "evaluation/shift.csv").query("resample == 0")
    plot_shift(rows, ["uniform", "em", "oracle: known prior"], shifted[0] / "x.png")
    top, bottom = figures[0].axes
    marks = {line.get_label(): line.get_ydata() for line in top.lines}
    assert marks["oracle: known prior"] == pytest.approx(100 * rows["oracle: known prior"])
    line, dots = (line.get_ydata() for line in bottom.lines)
    assert dots == pytest.approx(rows["em_total_variation"])
    assert len(line) == 11  # random priors are not joined
