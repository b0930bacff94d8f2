"""Set-up, data, and the one-command run of the three experiments."""
