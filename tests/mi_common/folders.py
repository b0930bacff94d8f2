"""Output folders as tests make them and look into them."""

from pathlib import Path

from mi_common.files import LOCK, WRITTEN
from mi_common.records import prepare_output

FLAGS = {"lr": 0.1, "epochs": 3, "seeds": [0, 1], "device": "cpu", "output_dir": "x"}


def prepare(folder, flags=FLAGS, *, resume=False, overwrite=False, **options):
    prepare_output(folder, flags, resume=resume, overwrite=overwrite, **options)


def names(folder: Path) -> set[str]:
    """Of all that is below, without locks and lists of what was written."""
    paths = {path.relative_to(folder).as_posix() for path in folder.rglob("*")}
    return {path for path in paths if not path.endswith((LOCK, WRITTEN))}
