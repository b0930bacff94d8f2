"""Attacks on arrays in files: MNIST's and CIFAR's, saved maps with their ranks."""

import hashlib
import pickle
import struct
from functools import partial
from pathlib import Path

import numpy as np
from torchvision.datasets import CIFAR10

from mi_common.datasets import image_tensors
from tests.idx_files import write_idx, write_mnist
from tests.trust.cases import Answer, Case, Kind, pick, run
from tests.trust.commands import COMMANDS
from tests.trust.inputs_runs import agrees
from tests.trust.inputs_tables import absurd_npy, npy_bytes
from tests.trust.spoilers import Hostile, code_ran, damage


def idx_case(rng, folder: Path, shop) -> Case:
    """MNIST's raw files, and Fashion-MNIST's."""
    name, base = pick(rng, (("mnist", "MNIST"), ("fashion-mnist", "FashionMNIST")))
    raw, n = folder / base / "raw", int(rng.integers(3, 9))
    images, labels = rng.integers(0, 256, (n, 28, 28), np.uint8), rng.integers(0, 10, n)
    write_mnist(folder, (images, labels), (images, labels), base=base)

    def right(answer: Answer) -> bool:
        found = answer.value.images[:, 0].numpy(), answer.value.labels.numpy()
        return all(map(np.array_equal, found, (images, labels)))

    act = partial(image_tensors, name, folder, pick(rng, ("train", "test")))
    stem = "train" if act.args[2] == "train" else "t10k"
    files = {kind: raw / f"{stem}-{kind}" for kind in ("images-idx3-ubyte", "labels-idx1-ubyte")}
    pictures, classes = files.values()
    how = pick(
        rng,
        (
            *("valid", "head", "head", "head", "cut", "size", "fewer", "class", "type", "gone"),
            *("more", "bomb", "swapped"),
        ),
    )
    path = pick(rng, files.values())
    data = bytearray(path.read_bytes())
    if how == "head":
        place = int(rng.integers(4 if path == pictures else 8))
        data[place] ^= 1 << int(rng.integers(8))
        how = f"bit of byte {place} of {path.name}"
    elif how == "cut":
        data = data[: int(rng.integers(len(data)))]
    elif how == "more":
        data += bytes(int(rng.integers(1, 1000)))
    elif how == "bomb":
        data[4:8] = pick(rng, (b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\xff\xff\xff"))
    path.write_bytes(bytes(data))
    if how == "size":
        write_idx(pictures, images[:, :27])
    elif how == "fewer":
        write_idx(classes, labels[:-1])
    elif how == "class":
        write_idx(classes, np.where(np.arange(n) == 1, rng.integers(10, 256), labels))
    elif how == "type":
        head = struct.pack(">BBBB3I", 0, 0, 0x0D, 3, *images.shape)
        pictures.write_bytes(head + images.astype(">f4").tobytes())
    elif how == "gone":
        path.unlink()
    elif how == "swapped":
        pictures.write_bytes(classes.read_bytes())
    return Case(how, act, right if how == "valid" else None, how == "valid", (folder,))


def cifar_case(rng, folder: Path, shop) -> Case:
    """CIFAR-10's pickles; the small ones here pass for the official ones by their md5."""
    root = folder / CIFAR10.base_folder
    root.mkdir()
    files, pixels, labels = {}, [], []
    names = [file for file, _ in CIFAR10.train_list + CIFAR10.test_list]
    for name in names:
        data = rng.integers(0, 256, (2, 3072), np.uint8)
        own = rng.integers(0, 10, 2).tolist()
        files[name] = pickle.dumps({"data": data, "labels": own})
        if name != "test_batch":
            pixels.append(data.reshape(2, 3, 32, 32))
            labels += own
    meta = CIFAR10.meta["filename"]
    files[meta] = pickle.dumps({"label_names": [f"class {k}" for k in range(10)]})

    def official(name: str) -> list[str]:
        return [name, hashlib.md5(files[name]).hexdigest()]

    CIFAR10.train_list = [official(name) for name in names if name != "test_batch"]
    CIFAR10.test_list = [official("test_batch")]
    CIFAR10.meta = CIFAR10.meta | {"md5": official(meta)[1]}

    def right(answer: Answer) -> bool:
        same = np.array_equal(answer.value.images.numpy(), np.concatenate(pixels))
        return same and answer.value.labels.tolist() == labels

    how = pick(rng, ("valid", "damaged", "damaged", "hostile", "gone", "other"))
    marker = folder / "marker"
    name = pick(rng, files)
    if how == "damaged":
        how, files[name] = damage(rng, files[name])
    elif how == "hostile":
        files[name] = pickle.dumps(Hostile(marker))
    elif how == "other":
        files[name] = pickle.dumps({"data": np.zeros((2, 3072), np.uint8), "labels": [0, 0]})
    for file, data in files.items():
        (root / file).write_bytes(data)
    if how == "gone":
        (root / name).unlink()
    # Damage behind the end of a test batch does not touch what is read of the training split.
    accepts = right if how == "valid" or "byte" in how else None
    act, ran = partial(image_tensors, "cifar10", folder, "train"), partial(code_ran, marker)
    return Case(f"{name}: {how}", act, accepts, how == "valid", (root,), after=ran)


def maps_case(rng, folder: Path, shop) -> Case:
    """Saved maps, their ranks and their boxes, by `infocam.evaluate --maps`."""
    root, out = shop.copy("maps", folder / "maps"), folder / "out"
    maps = str(shop.root / "maps")
    words = [word.replace(maps, str(root)) for word in shop.words("saved maps", out)]
    path = root / "cam" / f"p{rng.integers(6)}.npy"
    values = np.load(path)
    right = partial(agrees, shop.root / "maps-evaluation/whole", out)
    valid = {
        "big-endian": values.astype(">f4"),
        "columns first": np.asfortranarray(values),
        "float64": values.astype(np.float64),
        "as it is": values,
    }
    nan, infinite = values.copy(), values.copy()
    nan[3, 3], infinite[0, 0] = np.nan, np.inf
    invalid = {
        "three dimensions": values[None],
        "one dimension": values[0],
        "nothing": values[:0],
        "a number": np.float32(1),
    }
    how = pick(
        rng, ("valid", "invalid", "absurd", "absurd", "cut", "gone", "rank", "rank", "not finite")
    )
    if how == "valid":
        what, array = pick(rng, valid.items())
        path.write_bytes(npy_bytes(array))
        return _maps(what, words, right, root, True)
    if how == "not finite":  # such a map scores as no map: it must be said
        what, array = pick(rng, {"NaN": nan, "infinity": infinite}.items())
        path.write_bytes(npy_bytes(array))
        said = lambda answer: any(s in answer.printed for s in ("NaN", "nan", "finite"))  # noqa: E731
        return _maps(what, words, said, root)
    if how == "rank":
        ranks = root / "cam/predictions.csv"
        lines = ranks.read_text().splitlines()
        row = int(rng.integers(1, len(lines)))
        options = {
            "twice": [*lines, lines[row]],
            "twice, another": [*lines, f"p{row - 1},5"],
            "missing": [line for line in lines if line != lines[row]],
            "header": lines[1:],
        }
        options |= {
            f"rank {wrong!r}": [*lines[:row], f"p{row - 1},{wrong}", *lines[row + 1 :]]
            for wrong in ("-1", "x", "", "1.5", "1" + "0" * 30, "nan")
        }
        what, lines = pick(rng, options.items())
        ranks.write_text("\n".join(lines) + "\n")
        return _maps(what, words, None, root)
    what, data = how, b""
    if how == "invalid":
        what, array = pick(rng, invalid.items())
        data = npy_bytes(np.asarray(array))
    elif how == "absurd":
        what, data = absurd_npy(rng)
    elif how == "cut":
        data = path.read_bytes()[: int(rng.integers(path.stat().st_size))]
    path.write_bytes(data)
    if how == "gone":
        path.unlink()
    return _maps(what, words, None, root)


def _maps(what: str, words: list[str], right, root: Path, must_read: bool = False) -> Case:
    act = partial(run, COMMANDS["saved maps"].entry, *words)
    return Case(what, act, right, must_read, (root,))


KINDS = {
    "MNIST files": Kind(idx_case, share=2),
    "CIFAR files": Kind(cifar_case),
    "saved maps": Kind(maps_case, ("maps", "maps-evaluation"), 2),
}
