"""What the tests of localisation metrics share: the protocols, curves of maps, their scores."""

import dataclasses

import numpy as np

from infocam.scoring.metrics import Curves, Evaluator
from infocam.scoring.protocols import PROTOCOLS

OURS, WSOL, LEGACY = PROTOCOLS.values()


def evaluated(maps, boxes, sizes, masks=None, *, rules=OURS, **options) -> Curves:
    evaluator = Evaluator(rules, **options)
    evaluator.accumulate(maps, boxes, sizes, masks)
    return evaluator.compute()


def max_box_acc(curves: Curves) -> float:
    return float((curves.largest >= 0.5).mean(axis=0).max())


def max_box_acc_v2(curves: Curves) -> float:
    return float(np.mean([(curves.any_contour >= t).mean(axis=0).max() for t in (0.3, 0.5, 0.7)]))


def same(a: Curves, b: Curves) -> None:
    for field in dataclasses.fields(Curves):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name), field.name)
