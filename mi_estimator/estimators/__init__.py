"""Estimators of mutual information with one interface: `.fit(x, y)`, then `.estimate(x, y)`."""


def __getattr__(name: str):
    """`ClassifierMI` and `MIEstimate`, imported at their first use: PyTorch takes a second."""
    if name == "ClassifierMI":
        from mi_estimator.estimators.classifier import ClassifierMI

        return ClassifierMI
    if name == "MIEstimate":
        from mi_estimator.estimators.base import MIEstimate

        return MIEstimate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
