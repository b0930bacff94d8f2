"""Attacks on `scripts.download_data --archive`: bombs, links, names that lead elsewhere, damage."""

import io
import struct
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import Path

import numpy as np

from tests.trust.cases import Answer, Case, Kind, contents, pick, run
from tests.trust.spoilers import damage

TREE = {
    "tiny-imagenet-200/wnids.txt": b"n01\n",
    "tiny-imagenet-200/words.txt": b"n01\tgoldfish\n",
    "tiny-imagenet-200/train/n01/n01_boxes.txt": b"n01_0.JPEG\t0\t0\t5\t5\n",
    "tiny-imagenet-200/train/n01/images/n01_0.JPEG": bytes(range(256)),
    "tiny-imagenet-200/val/val_annotations.txt": b"val_0.JPEG\tn01\t0\t0\t5\t5\n",
}
ELSEWHERE = ("/absolute.txt", "../outside.txt", "tiny-imagenet-200/../../outside.txt")
ELSEWHERE += ("C:\\evil.txt", "..\\outside.txt", "\\\\server\\share\\x")
ELSEWHERE += ("tiny-imagenet-200/./../../x", "//x/y")


def zip_of(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tar_of(files: dict[str, bytes], *more: tarfile.TarInfo, mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in more:
            archive.addfile(member)
    return buffer.getvalue()


def deflated_zeros(megabytes: int) -> tuple[bytes, int]:
    """A deflate stream of so many megabytes of zeros, one block again and again, and its CRC."""
    block = bytes(1 << 20)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(megabytes):
        crc = zlib.crc32(block, crc)
    return first * megabytes + packer.flush(), crc


def zip_bomb(megabytes: int, claimed: int | None = None) -> bytes:
    """A zip archive with one member of zeros beside the others, which may claim another size."""
    data, crc = deflated_zeros(megabytes)
    size = megabytes << 20 if claimed is None else claimed
    name = b"tiny-imagenet-200/zeros.bin"
    small = zip_of(TREE)
    with zipfile.ZipFile(io.BytesIO(small)) as archive:
        start, count = archive.start_dir, len(archive.infolist())
    body, directory = small[:start], small[start : small.rindex(b"PK\x05\x06")]
    shared = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, crc, len(data), 0xFFFFFFFF, len(name), 12)
    extra = struct.pack("<HHQ", 1, 8, size)
    local = b"PK\x03\x04" + shared + name + extra
    central = b"PK\x01\x02" + struct.pack("<H", 45) + shared
    central += struct.pack("<HHHII", 0, 0, 0, 0, start) + name + extra
    body += local + data
    directory += central
    end = struct.pack("<HHHHIIH", 0, 0, count + 1, count + 1, len(directory), len(body), 0)
    return body + directory + b"PK\x05\x06" + end


def huge_tar(size: int) -> bytes:
    """A tar archive whose last member claims a size."""
    member = tarfile.TarInfo("tiny-imagenet-200/huge.bin")
    member.size = size
    return (
        tar_of(TREE)[: -(1 << 13)].rstrip(b"\0").ljust(5120, b"\0") + member.tobuf() + bytes(2048)
    )


def _link(kind: bytes, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo("tiny-imagenet-200/link")
    member.type, member.linkname = kind, target
    return member


def _valid(rng: np.random.Generator) -> tuple[str, bytes]:
    dotted = {f"./{name}": data for name, data in TREE.items()}
    beside = TREE | {"README": b"hello", "other/x": b"1"}
    options = {
        "zip": zip_of(TREE),
        "stored zip": zip_of(TREE, zipfile.ZIP_STORED),
        "tar": tar_of(TREE),
        "bz2 zip": zip_of(TREE, zipfile.ZIP_BZIP2),
        "lzma zip": zip_of(TREE, zipfile.ZIP_LZMA),
        **{f"tar.{end}": tar_of(TREE, mode=f"w:{end}") for end in ("gz", "bz2", "xz")},
        "dotted names": tar_of(dotted),
        "more beside it": zip_of(beside),
    }
    return pick(rng, options.items())


def _hostile(rng: np.random.Generator, outside: Path) -> tuple[str, bytes]:
    """An archive that must be refused."""
    name = pick(rng, (*ELSEWHERE, str(outside / "absolute.txt")))
    device = tarfile.TarInfo("tiny-imagenet-200/device")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    fifo = tarfile.TarInfo("tiny-imagenet-200/fifo")
    fifo.type = tarfile.FIFOTYPE
    lacking = {k: v for k, v in TREE.items() if k != pick(rng, TREE)}
    linked = zipfile.ZipInfo("tiny-imagenet-200/link")
    linked.external_attr = 0o120777 << 16
    buffer = io.BytesIO(zip_of(TREE))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(linked, str(outside))
    options = {
        f"zip: {name}": lambda: zip_of(TREE | {name: b"evil"}),
        f"tar: {name}": lambda: tar_of(TREE | {name: b"evil"}),
        "symbolic link": lambda: tar_of(TREE, _link(tarfile.SYMTYPE, str(outside))),
        "hard link": lambda: tar_of(TREE, _link(tarfile.LNKTYPE, "../../outside.txt")),
        "link in a zip": buffer.getvalue,
        "device": lambda: tar_of(TREE, device),
        "fifo": lambda: tar_of(TREE, fifo),
        "nothing": lambda: zip_of({}),
        "no archive": lambda: b"hello",
        "empty": lambda: b"",
        "file under a file": lambda: tar_of(TREE | {"tiny-imagenet-200/wnids.txt/x": b""}),
        "claims 10**12": lambda: zip_bomb(9, 10**12),
        "claims 10**15": lambda: zip_bomb(1, 10**15),
        "claims less": lambda: zip_bomb(4, 100),
        "tar of 10**15": lambda: huge_tar(10**15),
        "encrypted": lambda: _encrypted(),
        "too few files": lambda: zip_of(
            {k: v for k, v in TREE.items() if "wnids" not in k and k in lacking}
        ),
        "long name": lambda: zip_of(TREE | {"tiny-imagenet-200/" + "x" * 5000: b""}),
        "zero byte in a name": lambda: zip_of(TREE | {"tiny-imagenet-200/aXb": b"z"}).replace(
            b"aXb", b"a\0b"
        ),
        "another set": lambda: zip_of({"CUB_200_2011/images.txt": b"1 a\n"}),
    }
    what, make = pick(rng, options.items())
    return what, make()


def _encrypted() -> bytes:
    """A zip archive whose members say that they are encrypted."""
    data = bytearray(zip_of(TREE))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = data.find(mark)
        while start >= 0:
            data[start + place] |= 1
            start = data.find(mark, start + 4)
    return bytes(data)


def archive_case(rng, folder: Path, shop) -> Case:
    data_dir, outside = folder / "data", folder / "outside"
    data_dir.mkdir()
    outside.mkdir()
    (data_dir / "mine.txt").write_text("the user's own")
    archive = folder / pick(rng, ("archive.zip", "archive.tar", "archive.tgz", "archive"))
    kind = pick(rng, ("valid", "hostile", "hostile", "damaged", "damaged", "name"))
    name = "tiny-imagenet"
    if kind == "damaged":  # with checksums inside: zip, and tar within gzip or xz
        end = pick(rng, ("zip", "gz", "xz"))
        what, data = damage(rng, zip_of(TREE) if end == "zip" else tar_of(TREE, mode=f"w:{end}"))
        what = f"{end}: {what}"
    else:
        what, data = _hostile(rng, outside) if kind == "hostile" else _valid(rng)
    if kind == "name":
        name = pick(rng, ("mnist", "cub", "cifar10", "cub-segmentations", "fashion-mnist"))
        what = f"{what} as {name}"
    archive.write_bytes(data)
    target = data_dir / "tiny-imagenet-200"

    def right(answer: Answer) -> object:
        files = [path for path in target.rglob("*") if path.is_file()]
        found = {path.relative_to(data_dir).as_posix(): path.read_bytes() for path in files}
        return True if found == TREE else f"installed {sorted(found)}"

    def after() -> str | None:
        allowed = {data_dir / "mine.txt", *([target] if target.exists() else [])}
        extra = {path for path in data_dir.iterdir() if path.suffix != ".lock"} - allowed
        if extra:
            return f"left behind {sorted(path.name for path in extra)}"
        beyond = (folder / "outside.txt", Path("/absolute.txt"))
        if any(outside.iterdir()) or any(path.exists() for path in beyond):
            return "wrote outside of the data folder"
        return None

    act = partial(run, "scripts.download_data", name, "--archive", archive, "--data-dir", data_dir)
    accepts = right if kind in ("valid", "damaged") else None
    return Case(what, act, accepts, kind == "valid", (archive, data_dir / "mine.txt"), after=after)


def installed_case(rng, folder: Path, shop) -> Case:
    """A data set that is there already: nothing of it is touched."""
    data_dir = folder / "data"
    whole = rng.random() < 0.5
    for name, data in TREE.items():
        if whole or "words" not in name:
            (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
            (data_dir / name).write_bytes(data)
    archive = folder / "archive.zip"
    archive.write_bytes(zip_of(TREE | {"tiny-imagenet-200/new.txt": b"new"}))
    before = contents(data_dir)
    act = partial(
        run, "scripts.download_data", "tiny-imagenet", "--archive", archive, "--data-dir", data_dir
    )
    what = "there already" if whole else "a part is there"
    right = (lambda answer: contents(data_dir) == before) if whole else None
    return Case(what, act, right, whole, (data_dir,))


KINDS = {
    "archives": Kind(archive_case, share=3),
    "archives over data": Kind(installed_case, share=0.3),
}
