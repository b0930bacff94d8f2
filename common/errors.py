"""The one exception that means: the user's input is wrong, and here is what to do."""


class UserError(ValueError):
    """A mistake that the user can mend.

    The message is one line: the value, what is allowed, the remedy. Entry scripts print it
    without a traceback and end with exit status 2 (`common.cli.entry`).
    """
