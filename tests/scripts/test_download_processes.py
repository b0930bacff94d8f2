"""`scripts.download_data` killed, two at once, and on bad disks: nothing is lost or left."""

import errno
import os
import signal
import tarfile
from pathlib import Path

import pytest

from scripts import archives, download_data, installation
from scripts.installation import hold
from scripts.published import OFFICIAL

FOLDER = OFFICIAL["cub"].folder


@pytest.fixture
def archive(place) -> Path:
    return place.pack("cub.zip", place.images("cub"))


def at_the_third_file(monkeypatch, action) -> None:
    """Calls `action` in the place of the third file's extraction."""
    original, seen = archives._extract, []

    def extract(member, path):
        seen.append(path)
        action() if len(seen) == 3 else original(member, path)

    monkeypatch.setattr(archives, "_extract", extract)


def killed_run(place, archive: Path) -> None:
    """A process of its own, ended by SIGKILL when it has unpacked two files."""
    child = os.fork()
    if child == 0:
        with pytest.MonkeyPatch.context() as patch:
            at_the_third_file(patch, lambda: os.kill(os.getpid(), signal.SIGKILL))
            place.run("cub", archive)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL


def test_the_next_run_deletes_what_a_killed_one_left(place, archive):
    killed_run(place, archive)
    (left,) = place.top()
    assert left.startswith(".partial-cub.") and len(place.installed()) == 2
    assert place.run("cub", archive).status == 0
    assert place.top() == [FOLDER] and place.installed() == place.images("cub")


def test_the_next_run_of_another_data_set_deletes_it_too(place, archive):
    killed_run(place, archive)
    tiny = place.pack("tiny.zip", place.images("tiny-imagenet"))
    assert place.run("tiny-imagenet", tiny).status == 0
    assert place.top() == ["tiny-imagenet-200"]


@pytest.mark.parametrize(
    ("number", "status", "line"),
    [
        (signal.SIGTERM, 143, "terminated; run the command again\n"),
        (signal.SIGINT, 130, "interrupted; run the command again\n"),
    ],
)
def test_a_signal_leaves_nothing(place, archive, monkeypatch, number, status, line):
    at_the_third_file(monkeypatch, lambda: os.kill(os.getpid(), number))
    result = place.run("cub", archive)
    assert (result.status, result.err) == (status, line)
    assert place.top() == []


def test_a_second_process_is_refused_and_harms_nothing(place, archive):
    """The lock of another open file is as good as that of another process."""
    place.data.mkdir()
    work = place.data / ".partial-cub.1"
    work.mkdir()
    (work / "half").write_text("half")
    with hold("cub", place.data):
        line = f"error: another process is installing cub into {place.data}; wait for it\n"
        assert place.run("cub", archive) == (2, "", line)
        tiny = place.pack("tiny.zip", place.images("tiny-imagenet"))
        assert place.run("tiny-imagenet", tiny).status == 0
        assert (work / "half").read_text() == "half"
    assert place.run("cub", archive).status == 0
    assert place.top() == [FOLDER, "tiny-imagenet-200"]


def test_what_another_process_has_just_installed_is_taken(place, archive, monkeypatch):
    """It ended between the first look and the lock."""
    assert place.run("cub", archive).status == 0
    (place.data / FOLDER).rename(place.root / "there")

    def hold_late(name, data_dir):
        (place.root / "there").rename(place.data / FOLDER)
        return hold(name, data_dir)

    monkeypatch.setattr(installation, "hold", hold_late)
    out = f"cub: {place.data / FOLDER} is there already and complete; to replace it, delete it"
    assert place.run("cub", archive) == (0, f"{out} first\n", "")
    assert place.installed() == place.images("cub")


def test_stale_folders_are_told_apart_by_their_whole_name(place, archive):
    for name in (".partial-cub-segmentations.1", ".partial-mine", ".partial-cub.2"):
        (place.data / name).mkdir(parents=True)
    (place.root / "mine").mkdir()
    (place.data / ".partial-mnist.3").symlink_to(place.root / "mine")
    with hold("cub-segmentations", place.data):
        assert place.run("cub", archive).status == 0
    left = [".partial-cub-segmentations.1", ".partial-mine", ".partial-mnist.3"]
    assert place.top() == [*left, FOLDER] and (place.root / "mine").is_dir()


