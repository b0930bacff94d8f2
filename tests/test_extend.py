"""The section "Extend" of mi_common's page: a loss, data set, map and estimator are added so."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[1]
PACKAGES = ("mi_common", "mi_estimator", "pc_softmax", "infocam")
# Of each addition: the edits, as file, old text and new text, and the command that uses it.
LOSS = (
    [
        ("pc_softmax/names.py", "\nLOSSES = (", '\nLOSSES = ("brier", '),
        (
            "pc_softmax/losses.py",
            '        case "pc-softmax":',
            '        case "brier":\n            return Brier()\n        case "pc-softmax":',
        ),
        (
            "pc_softmax/losses.py",
            "class PCSoftmaxLoss(",
            "class Brier(nn.Module):\n"
            "    def forward(self, logits, labels):\n"
            "        error = logits.softmax(1) - F.one_hot(labels, logits.shape[1])\n"
            "        return error.square().sum(1).mean()\n\n\nclass PCSoftmaxLoss(",
        ),
    ],
    "pc_softmax.train --dataset digits --loss brier --epochs 1 --output-dir out",
)
DATA_SET = (
    [
        ("pc_softmax/recipes.py", "\nRECIPES = {", '\nRECIPES = {\n    "rows": _SMALL_IMAGES,'),
        ("mi_common/datasets.py", "IMAGE_SETS = (", 'IMAGE_SETS = ("rows", '),
        (
            "mi_common/datasets.py",
            '    if name == "digits":',
            '    if name == "rows":  # class k has a white row k\n'
            "        labels = torch.arange(400) % 8\n"
            "        pixels = torch.zeros(400, 1, 8, 8, dtype=torch.uint8)\n"
            "        pixels[torch.arange(400), 0, labels] = 255\n"
            '        return ImageSet(name, pixels, labels, list("abcdefgh"))\n'
            '    if name == "digits":',
        ),
    ],
    "pc_softmax.train --dataset rows --imbalance none --epochs 2 --output-dir out",
)
MAP = (
    [
        ("infocam/names.py", 'CONTRASTS = ("cam",', 'CONTRASTS = ("twice", "cam",'),
        (
            "infocam/maps/cam.py",
            '    if contrast == "cam":',
            '    if contrast == "twice":\n        return 2 * is_label\n    if contrast == "cam":',
        ),
    ],
    "infocam.explain grey.png --methods cam twice --output-dir out",
)
ESTIMATOR = (
    [
        ("mi_estimator/estimators/registry.py", "FROM_SAMPLES = (", 'FROM_SAMPLES = ("zero", '),
        (
            "mi_estimator/estimators/registry.py",
            '    options = {"runtime"',
            '    if name == "zero":\n'
            "        from mi_estimator.estimators.zero import Zero\n\n"
            "        return Zero()\n"
            '    options = {"runtime"',
        ),
        ("mi_estimator/estimators/registry.py", "ESTIMATORS = (", 'ESTIMATORS = ("zero", '),
        (
            "mi_estimator/estimators/zero.py",
            "",
            "import torch\n\nfrom mi_estimator.estimators.base import Estimator\n\n\n"
            "class Zero(Estimator):\n"
            "    def train(self, x, y, num_classes):\n        return self\n\n"
            "    def terms(self, x, y):\n        return torch.zeros(len(x)).double()\n",
        ),
    ],
    "mi_estimator.benchmark --suite small-sample --estimators zero --n-train 50 --n-test 50 "
    "--output-dir out",
)


@pytest.mark.parametrize(
    ("edits", "command", "result"),
    [
        pytest.param(*LOSS, "predictions.npz", id="loss"),
        pytest.param(*DATA_SET, "predictions.npz", id="data set"),
        pytest.param(*MAP, "grey.npz", id="map"),
        pytest.param(*ESTIMATOR, "results.csv", id="estimator"),
    ],
)
def test_each_is_added_in_the_places_that_the_page_names(tmp_path, edits, command, result):
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package)
    section = (
        (ROOT / "mi_common/README.md")
        .read_text()
        .partition("\n## Extend\n")[2]
        .partition("\n## ")[0]
    )
    for file, old, new in edits:
        path = tmp_path / file
        if old:
            assert f"`{file}`" in section
            text = path.read_text()
            assert text.count(old) == 1, (file, old)
            path.write_text(text.replace(old, new))
        else:
            path.write_text(new)
    Image.new("RGB", (64, 64), "grey").save(tmp_path / "grey.png")
    done = subprocess.run(
        [sys.executable, "-m", *command.split(), "--device", "cpu"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / result).is_file()
