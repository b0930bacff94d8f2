"""`scripts.report --compare` shows any output folders side by side."""

import re
from pathlib import Path

import pytest

from mi_common.files import write_json
from mi_common.records import RunFolder
from scripts.report import main
from tests.scripts.report_runs import CONFIG, write_runs


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_runs(tmp_path)
    return tmp_path


def test_runs_are_compared_by_the_flags_and_scores_that_differ(tmp_path, runs, user_error):
    for name, lr, accuracy in (("a", 0.1, 0.5), ("b", 0.2, 0.75)):
        flags = {"lr": lr, "epochs": 3, "resume": lr == 0.1}
        write_json(tmp_path / name / "config.json", CONFIG | {"flags": flags})
        scores = {"test_sets": {"official": {"accuracy": accuracy}}, "n_train": 10}
        RunFolder(tmp_path / name).save_result(scores)
    folders = [tmp_path / "a", tmp_path / "b", runs / "infocam/evaluation"]
    page = tmp_path / "compared.html"
    main(["--compare", *map(str, folders[:2]), "--page", str(page)])
    table = re.findall(r"<t[hd][ >][^<]*?>?(?:<button[^>]*>)?([^<>]*)</", page.read_text())
    a, b = map(str, folders[:2])
    assert table[:4] == ["output folder", "lr", "resume", "official accuracy"]
    assert table[4:] == [a, "0.1", "True", "0.5", b, "0.2", "False", "0.75"]
    main(["--compare", *map(str, folders), "--page", str(page)])
    assert page.read_text().count("<table") == 1 + 3 and "IoU 1.00" in page.read_text()
    line = user_error(main, ["--compare", tmp_path, "--page", page])
    assert line.startswith(f"error: {tmp_path / 'config.json'}: not found")
    for words in ([], [runs, "--compare", runs], ["--compare", runs, "--smoke"]):
        assert "error: " in user_error(main, words)


def test_other_outputs_are_compared_too_and_what_one_lacks_is_shown(tmp_path, user_error):
    """As of `pc_softmax.evaluate`: a flag `run`, and a result.json without a checksum."""
    trained, evaluated, page = tmp_path / "a", tmp_path / "b", tmp_path / "compared.html"
    write_json(trained / "config.json", CONFIG | {"flags": {"epochs": 3}})
    RunFolder(trained).save_result({"test_sets": {"official": {"accuracy": 0.5}}})
    write_json(evaluated / "config.json", CONFIG | {"flags": {"run": "a"}})
    result = {"n": 7, "test_sets": {"official": {"accuracy": 0.5, "prior": {"0": 1.0}}}}
    write_json(evaluated / "result.json", result)
    words = ["--compare", str(trained), str(evaluated), "--page", str(page)]
    main(words)
    table = re.findall(r"<t[hd][ >][^<]*?>?(?:<button[^>]*>)?([^<>]*)</", page.read_text())
    assert table[:4] == ["output folder", "epochs", "run", "n"]
    assert table[4:] == [str(trained), "3", "–", "–", str(evaluated), "–", "a", "7"]
    assert page.read_text().count('class="text"') == 3 * 2  # folder and run
    text = (trained / "result.json").read_text()
    (trained / "result.json").write_text(text.replace("0.5", "0.6"))
    assert f"{trained / 'result.json'}: damaged" in user_error(main, words)


@pytest.mark.parametrize(
    ("page", "message"),
    [
        ("pc_softmax/results.csv", "not a name that ends with .html"),
        ("pc_softmax/page.html", "inside the run "),
        ("infocam/evaluation/overlays/page.html", "inside the run "),
    ],
)
def test_a_page_replaces_no_other_file_and_is_not_written_into_a_run(
    runs, user_error, page, message
):
    results = runs / "pc_softmax/results.csv"
    before = sorted(runs.rglob("*")), results.read_bytes()
    for words in ([runs], ["--compare", runs / "pc_softmax"]):
        line = user_error(main, [*words, "--page", runs / page])
        assert line.startswith(f"error: --page {runs / page}: {message}")
    assert (sorted(runs.rglob("*")), results.read_bytes()) == before
