"""Attacks on the user's own samples as arrays: .npz, .npy and Parquet files."""

import io
import struct
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from mi_estimator.samples import read_samples
from tests.trust.cases import Case, Kind, pick
from tests.trust.inputs_csv import csv_text, draw_table, is_table
from tests.trust.spoilers import damage


def _bomb(shape: tuple[int, ...], version: int = 1) -> bytes:
    """A .npy file whose header claims a shape that 64 bytes do not fill."""
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}".encode()
    head = head.ljust(117) + b"\n"
    size = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + size + head + bytes(64)


def npy_bytes(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def absurd_npy(rng: np.random.Generator) -> tuple[str, bytes]:
    """A .npy file that must be refused, whatever is expected in it."""
    shapes = [(10**9, 100), (2**31, 4), (10**18, 4), (2**62, 2), (10**30, 2), (-3, 4)]
    objects = np.array([[{"a": 1}, "text"], [None, 2.5]], dtype=object)
    options = {f"claims shape {shape}": _bomb(shape) for shape in shapes}
    options |= {
        "version 9": _bomb((4, 2), 9),
        "objects": npy_bytes(objects),
        "a header cut short": _bomb((4, 2))[:30],
        "empty": b"",
        "text": b"1,2\n3,4\n",
        "complex": npy_bytes(np.ones((40, 3)) + 1j * rng.normal(size=(40, 3))),
        "texts": npy_bytes(np.array([["a", "b"], ["c", "d"]])),
        "records": npy_bytes(np.zeros(40, dtype=[("a", "f8"), ("b", "f8")])),
        "dates": npy_bytes(np.zeros((40, 3), dtype="datetime64[D]")),
    }
    return pick(rng, options.items())


NUMBER_TYPES = ("<f8", ">f8", "<f4", ">f4", "<f2", ">f2")


def npy_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    path, table = folder / "table.npy", draw_table(rng, ["0", "1", "2"])
    values = np.column_stack([table.x, np.array(table.labels, dtype=np.float64)])
    act = partial(read_samples, path, str(values.shape[1] - 1))
    kind = pick(rng, ("valid", "absurd", "cut", "shape", "label"))
    if kind == "absurd":
        what, data = absurd_npy(rng)
        path.write_bytes(data)
        return Case(what, act, None, False, (path,))
    if kind == "valid":
        dtype = pick(rng, NUMBER_TYPES)
        array = np.asarray(values, dtype=dtype, order=pick(rng, "CF"))
        path.write_bytes(npy_bytes(array))
        right = partial(is_table, table, x=array[:, :-1].astype(np.float64))
        return Case(f"{dtype}, {array.flags.f_contiguous}", act, right, True, (path,))
    if kind == "label":
        path.write_bytes(npy_bytes(values))
        label = pick(rng, ("-1", "99", "y", "1.0", "", "1e0", None))
        return Case(f"label {label!r}", partial(read_samples, path, label), None, False, (path,))
    if kind == "shape":
        shapes = (values.ravel(), values[None], np.float64(3.0), values[:0], values[:, -1:])
        array = pick(rng, shapes)
        path.write_bytes(npy_bytes(np.asarray(array)))
        return Case(f"shape {np.shape(array)}", act, None, False, (path,))
    data = npy_bytes(values)
    path.write_bytes(data[: int(rng.integers(len(data)))])
    return Case("cut short", act, None, False, (path,))


def npz_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    path, table = folder / "table.npz", draw_table(rng, ["owl", "cat", "bat"])
    labels = np.array(table.labels)
    act, save = partial(read_samples, path, None), pick(rng, (np.savez, np.savez_compressed))
    kind = pick(rng, ("valid", "valid", "damaged", "damaged", "invalid", "invalid", "absurd"))
    if kind == "valid":
        dtype = pick(rng, (*NUMBER_TYPES, "i2", ">i8", "?"))
        x = (100 * table.x).astype(dtype) if dtype != "?" else table.x > 0
        codes = np.unique(labels, return_inverse=True)[1]
        y = pick(rng, (labels, labels.astype("S"), codes, codes.astype(">i4"), labels[:, None]))
        save(path, x=np.asarray(x, order=pick(rng, "CF")), y=y, note=np.arange(3))
        right = partial(is_table, table, x=x.astype(np.float64))
        return Case(f"x {x.dtype.str}, y {y.dtype.str} {y.shape}", act, right, True, (path,))
    arrays = {"x": table.x, "y": labels}
    what, right = kind, None
    if kind == "invalid":
        row = int(rng.integers(len(labels)))
        nan, infinite = table.x.copy(), table.x.copy()
        nan[row, 0], infinite[row, -1] = np.nan, -np.inf
        changes = {
            "complex x": {"x": table.x + 1j},
            "NaN": {"x": nan},
            "infinity": {"x": infinite},
            "objects": {"x": table.x.astype(object)},
            "y of objects": {"y": labels.astype(object)},
            "no y": {"y": None},
            "a shorter y": {"y": labels[:-1]},
            "no samples": {"x": table.x[:0], "y": labels[:0]},
            "one class": {"y": labels == "dog"},
            "y in columns": {"y": np.eye(len(labels), 3)},
            "texts": {"x": table.x.astype(str)},
            "a single number": {"x": np.float64(1)},
            "NaN in y": {"y": np.where(table.x[:, 0] > 0, np.nan, 1.0)},
            "beyond float32": {"x": table.x * 1e300},
            "complex y": {"y": nan[:, 0] * 1j},
        }
        what, change = pick(rng, changes.items())
        arrays = {k: v for k, v in (arrays | change).items() if v is not None}
    save(path, **arrays)
    if kind == "damaged":
        what, data = damage(rng, path.read_bytes())
        path.write_bytes(data)
        right = partial(is_table, table)
    elif kind == "absurd":
        what, data = absurd_npy(rng)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("x.npy", data)
            archive.writestr("y.npy", npy_bytes(labels))
    return Case(what, act, right, False, (path,))


def parquet_case(rng: np.random.Generator, folder: Path, shop) -> Case:
    path, table = folder / "table.parquet", draw_table(rng, ["owl", "cat", "bat"])
    frame = pd.DataFrame(table.x, columns=table.columns).assign(y=table.labels)
    act, right = partial(read_samples, path, "y"), partial(is_table, table)
    valid = {
        "plain": frame,
        "categories": frame.assign(y=frame["y"].astype("category")),
        "an index of its own": frame.set_index(np.arange(len(frame))[::-1] + 5),
        "float32": frame.astype({"a0": "float32"}),
        "nullable numbers": frame.astype({"a0": "Float64"}),
        "numbers as text": frame.assign(a0=frame["a0"].map(repr)),
    }
    row = int(rng.integers(len(frame)))
    hole = frame.copy()
    hole.loc[row, "a1"] = np.nan
    invalid = {
        "a hole": hole,
        "no label": frame.rename(columns={"y": "z"}),
        "empty": frame[:0],
        "one class": frame.assign(y="same"),
        "dates": frame.assign(a0=pd.Timestamp("2020-01-01")),
        "lists": frame.assign(a0=[[1.0, 2.0]] * len(frame)),
        "texts": frame.assign(a0="x"),
        "an index column": frame.sort_values("y")
        .reset_index(drop=True)
        .reset_index(names="Unnamed: 0"),
        "nullable hole": hole.astype({"a1": "Float64"}),
        "constant": frame.assign(a1=1.0),
        "hole in the label": frame.assign(y=frame["y"].where(frame.index != row)),
    }
    kind = pick(rng, ("valid", "invalid", "cut", "foreign"))
    if kind in ("valid", "invalid"):
        what, chosen = pick(rng, (valid if kind == "valid" else invalid).items())
        chosen.to_parquet(path)
        return Case(what, act, right if kind == "valid" else None, kind == "valid", (path,))
    frame.to_parquet(path, compression=pick(rng, ("snappy", None, "gzip")))
    data = path.read_bytes()
    place = int(rng.integers(len(data)))
    others = [csv_text(table).encode(), b"", b"PAR1" + rng.bytes(200) + b"PAR1"]
    others += [data[:-8] + b"\xff\xff\xff\x7fPAR1", bytes(len(data))]
    foreign = pick(rng, others)
    path.write_bytes(data[:place] if kind == "cut" else foreign)
    return Case(f"{kind} {place}", act, None, False, (path,))


KINDS = {
    "table: npz": Kind(npz_case, share=2),
    "table: npy": Kind(npy_case),
    "table: Parquet": Kind(parquet_case),
}
