"""Where an estimate or a ranking is written if no --output-dir is given."""

import hashlib
from pathlib import Path

from mi_common.errors import UserError
from mi_common.files import read_json
from mi_estimator.text_files import COMPRESSIONS


def default_folder(
    parent: Path, file: Path | None, dataset: str | None = None, data_dir: Path | None = None
) -> Path:
    """`parent` / the name of a file without its suffix, of an image set, or of a folder of images.

    Where results of another source have this name, a hash of the path is added, so that
    `a/data.csv` and `b/data.csv` have a folder each. The image set "folder" is its `data_dir`.
    """
    if dataset == "folder":
        name = data_dir.resolve().name or "images"
    elif file is None:
        name = dataset
    else:
        name = (file.with_suffix("") if file.suffix.lower() in COMPRESSIONS else file).stem
    folder, source = parent / name, _source(file, dataset, data_dir)
    try:
        flags = read_json(folder / "config.json")["flags"]
        earlier = _source(flags["file"], flags.get("dataset"), flags.get("data_dir"))
    except (UserError, KeyError, TypeError, AttributeError):
        # Another folder, which `check_output` refuses, or none.
        return folder
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    return folder if earlier == source else parent / f"{name}-{digest}"


def _source(file: Path | str | None, dataset: str | None, data_dir: Path | str | None) -> str:
    file = data_dir if dataset == "folder" else file
    return f"image set {dataset}" if file is None else str(Path(file).resolve())
