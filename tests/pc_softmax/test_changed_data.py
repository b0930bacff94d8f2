"""A run goes on with the data that it began with, or not at all; nothing of the user's is lost."""

import shutil

import numpy as np
import pytest
from PIL import Image

from mi_common.files import read_arrays
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


def add(folder):
    Image.new("RGB", (6, 5), "red").save(folder / "train/ant/new.png")


def remove(folder):
    (folder / "train/bee/1.png").unlink()


def replace(folder):
    Image.new("RGB", (6, 5), "blue").save(folder / "train/bee/1.png")


def replace_test(folder):
    Image.new("RGB", (6, 5), "blue").save(folder / "test/bee/0.png")


def rename_class(folder):
    for split in ("train", "test"):
        (folder / split / "ant").rename(folder / split / "cat")


CHANGES = {add: "train 7 images", remove: "train", replace: "train", replace_test: "test official"}


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize("change", [*CHANGES, rename_class])
def test_changed_pictures_are_not_trained_on_in_the_same_run(
    pictures, tmp_path, user_error, change, finished
):
    folder = tmp_path / "run"
    main(words(pictures, folder, "--epochs", 1))
    if not finished:
        (folder / "result.json").unlink()
    before = {path: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    change(pictures)
    line = user_error(main, words(pictures, folder, "--epochs", 1, "--resume"))
    assert f"--resume {folder}: the data changed ({CHANGES.get(change, 'test official')}" in line
    assert {path: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before


def test_the_same_pictures_elsewhere_are_the_same_data(pictures, tmp_path):
    main(words(pictures, tmp_path / "run", "--epochs", 1))
    shutil.copytree(pictures / "train", tmp_path / "moved/train")
    shutil.copytree(pictures / "test", tmp_path / "moved/test")
    main(words(tmp_path / "moved", tmp_path / "run", "--epochs", 1, "--resume"))


def test_changed_weights_and_first_stages_are_found_too(digits_dir, tmp_path, user_error):
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
    replace(pictures)
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
    assert f"the run is finished but {name} is missing" in line
    assert "wrote" not in capsys.readouterr().out


def test_overwrite_never_deletes_the_pictures_it_reads(pictures, tmp_path, user_error):
    main(words(pictures, tmp_path / "out", "--epochs", 1))
    shutil.move(pictures / "train", tmp_path / "out/pictures/train")
    shutil.move(pictures / "test", tmp_path / "out/pictures/test")
    given = words(tmp_path / "out/pictures", tmp_path / "out", "--epochs", 1, "--overwrite")
    assert "which this command reads; choose another" in user_error(main, given)
    assert len(list((tmp_path / "out/pictures").rglob("*.png"))) == 9
    assert RunFolder(tmp_path / "out").finished


def test_a_flipped_bit_in_predictions_or_features_is_named(pictures, tmp_path, user_error):
    main(words(pictures, tmp_path / "out", "--epochs", 1))
    features = sorted((pictures / "features").glob("*.npy"))[0]
    content = bytearray(features.read_bytes())
    content[len(content) // 2] ^= 4
    features.write_bytes(content)
    line = user_error(main, words(pictures, tmp_path / "again", "--epochs", 1))
    assert line == f"error: {features}: damaged; delete it, and its features are computed again"
    features.unlink()
    main(words(pictures, tmp_path / "again", "--epochs", 1))
    first, again = (read_arrays(tmp_path / name / "predictions.npz") for name in ("out", "again"))
    assert np.array_equal(first["official_logits"], again["official_logits"])


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
