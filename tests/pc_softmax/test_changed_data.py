"""A run resumes only with the data that it began with, and deletes no file of the user."""

import shutil

import pytest
from PIL import Image

from mi_common.records import RunFolder
from pc_softmax import compare
from pc_softmax.train import main

TINY = ["--dataset", "folder", "--network", "timm:mobilenetv3_small_050", "--weights", "none"]
TINY += ["--image-size", "32", "--device", "cpu", "--num-workers", "0", "--batch-size", "4"]


@pytest.fixture
def pictures(write_pictures):
    return write_pictures(ant=4, bee=3)


def words(data_dir, folder, *more) -> list[str]:
    return [str(word) for word in [*TINY, "--data-dir", data_dir, "--output-dir", folder, *more]]


def picture(path, colour: str) -> None:
    Image.new("RGB", (6, 5), colour).save(path)


def rename_class(folder) -> None:
    for split in ("train", "test"):
        (folder / split / "ant").rename(folder / split / "cat")


ADD = "add", lambda folder: picture(folder / "train/ant/new.png", "red"), "train 7 images"
REMOVE = "remove", lambda folder: (folder / "train/bee/1.png").unlink(), "train"
REPLACE = "replace", lambda folder: picture(folder / "train/bee/1.png", "blue"), "train"
TEST = "replace test", lambda folder: picture(folder / "test/bee/0.png", "blue"), "test official"
RENAME = "rename class", rename_class, "test official"


@pytest.mark.parametrize(
    ("change", "finished"),
    [*((change, True) for change in (ADD, REMOVE, REPLACE, TEST, RENAME)), (REPLACE, False)],
    ids=lambda value: value[0] if isinstance(value, tuple) else str(value),
)
def test_resume_refuses_changed_pictures(pictures, tmp_path, user_error, change, finished):
    folder, (_, apply, changed_part) = tmp_path / "run", change
    main(words(pictures, folder, "--epochs", 1))
    if not finished:
        (folder / "result.json").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    apply(pictures)
    line = user_error(main, words(pictures, folder, "--epochs", 1, "--resume"))
    assert f"--resume {folder}: the data changed ({changed_part}" in line
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_the_same_pictures_elsewhere_are_the_same_data(pictures, tmp_path):
    main(words(pictures, tmp_path / "run", "--epochs", 1))
    shutil.copytree(pictures / "train", tmp_path / "moved/train")
    shutil.copytree(pictures / "test", tmp_path / "moved/test")
    main(words(tmp_path / "moved", tmp_path / "run", "--epochs", 1, "--resume"))


def test_resume_refuses_another_first_stage(digits_dir, tmp_path, user_error):
    shared = ["--data-dir", digits_dir, "--epochs", 1, "--device", "cpu"]
    shared = [str(word) for word in shared]
    for seed in ("0", "1"):
        main([*shared, "--seed", seed, "--output-dir", str(tmp_path / seed)])
    second = [*shared, "--init", str(tmp_path / "0"), "--output-dir", str(tmp_path / "second")]
    main(second)
    shutil.copy(tmp_path / "1/checkpoint.pt", tmp_path / "0/checkpoint.pt")
    assert "the data changed (init" in user_error(main, [*second, "--resume"])


def test_a_comparison_with_other_pictures_is_refused(pictures, tmp_path, user_error):
    given = words(pictures, tmp_path / "out", "--epochs", 1, "--seeds", 0)
    compare.main(given)
    rows = (tmp_path / "out/results.csv").read_bytes()
    REPLACE[1](pictures)
    line = user_error(compare.main, [*given[:-1], "0", "1", "--resume"])
    assert "the data changed (train" in line
    assert (tmp_path / "out/results.csv").read_bytes() == rows


@pytest.mark.parametrize("name", ["predictions.npz", "indices.npz", "checkpoint.pt"])
def test_a_finished_run_without_a_file_is_not_reported_as_written(
    digits_dir, tmp_path, user_error, capsys, name
):
    given = ["--data-dir", digits_dir, "--epochs", 1, "--device", "cpu", "--output-dir"]
    given = [str(word) for word in [*given, tmp_path / "run"]]
    main(given)
    (tmp_path / "run" / name).unlink()
    line = user_error(main, [*given, "--resume"])
    assert f": no {name}; train again with --overwrite" in line
    assert "wrote" not in capsys.readouterr().out


def test_overwrite_never_deletes_the_pictures_it_reads(pictures, tmp_path, user_error):
    main(words(pictures, tmp_path / "out", "--epochs", 1))
    shutil.move(pictures / "train", tmp_path / "out/pictures/train")
    shutil.move(pictures / "test", tmp_path / "out/pictures/test")
    given = words(tmp_path / "out/pictures", tmp_path / "out", "--epochs", 1, "--overwrite")
    assert "holds the input" in user_error(main, given)
    assert len(list((tmp_path / "out/pictures").rglob("*.png"))) == 9
    assert RunFolder(tmp_path / "out").finished


def test_a_cut_results_file_is_named(digits_dir, tmp_path, user_error):
    given = ["--data-dir", digits_dir, "--epochs", 1, "--device", "cpu", "--seeds", 0]
    given = [str(word) for word in [*given, "--num-workers", 0, "--output-dir", tmp_path / "out"]]
    compare.main(given)
    path = tmp_path / "out/results.csv"
    whole = path.read_text()
    for damage in (whole[:-20], whole.replace(",pc-softmax,", ",pc-softmax,,", 1), "\0" + whole):
        path.write_text(damage)
        line = user_error(compare.main, [*given, "--resume"])
        assert f"{path}: " in line and "delete it and run again with --resume" in line
    path.unlink()
    compare.main([*given, "--resume"])
    assert path.read_text() == whole
