"""Networks that localise, and trained classifiers that answer for any picture."""
