"""Estimators of mutual information with one interface: `.fit(x, y)`, then `.estimate(x, y)`."""


def __getattr__(name: str):
    """`ClassifierMI` and `MIEstimate`, imported when first used: PyTorch takes a second."""
    if name in ("ClassifierMI", "MIEstimate"):
        from mi_estimator.estimators import classifier

        return getattr(classifier, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
