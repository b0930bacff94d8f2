"""Informative class activation maps: object boxes from image labels alone."""
