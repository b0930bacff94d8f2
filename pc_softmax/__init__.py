"""Imbalanced classification with probability-corrected softmax."""

from mi_common.process import quiet_interrupt

quiet_interrupt()
