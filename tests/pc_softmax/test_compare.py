"""`pc_softmax.compare` end to end on generated digits: rows, resume, paired differences."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mi_common.records import RunFolder
from pc_softmax import comparison, plots
from pc_softmax.compare import main
from pc_softmax.train import main as train_main

COLUMNS = "dataset,test_set,loss,rule,seed,accuracy,balanced_accuracy,worst_class_accuracy"
COLUMNS += ",n_train,n_test,seconds"
KEY = ["dataset", "test_set", "loss", "rule", "seed"]
RULES = {
    "softmax": ["as trained", "prior subtracted", "tau-normalised"],
    "pc-softmax": ["as trained", "prior added"],
}
SCORES = ["accuracy", "balanced_accuracy", "worst_class_accuracy"]


def arguments(digits_dir, folder, *more, seeds=(0, 1), workers=0) -> list[str]:
    words = ["--data-dir", digits_dir, "--output-dir", folder, "--device", "cpu", "--epochs", 2]
    words += ["--lr", 0.03, "--batch-size", 16, "--num-workers", workers, "--seeds", *seeds]
    return [str(word) for word in [*words, *more]]


@pytest.fixture(scope="module")
def compared(digits_dir, tmp_path_factory):
    """The folder of both losses and two seeds, and what was printed; not to be written to."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
        main(arguments(digits_dir, folder))
    return folder, "\n".join(lines)


@pytest.fixture
def trained(monkeypatch) -> list[tuple[str, int]]:
    """The (loss, seed) pairs that are trained from here on."""
    calls = []
    original = comparison.train

    def recorded(settings, *rest):
        calls.append((settings.loss, settings.seed))
        return original(settings, *rest)

    monkeypatch.setattr(comparison, "train", recorded)
    return calls


def row_of(text: str, *cells: str) -> list[str]:
    """The cells of the one table line that starts with the given ones."""
    found = [line for line in text.splitlines() if line.startswith(f"| {' | '.join(cells)} |")]
    assert len(found) == 1, (cells, found)
    return [cell.strip() for cell in found[0].strip("|").split("|")]


def test_results_have_the_columns_and_a_row_a_test_set_loss_rule_and_seed(compared):
    folder, _ = compared
    assert (folder / "results.csv").read_text().splitlines()[0] == COLUMNS
    rows = pd.read_csv(folder / "results.csv")
    assert sorted(map(tuple, rows[KEY[1:]].to_numpy().tolist())) == sorted(
        (test, loss, rule, seed)
        for test in ("official", "paper-window")
        for loss, rules in RULES.items()
        for rule in rules
        for seed in (0, 1)
    )
    assert set(zip(rows["test_set"], rows["n_test"], rows["n_train"], strict=True)) == {
        ("paper-window", 372, 480),
        ("official", 100, 480),
    }
    for row in rows[rows["rule"] == "as trained"].itertuples():
        result = RunFolder(folder / f"{row.loss}-{row.seed}").result()
        own = result["test_sets"][row.test_set]
        scores = [getattr(row, score) for score in SCORES]
        assert scores == pytest.approx([own[score] for score in SCORES], rel=1e-12)
        assert row.seconds == pytest.approx(result["seconds"], rel=1e-12)


def test_a_row_is_what_train_alone_gives(compared, digits_dir, tmp_path):
    words = arguments(digits_dir, tmp_path / "run")
    words = words[: words.index("--num-workers")]
    train_main([*words, "--loss", "softmax", "--seed", "1"])
    alone = RunFolder(tmp_path / "run").result()["test_sets"]
    assert alone == RunFolder(compared[0] / "softmax-1").result()["test_sets"]


def test_printed_means_and_paired_differences_are_those_by_hand(compared):
    folder, printed = compared
    rows = pd.read_csv(folder / "results.csv").set_index(KEY[1:])
    for test in ("official", "paper-window"):
        softmax, pc, added = (
            100 * rows.loc[test].loc[loss].loc[rule].loc[[0, 1], SCORES].to_numpy()
            for loss, rule in [
                ("softmax", "as trained"),
                ("pc-softmax", "as trained"),
                ("pc-softmax", "prior added"),
            ]
        )
        for name, values in (
            (["pc-softmax", "as trained"], pc),
            (["pc-softmax", "prior added"], added),
            (["pc-softmax - softmax"], pc - softmax),
            (["pc-softmax, prior added - softmax"], added - softmax),
        ):
            cells = row_of(printed, "mnist", test, *name, "2")[-3:]
            shown = [cell.split(" ± ") for cell in cells]
            means, half_widths = np.array(shown, float).T
            assert means == pytest.approx(values.mean(axis=0), abs=0.0051)
            # Student's t at 97.5 % and one degree of freedom, times sd / sqrt(2) of two values
            by_hand = 12.706204736 * abs(values[0] - values[1]) / 2
            assert half_widths == pytest.approx(by_hand, abs=0.0051)
    assert np.abs(pc - softmax).max() > 0
    assert (folder / "table.md").read_text() in printed + "\n"
    assert (folder / "differences.md").read_text() in printed + "\n"


