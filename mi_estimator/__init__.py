"""How many nats do features carry about a label? A classifier's logits answer.

from mi_estimator import estimate_mutual_information
"""

from mi_common.process import quiet_interrupt

quiet_interrupt()


def __getattr__(name: str):
    """`estimate_mutual_information`, imported at its first use: PyTorch takes a second."""
    if name == "estimate_mutual_information":
        from mi_estimator.estimators.crossfit import estimate_mutual_information

        return estimate_mutual_information
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
