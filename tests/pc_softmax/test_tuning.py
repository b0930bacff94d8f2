"""`compare --tune`: the grid, the criterion, what is chosen, and that test images are not used."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from mi_common.errors import UserError
from mi_common.records import RunFolder
from pc_softmax import comparison, tuning
from pc_softmax.compare import main
from pc_softmax.data import load_data
from pc_softmax.predictions import Predictions
from pc_softmax.train import main as train_main

LOSSES = ["crt", "softmax", "pc-softmax"]  # crt starts from softmax, in any order
RATES = [0.003, 0.1]


def arguments(digits_dir, folder, *more) -> list[str]:
    words = ["--data-dir", digits_dir, "--output-dir", folder, "--device", "cpu", "--epochs", 1]
    words += ["--batch-size", 32, "--num-workers", 0, "--seeds", 0, 1, "--losses", *LOSSES]
    return [str(word) for word in [*words, "--tune", "lr", "head", "--tune-rates", *RATES, *more]]


@pytest.fixture(scope="module")
def tuned(digits_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "out"
    main(arguments(digits_dir, folder))
    return folder


@pytest.fixture(scope="module")
def rows(tuned) -> pd.DataFrame:
    return pd.read_csv(tuned / "tuning.csv")


def test_every_loss_has_every_head_and_rate_once(rows):
    cells = rows[["loss", "head", "lr", "seed"]].to_numpy().tolist()
    grid = [[loss, head, lr, 0] for loss in LOSSES for head in tuning.HEADS for lr in RATES]
    assert sorted(map(tuple, cells)) == sorted(map(tuple, grid))
    assert set(rows["status"]) == {"ok"} and set(rows["n_train"]) == {300 - 60 + 9 * 16}


def test_validation_images_are_a_fifth_of_the_training_images_and_no_test_image_is_read(
    tuned, rows, digits_dir
):
    whole = load_data("mnist", digits_dir, imbalance="paper")
    for row in rows.itertuples():
        run = RunFolder(tuned / f"tuning/{row.loss}-{row.head}-{row.lr:g}-0")
        with np.load(run.path / "indices.npz") as indices:
            parts = [indices[name] for name in ("train", "validation")]
            assert indices.files == ["train", "validation"]
        assert sorted(np.concatenate(parts)) == whole.indices["train"].tolist()
        assert list(Predictions.load(run.path / "predictions.npz").tests) == ["tuning"]


def test_scores_are_those_of_the_logits_without_their_prior(tuned, rows):
    for row in rows.itertuples():
        path = tuned / f"tuning/{row.loss}-{row.head}-{row.lr:g}-0/predictions.npz"
        saved = Predictions.load(path)
        logits, labels = saved.tests["tuning"]
        for shift, score in (
            (saved.logit_log_prior, row.balanced_accuracy),
            (0, row.balanced_accuracy_as_trained),
        ):
            right = (logits - shift).argmax(axis=1) == labels
            assert score == pytest.approx(np.mean([right[labels == k].mean() for k in range(10)]))
        tensors = torch.from_numpy(logits - saved.logit_log_prior), torch.from_numpy(labels)
        losses = [F.cross_entropy(*(part[labels == k] for part in tensors)) for k in range(10)]
        assert row.class_nll == pytest.approx(np.mean(losses))


def test_the_final_runs_have_what_was_chosen_and_train_on_all_images(tuned, rows):
    results = pd.read_csv(tuned / "results.csv")
    assert set(results["n_train"]) == {480} and set(results["seed"]) == {0, 1}
    table = (tuned / "table.md").read_text()
    for loss, of_loss in rows.groupby("loss"):
        best = of_loss.sort_values(["balanced_accuracy", "class_nll"], ascending=[False, True])
        head, lr = best.iloc[0][["head", "lr"]]
        of_results = results[results["loss"] == loss]
        assert set(of_results["head"]) == {head} and set(of_results["lr"]) == {lr}
        assert f"| {loss} | {head} | {lr:.4g} | as trained | 2 |" in table
        for seed in (0, 1):
            flags = json.loads((tuned / f"{loss}-{seed}/config.json").read_text())["flags"]
            assert (flags["head"], flags["lr"], flags["val_fraction"]) == (head, lr, 0)


def test_crt_is_tuned_on_the_chosen_run_of_softmax(tuned, rows):
    flags = json.loads((tuned / "tuning/crt-linear-0.1-0/config.json").read_text())["flags"]
    best = tuning.choose(rows[rows["loss"] == "softmax"], "softmax")
    assert flags["init"] == str(tuned / f"tuning/softmax-{best['head']}-{best['lr']:g}-0")


def test_a_final_run_is_that_of_train_with_the_chosen_flags(tuned, rows, digits_dir, tmp_path):
    best = tuning.choose(rows[rows["loss"] == "pc-softmax"], "pc-softmax")
    words = ["--data-dir", digits_dir, "--output-dir", tmp_path / "run", "--device", "cpu"]
    words += ["--epochs", 1, "--batch-size", 32, "--seed", 1, "--loss", "pc-softmax"]
    train_main([str(w) for w in [*words, "--head", best["head"], "--lr", best["lr"]]])
    alone = RunFolder(tmp_path / "run").result()["test_sets"]
    assert alone == RunFolder(tuned / "pc-softmax-1").result()["test_sets"]


def test_resume_trains_only_what_is_missing(tuned, digits_dir, tmp_path, monkeypatch):
    shutil.copytree(tuned, tmp_path / "copy")
    names, train = [], comparison.train
    monkeypatch.setattr(comparison, "train", lambda *a: names.append(a[3].path.name) or train(*a))
    table = pd.read_csv(tuned / "tuning.csv")
    table[table["loss"] != "pc-softmax"].to_csv(tmp_path / "copy/tuning.csv", index=False)
    (tmp_path / "copy/tuning/pc-softmax-cosine-0.1-0/result.json").unlink()
    main(arguments(digits_dir, tmp_path / "copy", "--resume"))
    assert names == ["pc-softmax-cosine-0.1-0"]
    assert (tmp_path / "copy/table.md").read_text() == (tuned / "table.md").read_text()


def test_a_run_that_diverges_is_recorded_and_not_chosen(digits_dir, tmp_path):
    words = arguments(digits_dir, tmp_path / "out", "--tune-rates", 0.01, 1e9, "--tune", "lr")
    main([*words, "--losses", "softmax"])
    rows = pd.read_csv(tmp_path / "out/tuning.csv")
    assert rows["status"][0] == "ok" and rows["status"][1].startswith("failed: ")
    assert set(pd.read_csv(tmp_path / "out/results.csv")["lr"]) == {0.01}


def table(*rows: tuple) -> pd.DataFrame:
    columns = ["head", "lr", "seed", "balanced_accuracy", "class_nll", "status"]
    frame = pd.DataFrame(rows, columns=columns)
    return frame.assign(balanced_accuracy_as_trained=0.0)


@pytest.mark.parametrize(
    ("rows", "head_and_rate"),
    [
        # The mean over seeds decides, then the NLL.
        ([("linear", 1, 0, 0.9, 1, "ok"), ("linear", 1, 1, 0.5, 1, "ok"),
          ("linear", 3, 0, 0.8, 9, "ok"), ("linear", 3, 1, 0.7, 9, "ok")], ("linear", 3)),
        ([("linear", 1, 0, 0.9, 2, "ok"), ("cosine", 1, 0, 0.9, 1, "ok")], ("cosine", 1)),
        # A setting that fails with one seed is out.
        ([("linear", 1, 0, 0.6, 1, "ok"), ("linear", 1, 1, 0.6, 1, "ok"),
          ("linear", 3, 0, 0.9, 1, "ok"), ("linear", 3, 1, np.nan, np.nan, "failed: x")],
         ("linear", 1)),
    ],
)  # fmt: skip
def test_the_best_mean_is_chosen(rows, head_and_rate):
    assert tuning.choose(table(*rows), "x") == dict(zip(("head", "lr"), head_and_rate, strict=True))


def test_a_grid_that_diverges_everywhere_is_an_error():
    rows = table(("linear", 1, 0, np.nan, np.nan, "failed: x"))
    with pytest.raises(UserError, match="focal: every run of --tune diverged; give lower"):
        tuning.choose(rows, "focal")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--head", "cosine"], "--head cosine: --tune head chooses it; leave one out"),
        (["--tune-fraction", "0"], "--tune-fraction 0: no images to choose on"),
        (["--tune", "epochs"], "'epochs'"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(digits_dir, tmp_path, user_error, words, said):
    assert said in user_error(main, [*arguments(digits_dir, tmp_path / "out"), *words])
    assert list(tmp_path.iterdir()) == []
