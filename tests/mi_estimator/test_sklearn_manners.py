"""Estimators as scikit-learn classifiers: its checks, labels, tables, probabilities, searches."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.sparse import csr_array
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, StratifiedKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder
from sklearn.utils.estimator_checks import check_estimator

from mi_common.errors import UserError
from mi_common.runtime import Runtime
from mi_estimator import estimate_mutual_information
from mi_estimator.estimators import ClassifierMI, CriticMI, NeighbourMI, SklearnMI, StackedMI
from mi_estimator.estimators.base import far_origin
from mi_estimator.estimators.registry import Settings

CPU = Runtime(torch.device("cpu"))
QUICK = {"runtime": CPU, "members": 1, "epochs": 1, "batch_size": 10, "hidden": (16,), "lr": 0.1}
CLASSIFIERS = {
    "pc-softmax": ClassifierMI(**QUICK),
    "mine": CriticMI("mine", **QUICK),
    "lda": SklearnMI("lda"),
    "nearest-neighbours": SklearnMI("nearest-neighbours", val_fraction=0.15),
    "auto": StackedMI(runtime=CPU, settings=Settings(candidates=("lda", "logistic-regression"))),
}
# Checks of scikit-learn that an estimator fails, with the reason.
EXPECTED_FAILURES = {
    "ross": {
        "check_n_features_in_after_fitting": "`fit` learns nothing, so `score` takes any features",
    },
}
RNG = np.random.default_rng(0)
CODES = np.arange(60) % 3
X = RNG.normal(size=(60, 2)) + CODES[:, None]


@pytest.fixture(autouse=True)
def no_selection_of_features(monkeypatch):
    """It takes a second, and all features here are informative."""
    path = "mi_estimator.estimators.stack.informative_features"
    monkeypatch.setattr(path, lambda x, y, seed: torch.arange(x.shape[1]))


@pytest.mark.parametrize("name", [*CLASSIFIERS, "ross"])
def test_scikit_learns_own_checks_pass_but_for_those_listed(name):
    estimator = CLASSIFIERS.get(name, NeighbourMI())
    expected = EXPECTED_FAILURES.get(name, {})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results = check_estimator(estimator, expected_failed_checks=expected, on_skip=None)
    failed = {result["check_name"] for result in results if result["status"] == "xfail"}
    assert failed == set(expected)
    assert sum(result["status"] == "passed" for result in results) > 30


@pytest.mark.parametrize("name", CLASSIFIERS)
@pytest.mark.parametrize(
    "classes",
    [
        ["ant", "bee", "cat"],
        [-5, 0, 700],
        [1.0, 2.0, 4.0],
        pd.array([7, 8, 9], dtype="Int64"),
        pd.array(["a", "b", "c"], dtype="string"),
        pd.Categorical(["a", "b", "c"]),
    ],
    ids=["text", "integers", "whole floats", "Int64", "string", "category"],
)
def test_labels_of_every_kind_are_classes_in_sorted_order(name, classes):
    names = np.asarray(list(classes))
    labels = pd.Series(classes).iloc[CODES]
    reference, fitted = (clone(CLASSIFIERS[name]).fit(X, y) for y in (CODES, labels))
    assert fitted.classes_.tolist() == names.tolist()
    assert fitted.n_features_in_ == 2
    predicted = fitted.predict(X)
    assert predicted.tolist() == names[reference.predict(X)].tolist()
    assert predicted.dtype == fitted.classes_.dtype
    expected = reference.estimate(X, CODES)
    for y in (labels, labels.tolist(), labels.to_numpy()):
        assert torch.equal(fitted.estimate(X, y).pointwise, expected.pointwise)
    with pytest.raises(UserError, match="label zebra: not among the classes"):
        fitted.estimate(X, ["zebra"] * 60)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["a", None] * 30, r"label of sample 1 \(from 0\) is missing"),
        (pd.Series([1, pd.NA] * 30, dtype="Int64"), r"label of sample 1 \(from 0\) is missing"),
        ([0.5, 1.5] * 30, "Unknown label type: continuous; use text or whole numbers"),
        (["a"] * 60, "labels of 1 class, a: at least two"),
        (np.array(["a", 1] * 30, dtype=object), "labels: "),
        (X, r"labels: .*\(60, 2\)"),
        (pd.Series([True, False] * 30), None),
    ],
)
def test_labels_that_name_no_classes_are_user_errors(labels, message):
    lda = SklearnMI("lda")
    if message is None:
        assert lda.fit(X, labels).classes_.tolist() == [False, True]
        return
    with pytest.raises(UserError, match=message):
        lda.fit(X, labels)


def test_classes_without_test_samples_and_given_numbers_of_classes():
    """The benchmark says how many classes there are; a test set need not have them all."""
    lda = SklearnMI("lda").fit(X, CODES, num_classes=3)
    assert lda.classes_.tolist() == [0, 1, 2]
    some = CODES < 2
    expected = lda.estimate(X, CODES).pointwise[torch.from_numpy(some)]
    assert torch.equal(lda.estimate(X[some], CODES[some]).pointwise, expected)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities_are_those_of_the_log_ratio_and_the_training_prior(name):
    labels = np.array(["few", "many"])[(np.arange(60) % 4 > 0).astype(int)]
    fitted = clone(CLASSIFIERS[name]).fit(X, labels)
    log_ratio = fitted.log_ratio(torch.from_numpy(X)).double().numpy()
    log_proba, proba = fitted.predict_log_proba(X), fitted.predict_proba(X)
    np.testing.assert_allclose(log_proba, log_ratio + np.log([0.25, 0.75]), atol=1e-6)
    np.testing.assert_allclose(proba.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(proba, np.exp(log_proba))
    assert (fitted.predict(X) == fitted.classes_[proba.argmax(axis=1)]).all()
    assert fitted.score(X, labels) == fitted.estimate(X, labels).value
    if fitted.is_cross_entropy:  # H(Y) minus the log-loss
        prior = np.where(labels == "few", 0.25, 0.75)
        of_label = log_proba[np.arange(60), (labels == "many").astype(int)]
        assert fitted.score(X, labels) == pytest.approx((of_label - np.log(prior)).mean(), abs=1e-6)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_before_fit_and_on_sparse_or_other_features(name):
    estimator = clone(CLASSIFIERS[name])
    for method in ("estimate", "score", "predict", "predict_proba", "predict_log_proba"):
        with pytest.raises(NotFittedError, match=r"not fitted yet. Call 'fit'"):
            getattr(estimator, method)(*[X, CODES][: 2 if method in ("estimate", "score") else 1])
    with pytest.raises(TypeError, match=r"Sparse .*toarray"):
        estimator.fit(csr_array(X), CODES)
    with pytest.raises(TypeError, match=r"sparse tensors .*to_dense"):
        estimator.fit(torch.from_numpy(X).to_sparse(), CODES)
    table = pd.DataFrame(X, columns=["a", "b"])
    estimator.fit(table, CODES)
    assert estimator.feature_names_in_.tolist() == ["a", "b"]
    assert estimator.predict(table.iloc[:1]).shape == (1,)
    for wrong, message in (
        (table[["b", "a"]], "must be in the same order"),
        (table.rename(columns={"b": "c"}), "feature names should match"),
        (table[["a"]], "feature names should match"),
        (X[:, :1], "1 features, but .* expecting 2 features"),
        (X * np.inf, "NaN or infinity"),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.predict(wrong)
    with pytest.raises(UserError, match=r"could not convert .*'red'; encode text"):
        estimator.fit(table.assign(b="red"), CODES)


def test_cross_validation_and_searches_go_by_nats():
    folds = StratifiedKFold(3)
    lda = SklearnMI("lda")
    expected = [
        lda.fit(X[train], CODES[train]).estimate(X[test], CODES[test]).value
        for train, test in folds.split(X, CODES)
    ]
    assert cross_val_score(lda, X, CODES, cv=folds).tolist() == expected
    options = [{"lr": [1e-6, 0.1]}, {"objective": ["softmax"], "members": [2]}]
    search = GridSearchCV(ClassifierMI(**QUICK), options, cv=folds).fit(X, CODES)
    values = [
        cross_val_score(clone(search.estimator).set_params(**setting), X, CODES, cv=folds).mean()
        for setting in search.cv_results_["params"]
    ]
    assert search.cv_results_["mean_test_score"] == pytest.approx(values, abs=1e-12)
    assert search.best_score_ == pytest.approx(max(values)) and max(values) > values[0] + 0.1
    assert search.predict(X).shape == (60,)
    useless = Settings(candidates=("lda",), val_fraction=0.5)
    options = {"settings": [useless, Settings(candidates=("lda", "logistic-regression"))]}
    search = GridSearchCV(StackedMI(), options, cv=folds).fit(X, CODES)
    assert list(search.best_estimator_.weights_) == [
        "lda",
        "logistic-regression",
        "label-frequencies",
    ]


def test_a_pipeline_encodes_text_and_scores_in_nats():
    table = pd.DataFrame(X, columns=["a", "b"]).assign(colour=np.array(["red", "blue"])[CODES % 2])
    encode = make_column_transformer(
        (OneHotEncoder(drop="if_binary"), ["colour"]), remainder="passthrough", sparse_threshold=0
    )
    encoded = np.column_stack([(table["colour"] == "red").astype(float), X])
    for classifier in CLASSIFIERS.values():
        pipeline = make_pipeline(encode, clone(classifier)).fit(table, CODES)
        expected = clone(classifier).fit(encoded, CODES).score(encoded, CODES)
        assert pipeline.score(table, CODES) == expected


def test_one_call_takes_tables_with_text_and_nullable_columns_and_warns_of_row_numbers():
    table = pd.DataFrame(
        {
            "colour": pd.Categorical(np.array(["red", "blue"])[CODES % 2]),
            "count": pd.array(RNG.integers(5, size=60), dtype="Int64"),
            "a": X[:, 0],
        }
    )
    labels = pd.Series(np.array(["ant", "bee", "cat"])[CODES])
    options = {"estimator": "lda", "folds": 3, "val_fraction": 0}
    encoded = np.column_stack([table["colour"] == "red", table["count"], table["a"]]).astype(float)
    expected = estimate_mutual_information(encoded, CODES, **options)
    estimate = estimate_mutual_information(table, labels, **options)
    assert estimate.value == pytest.approx(expected.value, abs=1e-5) and estimate.value > 0.05
    one_column = estimate_mutual_information(table, labels.to_frame(), **options)
    assert one_column.value == estimate.value
    with pytest.raises(UserError, match=r"^x and y have their index in another order"):
        estimate_mutual_information(table, labels[::-1], **options)
    with pytest.warns(UserWarning, match="row_id"):
        estimate_mutual_information(table.assign(row_id=range(60)), labels, **options)


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_small_difference_far_from_zero_is_not_lost_in_float32(name, integers):
    """1e10 + x: float32 has steps of 1,024 there."""
    x = np.round(100 * X)
    options = {"epochs": 20} if name in ("pc-softmax", "mine") else {}
    estimator = clone(CLASSIFIERS[name]).set_params(**options)
    expected = estimator.fit(x, CODES).score(x, CODES)
    assert expected > 0.3
    far = 10**10 + (x.astype(int) if integers else x)
    for kind in (np.asarray, torch.as_tensor):
        score = estimator.fit(kind(far), CODES).score(kind(far), CODES)
        assert score == pytest.approx(expected, abs=0.02)


def test_outliers_do_not_hide_that_a_feature_lies_far_from_zero():
    x = torch.full((100, 5), 101_325.0, dtype=torch.float64)
    x += torch.arange(100.0)[:, None] / 1000
    x[:3, 1] = 0  # a code for missing values
    x[:, 2] -= 101_325  # not far
    x[:90, 3] = 101_325  # most samples share one value
    x[3:, 4] = 101_325
    x[:3, 4] = 0  # two values, which float32 represents
    expected = [101_325.0495, 101_325.0495, 0, 101_325, 0]
    assert far_origin(x).tolist() == pytest.approx(expected, abs=1e-3)
    assert far_origin(x.float()) is None and far_origin(x[:, [2, 4]]) is None


def test_images_as_arrays_or_tensors_have_texts_as_labels_and_no_vectors_as_features():
    images = (
        RNG.integers(100, size=(60, 1, 8, 8)).astype(np.uint8) + (80 * CODES)[:, None, None, None]
    )
    images, names = images.astype(np.uint8), np.array(["ant", "bee", "cat"])
    fitted = ClassifierMI(**QUICK | {"epochs": 5, "lr": 0.01}).fit(images, names[CODES])
    assert (fitted.predict(images) == names[CODES]).mean() > 0.9
    assert fitted.score(torch.from_numpy(images), names[CODES]) == fitted.score(
        images, names[CODES]
    )
    assert fitted.predict_proba(images[:1]).shape == (1, 3)
    for estimator, shape in (
        (SklearnMI("lda"), (60, 1, 8, 8)),
        (ClassifierMI(**QUICK), (60, 8, 8)),
    ):
        with pytest.raises(UserError, match=r"features of shape \(60, .*8\): they must be"):
            estimator.fit(np.zeros(shape), CODES)
