"""What can come of a case; `wrongly_refused` is a clear error where the input was valid."""

OUTCOMES = (
    *("fine", "clear_error", "traceback", "hang", "silently_wrong", "lost"),
    "wrongly_refused",
)
FAILURES = OUTCOMES[2:]
