"""`pc_softmax.compare` with two-stage losses and rules after training, end to end."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from mi_common.information import log_posterior
from mi_common.records import RunFolder
from pc_softmax import comparison
from pc_softmax.compare import main
from pc_softmax.comparison import by_rule, train_flags
from pc_softmax.data import load_data
from pc_softmax.losses import build_loss, logit_log_prior
from pc_softmax.metrics import classification_scores
from pc_softmax.names import LOSSES
from pc_softmax.networks import PaperNet
from pc_softmax.predictions import Predictions
from pc_softmax.train import main as train_main

ALL = ["softmax", "pc-softmax", "ldam-drw", "crt"]
RULES = {
    "softmax": ["as trained", "prior subtracted", "tau-normalised"],
    "pc-softmax": ["as trained", "prior added"],
    "ldam-drw": ["as trained", "prior subtracted"],
    "crt": ["as trained", "prior added"],
}
TESTS = ["paper-window", "official"]
SCORES = ["accuracy", "balanced_accuracy", "worst_class_accuracy"]


def arguments(digits_dir, folder, *more, losses=ALL) -> list[str]:
    words = ["--data-dir", digits_dir, "--output-dir", folder, "--device", "cpu", "--epochs", 3]
    words += ["--lr", 0.03, "--batch-size", 16, "--num-workers", 0, "--seeds", 0, 1]
    return [str(word) for word in [*words, "--losses", *losses, *more]]


@pytest.fixture(scope="module")
def compared(digits_dir, tmp_path_factory):
    """The folder of a comparison of two losses to which two more were added, and what was trained.

    Not to be written to.
    """
    folder, trained = tmp_path_factory.mktemp("losses") / "out", []
    with pytest.MonkeyPatch.context() as patch:
        original = comparison.train

        def recorded(settings, data, classifier, run):
            trained.append(run.path.name)
            return original(settings, data, classifier, run)

        patch.setattr(comparison, "train", recorded)
        main(arguments(digits_dir, folder, losses=["softmax", "pc-softmax"]))
        trained.append("resumed")
        # cRT is named first, and still trained after what it starts from.
        main(arguments(digits_dir, folder, "--resume", losses=["crt", *ALL[:3]]))
    return folder, trained


@pytest.fixture(scope="module")
def rows(compared) -> pd.DataFrame:
    return pd.read_csv(compared[0] / "results.csv")


def loaded(folder, loss: str, seed: int = 0) -> Predictions:
    return Predictions.load(folder / f"{loss}-{seed}/predictions.npz")


def test_added_losses_are_trained_and_the_others_kept(compared):
    folder, trained = compared
    first = ["softmax-0", "softmax-1", "pc-softmax-0", "pc-softmax-1"]
    assert trained == [*first, "resumed", "ldam-drw-0", "ldam-drw-1", "crt-0", "crt-1"]
    assert all(RunFolder(folder / name).finished for name in trained if name != "resumed")


def test_there_is_a_row_for_every_test_set_loss_rule_and_seed(rows):
    key = ["test_set", "loss", "rule", "seed"]
    assert sorted(map(tuple, rows[key].to_numpy().tolist())) == sorted(
        (test, loss, rule, seed)
        for test in TESTS
        for loss, rules in RULES.items()
        for rule in rules
        for seed in (0, 1)
    )


def test_rows_are_the_scores_of_the_saved_logits_under_each_rule(compared, rows):
    for (loss, seed), own in rows.groupby(["loss", "seed"]):
        saved = loaded(compared[0], loss, seed)
        for row in own.itertuples():
            logits, labels = saved.tests[row.test_set]
            changed = {
                "as trained": logits,
                "prior subtracted": logits - saved.logit_log_prior,
                "prior added": logits + saved.log_prior,
                "tau-normalised": None,
            }[row.rule]
            if changed is not None:
                wanted = classification_scores(changed, labels)
                assert [getattr(row, score) for score in SCORES] == pytest.approx(
                    list(wanted.values())
                )


def test_tau_normalised_is_a_network_whose_head_was_normalised(compared, rows, digits_dir):
    folder, _ = compared
    network = PaperNet().eval()
    network.load_state_dict(RunFolder(folder / "softmax-0").load_checkpoint()["model"])
    head = network.head
    with torch.no_grad():
        head.weight /= head.weight.norm(dim=1, keepdim=True)
        head.bias.zero_()
        images = load_data("mnist", digits_dir, imbalance="paper").tests["official"].images
        wanted = network((images / 255 - 0.1307) / 0.3081).numpy()
    saved = loaded(folder, "softmax")
    logits, labels = saved.tests["official"]
    found = by_rule(saved, logits, "softmax")["tau-normalised"]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
    row = rows.query("loss == 'softmax' and rule == 'tau-normalised' and seed == 0")
    row = row.set_index("test_set").loc["official"]
    assert row["accuracy"] == pytest.approx((wanted.argmax(axis=1) == labels).mean())


@pytest.mark.parametrize("name", LOSSES)
def test_the_prior_is_subtracted_where_logits_hold_one_and_else_added(name):
    counts = torch.tensor([7000, 901, 33, 5, 1])
    log_prior = logit_log_prior(build_loss(name, counts), counts).numpy().astype(float)
    training = np.log(counts.numpy() / counts.sum().item())
    logits = np.random.default_rng(0).normal(size=(20, 5))
    parts = {"tests": {}, "validation": None, "head": (np.ones(5), np.zeros(5))}
    saved = Predictions(training, counts.numpy(), log_prior, list("abcde"), **parts)
    rules = by_rule(saved, logits, name)
    if name in ("weighted", "pc-softmax", "logit-adjusted"):
        np.testing.assert_allclose(rules["prior added"], logits + training)
    else:
        posterior = log_posterior(
            torch.from_numpy(rules["prior subtracted"]), torch.from_numpy(log_prior)
        )
        np.testing.assert_allclose(posterior.exp().sum(dim=1), 1)
        wanted = torch.from_numpy(logits).log_softmax(dim=1)  # added again, it is where it was
        np.testing.assert_allclose(posterior, wanted, atol=1e-6)
    assert len(rules) == (3 if name == "softmax" else 2)


def test_rounding_of_class_weights_is_no_prior():
    generator = torch.Generator().manual_seed(321)
    counts = torch.randint(1, 20_000, (200,), generator=generator)
    log_prior = logit_log_prior(build_loss("weighted", counts), counts).numpy()
    assert np.ptp(log_prior) > 1e-6  # in float32, equal but for the last digits
    training = np.log(counts.numpy() / counts.sum().item())
    names, parts = [""] * 200, {"tests": {}, "validation": None}
    saved = Predictions(training, counts.numpy(), log_prior, names, **parts)
    assert list(by_rule(saved, np.zeros((1, 200)), "weighted")) == ["as trained", "prior added"]


def test_two_stage_runs_are_those_of_train_with_its_flags(compared, digits_dir, tmp_path):
    folder, _ = compared
    words = arguments(digits_dir, tmp_path / "run")
    words = words[: words.index("--seeds")]
    cases = {
        "ldam-drw": ["--loss", "ldam", "--drw", "2"],  # the last fifth of three epochs: the third
        "crt": ["--loss", "softmax", "--init", str(folder / "softmax-1"), "--retrain-head"],
    }
    for loss, flags in cases.items():
        train_main([*words, "--seed", "1", "--overwrite", *flags])
        alone, saved = RunFolder(tmp_path / "run"), loaded(folder, loss, 1)
        assert alone.result()["test_sets"] == RunFolder(folder / f"{loss}-1").result()["test_sets"]
        own = Predictions.load(alone.path / "predictions.npz")
        assert np.array_equal(own.tests["official"][0], saved.tests["official"][0])
        assert np.array_equal(own.logit_log_prior, saved.logit_log_prior)


@pytest.mark.parametrize(
    ("epochs", "start"), [(1, 0), (2, 1), (4, 3), (5, 4), (8, 6), (30, 24), (45, 36)]
)
def test_class_weights_of_ldam_drw_work_in_the_last_fifth_and_always_in_one_epoch(
    compared, tmp_path, epochs, start
):
    flags = json.loads((compared[0] / "config.json").read_text())["flags"]
    flags = train_flags(flags | {"epochs": epochs}, "ldam-drw", 0, tmp_path)
    assert flags["drw"] == start < epochs


def test_differences_are_those_of_each_loss_and_rule_to_softmax(compared, rows):
    text = (compared[0] / "differences.md").read_text()
    scores = rows.set_index(["test_set", "loss", "rule", "seed"]).sort_index()[SCORES] * 100
    shown = 0
    for test in TESTS:
        base = scores.loc[test, "softmax", "as trained"].to_numpy()
        for loss, rules in RULES.items():
            for rule in rules:
                name = loss if rule == "as trained" else f"{loss}, {rule}"
                if name == "softmax":
                    continue
                means = (scores.loc[test, loss, rule].to_numpy() - base).mean(axis=0)
                (line,) = [s for s in text.splitlines() if f"| {test} | {name} - softmax |" in s]
                cells = [cell.split(" ± ")[0] for cell in line.strip("| ").split(" | ")[-3:]]
                assert [float(cell) for cell in cells] == pytest.approx(means, abs=0.0051)
                shown += 1
    assert shown == len(text.splitlines()) - 2 == 16
    table = (compared[0] / "table.md").read_text()
    assert all(table.count(f"| {loss} |") == 2 * len(rules) for loss, rules in RULES.items())


def test_a_moved_comparison_goes_on(compared, digits_dir, tmp_path, rows):
    """The folder of cRT's first stage stands in its flags; it may have changed since."""
    folder = tmp_path / "moved"
    shutil.copytree(compared[0], folder)
    (folder / "crt-1/result.json").unlink()
    rows[rows["loss"] != "crt"].to_csv(folder / "results.csv", index=False)
    main(arguments(digits_dir, folder, "--resume"))
    again = pd.read_csv(folder / "results.csv")
    columns = ["loss", "rule", "seed", *SCORES]
    wanted, found = (r.query("loss == 'crt'")[columns].to_numpy().tolist() for r in (rows, again))
    assert found == wanted
