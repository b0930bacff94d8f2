"""What the three experiments share: the formula, the training loop, run records and readers."""
