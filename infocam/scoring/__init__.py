"""From maps to boxes and scores: thresholds, protocols, metrics, saved maps and tables."""
