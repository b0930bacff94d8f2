"""`pc_softmax.compare` end to end on generated digits: rows, rules, differences, resume."""

import itertools
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy import stats

from mi_common.records import RunFolder
from pc_softmax import comparison, plots
from pc_softmax.compare import main
from pc_softmax.comparison import by_rule
from pc_softmax.data import load_data
from pc_softmax.metrics import classification_scores
from pc_softmax.networks import PaperNet
from pc_softmax.predictions import Predictions
from pc_softmax.train import main as train_main

COLUMNS = "dataset,test_set,loss,rule,seed,accuracy,balanced_accuracy,worst_class_accuracy"
COLUMNS += ",n_train,n_test,seconds"
KEY = ["test_set", "loss", "rule", "seed"]
RULES = {
    "softmax": ["as trained", "prior subtracted", "tau-normalised"],
    "pc-softmax": ["as trained", "prior added"],
    "ldam-drw": ["as trained", "prior subtracted"],
    "crt": ["as trained", "prior added"],
}
SIZES = {"paper-window": 372, "official": 100}
SCORES = ["accuracy", "balanced_accuracy", "worst_class_accuracy"]


def arguments(digits_dir, folder, *more, losses=tuple(RULES), seeds=(0, 1), workers=0) -> list[str]:
    words = ["--data-dir", digits_dir, "--output-dir", folder, "--device", "cpu", "--epochs", 3]
    words += ["--lr", 0.03, "--batch-size", 16, "--num-workers", workers, "--seeds", *seeds]
    return [str(word) for word in [*words, "--losses", *losses, *more]]


def record_training(patch) -> list[str]:
    """The names of the runs that are trained from here on."""
    names, train = [], comparison.train

    def recorded(settings, data, classifier, run):
        names.append(run.path.name)
        return train(settings, data, classifier, run)

    patch.setattr(comparison, "train", recorded)
    return names


@pytest.fixture
def trained(monkeypatch) -> list[str]:
    return record_training(monkeypatch)


@pytest.fixture(scope="module")
def compared(digits_dir, tmp_path_factory):
    """The folder of a comparison of two losses to which two more were added, and what was printed.

    Not to be written to.
    """
    folder = tmp_path_factory.mktemp("compare") / "out"
    with pytest.MonkeyPatch.context() as patch:
        names, lines = record_training(patch), []
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        main(arguments(digits_dir, folder, losses=["softmax", "pc-softmax"]))
        assert names == ["softmax-0", "softmax-1", "pc-softmax-0", "pc-softmax-1"]
        lines.clear()
        # cRT is named first, and still trained after the softmax runs that it starts from.
        losses = ["crt", "softmax", "pc-softmax", "ldam-drw"]
        main(arguments(digits_dir, folder, "--resume", losses=losses))
        assert names[4:] == ["ldam-drw-0", "ldam-drw-1", "crt-0", "crt-1"]
    return folder, "\n".join(lines)


@pytest.fixture(scope="module")
def rows(compared) -> pd.DataFrame:
    return pd.read_csv(compared[0] / "results.csv")


@pytest.fixture
def copied(compared, tmp_path):
    """A copy of the comparison, to be written to."""
    shutil.copytree(compared[0], tmp_path / "copy")
    return tmp_path / "copy"


def loaded(folder, loss: str, seed: int = 0) -> Predictions:
    return Predictions.load(folder / f"{loss}-{seed}/predictions.npz")


