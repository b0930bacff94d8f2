"""Critics and neighbours on a file, and the command's numbers from a call on arrays."""

import numpy as np
import pandas as pd
import pytest
import torch

from mi_common.errors import UserError
from mi_common.runtime import Runtime
from mi_estimator.estimate import get_parser, main
from mi_estimator.estimators.critics import BOUNDS, CriticMI
from mi_estimator.estimators.crossfit import cross_fit, estimate_mutual_information
from mi_estimator.estimators.neighbours import NeighbourMI
from mi_estimator.estimators.registry import CROSS_FITTED, NEIGHBOUR_METHODS, Settings
from mi_estimator.samples import read_samples

CPU = Runtime(torch.device("cpu"))
TINY = {"epochs": 3, "batch_size": 20, "lr": 0.01, "members": 2}
TINY_FLAGS = ["--epochs", 3, "--batch-size", 20, "--lr", 0.01, "--members", 2]
EVERYWHERE = {"config.json", "estimate.json", "table.md", "table.tex", "pmi.csv", "classes.csv"}
EVERYWHERE |= {"pmi_by_class.png"}


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_critic_writes_what_a_classifier_writes(bound, estimated, wine):
    run = estimated("--estimator", bound, *TINY_FLAGS, "--folds", 3, "--permutations", 19)
    names = {path.name for path in run.folder.iterdir()} - {".lock", ".written"}
    assert names == EVERYWHERE | {"calibration.png"}
    result, pmi, classes = run.result, run.pmi, run.classes.set_index("class")
    assert list(pmi.columns) == ["sample", "label", "predicted", "fold", "pmi_nats"]
    assert pmi["label"].tolist() == pd.read_csv(wine)["cultivar"].tolist()
    assert set(pmi["fold"]) == {0, 1, 2}
    value = pmi["pmi_nats"].mean()
    assert result["mutual_information"] == pytest.approx(value, abs=1e-12)
    assert classes["contribution"].sum() == pytest.approx(value, abs=1e-12)
    assert result["lower"] < value < result["upper"]
    hit = pmi["label"] == pmi["predicted"]
    assert result["accuracy"] == pytest.approx(hit.mean()) and hit.mean() > 0.9
    for name, own in hit.groupby(pmi["label"]):
        assert classes.loc[name, "accuracy"] == pytest.approx(own.mean())
    assert result["p_value"] == 1 / 20
    assert (
        result["training_value"] > 0.5
        and "out-of-fold accuracy" in (run.folder / "table.md").read_text()
    )


@pytest.mark.parametrize("bound", BOUNDS)
def test_cross_fitting_keeps_the_terms_of_a_critics_own_bound(bound, wine):
    samples, made = read_samples(wine, "cultivar"), []

    def build(seed: int) -> CriticMI:
        made.append(CriticMI(bound, runtime=CPU, seed=seed, val_fraction=0.2, **TINY))
        return made[-1]

    x, y = samples.x, samples.y
    found = cross_fit(build, x, y, folds=3, seed=4)
    training = []
    for fold, critic in enumerate(made):
        own = found.folds == fold
        assert critic.seed == 4 + fold
        assert torch.equal(critic.terms(x[own], y[own]).double(), found.pointwise[own])
        training.append(critic.terms(x[~own], y[~own]).mean().item())
    assert found.training_value == pytest.approx(np.mean(training))
    means = (found.log_ratio + found.log_prior).exp().sum(dim=1)
    assert means.tolist() == pytest.approx([1] * 178)


@pytest.mark.parametrize("method", NEIGHBOUR_METHODS)
def test_neighbours_write_what_they_know(method, estimated, wine):
    run = estimated("--estimator", method, "--permutations", 19)
    names = {path.name for path in run.folder.iterdir()} - {".lock", ".written"}
    assert names == EVERYWHERE
    assert list(run.pmi.columns) == ["sample", "label", "pmi_nats"]
    assert list(run.classes.columns) == ["class", "samples", "mean_pmi", "contribution"]
    samples = read_samples(wine, "cultivar")
    expected = NeighbourMI(method, seed=0).estimate(samples.x, samples.y)
    assert run.pmi["pmi_nats"].tolist() == expected.pointwise.tolist()
    result = run.result
    for name, value in (("mutual_information", expected.value), ("lower", expected.lower)):
        assert result[name] == pytest.approx(value, abs=1e-12)
    assert result["accuracy"] is None and result["training_value"] is None
    assert result["majority_accuracy"] == pytest.approx(71 / 178)
    assert result["p_value"] == 1 / 20
    table = (run.folder / "table.md").read_text()
    assert "accuracy" not in table and "on training samples" not in table
    assert "| majority class | 39.89 % |" in table
    assert run.classes["contribution"].sum() == pytest.approx(expected.value, abs=1e-12)
    assert run.classes["samples"].tolist() == [48, 59, 71]
    other = estimated("--estimator", method, "--folds", 60)  # has no folds to fill
    assert other.pmi.equals(run.pmi) and other.result["p_value"] is None


