"""A place to download to and small files, without network; run folders to collect tables of."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from torchvision.datasets import MNIST, FashionMNIST

from mi_common import cli, records
from mi_common.records import prepare_output
from scripts import installation
from scripts.dataset_files import OFFICIAL, RAW_MD5
from scripts.download_data import main, next_command

MACHINE = {"commit": "abc1234", "python": "3.11.7", "torch": "2.14.1", "cpu": "a CPU", "gpu": None}
COMMANDS = {"train": "python -m infocam.train", "evaluate": "python -m infocam.evaluate"}


class Result(NamedTuple):
    status: int
    out: str
    err: str

    def refused(self, *words: str) -> None:
        """Exit status 2 and a single line on stderr with these words."""
        assert self.status == 2
        assert self.err.startswith("error: ") and self.err.count("\n") == 1
        for word in words:
            assert word in self.err


class Place:
    """A folder for mirrors and archives, and the data folder in it, which is not there yet."""

    def __init__(self, root: Path, capsys):
        self.root, self.data, self.capsys = root, root / "data", capsys

    def run(self, name: str, archive: Path | None = None) -> Result:
        self.capsys.readouterr()
        flags = [] if archive is None else ["--archive", str(archive)]
        status = 0
        try:
            main([name, "--data-dir", str(self.data), *flags])
        except SystemExit as stop:
            status = stop.code
        out, err = self.capsys.readouterr()
        if status == 0:  # it ends with the next command, which is not part of the result
            out, _, shown = out.rpartition("next: ")
            assert shown == f"{next_command(name, self.data)}\n"
        return Result(status, out, err)

    def installed(self) -> dict[str, bytes]:
        """All files below the data folder, hidden ones too, but no locks."""
        files = [path for path in self.data.rglob("*") if path.is_file() and path.suffix != ".lock"]
        return {str(path.relative_to(self.data)): path.read_bytes() for path in files}

    def top(self) -> list[str]:
        """The names right in the data folder, hidden ones too, but no locks."""
        return sorted(path.name for path in self.data.iterdir() if path.suffix != ".lock")

    def mirror(self, files: dict[str, bytes]) -> str:
        """A mirror as a file:// URL."""
        folder = self.root / "mirror"
        folder.mkdir()
        for name, data in files.items():
            (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
        return folder.as_uri() + "/"

    def pack(self, name: str, files: dict[str, bytes]) -> Path:
        """A .zip, .tar or .tgz archive."""
        path = self.root / name
        if path.suffix == ".zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for file, data in files.items():
                    archive.writestr(file, data)
            return path
        with tarfile.open(path, "w" if path.suffix == ".tar" else "w:gz") as archive:
            for file, data in files.items():
                member = tarfile.TarInfo(file)
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))
        return path

    @staticmethod
    def md5(data: bytes) -> str:
        return hashlib.md5(data).hexdigest()

    @staticmethod
    def raw(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
        """What `installed` gives for IDX files."""
        return {f"{folder}/raw/{name}": data for name, data in files.items()}

    @staticmethod
    def images(name: str) -> dict[str, bytes]:
        """What `find_fault` asks for, and a picture."""
        official = OFFICIAL[name]
        pictures = {"tiny-imagenet": ["train"], "cub-segmentations": official.required}
        folders = pictures.get(name, ["images"])
        files = {file: file.encode() for file in official.required if file not in folders}
        files |= {f"{folder}/n01443537_0.JPEG": bytes(range(256)) * 40 for folder in folders}
        return {f"{official.folder}/{file}": data for file, data in files.items()}


@pytest.fixture
def place(tmp_path, capsys) -> Place:
    return Place(tmp_path, capsys)


@pytest.fixture
def small(monkeypatch, tmp_path) -> dict[str, bytes]:
    """Small files in the place of the real ones; all mirrors gone, no npm, no Debian package.

    Three training and two test images of 28 x 28; the pixels of image i are all 100 + i.
    """
    files = {}
    for stem, count in (("train", 3), ("t10k", 2)):
        pixels = b"".join(bytes([100 + i]) * 784 for i in range(count))
        files[f"{stem}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + pixels
        files[f"{stem}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + bytes(range(count))
    md5 = {name: Place.md5(data) for name, data in files.items()}
    gz = [(f"{name}.gz", Place.md5(gzip.compress(d, mtime=0))) for name, d in files.items()]
    for name, dataset in (("mnist", MNIST), ("fashion-mnist", FashionMNIST)):
        monkeypatch.setitem(RAW_MD5, name, md5)
        monkeypatch.setattr(dataset, "resources", gz)
        monkeypatch.setattr(dataset, "mirrors", [(tmp_path / "gone").as_uri() + "/"])
    monkeypatch.setattr(installation, "DEBIAN_FOLDER", tmp_path / "no-debian")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return files


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes a run folder as an entry does, in the folder of the test, which is the current one."""
    monkeypatch.chdir(tmp_path)

    def run(name, kind="evaluate", table="gt_known\n0.50\n", commit="abc1234", error=None, **flags):
        known = {"command": f"{COMMANDS[kind]} {name}", "commit": commit}
        monkeypatch.setattr(records, "environment", lambda: MACHINE | known)

        @cli.entry
        def entry(argv):
            prepare_output(Path(name), flags | {"output_dir": name}, overwrite=False, resume=True)
            if table is not None:
                Path(name, "results.csv").write_text(table)
            if error:
                raise error

        entry([])
        return name

    return run


@pytest.fixture
def change_config():
    """Changes the last session of a run's config.json."""

    def change(folder, **fields):
        path = Path(folder, "config.json")
        config = json.loads(path.read_text())
        config["sessions"][-1] |= fields
        path.write_text(json.dumps(config))

    return change
