"""Imbalanced classification with probability-corrected softmax."""

from common.process import quiet_interrupt

quiet_interrupt()
