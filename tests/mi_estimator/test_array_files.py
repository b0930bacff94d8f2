"""Arrays in files: types and byte order, headers that lie, archives that are damaged or hostile."""

import contextlib
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from mi_common.errors import UserError
from mi_estimator.estimators.crossfit import estimate_mutual_information
from mi_estimator.samples import read_samples

X = np.random.default_rng(0).normal(size=(40, 2))
Y = np.arange(40) % 2


@contextlib.contextmanager
def megabytes_at_most(most: float):
    tracemalloc.start()  # NumPy's arrays are counted, whether or not they are touched
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most * 1e6
    finally:
        tracemalloc.stop()


def refusal(path: Path, label: str | None = "y") -> str:
    with pytest.raises(UserError) as error:
        read_samples(path, label)
    return str(error.value)


def npy_bytes(shape: str, descr: str = "'<f8'", data: bytes = b"", version=(1, 0)) -> bytes:
    """A file in NumPy's format whose header says whatever it is told to."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    size = len(header).to_bytes(2 if version == (1, 0) else 4, "little")
    return b"\x93NUMPY" + bytes(version) + size + header + data


DTYPES = ["complex64", "complex128", "object", "U8", "S8", "datetime64[s]", "V8", [("a", "f8")]]


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_other_than_real_numbers_are_refused(tmp_path, dtype):
    x = np.zeros((40, 2), np.dtype(dtype))
    np.save(tmp_path / "a.npy", x)
    message = f"holds values of type {x.dtype}; use real numbers"
    assert refusal(tmp_path / "a.npy", "1") == f"{tmp_path}/a.npy {message}"
    np.savez(tmp_path / "a.npz", x=x, y=Y)
    assert refusal(tmp_path / "a.npz") == f"{tmp_path}/a.npz: x {message}"
    np.savez(tmp_path / "a.npz", x=X, y=x[:, 0])
    if x.dtype.kind in "US":
        assert refusal(tmp_path / "a.npz").startswith("the label has one value")
    else:
        assert refusal(tmp_path / "a.npz") == f"{tmp_path}/a.npz: y {message} or text"


@pytest.mark.parametrize("dtype", [">f8", ">f4", "<f2", ">f2", np.longdouble, ">i8", ">u2", "u1"])
def test_the_type_and_byte_order_of_numbers_change_nothing(tmp_path, dtype):
    x = np.random.default_rng(0).integers(0, 200, (40, 3))
    same = []
    for kind in (dtype, "float64"):
        np.savez(tmp_path / "a.npz", x=x.astype(kind), y=Y.astype(kind))
        np.save(tmp_path / "a.npy", np.column_stack((x, Y)).astype(kind))
        found = [read_samples(tmp_path / "a.npz", None), read_samples(tmp_path / "a.npy", "3")]
        found = [samples.x for samples in found] + [samples.y for samples in found]
        same.append(
            [
                *found,
                estimate_mutual_information(
                    x.astype(kind), Y.astype(kind), estimator="lda", folds=2
                ).value,
            ]
        )
    assert all(torch.equal(a, b) for a, b in zip(same[0][:4], same[1][:4], strict=True))
    assert same[0][0].tolist() == x.tolist() and same[0][2].tolist() == Y.tolist()
    assert same[0][4] == same[1][4]


def test_big_endian_text_is_a_label(tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=np.where(Y, "owl", "cat").astype(">U3"))
    samples = read_samples(tmp_path / "a.npz", None)
    assert (samples.y.tolist(), samples.class_names) == (Y.tolist(), ["cat", "owl"])


def test_numbers_too_small_for_float32_keep_their_information(tmp_path):
    for scale in (1, 1e-60, 1e-300):
        np.savez(tmp_path / "a.npz", x=X * scale, y=Y)
        x = read_samples(tmp_path / "a.npz", None).x
        assert (x.argsort(dim=0).numpy() == X.argsort(axis=0)).all(), scale
        assert x.std() > 0.1


def test_a_call_on_complex_or_text_arrays_is_refused():
    message = "columns 0, 1 are complex; give real and imaginary part as a column each"
    with pytest.raises(UserError, match=message):
        estimate_mutual_information(X + 0j, Y)
    with pytest.raises(UserError, match="the labels must all be real numbers, or all text"):
        estimate_mutual_information(X, Y + 1j)
    with pytest.raises(UserError, match="columns 0, 1 are constant"):
        estimate_mutual_information(np.full((40, 2), "u"), Y)
    with pytest.raises(UserError, match="columns 1 are constant"):
        estimate_mutual_information(X * [1, 0], Y)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize(
    "shape, claimed",
    [
        ("(1000000000, 3)", 24 * 10**9),
        ("(100000000000000000000000, 3)", 24 * 10**23),
        ("(5, 2)", 80),
        ("(7, 2)", 112),
        ("(-5, 3)", -120),
        ("(0, 99999999999)", 0),
    ],
)
def test_a_header_that_does_not_fit_the_size_is_refused_before_memory_is_taken(
    tmp_path, shape, claimed, version
):
    data = npy_bytes(shape, data=bytes(96), version=version)
    (tmp_path / "a.npy").write_bytes(data)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", data)
        archive.writestr("y.npy", npy_bytes("(12,)", "'|u1'", bytes(12)))
    message = f"its header claims shape {shape}, {claimed} bytes, but it holds 96"
    with megabytes_at_most(2):
        assert refusal(tmp_path / "a.npy") == f"{tmp_path}/a.npy: {message}"
        assert refusal(tmp_path / "a.npz") == f"{tmp_path}/a.npz: x: {message}"


@pytest.mark.parametrize(
    "shape, descr",
    [("(5", "'<f8'"), ("-" * 5000 + "1", "'<f8'"), ("(1.5, 2)", "'<f8'"), ("(5, 2)", "'<f99'")],
)
def test_a_header_that_is_no_header_is_refused(tmp_path, shape, descr):
    (tmp_path / "a.npy").write_bytes(npy_bytes(shape, descr, bytes(80)))
    message = refusal(tmp_path / "a.npy")
    assert message.startswith(f"{tmp_path}/a.npy: cannot be read: ") and len(message) < 400
    (tmp_path / "a.npy").write_bytes(npy_bytes("(5, 2)", data=bytes(80), version=(9, 9)))
    assert refusal(tmp_path / "a.npy") == (
        f"{tmp_path}/a.npy: version (9, 9) of NumPy's format cannot be read"
    )


def test_arrays_and_tables_beyond_memory_are_refused_before_it_is_taken(tmp_path, monkeypatch):
    """An archive of 100 MB of zeros packs into 0.1 MB; a sparse file takes no room at all."""
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"available": 10**9}))
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x.npy", npy_bytes("(50000000, 2)", "'|u1'", bytes(10**8)))
        archive.writestr("y.npy", npy_bytes("(50000000,)", "'|u1'"))
    with (tmp_path / "a.npy").open("wb") as file:
        file.write(npy_bytes("(50000000, 2)"))
        file.truncate(file.tell() + 8 * 10**8)
    paths = {"a.npz: x": tmp_path / "a.npz", "a.npy": tmp_path / "a.npy"}
    for name, path in paths.items():
        with megabytes_at_most(2):
            message = refusal(path)
        assert message == (
            f"{tmp_path}/{name}: 50000000 samples of 2 columns: needs 3.2 GB of memory, 1.0 GB "
            "are available; use fewer of them"
        )


def npz_with(folder: Path, **flags: int) -> Path:
    """An archive whose directory says otherwise: `encrypted`, or a `method` of compression."""
    path = folder / "a.npz"
    np.savez(path, x=X, y=Y)
    data = bytearray(path.read_bytes())
    for signature, flag, method in ((b"PK\x01\x02", 8, 10), (b"PK\x03\x04", 6, 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + flag] |= flags.get("encrypted", 0)
            data[at + method] = flags.get("method", data[at + method])
            at = data.find(signature, at + 4)
    path.write_bytes(data)
    return path


def test_archives_that_cannot_be_opened_are_refused(tmp_path):
    path = npz_with(tmp_path, encrypted=1)
    assert refusal(path).startswith(f"{path}: cannot be read: File 'x.npy' is encrypted")
    path = npz_with(tmp_path, method=97)
    assert refusal(path) == f"{path}: cannot be read: That compression method is not supported"
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(path, "w") as archive:
        for name in ("x", "y", "y"):
            archive.writestr(f"{name}.npy", npy_bytes("(40,)", "'|u1'", bytes(40)))
    assert refusal(path) == f"{path}: holds arrays of the same name: x, y, y"
    np.save(tmp_path / "a.npy", X)
    path.write_bytes((tmp_path / "a.npy").read_bytes())
    assert refusal(path) == f"{path}: cannot be read: File is not a zip file"


def test_npz_holds_x_and_y_and_flattens_images(tmp_path):
    x = np.arange(24, dtype=np.float64).reshape(3, 2, 4)
    np.savez(tmp_path / "a.npz", x=x, y=np.array([["b"], ["a"], ["b"]]))
    samples = read_samples(tmp_path / "a.npz", None)
    assert (samples.x.dtype, samples.y.dtype) == (torch.float32, torch.int64)
    assert samples.x.tolist() == x.reshape(3, 8).tolist()
    assert (samples.y.tolist(), samples.class_names) == ([1, 0, 1], ["a", "b"])
    assert samples.feature_names == [f"x{i}" for i in range(8)]
    chosen = read_samples(tmp_path / "a.npz", None, features=["x2", "x0"])
    assert chosen.feature_names == ["x0", "x2"] and chosen.x.tolist() == x[:, 0, [0, 2]].tolist()
    with pytest.raises(UserError, match="--drop 2: no such column; the columns are x0, x1"):
        read_samples(tmp_path / "a.npz", None, drop=["2"])


def test_npy_is_a_table_with_the_number_of_its_label_column(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[5, 0, 1], [6, 1, 4], [9, 0, 3]]))
    samples = read_samples(tmp_path / "a.npy", "1")
    assert samples.x.tolist() == [[5, 1], [6, 4], [9, 3]] and samples.y.tolist() == [0, 1, 0]
    assert (samples.class_names, samples.feature_names) == (["0", "1"], ["0", "2"])
    assert read_samples(tmp_path / "a.npy", "1", drop=["0"]).x.tolist() == [[1], [4], [3]]
    message = refusal(tmp_path / "a.npy", "3")
    assert message.endswith("--label 3: no such column; the columns are 0, 1, 2")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.eye(5), "y": np.arange(4)}, "x has 5 samples but y has 4"),
        ({"x": np.eye(5), "y": np.eye(5)}, "x has 5 samples but y has 25"),  # one-hot
        ({"x": np.eye(3), "y": np.float64(1)}, "x has 3 samples but y has 1"),
        ({"x": np.float64(1), "y": np.arange(3)}, "x has 1 samples but y has 3"),
        ({"x": np.eye(3), "labels": np.arange(3)}, "needs arrays x and y, has x, labels"),
        ({"x": np.zeros((0, 3)), "y": np.zeros(0)}, "x is empty: its shape is (0, 3)"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    assert refusal(tmp_path / "a.npz").endswith(message)
