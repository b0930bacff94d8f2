"""Estimators of mutual information with one interface: `.fit(x, y)`, then `.estimate(x, y)`."""

from pkgutil import resolve_name

MODULES = {
    "ClassifierMI": "classifier",
    "CriticMI": "critics",
    "MIEstimate": "base",
    "NeighbourMI": "neighbours",
    "Settings": "registry",
    "SklearnMI": "baselines",
    "StackedMI": "stack",
}


def __getattr__(name: str):
    """The classes above, imported at their first use: PyTorch takes a second."""
    if name in MODULES:
        return resolve_name(f"{__name__}.{MODULES[name]}:{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
