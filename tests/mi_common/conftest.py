"""A small Tiny-ImageNet in the official layout; folders that no test leaves locked."""

from pathlib import Path

import pytest

from mi_common.files import release_locks


@pytest.fixture(autouse=True)
def released():
    yield
    release_locks()


@pytest.fixture
def tiny_root(tmp_path) -> Path:
    """The folder tiny-imagenet-200 with three classes; annotations, but no images yet."""
    root = tmp_path / "tiny-imagenet-200"
    (root / "val/images").mkdir(parents=True)
    (root / "wnids.txt").write_text("n02\nn01\nn03\n")
    (root / "words.txt").write_text("n01\tgoldfish, Carassius auratus\nn02\tEgyptian cat\n")
    for wnid in ("n01", "n02", "n03"):
        folder = root / "train" / wnid
        (folder / "images").mkdir(parents=True)
        lines = [f"{wnid}_{i}.JPEG\t{i}\t2\t6{i}\t40\n" for i in range(2)]
        (folder / f"{wnid}_boxes.txt").write_text("".join(lines))
    (root / "val/val_annotations.txt").write_text(
        "val_0.JPEG\tn03\t0\t32\t44\t62\nval_1.JPEG\tn02\t52\t55\t57\t59\n"
    )
    return root
