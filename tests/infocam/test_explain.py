"""`infocam.explain` end to end: figures, tables, words for classes, runs, wrong input."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from explain_files import COMMON, NAMES, box_of_row, boxes, files
from PIL import Image

from infocam import explanation
from infocam.explain import main
from infocam.maps.photographs import explain as explain_image
from infocam.models import classifiers
from infocam.models.classifiers import run_classifier
from mi_common.pictures import read_image
from mi_common.runtime import Runtime

CPU = Runtime(torch.device("cpu"))


def test_imagenets_own_head_explains_a_photograph(picture, run_explain):
    path = picture("noise.jpg", (100, 60))
    folder, printed = run_explain(
        path, "--image-size", 96, "--methods", "infocam", "cam", "layer-cam"
    )
    lines = printed.splitlines()
    pattern = r"infocam: cpu \(1 threads\), fp32, efficientnet_lite0 \(imagenet\), 1 picture"
    assert re.fullmatch(pattern, lines[0])
    assert (
        lines[-1]
        == f"wrote {folder}: figures of 1 picture, boxes.csv, boxes.json; open explain.html"
    )
    assert files(folder) == COMMON | {"noise.npz", "noise.png"}
    with np.load(folder / "noise.npz") as arrays:
        maps, scores, names = arrays["maps"], arrays["scores"], arrays["class_names"]
        assert maps.shape == (3, 6, 6) and maps.dtype == np.float32  # 96 pixels, stride 16
        assert arrays["methods"].tolist() == ["infocam", "cam", "layer-cam"]
        assert scores.shape == names.shape == (1000,)
        assert arrays["labels"].tolist() == [scores.argmax()] * 3
        assert set(boxes(folder)["class"]) == {names[scores.argmax()]}
    with Image.open(folder / "noise.png") as image:
        assert image.width > 1300 and np.asarray(image.convert("L")).std() > 20


def test_arrays_and_tables_hold_what_explain_finds(small_imagenet, picture, run_explain):
    path = picture()
    words = ["--labels", "fox", "dog", "--against", "TABBY", "--threshold", 0.7]
    folder, printed = run_explain(path, *words)
    methods = ["infocam", "class:1"]
    options = {"labels": [4, 3], "threshold": 0.7, "normalisation": "max", "runtime": CPU}
    expected = explain_image(read_image(path), small_imagenet, methods, **options)
    with np.load(folder / "cat.npz") as arrays:
        for name in ("maps", "boxes", "scores", "probabilities"):
            np.testing.assert_array_equal(arrays[name], getattr(expected, name))
        assert arrays["methods"].tolist() == methods * 2
        assert arrays["class_names"].tolist() == NAMES
        assert arrays["labels"].tolist() == [4, 4, 3, 3]
    table = boxes(folder)
    assert table["class"].tolist() == ["fox", "fox", "dog", "dog"]
    assert table["method"].tolist() == ["infocam", "class:tabby"] * 2
    assert set(table["file"]) == {str(path)} and set(table["name"]) == {"cat"}
    assert [box_of_row(row) for _, row in table.iterrows()] == expected.boxes.tolist()
    for column, values in (("score", expected.scores), ("probability", expected.probabilities)):
        np.testing.assert_allclose(table[column].astype(float), values[[4, 4, 3, 3]], rtol=1e-5)
    entries = json.loads((folder / "boxes.json").read_text())
    assert [entry["box"] or [-1] * 4 for entry in entries] == expected.boxes.tolist()
    assert [entry["score"] for entry in entries] == table["score"].astype(float).tolist()
    assert [line.split(" | ")[1] for line in printed.splitlines() if "| cat |" in line] == [
        *table["class"]
    ]


def test_one_class_is_set_against_the_runner_up_and_several_beside_each_other(
    small_imagenet, picture, run_explain
):
    scores = explain_image(read_image(picture()), small_imagenet, ["cam"], runtime=CPU).scores
    first, second, third = (NAMES[k] for k in np.argsort(-scores, kind="stable")[:3])
    one, _ = run_explain(picture(), folder="one")
    assert boxes(one)[["class", "method"]].to_numpy().tolist() == [
        [first, "infocam"],
        [first, "similar"],
    ]
    three, _ = run_explain(picture(), "--top", 3, folder="three")
    assert boxes(three)[["class", "method"]].to_numpy().tolist() == [
        [name, "infocam"] for name in (first, second, third)
    ]


def test_methods_are_taken_once_with_classes_by_name(small_imagenet, picture, run_explain):
    words = ["similar", "class:Hen", "class:6", "similar", "lowest:2", "grad-cam++"]
    folder, _ = run_explain(picture(), "--labels", "dog", "--methods", *words, "--against", "hen")
    with np.load(folder / "cat.npz") as arrays:
        assert arrays["methods"].tolist() == ["similar", "class:6", "lowest:2", "grad-cam++"]
    methods = boxes(folder)["method"].tolist()
    assert methods == ["similar", "class:hen", "lowest:2", "grad-cam++"]


def test_the_prior_changes_the_unit_but_no_other_map(
    small_imagenet, picture, run_explain, monkeypatch
):
    figures = []
    monkeypatch.setattr(explanation, "save_explanation", lambda _, figure: figures.append(figure))
    words = [picture(), "--methods", "infocam", "layer-cam", "--region", 3]
    plain, _ = run_explain(*words, folder="plain")
    prior, _ = run_explain(*words, "--prior", folder="prior")
    with np.load(plain / "cat.npz") as before, np.load(prior / "cat.npz") as after:
        shift = after["maps"][0] - before["maps"][0]
        assert np.ptp(shift) < 1e-6 < abs(shift.mean())
        np.testing.assert_array_equal(before["maps"][1], after["maps"][1])
    units = [[panel.unit for panel in figure.panels] for figure in figures]
    assert units == [["logits", ""], ["nats", ""]]
    assert not figures[0].bars[0].detail and figures[1].bars[0].detail.startswith("PMI ")


@pytest.mark.parametrize("words", [["--prior"], []])
def test_a_run_brings_its_network_and_names_wherever_it_is_and_without_its_data(
    digits_run, picture, run_explain, tmp_path, monkeypatch, words
):
    moved = shutil.copytree(digits_run.folder, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    config["flags"]["data_dir"] = "gone"
    (moved / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    path = picture("digit.png", (64, 64))
    folder, printed = run_explain(path, "--run", "moved", "--labels", "7", "--against", "1", *words)
    classifier = run_classifier(digits_run.folder, runtime=CPU)
    options = {"labels": [7], "prior": bool(words), "normalisation": "max", "runtime": CPU}
    expected = explain_image(read_image(path), classifier, ["infocam", "class:1"], **options)
    with np.load(folder / "digit.npz") as arrays:
        np.testing.assert_allclose(arrays["maps"], expected.maps, atol=1e-5)
        assert arrays["maps"].shape == (2, 16, 16)
        assert arrays["class_names"].tolist() == [str(k) for k in range(10)]
    assert "fp32, run moved, 1 picture" in printed


@pytest.mark.parametrize(
    ("words", "name", "options"),
    [
        ([], "efficientnet_lite0", ("imagenet", 16)),
        (["--network", "efficientnet_lite0", "--output-stride", 32], "efficientnet_lite0", (32,)),
        (["--network", "resnet50"], "resnet50", ("imagenet", None)),
        (["--network", "resnet50", "--weights", "x.pt"], "resnet50", ("x.pt", None)),
    ],
)
def test_the_stride_is_sixteen_where_the_default_network_is_meant(
    small_imagenet, picture, run_explain, monkeypatch, words, name, options
):
    asked = []

    def classifier(network, *, weights, output_stride, padding, runtime):
        asked.append((network, weights, output_stride))
        return small_imagenet

    monkeypatch.setattr(classifiers, "imagenet_classifier", classifier)
    run_explain(picture(), "--methods", "cam", *words)
    assert asked[0][0] == name and asked[0][-len(options) :] == options


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--labels", "cat"],
            "--labels cat: several classes; give a name or a number below 7, such",
        ),
        (["--labels", "tabbi"], "--labels tabbi: no such class; .*, such as tabby = 1$"),
        (["--against", "7"], "--against 7: no such class"),
        (["--labels", "fox", "--against", "4"], "class fox is the label itself"),
        (["--methods", "gradcam"], r"method 'gradcam': use one of cam, .*, layer-cam$"),
        (["--methods", "class:horse"], "--methods class horse: no such class"),
        (["--region", "2"], "region 2: use an odd number"),
        (["--image-size", "1"], "--image-size 1: the network cannot take it; use 16"),
        (["--threshold", "1"], "'1' is not a number from 0 to below 1"),
        (["--labels", "fox", "--top", "2"], "--top 2 with --labels: leave one of them out"),
        (["--format", "pdf"], "argument --format: invalid choice: 'pdf'"),
        (["--run", "absent"], "absent holds no finished run"),
        (["--run", "absent", "--weights", "none"], "--weights none with --run: leave one of them"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--resume"], "unrecognized arguments: --resume"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(
    small_imagenet, picture, tmp_path, user_error, words, said
):
    line = user_error(
        main, [picture(), "--output-dir", tmp_path / "out", "--device", "cpu", *words]
    )
    assert re.search(said, line), line
    assert not (tmp_path / "out").exists()
