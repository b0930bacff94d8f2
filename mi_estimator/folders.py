"""Where an estimate or a ranking is written if no --output-dir is given."""

import hashlib
from pathlib import Path

from mi_common.errors import UserError
from mi_common.files import read_json
from mi_estimator.text_files import COMPRESSIONS


def default_folder(parent: Path, file: Path | None, dataset: str | None = None) -> Path:
    """`parent` / the file's name without its suffix, or the name of the image set.

    Where another file's or image set's results have this name, a hash of the file's path is added,
    so that `a/data.csv` and `b/data.csv` have a folder each.
    """
    if file is None:
        name = dataset
    else:
        name = (file.with_suffix("") if file.suffix.lower() in COMPRESSIONS else file).stem
    folder, source = parent / name, _source(file, dataset)
    try:
        flags = read_json(folder / "config.json")["flags"]
        earlier = _source(flags["file"], flags.get("dataset"))
    except (UserError, KeyError, TypeError, AttributeError):
        # Another folder, which `check_output` refuses, or none.
        return folder
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    return folder if earlier == source else parent / f"{name}-{digest}"


def _source(file: Path | str | None, dataset: str | None) -> str:
    return f"image set {dataset}" if file is None else str(Path(file).resolve())
