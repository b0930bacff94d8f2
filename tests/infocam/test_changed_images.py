"""Training goes on, and evaluation is made, with the images that a run began with."""

import shutil

import pandas as pd
import pytest
from PIL import Image

from infocam import evaluate, explain, train

OUT = "--output-dir"


@pytest.fixture
def own_tiny(tiny_dir, tmp_path):
    """A copy of the mini Tiny-ImageNet, to be changed."""
    return shutil.copytree(tiny_dir, tmp_path / "data")


def repaint(data_dir, part):
    path = sorted((data_dir / "tiny-imagenet-200" / part).rglob("*.JPEG"))[0]
    Image.new("RGB", (64, 64), "purple").save(path)


def test_training_does_not_go_on_with_other_images(tiny_words, own_tiny, tmp_path, user_error):
    words = [*tiny_words(tmp_path / "run"), "--data-dir", str(own_tiny)]
    train.main(words)
    train.main([*words, "--resume"])
    repaint(own_tiny, "train")
    assert "the data changed (train" in user_error(train.main, [*words, "--resume"])


def leave_out(data_dir, numbers):
    """Deletes training images of all classes of the mini Tiny-ImageNet, by their number."""
    for folder in (data_dir / "tiny-imagenet-200/train").iterdir():
        listed = folder / f"{folder.name}_boxes.txt"
        lines = listed.read_text().splitlines()
        listed.write_text("\n".join(v for i, v in enumerate(lines) if i not in numbers) + "\n")
        for number in numbers:
            (folder / f"images/{folder.name}_{number}.JPEG").unlink()


def test_a_run_is_evaluated_anywhere_without_its_training_images(
    tiny_run, tiny_evaluation, own_tiny, tmp_path, monkeypatch
):
    shutil.rmtree(own_tiny / "features")
    leave_out(own_tiny, range(4))
    shutil.copytree(tiny_run.folder, tmp_path / "moved")
    monkeypatch.chdir(tmp_path)
    words = ["moved", "--data-dir", "data", "--device", "cpu", "--num-workers", "0"]
    evaluate.main([*words, "--overlays", "0", "--gallery", "0"])
    rows, expected = (
        pd.read_csv(folder / "results.csv").drop(columns="run")
        for folder in (tmp_path / "moved/evaluation", tiny_evaluation)
    )
    pd.testing.assert_frame_equal(rows, expected)
    cached = sorted(path.name.split("-")[2] for path in own_tiny.glob("features/*.npy"))
    assert cached == ["maps", "maps"]


def test_other_validation_images_than_those_of_the_run_are_refused(
    tiny_run, own_tiny, evaluate_words, tmp_path, user_error
):
    leave_out(own_tiny, [5])  # then number 3, which trained, would validate
    words = evaluate_words(tiny_run, tmp_path / "out", "--data-dir", own_tiny)
    line = user_error(evaluate.main, words)
    assert f"{tiny_run.folder} was trained with the validation images 8 images, " in line
    assert f"{own_tiny} holds 8 images, " in line
    assert not (tmp_path / "out").exists()


def test_a_finished_run_without_its_split_is_not_reported(
    digits_run, digits_words, small_window, tmp_path, user_error
):
    shutil.copytree(digits_run.folder, tmp_path / "run")
    (tmp_path / "run/split.json").unlink()
    line = user_error(train.main, digits_words(tmp_path / "run", "--resume"))
    assert "no split.json; train again with --overwrite" in line


def test_explain_never_deletes_its_pictures(tmp_path, user_error):
    folder = tmp_path / "out"
    Image.new("RGB", (40, 30), "green").save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--image-size", "64", "--device", "cpu", OUT, str(folder)]
    explain.main(words)
    shutil.copy(tmp_path / "a.png", folder / "mine.png")
    again = [str(folder / "mine.png"), *words[1:], "--overwrite"]
    assert "holds the input" in user_error(explain.main, again)
    (tmp_path / "link").symlink_to(folder)
    line = user_error(explain.main, [*words[:-1], tmp_path / "link", "--overwrite"])
    assert "it is a link" in line
    assert (folder / "mine.png").exists() and (folder / "a.npz").exists()
