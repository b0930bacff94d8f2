"""`infocam.explain` end to end: files, folders, tables, words for classes, wrong input."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from infocam import explanation
from infocam.explain import main
from infocam.figures import evidence
from infocam.maps.photographs import explain as explain_image
from infocam.models import classifiers
from infocam.models.classifiers import Classifier, run_classifier
from mi_common.backbones import GlobalAveragePoolClassifier, InputSpec
from mi_common.pictures import read_image
from mi_common.runtime import Runtime

CPU = Runtime(torch.device("cpu"))
NAMES = ["Egyptian cat", "tabby", "tiger cat", "dog", "fox", "cow", "hen"]


@pytest.fixture
def small(monkeypatch) -> Classifier:
    """Seven classes of an untrained network in place of ImageNet's, and coarse figures."""
    monkeypatch.setattr(evidence, "DPI", 20)
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2, padding=1), nn.ReLU())
    network = GlobalAveragePoolClassifier(backbone, 8, 7, InputSpec(16)).eval()
    classifier = Classifier(
        network, network, NAMES, torch.full((7,), 1 / 7).log(), torch.full((7,), 1 / 7).log()
    )
    monkeypatch.setattr(classifiers, "imagenet_classifier", lambda *_, **__: classifier)
    return classifier


@pytest.fixture
def picture(tmp_path):
    """Writes a picture under a name and returns its path."""

    def make(name: str = "cat.png", size: tuple[int, int] = (48, 32)):
        path = tmp_path / "pictures" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(len(name)).integers(0, 256, (*size[::-1], 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        return path

    return make


@pytest.fixture
def run(tmp_path, capsys):
    """Runs the command into a folder of its own; gives the folder and what was printed."""

    def call(*words, folder: str = "out"):
        capsys.readouterr()
        words = [*words, "--output-dir", tmp_path / folder, "--device", "cpu"]
        main([str(word) for word in words])
        return tmp_path / folder, capsys.readouterr().out

    return call


def boxes(folder) -> pd.DataFrame:
    return pd.read_csv(folder / "boxes.csv", dtype=str, keep_default_na=False)


def box_of_row(row: pd.Series) -> list[int]:
    return [int(row[side] or -1) for side in ("x0", "y0", "x1", "y1")]


def files(folder) -> set[str]:
    return {path.name for path in folder.glob("[!.]*")}


COMMON = {"config.json", "boxes.csv", "boxes.json", "explain.html"}


def test_imagenets_own_head_explains_a_photograph(picture, run):
    path = picture("noise.jpg", (100, 60))
    folder, printed = run(path, "--image-size", 96, "--methods", "infocam", "cam", "layer-cam")
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


def test_arrays_and_tables_hold_what_explain_finds(small, picture, run):
    path = picture()
    words = ["--labels", "fox", "dog", "--against", "TABBY", "--threshold", 0.7]
    folder, printed = run(path, *words)
    methods = ["infocam", "class:1"]
    options = {"labels": [4, 3], "threshold": 0.7, "normalisation": "max", "runtime": CPU}
    expected = explain_image(read_image(path), small, methods, **options)
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


def test_one_class_is_set_against_the_runner_up_and_several_beside_each_other(small, picture, run):
    scores = explain_image(read_image(picture()), small, ["cam"], runtime=CPU).scores
    first, second, third = (NAMES[k] for k in np.argsort(-scores, kind="stable")[:3])
    one, _ = run(picture(), folder="one")
    assert boxes(one)[["class", "method"]].to_numpy().tolist() == [
        [first, "infocam"],
        [first, "similar"],
    ]
    three, _ = run(picture(), "--top", 3, folder="three")
    assert boxes(three)[["class", "method"]].to_numpy().tolist() == [
        [name, "infocam"] for name in (first, second, third)
    ]


def test_methods_are_taken_once_with_classes_by_name(small, picture, run):
    words = ["similar", "class:Hen", "class:6", "similar", "lowest:2", "grad-cam++"]
    folder, _ = run(picture(), "--labels", "dog", "--methods", *words, "--against", "hen")
    with np.load(folder / "cat.npz") as arrays:
        assert arrays["methods"].tolist() == ["similar", "class:6", "lowest:2", "grad-cam++"]
    methods = boxes(folder)["method"].tolist()
    assert methods == ["similar", "class:hen", "lowest:2", "grad-cam++"]


def test_the_prior_changes_the_unit_but_no_other_map(small, picture, run, monkeypatch):
    figures = []
    monkeypatch.setattr(explanation, "save_explanation", lambda _, figure: figures.append(figure))
    words = [picture(), "--methods", "infocam", "layer-cam", "--region", 3]
    plain, _ = run(*words, folder="plain")
    prior, _ = run(*words, "--prior", folder="prior")
    with np.load(plain / "cat.npz") as before, np.load(prior / "cat.npz") as after:
        shift = after["maps"][0] - before["maps"][0]
        assert np.ptp(shift) < 1e-6 < abs(shift.mean())
        np.testing.assert_array_equal(before["maps"][1], after["maps"][1])
    units = [[panel.unit for panel in figure.panels] for figure in figures]
    assert units == [["logits", ""], ["nats", ""]]
    assert not figures[0].bars[0].detail and figures[1].bars[0].detail.startswith("PMI ")


@pytest.mark.parametrize("words", [["--prior"], []])
def test_a_run_brings_its_network_and_names_wherever_it_is_and_without_its_data(
    digits_run, picture, run, tmp_path, monkeypatch, words
):
    moved = shutil.copytree(digits_run.folder, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    config["flags"]["data_dir"] = "gone"
    (moved / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    path = picture("digit.png", (64, 64))
    folder, printed = run(path, "--run", "moved", "--labels", "7", "--against", "1", *words)
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
    small, picture, run, monkeypatch, words, name, options
):
    asked = []

    def classifier(network, *, weights, output_stride, padding, runtime):
        asked.append((network, weights, output_stride))
        return small

    monkeypatch.setattr(classifiers, "imagenet_classifier", classifier)
    run(picture(), "--methods", "cam", *words)
    assert asked[0][0] == name and asked[0][-len(options) :] == options


def test_files_folders_and_patterns_are_read_and_unreadable_ones_reported(
    small, picture, run, tmp_path, user_error
):
    for name in ("a/cat.png", "b/cat.jpg", "c/cat-2.png", "c/d/dog.webp", "e/fox.png"):
        picture(name)
    places = tmp_path / "pictures"
    (places / "c/notes.txt").write_text("no picture")
    broken = places / "c/broken.png"
    broken.write_bytes((places / "a/cat.png").read_bytes()[:200])
    words = [places / "a/cat.png", places / "b*/*.jpg", places / "c", "--methods", "cam"]
    folder, printed = run(*words)
    stems = ["cat", "cat-2", "cat-2-2", "dog"]
    assert boxes(folder)["name"].tolist() == stems
    assert files(folder) == COMMON | {f"{s}.{end}" for s in stems for end in ("png", "npz")}
    assert f"left out {broken}: not a readable image (OSError)" in printed.splitlines()
    assert f"left out 1 files that are no pictures, such as {places}/c/notes.txt" in printed
    line = user_error(main, [broken, "--output-dir", tmp_path / "none", "--device", "cpu"])
    assert f"none of 1 pictures could be read, first {broken}: not a readable image" in line
    assert not (tmp_path / "none").exists()
    line = user_error(main, [places / "*.gif", "--output-dir", tmp_path / "none"])
    assert f"{places}/*.gif: no such file or folder, and no match" in line


def test_a_second_call_adds_and_never_replaces(small, picture, run):
    folder, _ = run(picture("cat.png"), "--methods", "cam")
    (folder / "dog.jpg").write_text("the user's own")
    before = {path.name: path.read_bytes() for path in folder.glob("[!.]*")}
    run(picture("cat.png"), picture("dog.png"), "--methods", "infocam", "--format", "svg")
    new = {"cat-2.svg", "cat-2.npz", "dog-2.svg", "dog-2.npz"}
    assert files(folder) == before.keys() | new
    added_to = {"boxes.csv", "boxes.json", "explain.html"}
    for name in before.keys() - added_to:
        assert (folder / name).read_bytes() == before[name]
    table = (folder / "boxes.csv").read_bytes()
    assert table.startswith(before["boxes.csv"]) and len(table) > len(before["boxes.csv"])
    assert boxes(folder)["name"].tolist() == ["cat", "cat-2", "dog-2"]
    assert len(json.loads((folder / "boxes.json").read_text())) == 3
    page = (folder / "explain.html").read_text()
    assert [page.count(f'<section id="{name}">') for name in ("cat", "cat-2", "dog-2")] == [1] * 3


def test_what_is_finished_stays_when_the_command_is_interrupted(small, picture, run, monkeypatch):
    def interrupted(*words, **options):
        if words[0].name == "dog":
            raise KeyboardInterrupt
        return write(*words, **options)

    write = explanation.write_explanation
    monkeypatch.setattr(explanation, "write_explanation", interrupted)
    with pytest.raises(SystemExit) as stopped:
        run(picture("cat.png"), picture("dog.png"), picture("fox.png"))
    assert stopped.value.code == 130
    folder = picture().parents[1] / "out"
    assert files(folder) == COMMON | {"cat.png", "cat.npz"}
    assert set(boxes(folder)["name"]) == {"cat"}
    assert {entry["name"] for entry in json.loads((folder / "boxes.json").read_text())} == {"cat"}
    assert '<section id="cat">' in (folder / "explain.html").read_text()


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("config.json", '{"entry": "infocam.train"}', "out: not an output of infocam.explain;"),
        ("config.json", "{}", "out: not an output of infocam.explain; choose another"),
        ("config.json", None, "out exists; use --overwrite or another --output-dir"),
        ("boxes.csv", "a,b\n1,2\n", "boxes.csv: columns a, b; move it"),
        ("boxes.csv", "", "boxes.csv: not a table; move it"),
    ],
)
def test_nothing_is_added_to_a_folder_of_something_else(
    small, picture, run, user_error, file, text, said
):
    folder, _ = run(picture("cat.png"))
    if text is None:
        (folder / file).unlink()
    else:
        (folder / file).write_text(text)
    line = user_error(main, [picture("dog.png"), "--output-dir", folder, "--device", "cpu"])
    assert said in line
    assert not (folder / "dog.png").exists() and (folder / "cat.png").exists()


def test_overwrite_replaces_the_files_of_an_earlier_call(small, picture, run):
    folder, _ = run(picture("cat.png"))
    run(picture("dog.png"), "--overwrite")
    assert files(folder) == COMMON | {"dog.npz", "dog.png"}
    assert set(boxes(folder)["name"]) == {"dog"}


def test_overwrite_does_not_delete_what_it_is_to_explain(small, picture, run, tmp_path, user_error):
    folder, _ = run(picture("cat.png"))
    words = [folder / "cat.png", "--output-dir", folder, "--overwrite", "--device", "cpu"]
    assert f"holds the input {folder}/cat.png;" in user_error(main, words)
    words = [picture(), "--run", folder, "--output-dir", folder, "--overwrite", "--device", "cpu"]
    assert f"holds the input {folder};" in user_error(main, words)
    assert (folder / "cat.npz").exists()


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
    small, picture, tmp_path, user_error, words, said
):
    line = user_error(
        main, [picture(), "--output-dir", tmp_path / "out", "--device", "cpu", *words]
    )
    assert re.search(said, line), line
    assert not (tmp_path / "out").exists()