def test_majority_class_stands_beside_each_test_set(compared):
    _, printed = compared
    # The majority class is 0: 300 of 372 in the window, 10 of 100 in the official set.
    shown = [row_of(printed, "mnist", t, "majority class") for t in ("official", "paper-window")]
    assert [line[5:] for line in shown] == [["10.00", "10.00", "0.00"], ["80.65", "10.00", "0.00"]]


def test_figure_shows_the_mean_accuracy_of_each_class_and_the_span_of_seeds(monkeypatch, tmp_path):
    drawn = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: drawn.append(figure))
    accuracies = {"a": [np.array([0.5, 1.0]), np.array([0.7, 0.8])], "b": [np.array([0.2, 0.3])]}
    plots.plot_per_class({"official": accuracies}, np.array([3000, 20]), tmp_path / "x.png")
    (panel,) = drawn[0].axes
    first, second = panel.containers  # error bars: the markers, the caps, the whiskers
    assert first[0].get_ydata() == pytest.approx([60, 90])
    assert second[0].get_ydata() == pytest.approx([20, 30])
    whiskers = [segment[:, 1] for segment in first[2][0].get_segments()]
    assert np.concatenate(whiskers) == pytest.approx([50, 70, 80, 100])
    assert abs(first[0].get_xdata() - [0, 1]).max() < 0.5  # beside their class


def test_figure_is_a_readable_picture(compared):
    with Image.open(compared[0] / "per_class.png") as picture:
        assert np.asarray(picture).std() > 1


def test_resume_adds_a_seed_and_keeps_the_old_runs(compared, digits_dir, tmp_path, trained):
    folder = tmp_path / "out"
    shutil.copytree(compared[0], folder)
    before = {path: path.read_bytes() for path in folder.rglob("*-[01]/*")}
    assert len(before) == 4 * 7
    main(arguments(digits_dir, folder, "--resume", seeds=(0, 1, 2)))
    assert sorted(trained) == [("pc-softmax", 2), ("softmax", 2)]
    assert {path: path.read_bytes() for path in before} == before
    old, new = pd.read_csv(compared[0] / "results.csv"), pd.read_csv(folder / "results.csv")
    pd.testing.assert_frame_equal(new[: len(old)], old)
    assert new["seed"].tolist()[len(old) :] == [2] * 10
    assert " | 3 | " in (folder / "table.md").read_text()


def test_resume_takes_up_a_run_that_finished_without_its_row(
    compared, digits_dir, tmp_path, trained
):
    folder = tmp_path / "out"
    shutil.copytree(compared[0], folder)
    rows = pd.read_csv(folder / "results.csv")
    rows[rows["loss"] != "softmax"].to_csv(folder / "results.csv", index=False)
    main(arguments(digits_dir, folder, "--resume"))
    assert trained == []
    again = pd.read_csv(folder / "results.csv")
    pd.testing.assert_frame_equal(
        again.sort_values(KEY, ignore_index=True), rows.sort_values(KEY, ignore_index=True)
    )


@pytest.mark.slow
def test_two_workers_give_the_rows_of_one(compared, digits_dir, tmp_path):
    main(arguments(digits_dir, tmp_path / "out", seeds=(1,), workers=2))
    one = pd.read_csv(compared[0] / "results.csv").query("seed == 1").drop(columns="seconds")
    two = pd.read_csv(tmp_path / "out/results.csv").drop(columns="seconds")
    pd.testing.assert_frame_equal(
        two.sort_values(KEY, ignore_index=True), one.sort_values(KEY, ignore_index=True)
    )


def test_one_loss_has_a_table_and_no_differences(compared, digits_dir, tmp_path, trained, capsys):
    folder = tmp_path / "out"
    shutil.copytree(compared[0], folder)
    (folder / "differences.md").unlink()
    main(arguments(digits_dir, folder, "--resume", "--losses", "pc-softmax"))
    printed = capsys.readouterr().out
    assert trained == []
    assert "pc-softmax - softmax" not in printed
    assert row_of(printed, "mnist", "official", "pc-softmax", "as trained", "2")
    assert not (folder / "differences.md").exists()


def test_a_run_folder_that_is_gone_is_named_in_one_line(compared, digits_dir, tmp_path, user_error):
    folder = tmp_path / "out"
    shutil.copytree(compared[0], folder)
    shutil.rmtree(folder / "softmax-1")
    assert "softmax-1" in user_error(main, arguments(digits_dir, folder, "--resume"))


def test_wrong_input_is_one_line_and_leaves_nothing(digits_dir, tmp_path, compared, user_error):
    folder = tmp_path / "out"
    line = user_error(main, arguments(tmp_path / "none", folder))
    assert "python -m scripts.download_data mnist --data-dir" in line
    wrong = (
        (["--losses", "softmax", "hinge"], "'hinge'"),
        (["--losses", "pc-softmax", "crt"], "--losses crt: it starts from softmax's runs; add"),
        (["--label-smoothing", "0.1"], "--label-smoothing: not for the loss pc-softmax"),
        (["--network", "resnet7"], "network 'resnet7': use efficientnet_lite0, timm:NAME or"),
    )
    for words, said in wrong:
        assert said in user_error(main, arguments(digits_dir, folder, *words))
    assert list(tmp_path.iterdir()) == []
    line = user_error(main, arguments(digits_dir, compared[0]))
    assert f"{compared[0]} exists" in line
