"""Training goes on, and evaluation is made, with the images that a run began with."""

import shutil

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


def test_a_run_is_evaluated_with_the_held_out_images_that_it_did_not_train_on(
    tiny_run, own_tiny, evaluate_words, tmp_path, user_error
):
    given = ["--data-dir", own_tiny, "--overlays", 0, "--gallery", 0]
    evaluate.main(evaluate_words(tiny_run, tmp_path / "same", *given))
    folder = sorted((own_tiny / "tiny-imagenet-200/train").iterdir())[0]
    (lines := folder / f"{folder.name}_boxes.txt").write_text(
        "\n".join(lines.read_text().splitlines()[1:]) + "\n"
    )  # one image less: others are held out
    line = user_error(evaluate.main, evaluate_words(tiny_run, tmp_path / "other", *given))
    assert f"{tiny_run.folder} was trained with the train part" in line
    assert not (tmp_path / "other").exists()


def test_a_finished_run_without_its_split_is_not_reported(
    digits_run, digits_words, small_window, tmp_path, user_error
):
    shutil.copytree(digits_run.folder, tmp_path / "run")
    (tmp_path / "run/split.json").unlink()
    line = user_error(train.main, digits_words(tmp_path / "run", "--resume"))
    assert "the run is finished but split.json is missing" in line


def test_explain_never_deletes_its_pictures(tmp_path, user_error):
    folder = tmp_path / "out"
    Image.new("RGB", (40, 30), "green").save(tmp_path / "a.png")
    words = [str(tmp_path / "a.png"), "--image-size", "64", "--device", "cpu", OUT, str(folder)]
    explain.main(words)
    shutil.copy(tmp_path / "a.png", folder / "mine.png")
    again = [str(folder / "mine.png"), *words[1:], "--overwrite"]
    assert "which this command reads" in user_error(explain.main, again)
    (tmp_path / "link").symlink_to(folder)
    line = user_error(explain.main, [*words[:-1], tmp_path / "link", "--overwrite"])
    assert "it is a link" in line
    assert (folder / "mine.png").exists() and (folder / "a.npz").exists()
