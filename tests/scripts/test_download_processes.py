"""`scripts.download_data` killed, two at once, and on bad disks: nothing is lost or left."""

import errno
import os
import signal
import tarfile
from pathlib import Path

import pytest

from scripts import archives, download_data, installation
from scripts.dataset_files import OFFICIAL, max_bytes
from scripts.installation import hold

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


@pytest.mark.parametrize("name", ["cub", "tiny-imagenet"])
def test_the_next_run_of_any_data_set_deletes_what_a_killed_one_left(place, archive, name):
    killed_run(place, archive)
    (left,) = place.top()
    assert left.startswith(".partial-cub.") and len(place.installed()) == 2
    assert place.run(name, place.pack("whole.zip", place.images(name))).status == 0
    assert place.top() == [OFFICIAL[name].folder] and place.installed() == place.images(name)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_leaves_nothing(place, archive, monkeypatch, number, status):
    at_the_third_file(monkeypatch, lambda: os.kill(os.getpid(), number))
    result = place.run("cub", archive)
    assert result.status == status and result.err.endswith("; run the command again\n")
    assert place.top() == [] and result.err.count("\n") == 1


def test_a_second_process_is_refused_and_harms_nothing(place, archive):
    """The lock of another open file is as good as that of another process."""
    place.data.mkdir()
    work = place.data / ".partial-cub.1"
    work.mkdir()
    (work / "half").write_text("half")
    with hold("cub", place.data):
        place.run("cub", archive).refused("another process is installing cub", str(place.data))
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
    assert "already and complete" in place.run("cub", archive).out
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
        place.run("mnist", archive).refused(f"error: FILE: {line}\n")
    assert place.top() == [] and archive.read_bytes() == data
    assert place.run("mnist", archive).status == 0


def test_a_read_only_data_folder_is_one_line(place, archive, monkeypatch):
    def read_only(self, *args, **kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "mkdir", read_only)
        place.run("cub", archive).refused(f"{place.data}: Read-only file system")
    assert place.run("cub", archive).status == 0
    monkeypatch.setattr(Path, "mkdir", read_only)
    assert "already and complete" in place.run("cub", archive).out


def test_what_is_no_archive_or_no_folder_is_refused_in_one_line_and_left_as_it_is(place, archive):
    pipe, lock, large = (place.root / name for name in ("pipe", ".cub.lock", "large.zip"))
    os.mkfifo(pipe)
    lock.write_bytes(b"mine")
    large.touch()
    os.truncate(large, 10**12)  # takes no space, and is not even hashed
    for path in (pipe, lock, place.root, place.root / "no.tgz"):
        place.run("cub", path).refused(f"--archive {path}: no such file; give a .zip, .tar or .tgz")
    place.run("cub", large).refused("1,000,000.0 MB, cub has at most 5,000.0 MB")
    place.run("cub", place.root / ("x" * 300)).refused("File name too long")
    assert lock.read_bytes() == b"mine" and not place.data.exists()

    place.data.write_text("mine")
    place.run("cub", archive).refused(f"--data-dir {place.data} is a file; give a folder")
    assert place.data.read_text() == "mine"
    place.data = place.root / ("y" * 300)
    place.run("cub", archive).refused(f"{place.data}: File name too long")
    place.data = place.root / "z\0"
    result = place.run("cub", archive)
    assert result.status == 2 and result.err.count("\n") == 1
    assert "not text that can name a file" in result.err


@pytest.mark.parametrize("name", ["mnist", "cifar10", "tiny-imagenet", "cub"])
def test_an_archive_unpacks_to_no_more_than_the_stated_limit(place, name):
    """One header suffices: what it claims to follow need not be there."""
    path, limit = place.root / "bomb.tar", max_bytes(name)
    said = f"{limit // 10**6} MB" if limit < 10**9 else f"{limit // 10**9} GB"
    assert f" {said} for " in " ".join(download_data.__doc__.split())
    claims = tarfile.TarInfo("zeros")
    for size, reason in (
        (limit + 1, f"unpacks to more than the limit of {limit / 1e6:,.1f} MB"),
        (limit, "unexpected end of data"),
    ):
        claims.size = size
        path.write_bytes(claims.tobuf(tarfile.GNU_FORMAT))
        place.run(name, path).refused(f"{path}: ", reason)
        assert place.top() == []
