"""The pages' example tables: a snippet writes them, and every command estimates from them."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mi_estimator.estimate import main
from tests.pages.markdown import code_blocks

(SNIPPET,) = [block for block in code_blocks("python") if "patients.csv" in block]
COMMANDS = re.findall(
    r"^python -m mi_estimator\.estimate ((\w+)\.csv .*)$",
    "\n".join(code_blocks("bash")),
    re.MULTILINE,
)
FLAGS = ["--folds", "3", "--device", "cpu", "--permutations", "19"]
# Samples, features, label entropy, and a range of the information that linear classifiers see.
ENTROPY = {2: np.log(2), 3: np.log(3), 4: np.log(4)}
EXPECTED = {
    "iris": (150, 4, np.log(3), 0.85, np.log(3)),
    "wine": (178, 13, 1.0860, 0.9, 1.0860),
    "breast_cancer": (569, 30, 0.6603, 0.4, 0.6603),
    "digits": (1797, 61, 2.3025, 1.7, 2.3025),
    "diabetes": (442, 10, np.log(4), 0.15, 0.45),
    "patients": (600, 9, np.log(2), 0.05, 0.25),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        exec(SNIPPET, {})
    return folder


def test_there_is_a_command_for_each_table():
    assert {name for _, name in COMMANDS} == set(EXPECTED)


@pytest.mark.parametrize(("words", "name"), COMMANDS)
def test_one_command_estimates_from_a_table(folder, words, name, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    flags = ["--estimator", "logistic-regression", *FLAGS, "--overwrite"]
    main([*shlex.split(words), *flags])
    result = json.loads(Path(f"runs/mi_estimator/{name}/estimate.json").read_text())
    samples, features, entropy, low, high = EXPECTED[name]
    assert (result["samples"], len(result["features"])) == (samples, features)
    assert result["label_entropy"] == pytest.approx(entropy, abs=1e-3)
    assert low < result["mutual_information"] < high and result["p_value"] == 0.05
    out, err = capsys.readouterr()
    assert all(f"\n{note}\n" in out for note in result["notes"]) and err == ""
    assert len(result["notes"]) == {"digits": 1, "diabetes": 1, "patients": 5}.get(name, 0)


def test_a_table_is_the_same_in_every_format(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table = pd.read_csv(folder / "patients.csv", parse_dates=["since"])
    table.to_csv("a.tsv.gz", sep="\t", index=False)
    table.to_csv("b.csv.xz", sep=";", decimal=",", index=False)
    types = {"town": "category", "sex": "string", "smoker": "boolean", "age": "Float64"}
    files = [folder / "patients.csv", Path("a.tsv.gz"), Path("b.csv.xz")]
    pytest.importorskip("pyarrow")
    table.astype(types).to_parquet("c.parquet")
    results = []
    for path in [*files, Path("c.parquet")]:
        words = ["--label", "outcome", "--drop", "name", "--missing", "indicator"]
        main([str(path), *words, "--estimator", "lda", *FLAGS, "--output-dir", f"out/{path.name}"])
        results.append(json.loads(Path(f"out/{path.name}/estimate.json").read_text()))
    assert results[2]["notes"].pop(0) == "decimal commas in columns age: 1,5 is 1.5"
    assert results[1:] == results[:1] * 3


def test_the_samples_of_complete_rows_keep_their_numbers(folder, tmp_path, monkeypatch):
    words = ["--label", "outcome", "--drop", "name", "--missing", "drop", "--estimator", "lda"]
    main([str(folder / "patients.csv"), *words, *FLAGS, "--output-dir", str(tmp_path / "out")])
    table = pd.read_csv(folder / "patients.csv")
    complete = table.dropna()
    samples = pd.read_csv(tmp_path / "out" / "pmi.csv")
    assert 500 < len(complete) < 580 and samples["sample"].tolist() == complete.index.tolist()
    assert samples["label"].tolist() == complete["outcome"].tolist()


def test_files_of_one_name_have_a_folder_each(tmp_path, monkeypatch, user_error):
    monkeypatch.chdir(tmp_path)
    flags = ["--label", "y", "--estimator", "lda", "--device", "cpu"]
    x, y = np.random.default_rng(0).normal(size=60), np.arange(60) % 2
    for parent in ("a", "b"):
        Path(parent).mkdir()
        pd.DataFrame({"x": x + y, "y": y}).to_csv(f"{parent}/data.csv.gz", index=False)
        main([f"{parent}/data.csv.gz", *flags])
    first, second = sorted(path.name for path in Path("runs/mi_estimator").iterdir())
    assert first == "data" and re.fullmatch("data-[0-9a-f]{8}", second)
    for parent, name in (("a", first), ("b", second)):
        config = json.loads(Path(f"runs/mi_estimator/{name}/config.json").read_text())
        assert config["flags"]["file"] == f"{parent}/data.csv.gz"
        line = user_error(main, [f"../{tmp_path.name}/{parent}/data.csv.gz", *flags])
        assert f"{name} exists; use --overwrite" in line
