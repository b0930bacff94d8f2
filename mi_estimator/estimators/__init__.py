"""Estimators of mutual information with one interface: `.fit(x, y)`, then `.estimate(x, y)`."""

import importlib

MODULES = {"ClassifierMI": "classifier", "MIEstimate": "base"}


def __getattr__(name: str):
    """The names in MODULES, imported at their first use: PyTorch takes a second."""
    if name in MODULES:
        return getattr(importlib.import_module(f"{__name__}.{MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
