"""Overlays, galleries and plots."""