def test_an_archive_in_a_stale_folder_is_used_and_kept(place, archive):
    stale = place.data / ".partial-cub.1"
    stale.mkdir(parents=True)
    data = archive.read_bytes()
    archive.rename(stale / "cub.zip")
    (place.root / "link.zip").symlink_to(stale / "cub.zip")
    assert place.run("cub", place.root / "link.zip").status == 0
    assert place.top() == [stale.name, FOLDER]
    assert (stale / "cub.zip").read_bytes() == data


# Disks that fail, and paths that are no archives


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EROFS, "Read-only file system"),
        (errno.EIO, "Input/output error"),
    ],
)
@pytest.mark.parametrize("module", [archives, installation])
def test_a_disk_that_fails_half_way_leaves_nothing(small, place, monkeypatch, module, code, line):
    """In the middle of the unpacking, or of the copying of the raw files."""
    original, seen = module.copy_at_most, []

    def fails(size, source, target, what):
        seen.append(what)
        if len(seen) == 3:
            target.write(b"half")
            raise OSError(code, os.strerror(code), "FILE")
        original(size, source, target, what)

    archive = place.pack("mnist.tgz", small)
    data = archive.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "copy_at_most", fails)
        assert place.run("mnist", archive) == (2, "", f"error: FILE: {line}\n")
    assert place.top() == [] and archive.read_bytes() == data
    assert place.run("mnist", archive).status == 0


def test_a_read_only_data_folder_is_one_line(place, archive, monkeypatch):
    def read_only(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", read_only)
        line = f"error: {place.data}: Read-only file system\n"
        assert place.run("cub", archive) == (2, "", line)
    assert place.run("cub", archive).status == 0
    monkeypatch.setattr(Path, "mkdir", read_only)
    out = f"cub: {place.data / FOLDER} is there already and complete; to replace it, delete it"
    assert place.run("cub", archive) == (0, f"{out} first\n", "")


def test_names_that_no_file_can_have_are_one_line(place, archive, tmp_path):
    long = tmp_path / ("x" * 300)
    assert place.run("cub", long) == (2, "", f"error: {long}: File name too long\n")
    place.data = tmp_path / ("y" * 300)
    assert place.run("cub", archive) == (2, "", f"error: {place.data}: File name too long\n")
    place.data = tmp_path / "z\0"
    result = place.run("cub", archive)
    said = f"error: {str(place.data)!r}: not text that can name a file (see --help)\n"
    assert result.status == 2 and result.err.partition(": ")[2] == said


def test_a_data_folder_that_is_a_file_is_refused(place, archive):
    place.data.write_text("mine")
    line = f"error: --data-dir {place.data} is a file; give a folder\n"
    assert place.run("cub", archive) == (2, "", line)
    assert place.data.read_text() == "mine"


def test_a_pipe_or_lock_is_no_archive(place):
    pipe, lock = place.root / "pipe", place.data / ".cub.lock"
    os.mkfifo(pipe)
    lock.parent.mkdir()
    lock.write_bytes(b"mine")
    for path in (pipe, lock):
        line = f"error: --archive {path}: no such file; give a .zip, .tar or .tgz\n"
        assert place.run("cub", path) == (2, "", line)
    assert lock.read_bytes() == b"mine"


def test_an_archive_larger_than_all_it_may_unpack_to_is_not_even_hashed(place):
    path = place.root / "large.zip"
    with path.open("wb") as file:
        file.truncate(10**12)  # takes no space
    line = f"--archive {path}: 1,000,000.0 MB, more than cub may unpack to (5,000.0 MB)"
    assert place.run("cub", path) == (2, "", f"error: {line}\n")


@pytest.mark.parametrize("name", ["mnist", "cifar10", "tiny-imagenet", "cub"])
def test_an_archive_unpacks_to_no_more_than_the_stated_limit(place, name):
    """One header suffices: what it claims to follow need not be there."""
    path, limit = place.root / "bomb.tar", download_data.max_bytes(name)
    said = f"{limit // 10**6} MB" if limit < 10**9 else f"{limit // 10**9} GB"
    assert f" {said} for " in " ".join(download_data.__doc__.split())
    claims = tarfile.TarInfo("zeros")
    for size, reason in (
        (limit + 1, f"unpacks to more than the limit of {limit / 1e6:,.1f} MB"),
        (limit, "no whole .zip, .tar or .tgz archive (ReadError: unexpected end of data); get"),
    ):
        claims.size = size
        path.write_bytes(claims.tobuf(tarfile.GNU_FORMAT))
        result = place.run(name, path)
        assert result.status == 2 and result.err.startswith(f"error: {path}: {reason}")
        assert place.top() == []
