"""Imbalanced classification with probability-corrected softmax."""