def row_of(text: str, *cells: str) -> list[str]:
    """The cells of the one table line that starts with the given ones."""
    (line,) = [s for s in text.splitlines() if s.startswith(f"| {' | '.join(cells)} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def same_rows(first: pd.DataFrame, second: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(
        first.sort_values(KEY, ignore_index=True), second.sort_values(KEY, ignore_index=True)
    )


def test_results_have_the_columns_and_a_row_for_each_test_set_loss_rule_and_seed(compared, rows):
    folder, _ = compared
    assert (folder / "results.csv").read_text().splitlines()[0] == COLUMNS
    assert sorted(map(tuple, rows[KEY].to_numpy().tolist())) == sorted(
        (test_set, loss, rule, seed)
        for test_set in SIZES
        for loss, rules in RULES.items()
        for rule in rules
        for seed in (0, 1)
    )
    assert rows["n_test"].tolist() == rows["test_set"].map(SIZES).tolist()
    assert set(rows["n_train"]) == {480}
    for row in rows[rows["rule"] == "as trained"].itertuples():
        result = RunFolder(folder / f"{row.loss}-{row.seed}").result()
        saved = result["test_sets"][row.test_set]
        assert [getattr(row, score) for score in SCORES] == [saved[score] for score in SCORES]
        assert row.seconds == result["seconds"]


def test_rows_are_the_scores_of_the_saved_logits_under_each_rule(compared, rows):
    for row in rows[rows["rule"] != "tau-normalised"].itertuples():
        saved = loaded(compared[0], row.loss, row.seed)
        logits, labels = saved.tests[row.test_set]
        added = {
            "as trained": 0,
            "prior subtracted": -saved.logit_log_prior,
            "prior added": saved.log_prior,
        }[row.rule]
        scores = classification_scores(logits + added, labels)
        assert [getattr(row, score) for score in SCORES] == list(scores.values())


def test_tau_normalised_is_a_network_whose_head_was_normalised(compared, rows, digits_dir):
    folder, _ = compared
    network = PaperNet().eval()
    network.load_state_dict(RunFolder(folder / "softmax-0").load_checkpoint()["model"])
    with torch.no_grad():
        network.head.weight /= network.head.weight.norm(dim=1, keepdim=True)
        network.head.bias.zero_()
        images = load_data("mnist", digits_dir, imbalance="paper").tests["official"].images
        expected = network((images / 255 - 0.1307) / 0.3081).numpy()
    saved = loaded(folder, "softmax")
    logits, labels = saved.tests["official"]
    normalised = by_rule(saved, logits, "softmax")["tau-normalised"]
    np.testing.assert_allclose(normalised, expected, rtol=0, atol=1e-4)
    row = rows.set_index(KEY).loc["official", "softmax", "tau-normalised", 0]
    assert row["accuracy"] == pytest.approx((expected.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize(
    ("loss", "flags"),
    [
        ("softmax", ["--loss", "softmax"]),
        ("ldam-drw", ["--loss", "ldam", "--drw", "2"]),  # the last fifth of three epochs
        ("crt", ["--loss", "softmax", "--init", "{folder}/softmax-1", "--retrain-head"]),
    ],
)
def test_runs_are_those_of_train_with_its_flags(compared, digits_dir, tmp_path, loss, flags):
    folder, _ = compared
    words = arguments(digits_dir, tmp_path / "run")
    words = words[: words.index("--num-workers")]
    train_main([*words, "--seed", "1", *(flag.format(folder=folder) for flag in flags)])
    alone = RunFolder(tmp_path / "run")
    assert alone.result()["test_sets"] == RunFolder(folder / f"{loss}-1").result()["test_sets"]
    predictions, saved = Predictions.load(alone.path / "predictions.npz"), loaded(folder, loss, 1)
    assert np.array_equal(predictions.tests["official"][0], saved.tests["official"][0])
    assert np.array_equal(predictions.logit_log_prior, saved.logit_log_prior)


def test_printed_means_and_paired_differences_are_those_by_hand(compared, rows):
    folder, printed = compared
    scores = rows.set_index(KEY).sort_index()[SCORES] * 100
    for test_set in SIZES:
        softmax = scores.loc[test_set, "softmax", "as trained"].to_numpy()
        for loss, rule in ((loss, rule) for loss, rules in RULES.items() for rule in rules):
            values = scores.loc[test_set, loss, rule].to_numpy()
            named = loss if rule == "as trained" else f"{loss}, {rule}"
            lines = [([loss, rule], values)]
            lines += [([f"{named} - softmax"], values - softmax)] if named != "softmax" else []
            for name, expected in lines:
                cells = row_of(printed, "mnist", test_set, *name, "2")[-3:]
                means, half_widths = np.array([cell.split(" ± ") for cell in cells], float).T
                assert means == pytest.approx(expected.mean(axis=0), abs=0.0051)
                # Student's t at 97.5 % and one degree of freedom, times sd / sqrt(2) of two values
                by_hand = 12.706204736 * abs(expected[0] - expected[1]) / 2
                assert half_widths == pytest.approx(by_hand, abs=0.0051)
    for name in ("table.md", "differences.md"):
        assert (folder / name).read_text() in printed + "\n"
    # The majority class is 0: 300 of 372 in the window, 10 of 100 in the official set.
    majority = [row_of(printed, "mnist", t, "majority class")[5:] for t in SIZES]
    assert majority == [["80.65", "10.00", "0.00"], ["10.00", "10.00", "0.00"]]


def test_the_accuracies_of_classes_have_the_balanced_accuracy_as_mean(compared):
    key = ["test_set", "loss", "rule", "seed"]
    by_class = pd.read_csv(compared[0] / "per_class.csv").groupby(key)
    assert (by_class.size() == 10).all()
    expected = pd.read_csv(compared[0] / "results.csv").set_index(key)["balanced_accuracy"]
    assert by_class["accuracy"].mean().to_dict() == pytest.approx(expected.to_dict())


def test_figure_shows_the_mean_accuracy_of_each_class_and_the_span_of_seeds(
    monkeypatch, tmp_path, compared
):
    Image.open(compared[0] / "per_class.png").verify()
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, *_, **__: figures.append(figure))
    accuracies = {"a": [np.array([0.5, 1.0]), np.array([0.7, 0.8])], "b": [np.array([0.2, 0.3])]}
    plots.plot_per_class({"official": accuracies}, np.array([3000, 20]), tmp_path / "x.png")
    (panel,) = figures[0].axes
    first, second = panel.containers  # error bars: the markers, the caps, the bars
    assert first[0].get_ydata() == pytest.approx([60, 90])
    assert second[0].get_ydata() == pytest.approx([20, 30])
    bars = [segment[:, 1] for segment in first[2][0].get_segments()]
    assert np.concatenate(bars) == pytest.approx([50, 70, 80, 100])


def test_p_values_are_holms_of_one_baseline_on_one_test_set(compared, rows):
    _, printed = compared
    rows = rows.assign(
        loss=rows["loss"] + np.where(rows["rule"] == "as trained", "", ", " + rows["rule"])
    )
    scores = rows.set_index(["test_set", "loss", "seed"])["balanced_accuracy"].sort_index()
    for test_set, baseline in itertools.product(SIZES, TWO):
        by_loss = {name: values.to_numpy() for name, values in scores[test_set].groupby("loss")}
        base = by_loss.pop(baseline)
        tested = {k: v for k, v in by_loss.items() if not k.endswith("prior added")}
        values = {
            k: 1.0 if np.array_equal(v, base) else stats.ttest_rel(v, base).pvalue
            for k, v in tested.items()
        }
        for rank, name in enumerate(sorted(values, key=values.get)):
            smaller = sorted(values.values())[: rank + 1]
            expected = max(p * (len(values) - i) for i, p in enumerate(smaller))
            cell = row_of(printed, "mnist", test_set, f"{name} - {baseline}", "2")[4]
            assert float(cell) == pytest.approx(min(expected, 1), rel=1e-3)
        added = row_of(printed, "mnist", test_set, f"pc-softmax, prior added - {baseline}", "2")
        assert added[4] == ""


TWO = ["softmax", "pc-softmax"]


def test_resume_adds_a_seed_and_keeps_the_old_runs(copied, rows, digits_dir, trained):
    before = {path: path.read_bytes() for path in copied.glob("*-[01]/[!.]*")}
    main(arguments(digits_dir, copied, "--resume", losses=TWO, seeds=(0, 1, 2)))
    assert trained == ["softmax-2", "pc-softmax-2"]
    assert {path: path.read_bytes() for path in before} == before
    resumed = pd.read_csv(copied / "results.csv")
    pd.testing.assert_frame_equal(resumed[: len(rows)], rows)
    assert resumed["seed"].tolist()[len(rows) :] == [2] * 10
    assert " | 3 | " in (copied / "table.md").read_text()


def test_resume_reads_a_run_that_finished_without_its_row(copied, rows, digits_dir, trained):
    rows[rows["loss"] != "softmax"].to_csv(copied / "results.csv", index=False)
    main(arguments(digits_dir, copied, "--resume"))
    assert trained == []
    same_rows(pd.read_csv(copied / "results.csv"), rows)


def test_resume_after_the_folder_was_moved(copied, rows, digits_dir, trained):
    """The flags of cRT hold the folder of its first stage, which is another one now."""
    (copied / "crt-1/result.json").unlink()
    rows[rows["loss"] != "crt"].to_csv(copied / "results.csv", index=False)
    main(arguments(digits_dir, copied, "--resume"))
    assert trained == ["crt-1"]
    resumed = pd.read_csv(copied / "results.csv")
    same_rows(resumed.drop(columns="seconds"), rows.drop(columns="seconds"))


@pytest.mark.slow
def test_two_workers_give_the_rows_of_one(rows, digits_dir, tmp_path):
    main(arguments(digits_dir, tmp_path / "out", losses=TWO, seeds=(1,), workers=2))
    one = rows[rows["loss"].isin(TWO) & (rows["seed"] == 1)].drop(columns="seconds")
    same_rows(pd.read_csv(tmp_path / "out/results.csv").drop(columns="seconds"), one)


def test_one_loss_has_a_table_and_no_differences(copied, digits_dir, trained, capsys):
    (copied / "differences.md").unlink()
    main(arguments(digits_dir, copied, "--resume", losses=["pc-softmax"]))
    printed = capsys.readouterr().out
    assert trained == [] and "pc-softmax - softmax" not in printed
    assert row_of(printed, "mnist", "official", "pc-softmax", "as trained", "2")
    assert not (copied / "differences.md").exists()


@pytest.mark.parametrize("file", [".", "result.json", "predictions.npz", "checkpoint.pt"])
def test_a_run_that_lost_a_file_is_named(copied, digits_dir, user_error, file):
    run = copied / "softmax-1"
    shutil.rmtree(run) if file == "." else (run / file).unlink()
    assert str(run) in user_error(main, arguments(digits_dir, copied, "--resume"))


def test_a_folder_in_place_of_a_result_is_named(copied, digits_dir, user_error):
    (copied / "softmax-1/result.json").unlink()
    (copied / "softmax-1/result.json").mkdir()
    assert "softmax-1/result.json" in user_error(main, arguments(digits_dir, copied, "--resume"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--losses", "softmax", "hinge"], "'hinge'"),
        (["--losses", "pc-softmax", "crt"], "--losses crt: it starts from softmax's runs; add"),
        (["--label-smoothing", "0.1"], "--label-smoothing: not for the loss ldam; use one"),
        (["--network", "resnet7"], "network 'resnet7': use efficientnet_lite0"),
        (["--data-dir", "none"], "python -m scripts.download_data mnist --data-dir none"),
    ],
)
def test_wrong_input_is_one_line_and_leaves_nothing(digits_dir, tmp_path, user_error, words, said):
    assert said in user_error(main, [*arguments(digits_dir, tmp_path / "out"), *words])
    assert list(tmp_path.iterdir()) == []
