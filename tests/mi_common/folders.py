"""Output folders as tests make them and look into them."""

from pathlib import Path

from mi_common.files import LOCK, WRITTEN
from mi_common.records import prepare_output

FLAGS = {"lr": 0.1, "output_dir": "x"}


def prepare(folder, flags=FLAGS, *, resume=False, overwrite=False, data=None):
    prepare_output(folder, flags, resume=resume, overwrite=overwrite, data=data)


def names(folder: Path) -> set[str]:
    """Of all that is below, without locks and lists of what was written."""
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {path for path in paths if not path.endswith((LOCK, WRITTEN))}