def test_the_seed_breaks_the_ties_of_neighbours(estimated, wine, tmp_path):
    path = tmp_path / "rounded.csv"
    table = pd.read_csv(wine)[["alcohol", "cultivar"]].round(1)
    table.to_csv(path, index=False)
    samples = read_samples(path, "cultivar")
    values = []
    for seed in (0, 1):
        flags = ["--estimator", "ross", "--seed", seed]
        found = estimated(*flags, source=(path, "--label", "cultivar"))
        expected = NeighbourMI("ross", seed=seed).estimate(samples.x, samples.y)
        assert found.pmi["pmi_nats"].tolist() == expected.pointwise.tolist()
        values.append(expected.value)
    assert values[0] != values[1]


@pytest.mark.parametrize("name", [*BOUNDS, *NEIGHBOUR_METHODS])
@pytest.mark.parametrize("flags", [["--entropy", "miller-madow"], ["--known-prior", 0.2, 0.3, 0.5]])
def test_h_of_y_cannot_be_given_to_an_estimate_that_does_not_hold_it(
    name, flags, wine, tmp_path, user_error
):
    given = [wine, "--label", "cultivar", "--estimator", name, "--output-dir", tmp_path / "out"]
    line = user_error(main, [*given, "--device", "cpu", *flags])
    assert line == (
        f"error: --estimator {name}: it has no term H(Y); leave out --entropy, --known-prior"
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "flags", "options"),
    [
        ("lda", [], {}),
        ("pc-softmax", TINY_FLAGS, TINY),
        ("softmax", [*TINY_FLAGS, "--val-fraction", 0.3], TINY | {"val_fraction": 0.3}),
        ("mine", [*TINY_FLAGS, "--weight-decay", 0.1], TINY | {"weight_decay": 0.1}),
    ],
)
def test_a_call_on_arrays_gives_the_commands_number(name, flags, options, estimated, wine):
    run = estimated("--estimator", name, "--seed", 5, "--folds", 4, *flags)
    table = pd.read_csv(wine)
    x, y = table.drop(columns="cultivar").to_numpy(), table["cultivar"].to_numpy()
    assert x.dtype == np.float64 and isinstance(y[0], str)
    options = {"estimator": name, "seed": 5, "folds": 4, **options}
    found = estimate_mutual_information(x, y, runtime=CPU, **options)
    assert run.result["mutual_information"] == found.value
    assert (run.result["lower"], run.result["upper"]) == (found.lower, found.upper)
    assert run.pmi["pmi_nats"].tolist() == found.pointwise.tolist()
    # Whatever else names the same classes, in the same order.
    codes = np.unique(y, return_inverse=True)[1]
    for same_x, same_y in (
        (torch.from_numpy(x), torch.from_numpy(codes)),
        (x.astype(np.float32), 0.5 * codes - 3),
        (x.tolist(), list(y)),
    ):
        again = estimate_mutual_information(same_x, same_y, runtime=CPU, **options)
        assert again.value == found.value


def test_the_call_and_the_command_have_the_same_defaults():
    args = vars(get_parser().parse_args([]))
    flags = {name: args[name] for name in vars(Settings()) if name in args}
    assert Settings(**flags) == Settings() and len(flags) == len(vars(Settings())) - 2
    call = estimate_mutual_information.__kwdefaults__
    assert all(args[name] == call[name] for name in ("estimator", "folds", "seed"))


@pytest.mark.parametrize("name", ["ross", "oracle", "softmax-log-k", "forest"])
def test_a_call_for_what_cannot_be_cross_fitted_names_what_can(name):
    x, y = np.zeros((6, 1)), np.array(["a", "b"] * 3)
    with pytest.raises(UserError, match=rf"estimator '{name}': use one of auto, .*smile"):
        estimate_mutual_information(x, y, estimator=name)
    assert name not in CROSS_FITTED


def test_a_call_on_samples_that_cannot_be_used_is_a_user_error():
    x = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(UserError, match="x has 20 samples but y has 19"):
        estimate_mutual_information(x, ["a", "b"] * 9 + ["a"])
    with pytest.raises(UserError, match=r"fewer samples than --folds 5: 1 \(4\)"):
        estimate_mutual_information(x, ["a"] * 16 + ["b"] * 4)
    with pytest.raises(UserError, match="columns 0, 1 hold no value"):
        estimate_mutual_information(x * np.nan, ["a", "b"] * 10)
    with pytest.raises(UserError, match=r"row 3 .*: no label"):
        estimate_mutual_information(x, ["a", "b", "a", None] * 5)
    with pytest.raises(UserError, match="two classes"):
        estimate_mutual_information(x, ["a"] * 20)
    with pytest.raises(UserError, match="--folds 1: at least 2"):
        estimate_mutual_information(x, ["a", "b"] * 10, folds=1)
    with pytest.raises(UserError, match="missing 'mean': use drop or indicator"):
        estimate_mutual_information(x, ["a", "b"] * 10, missing="mean")
