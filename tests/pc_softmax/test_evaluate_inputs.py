"""`pc_softmax.evaluate` on odd class names, odd --target-prior and few validation samples."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pc_softmax.evaluate import main


def save_run(folder: Path, names: list[str], validation_counts: list[int] | None = None) -> Path:
    """A run with thirty test samples of each class."""
    num_classes, rng = len(names), np.random.default_rng(0)
    uniform = np.full(num_classes, -np.log(num_classes))
    arrays = {"log_prior": uniform, "logit_log_prior": uniform}
    arrays |= {"counts": np.full(num_classes, 50), "class_names": np.array(names)}
    counts = {"official": [30] * num_classes}
    counts |= {"validation": validation_counts} if validation_counts else {}
    for split, in_split in counts.items():
        labels = np.repeat(np.arange(num_classes), in_split)
        noise = rng.normal(size=(len(labels), num_classes))
        arrays |= {
            f"{split}_labels": labels,
            f"{split}_logits": 2 * np.eye(num_classes)[labels] + noise,
        }
    folder.mkdir()
    np.savez(folder / "predictions.npz", **arrays)
    return folder


ODD = ["$\\frac{$", "a\nb", "<b>|</b>", "x" * 3000, "\x1b[31m", "", " ", "日本"]


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:Tight layout")
def test_odd_class_names_are_written_whole_each_to_its_own_class(tmp_path):
    run = save_run(tmp_path / "run", ODD)
    main([str(run)])
    prior = json.loads((run / "evaluation/result.json").read_text())["test_sets"]["official"]
    assert prior["prior"] == pytest.approx(dict.fromkeys(ODD, 1 / 8))
    rows = pd.read_csv(run / "evaluation/per_class.csv", keep_default_na=False)
    assert rows["class"].tolist() == ODD
    confusion = pd.read_csv(run / "evaluation/confusion.csv", keep_default_na=False)
    assert confusion["true_class"].tolist() == ODD
    assert confusion.drop(columns=["test_set", "true_class"]).sum(axis=1).tolist() == [30] * 8


def test_classes_of_the_same_name_are_numbered(tmp_path):
    run = save_run(tmp_path / "run", ["crane", "fox", "crane"])
    main([str(run)])
    names = ["crane (0)", "fox (1)", "crane (2)"]
    result = json.loads((run / "evaluation/result.json").read_text())["test_sets"]["official"]
    assert list(result["prior"]) == names
    assert pd.read_csv(run / "evaluation/per_class.csv")["class"].tolist() == names


@pytest.mark.parametrize(("counts", "note"), [(None, True), ([20, 2], True), ([20, 10], False)])
def test_a_note_says_if_estimates_use_logits_that_are_not_calibrated(
    tmp_path, capsys, counts, note
):
    run = save_run(tmp_path / "run", ["a", "b"], counts)
    for target in ("train", "em"):
        main([str(run), "--target-prior", target, "--output-dir", str(tmp_path / target)])
        printed = capsys.readouterr().out
        assert ("Note: logits are not calibrated" in printed) == (note and target == "em")
