"""`pc_softmax.predict`: the run's own test pictures, files that fail, grey and colour networks."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import special

from mi_common.datasets import idx_images, image_tensors
from mi_common.files import read_json, write_json
from pc_softmax import predict, train
from pc_softmax.predictions import Predictions
from pc_softmax.trained import TrainedNetwork
from tests.pc_softmax.test_picture_runs import COLOURS, COUNTS, TINY, draw

CPU = ["--device", "cpu", "--num-workers", 0]
FEW = ["--bootstrap", 2]


def run_main(main, *words) -> None:
    main([str(word) for word in words])


@pytest.fixture(scope="module")
def digits_run(digits_dir, tmp_path_factory):
    """A run on generated digits, and a folder with its official test images as PNG files."""
    folder = tmp_path_factory.mktemp("digits")
    words = ["--data-dir", digits_dir, "--output-dir", folder / "run", "--device", "cpu"]
    run_main(train.main, *words, "--epochs", 2, "--batch-size", 16, "--lr", 0.03)
    (folder / "png").mkdir()
    for i, image in enumerate(idx_images("mnist", digits_dir, "test")[0].numpy()):
        Image.fromarray(image).save(folder / f"png/{i:03d}.png")
    return folder


@pytest.fixture(scope="module")
def folder_run(tmp_path_factory):
    """A frozen network trained on drawn pictures, with validation pictures."""
    folder, rng = tmp_path_factory.mktemp("folder"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        draw(folder / "pictures/train" / name, COUNTS[name], colour, rng)
        draw(folder / "pictures/test" / name, 5, colour, rng)
    words = ["--dataset", "folder", "--data-dir", folder / "pictures", *TINY, *CPU]
    run_main(train.main, *words, "--output-dir", folder / "run", "--val-fraction", 0.25)
    shutil.rmtree(folder / "pictures/train")
    shutil.rmtree(folder / "pictures/features")  # the run alone is enough
    return folder


@pytest.mark.parametrize("kind", ["digits", "folder"])
def test_a_runs_own_test_pictures_get_its_own_logits(kind, request, tmp_path):
    folder = request.getfixturevalue(f"{kind}_run")
    pictures = folder / ("png" if kind == "digits" else "pictures/test")
    run_main(predict.main, folder / "run", pictures, "--output-dir", tmp_path / "out", *CPU, *FEW)
    saved = Predictions.load(folder / "run/predictions.npz")
    logits, _ = saved.tests["official"]
    with np.load(tmp_path / "out/logits.npz") as file:
        assert file["logits"].dtype == np.float32
        np.testing.assert_allclose(file["logits"], logits, atol=2e-6, rtol=0)
        assert file["files"].tolist() == sorted(map(str, pictures.rglob("*.*g")))
    rows = pd.read_csv(tmp_path / "out/predictions.csv", dtype={"class": str, "class_2": str})
    posterior = np.exp(saved.test_logits["official"])
    posterior /= posterior.sum(axis=1, keepdims=True)
    names = np.array(saved.class_names)
    assert rows["class"].tolist() == names[posterior.argmax(axis=1)].tolist()
    assert rows["class_2"].tolist() == names[np.argsort(-posterior, axis=1)[:, 1]].tolist()
    # Under the uniform prior 1 / K, the ratio of posterior and prior is K times the posterior.
    pmi = np.log(len(names) * posterior.max(axis=1))
    for column, expected in (
        ("probability", posterior.max(axis=1)),
        ("entropy", -special.xlogy(posterior, posterior).sum(axis=1)),
        ("pmi", pmi),
    ):
        assert rows[column].to_numpy() == pytest.approx(expected, abs=1e-5)
    assert len(rows.columns) == 5 + 2 * (min(5, len(names)) - 1)


@pytest.mark.parametrize(
    "words",
    [
        ["--network", "small-cnn", "--loss", "ldam"],  # a cosine head on measured grey levels
        ["--network", "timm:mobilenetv3_small_050", "--weights", "none"],  # grey ones as colour
        ["--network", "small-cnn", "--loss", "softmax", "--init", "first", "--retrain-head"],
    ],
)
def test_every_kind_of_run_is_loaded_from_its_folder(tmp_path, monkeypatch, cpu, words):
    monkeypatch.chdir(tmp_path)
    first = ["--dataset", "digits", "--device", "cpu", "--epochs", 1, "--batch-size", 100]
    if "--init" in words:
        run_main(train.main, *first, *words[:2], "--loss", "softmax", "--output-dir", "first")
    run_main(train.main, *first, *words, "--output-dir", "run")
    config = read_json(tmp_path / "run/config.json")
    del config["flags"]["tau"]  # as if an earlier version had written it
    write_json(tmp_path / "run/config.json", config)
    paths = []
    for i, image in enumerate(image_tensors("digits", tmp_path, "test").images[:70, 0].numpy()):
        paths.append(tmp_path / f"{i:02d}.png")
        Image.fromarray(image).save(paths[-1])
    network = TrainedNetwork.load(tmp_path / "run", runtime=cpu)
    logits, read, unreadable = network.logits_of_files(paths)
    assert (read, unreadable) == (paths, [])
    saved = Predictions.load(tmp_path / "run/predictions.npz").tests["official"][0][:70]
    np.testing.assert_allclose(logits, saved, atol=1e-5 * np.abs(saved).max(), rtol=0)


def test_pictures_of_any_kind_are_read_and_the_others_listed(folder_run, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    draw(pictures / "inner", 1, COLOURS["ant"], np.random.default_rng(1))
    red = Image.new("RGB", (9, 7), COLOURS["ant"])
    red.convert("RGBA").save(pictures / "a.png")
    red.convert("P").save(pictures / "b.gif")
    red.convert("L").save(pictures / "c.TIFF")
    (pictures / "d.jpg").write_bytes(b"no picture")
    (pictures / "notes.txt").write_text("no picture")
    (pictures / ".hidden.png").write_bytes(b"")
    run_main(predict.main, folder_run / "run", pictures, pictures / "a.png", *CPU, *FEW)
    out = folder_run / "run/predicted"
    rows = pd.read_csv(out / "predictions.csv")
    names = [str(pictures / name) for name in ("a.png", "b.gif", "c.TIFF", "inner/00.jpg")]
    assert rows["file"].tolist() == names
    assert rows["class"][0] == rows["class"][1] and rows["probability"][0] != rows["probability"][2]
    unreadable = pd.read_csv(out / "unreadable.csv")
    reason = "not a readable image (UnidentifiedImageError)"
    assert unreadable.to_numpy().tolist() == [[str(pictures / "d.jpg"), reason]]
    result = json.loads((out / "result.json").read_text())
    assert (result["n"], result["n_unreadable"], result["target_prior"]) == (4, 1, "uniform")
    printed = capsys.readouterr().out
    assert f"left out {pictures / 'd.jpg'}: {reason}" in printed
    assert f"left out 1 files that are no pictures, such as {pictures / 'notes.txt'}" in printed


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["{run}", "nowhere"], "nowhere: no such file or folder"),
        (["{run}", "{empty}"], "no pictures; use files that end in .bmp"),
        (["{run}", "{bad}"], "none of 1 pictures could be read, first {bad}: not a readable image"),
        (["{empty}", "{bad}"], "holds no finished run"),
        (["{run}", "{bad}", "--target-prior", "emm"], "--target-prior emm: neither argmax"),
        (["{run}", "{bad}", "--output-dir", "{run}"], "holds the run itself"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(digits_run, tmp_path, user_error, words, said):
    places = {"run": digits_run / "run", "empty": tmp_path / "empty", "bad": tmp_path / "bad.png"}
    places["empty"].mkdir()
    places["bad"].write_bytes(b"x")
    words = [word.format(**places) for word in words]
    assert said.format(**places) in user_error(predict.main, [*words, *CPU])
    assert not (digits_run / "run/predicted").exists()
