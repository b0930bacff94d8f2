"""What the three experiments share: the formula, the loop, the records, the data; no opinion."""
