"""`infocam.explain` end to end: files, tables, words for classes and methods, wrong input."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from infocam import explanation
from infocam.explain import main
from infocam.explanation import unique_stems
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
    """Seven classes of an untrained network in place of ImageNet's."""
    torch.manual_seed(1)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=2, padding=1), nn.ReLU())
    network = GlobalAveragePoolClassifier(backbone, 8, 7, InputSpec(16)).eval()
    classifier = Classifier(network, NAMES, torch.full((7,), 1 / 7).log(), softmax=True)
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


def rows(printed: str, head: str) -> list[list[str]]:
    """The cells of the tables whose first column has this head."""
    lines = [line[2:-2].split(" | ") for line in printed.splitlines() if line.startswith("| ")]
    body, inside = [], False
    for cells in lines:
        inside = cells[0] == head or (inside and cells[0] not in ("rank", "method"))
        if inside and cells[0] not in (head, "---"):
            body.append([cell.strip() for cell in cells])
    return body


def test_imagenets_own_head_explains_a_photograph(picture, run):
    path = picture("noise.jpg", (100, 60))
    folder, printed = run(path, "--image-size", 96, "--methods", "infocam", "cam", "layer-cam")
    lines = printed.splitlines()
    assert re.fullmatch(
        r"infocam: cpu \(1 threads\), fp32, efficientnet_lite0 \(imagenet\), writing .*/out",
        lines[0],
    )
    assert lines[-1] == f"wrote {folder}/noise.png, {folder}/noise.npz"
    assert {p.name for p in folder.glob("[!.]*")} == {"config.json", "noise.npz", "noise.png"}
    with np.load(folder / "noise.npz") as arrays:
        maps, scores, names = arrays["maps"], arrays["scores"], arrays["class_names"]
        assert maps.shape == (3, 6, 6) and maps.dtype == np.float32  # 96 pixels, stride 16
        assert arrays["methods"].tolist() == ["infocam", "cam", "layer-cam"]
        assert scores.shape == names.shape == (1000,)
        assert arrays["label"] == scores.argmax()
        top = names[np.argsort(-scores)[:5]]
    assert [line[1] for line in rows(printed, "rank")] == top.tolist()
    with Image.open(folder / "noise.png") as image:
        assert image.width == 891 and np.asarray(image.convert("L")).std() > 20


def test_files_and_tables_say_what_explain_finds(small, picture, run):
    path = picture()
    folder, printed = run(path, "--label", "fox", "--against", "TABBY", "--threshold", 0.7)
    methods = ["cam", "infocam", "infocam+", "class:1"]
    expected = explain_image(read_image(path), small, methods, label=4, threshold=0.7, runtime=CPU)
    with np.load(folder / "cat.npz") as arrays:
        np.testing.assert_array_equal(arrays["maps"], expected.maps)
        np.testing.assert_array_equal(arrays["boxes"], expected.boxes)
        np.testing.assert_array_equal(arrays["scores"], expected.scores)
        assert arrays["methods"].tolist() == methods
        assert arrays["class_names"].tolist() == NAMES
        assert int(arrays["label"]) == 4
    assert f"{path}: fox (4), as asked for" in printed
    boxes = [" ".join(map(str, box)) for box in expected.boxes.tolist()]
    against = ["", "6 classes", expected.against[2], "tabby"]
    shown = ["cam", "infocam", "infocam+", "class:tabby"]
    assert rows(printed, "method") == [list(row) for row in zip(shown, against, boxes, strict=True)]
    order = np.argsort(-expected.scores).tolist()
    ranks = rows(printed, "rank")
    assert [line[:3] for line in ranks[:5]] == [
        [str(1 + i), NAMES[k], str(k)] for i, k in enumerate(order[:5])
    ]
    assert [float(line[3]) for line in ranks] == pytest.approx(
        [expected.scores[int(line[2])] for line in ranks], abs=0.005
    )
    assert any(line[1] == "fox" for line in ranks)


def test_the_label_is_listed_with_its_rank_where_it_is_none_of_the_likeliest(small, picture, run):
    least = int(explain_image(read_image(picture()), small, ["cam"], runtime=CPU).scores.argmin())
    _, printed = run(picture(), "--label", least)
    lines = rows(printed, "rank")
    assert len(lines) == 6 and lines[-1][:3] == ["7", NAMES[least], str(least)]


def test_the_likeliest_class_of_each_image_is_its_label(small, picture, run):
    paths = [picture(name) for name in ("a.png", "bb.png", "ccc.png")]
    folder, printed = run(*paths, "--methods", "infocam+")
    for path in paths:
        expected = explain_image(read_image(path), small, ["infocam+"], runtime=CPU)
        with np.load(folder / f"{path.stem}.npz") as arrays:
            assert int(arrays["label"]) == expected.label
            np.testing.assert_array_equal(arrays["maps"], expected.maps)
        assert f"{path}: {NAMES[expected.label]} ({expected.label}), the likeliest" in printed


