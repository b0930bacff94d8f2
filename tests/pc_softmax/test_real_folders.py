"""Folders of one's own: rare classes, classes without test images, other files, mistakes."""

import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pc_softmax import compare, evaluate, gallery, predict, train
from pc_softmax.data import load_data
from pc_softmax.gallery import mistakes
from pc_softmax.predictions import Predictions
from tests.pc_softmax.test_picture_runs import COLOURS, arguments, draw

NOTES = [
    "left out files that are no images (1): {root}/train/ant/notes.txt",
    "official: no test images of cow (1 training images); scores leave these out",
    "no validation images of bee (9 training images), cow (1 training images): 0.1 of each "
    "class is rounded down, so that all are trained on",
]


@pytest.fixture
def pictures(tmp_path):
    """21, 9 and 1 training images, 6, 6 and no test images, and a file that is no image."""
    rng, root = np.random.default_rng(0), tmp_path / "pictures"
    for (name, colour), number in zip(COLOURS.items(), (21, 9, 1), strict=True):
        draw(root / "train" / name, number, colour, rng)
        if name != "cow":
            draw(root / "test" / name, 6, colour, rng)
    (root / "train/ant/notes.txt").write_text("no image")
    return root


def test_a_class_with_one_image_trains_and_notes_say_what_is_lacking(
    pictures, tmp_path, capsys, user_error
):
    loaded = load_data("folder", pictures, imbalance="none", val_fraction=0.1)
    assert loaded.counts.tolist() == [19, 9, 1]
    assert loaded.validation.labels.tolist() == [0, 0]
    assert loaded.notes == tuple(note.format(root=pictures) for note in NOTES)
    train.main(arguments(pictures, tmp_path / "run", "--val-fraction", 0.1))
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if line.startswith("Note: ")] == [
        f"Note: {note.format(root=pictures)}." for note in NOTES
    ]
    evaluate.main([str(tmp_path / "run")])
    printed = capsys.readouterr().out.splitlines()
    assert "Note: no samples of cow in official; scores leave these classes out." in printed
    assert "--shift" not in printed[-1] and printed[-1].startswith("next: python -m pc_softmax.")
    line = user_error(evaluate.main, [tmp_path / "run", "--shift", "--overwrite"])
    assert line == "error: --shift: no samples of cow in official; leave it out"
    rows = pd.read_csv(tmp_path / "run/evaluation/per_class.csv")
    assert rows["n"].tolist() == [6, 6, 0] and np.isnan(rows["accuracy"][2])


def test_a_folder_without_test_images_trains_and_predicts(pictures, tmp_path, capsys, user_error):
    run, with_test = tmp_path / "run", tmp_path / "with test"
    train.main(arguments(pictures, with_test, "--val-fraction", 0.1))
    shutil.move(pictures / "test", tmp_path / "new")
    capsys.readouterr()
    train.main(arguments(pictures, run, "--val-fraction", 0.1))
    note = f"no folder {pictures / 'test'}: nothing is scored; for scores put test/CLASS there"
    printed = capsys.readouterr().out.splitlines()
    assert f"Note: {note}." in printed
    assert printed[-1].endswith(f"next: python -m pc_softmax.predict {run} PICTURES")
    for target in ("uniform", "auto", "train"):
        options = ["--target-prior", target, "--bootstrap", "0", "--overwrite"]
        predict.main([str(run), str(tmp_path / "new"), *options])
    with np.load(run / "predicted/logits.npz") as file:  # those of the network with test images
        logits = Predictions.load(with_test / "predictions.npz").tests["official"][0]
        np.testing.assert_allclose(file["logits"], logits, atol=2e-6, rtol=0)
    line = user_error(evaluate.main, [run])
    assert line.startswith(f"error: {run}: trained without test images; put some into test/CLASS")
    line = user_error(compare.main, arguments(pictures, tmp_path / "c", "--losses", "softmax"))
    assert line == f"error: no folder {pictures / 'test'}; losses are compared on test/CLASS"


def test_compare_names_classes_that_its_choice_does_not_see(pictures, tmp_path, capsys):
    words = arguments(pictures, tmp_path / "compared", "--losses", "softmax", "--seeds", 0)
    compare.main([*words, "--tune", "lr", "--tune-rates", "0.1", "--tune-fraction", "0.1"])
    printed = capsys.readouterr().out.splitlines()
    assert [line for line in printed if "with --tune" in line] == [
        f"Note: with --tune, {NOTES[-1]}."
    ]


def test_the_most_probable_mistakes_come_first_with_their_pictures(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    train.main(arguments(pictures, run))
    evaluate.main([str(run)])
    assert "no gallery" not in capsys.readouterr().out
    saved = Predictions.load(run / "predictions.npz")
    posterior = np.exp(saved.test_logits["official"])
    posterior /= posterior.sum(axis=1, keepdims=True)
    predicted, labels = posterior.argmax(axis=1), saved.tests["official"][1]
    table = pd.read_csv(run / "evaluation/mistakes.csv")
    assert sorted(table["index"]) == np.flatnonzero(predicted != labels).tolist()
    assert table["probability"].to_numpy() == pytest.approx(
        np.sort(posterior.max(axis=1)[predicted != labels])[::-1]
    )
    paths = sorted((pictures / "test").rglob("*.jpg"))
    for row in table.itertuples(index=False):
        assert row.file == str(paths[row.index])
        assert row.true_class == paths[row.index].parent.name
        assert row.true_probability == pytest.approx(posterior[row.index, labels[row.index]])
    Image.open(run / "evaluation/mistakes_official.png").verify()


def test_without_the_runs_images_there_is_no_gallery_and_a_note(pictures, tmp_path, capsys):
    run = tmp_path / "run"
    train.main(arguments(pictures, run))
    Image.new("RGB", (24, 20)).save(pictures / "test/ant/03.jpg")
    evaluate.main([str(run)])
    note = f"no gallery of mistakes of official: {pictures}: its test images are no longer those of"
    assert f"Note: {note} the run." in capsys.readouterr().out.splitlines()
    (pictures / "test").rename(tmp_path / "elsewhere")
    evaluate.main([str(run), "--overwrite"])
    assert "Note: no gallery of mistakes of official: no folder " in capsys.readouterr().out
    assert not (run / "evaluation/mistakes_official.png").exists()
    assert "file" not in pd.read_csv(run / "evaluation/mistakes.csv")


def test_mistakes_by_hand():
    posterior = np.array([[0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.6, 0.4]])
    table = mistakes(np.log(posterior), np.array([1, 1, 0, 0]), ["a", "b"])
    assert table.round(6).to_numpy().tolist() == [[2, "a", "b", 0.9, 0.1], [0, "b", "a", 0.7, 0.3]]


def test_a_gallery_shows_each_picture_with_both_classes(pictures, monkeypatch):
    figures = []
    monkeypatch.setattr(gallery, "save_figure", lambda figure, path: figures.append(figure))
    images = load_data("folder", pictures, imbalance="none").tests["official"]
    table = mistakes(np.log([[0.7, 0.2, 0.1]] * 12), images.labels.numpy(), images.class_names)
    gallery.save_gallery(table, images, "official: 6", pictures / "x.png")
    titles = [panel.get_title() for panel in figures[0].axes]
    assert titles == ["ant, p = 0.70\ntrue: bee, p = 0.20"] * 6
    shown = figures[0].axes[0].images[0].get_array()
    assert np.array_equal(shown, np.asarray(Image.open(pictures / "test/bee/00.jpg")))
