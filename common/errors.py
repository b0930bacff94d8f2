"""The one exception that means: the user's input is wrong, and here is what to do."""

from pathlib import Path


class UserError(ValueError):
    """A mistake that the user can mend.

    The message is one line: the value, what is allowed, the remedy. Entry scripts print it
    without a traceback and end with exit status 2 (`common.cli.entry`).
    """


def require(path: Path, name: str, data_dir: Path) -> None:
    """UserError that says what was looked for, where, and how to get it."""
    if not path.exists():
        raise UserError(f"no {name} data: looked for {path}; {remedy(name, data_dir)}")


def damaged(folder: Path, reason: str, name: str, data_dir: Path) -> UserError:
    """To be raised; the download replaces nothing that is there, hence the deletion."""
    return UserError(f"{folder}: damaged ({reason}); delete it and {remedy(name, data_dir)}")


def remedy(name: str, data_dir: Path) -> str:
    return f"get it with: python -m scripts.download_data {name} --data-dir {data_dir}"