def test_methods_are_taken_once_with_classes_by_name(small, picture, run):
    words = ["similar", "class:Hen", "class:6", "similar", "lowest:2", "grad-cam++"]
    folder, printed = run(picture(), "--label", "dog", "--methods", *words, "--against", "hen")
    with np.load(folder / "cat.npz") as arrays:
        assert arrays["methods"].tolist() == ["similar", "class:6", "lowest:2", "grad-cam++"]
    assert [row[0] for row in rows(printed, "method")] == [
        *("similar", "class:hen", "lowest:2", "grad-cam++")
    ]


def test_the_prior_changes_the_unit_and_not_the_box_of_infocam(small, picture, run, monkeypatch):
    drawn = []

    def save(path, overlay, *rest, score, **options):
        drawn.append((list(overlay.maps), score))

    monkeypatch.setattr(explanation, "save_explanation", save)
    words = [picture(), "--methods", "infocam", "layer-cam", "--region", 3]
    plain, _ = run(*words, folder="plain")
    prior, printed = run(*words, "--prior", folder="prior")
    with np.load(plain / "cat.npz") as before, np.load(prior / "cat.npz") as after:
        np.testing.assert_array_equal(before["boxes"], after["boxes"])
        shift = after["maps"][0] - before["maps"][0]
        assert np.ptp(shift) < 1e-6 < abs(shift.mean())
        np.testing.assert_array_equal(before["maps"][1], after["maps"][1])
    assert "| pointwise mutual information (nats) |" in printed
    assert drawn == [
        (["infocam", "layer-cam"], "logit"),
        (["infocam, nats", "layer-cam"], "pointwise mutual information (nats)"),
    ]


def test_a_run_brings_its_network_and_names_wherever_it_is_and_without_its_data(
    digits_run, picture, run, tmp_path, monkeypatch
):
    moved = shutil.copytree(digits_run.folder, tmp_path / "moved")
    config = json.loads((moved / "config.json").read_text())
    config["flags"]["data_dir"] = "gone"
    (moved / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    path = picture("digit.png", (64, 64))
    folder, printed = run(path, "--run", "moved", "--prior", "--label", "7", "--against", "1")
    classifier = run_classifier(digits_run.folder, runtime=CPU)
    methods = ["cam", "infocam", "infocam+", "class:1"]
    options = {"label": 7, "prior": True, "runtime": CPU}
    expected = explain_image(read_image(path), classifier, methods, **options)
    with np.load(folder / "digit.npz") as arrays:
        np.testing.assert_allclose(arrays["maps"], expected.maps, atol=1e-5)
        assert arrays["maps"].shape == (4, 16, 16)
        assert arrays["class_names"].tolist() == [str(k) for k in range(10)]
    assert "fp32, run moved, writing" in printed


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

    def classifier(network, *, weights, output_stride, runtime):
        asked.append((network, weights, output_stride))
        return small

    monkeypatch.setattr(classifiers, "imagenet_classifier", classifier)
    run(picture(), "--methods", "cam", *words)
    assert asked[0][0] == name and asked[0][-len(options) :] == options


def test_files_of_one_name_get_numbers(small, picture, run):
    paths = [picture("a/cat.png"), picture("b/cat.jpg"), picture("c/cat-2.png")]
    folder, _ = run(*paths, "--methods", "cam")
    assert {path.name for path in folder.glob("*.npz")} == {"cat.npz", "cat-2.npz", "cat-2-2.npz"}
    assert unique_stems([*paths, paths[0]]) == ["cat", "cat-2", "cat-2-2", "cat-3"]


def test_overwrite_replaces_the_files_of_an_earlier_call(small, picture, run, user_error):
    folder, _ = run(picture("cat.png"))
    words = [picture("dog.png"), "--output-dir", folder, "--device", "cpu"]
    assert f"{folder} exists; use --overwrite" in user_error(main, words)
    assert (folder / "cat.png").exists() and not (folder / "dog.png").exists()
    run(picture("dog.png"), "--overwrite")
    assert {path.name for path in folder.glob("[!.]*")} == {"config.json", "dog.npz", "dog.png"}


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
        (["--label", "cat"], "--label cat: several classes; give a name or a number below 7, such"),
        (["--label", "tabbi"], "--label tabbi: no such class; .*, such as tabby = 1$"),
        (["--against", "7"], "--against 7: no such class"),
        (["--label", "fox", "--against", "4"], "class fox is the label itself"),
        (["--methods", "gradcam"], r"method 'gradcam': use one of cam, .*, layer-cam$"),
        (["--methods", "class:horse"], "--methods class horse: no such class"),
        (["--region", "2"], "region 2: use an odd number"),
        (["--image-size", "1"], "--image-size 1: the network cannot take it; use 16"),
        (["--threshold", "1"], "'1' is not a number from 0 to below 1"),
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


def test_no_image_is_explained_if_one_is_unreadable(small, picture, tmp_path, user_error):
    broken = tmp_path / "broken.png"
    broken.write_bytes(picture().read_bytes()[:200])
    words = [picture(), broken, picture("dog.png"), "--output-dir", tmp_path / "out"]
    assert user_error(main, words) == f"error: {broken}: not a readable image (OSError)"
    assert not (tmp_path / "out").exists()
