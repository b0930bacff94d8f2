"""From a table to a ranking: files that agree, the same after resuming, wrong flags refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mi_estimator import rank_report, ranking
from mi_estimator.estimate import main as estimate
from mi_estimator.rank import main
from mi_estimator.rank_report import ranking_table
from mi_estimator.ranking import COLUMNS

FAST = ["--estimator", "lda", "--permutations", 39, "--num-workers", 0, "--device", "cpu"]
KINDS = ["alone", "conditional"]
HOLM = ["alone_p_holm", "conditional_p_holm"]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Names that tables have: a number, a missing value, a comma, a line break; 'NA' is a copy."""
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=150)
    columns = {"1": y + rng.normal(size=150), "NA": None, "a,b": rng.normal(size=150)}
    columns["two\nlines"] = rng.normal(size=150) + (y == 1)
    columns["NA"] = columns["1"]
    path = tmp_path_factory.mktemp("table") / "table.csv"
    pd.DataFrame(columns).assign(kind=np.array(["x", "y", "z"])[y]).to_csv(path, index=False)
    return path


@pytest.fixture
def run(table, tmp_path):
    def call(*flags, file=table, folder="out"):
        words = [file, "--label", "kind", "--output-dir", tmp_path / folder, *FAST, *flags]
        main([str(word) for word in words])
        return pd.read_csv(tmp_path / folder / "rank.csv", keep_default_na=False, dtype={0: str})

    return call


def test_every_file_is_written_and_they_agree(run, table, tmp_path, capsys):
    lines = run().set_index("feature")
    written = {"rank.csv", "rank.md", "rank.tex", "rank.json", "rank.png", "results.csv"}
    written |= {"config.json", "all-lda.npz", ".lock", ".written"}
    assert {path.name for path in (tmp_path / "out").iterdir()} | {".lock"} == written
    assert (tmp_path / "out/rank.png").read_bytes().startswith(b"\x89PNG")
    result = json.loads((tmp_path / "out/rank.json").read_text())
    assert pd.DataFrame(result["features"]).set_index("feature").equals(lines)
    assert sorted(lines.index) == ["1", "NA", "a,b", "two\nlines"]
    largest = lines[KINDS].max(axis=1)
    assert largest.is_monotonic_decreasing and lines["estimator"].eq("lda").all()
    for kind in KINDS:
        assert (lines[f"{kind}_lower"] < lines[kind]).all()
        assert (lines[f"{kind}_p"] <= lines[f"{kind}_p_holm"]).all()
    assert lines.loc["1", "alone"] > 0.2 > abs(lines.loc["1", "conditional"]) * 1e6
    out = capsys.readouterr().out
    assert "\nnext: the same command with --conditional-on 'two\nlines' and another" in out
    printed = (tmp_path / "out/rank.md").read_text()
    assert printed in out and len(printed.splitlines()) == 6 and "\n| two lines | " in printed

    words = [table, "--label", "kind", "--estimator", "lda", "--device", "cpu"]
    words += ["--output-dir", tmp_path / "all", "--permutations", 39]
    estimate([str(word) for word in words])
    whole = json.loads((tmp_path / "all/estimate.json").read_text())
    names = {"value": "mutual_information", "lower": "lower", "upper": "upper"}
    names |= {"p_value": "p_value"}
    assert result["all_features"].pop("estimator") == "lda"
    assert result["all_features"] == {name: whole[key] for name, key in names.items()}
    assert result["label_entropy"] == pytest.approx(whole["label_entropy"], abs=1e-6)
    assert (result["samples"], result["classes"], result["given"]) == (150, 3, [])


def test_groups_count_as_one_feature_and_are_given_by_their_name(run, tmp_path):
    groups = ["--group", "copies=1,NA", "--group", 'all features="a,b"']
    lines = run(*groups).set_index("feature")
    assert sorted(lines.index) == ["all features", "copies", "two\nlines"]
    (tmp_path / "groups").write_text('copies=1,NA\nall features="a,b"\n')
    again = run("--groups", tmp_path / "groups", folder="file").set_index("feature")
    assert again.equals(lines)
    given = run(*groups, "--conditional-on", "copies", "all features", folder="given")
    (line,) = given.to_dict("records")
    expected = lines.loc["two\nlines"]
    for end in ("", "_lower", "_upper", "_p"):  # nothing else is left: one number twice
        assert line[f"alone{end}"] == pytest.approx(expected[f"conditional{end}"], abs=1e-9)
        assert line[f"conditional{end}"] == pytest.approx(line[f"alone{end}"], abs=1e-9)
    result = json.loads((tmp_path / "given/rank.json").read_text())
    assert result["given"] == ["copies", "all features"]
    assert result["all_features_given"]["value"] == pytest.approx(line["alone"], abs=1e-12)


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_that_stopped_goes_on_to_the_same_ranking(run, tmp_path, monkeypatch, workers):
    whole = run(folder="whole")
    computed, original = [], ranking.rank_group

    def stops(problem, stage, key, *rest):
        computed.append(key)
        if len(computed) == 3:
            raise KeyboardInterrupt
        return original(problem, stage, key, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(ranking, "rank_group", stops)
        with pytest.raises(SystemExit) as stopped:
            run()
    assert stopped.value.code == 130 and len(computed) == 3
    assert len(pd.read_csv(tmp_path / "out/results.csv")) == 3
    assert run("--resume", "--num-workers", workers).equals(whole)


def test_other_data_and_other_flags_are_not_mixed(run, table, tmp_path, user_error):
    run()
    words = [table, "--label", "kind", "--output-dir", tmp_path / "out", *FAST, "--resume"]
    assert "--folds 5 -> 4" in user_error(main, [*words, "--folds", 4])
    text = table.read_text()
    try:
        table.write_text(text.replace("0.", "1.", 1))
        assert "the data changed" in user_error(main, words)
    finally:
        table.write_text(text)


@pytest.mark.slow
def test_auto_ranks_more_leaders_when_it_resumes(run, tmp_path):
    flags = ["--estimator", "auto", "--candidates", "pc-softmax", "lda", "qda", "--drop", "NA"]
    flags += ["--epochs", 2, "--members", 1, "--folds", 2]
    fast = run(*flags, "--leaders", 0).set_index("feature")
    assert fast["estimator"].eq("auto-fast").all()
    one = run(*flags, "--leaders", 1, "--resume").set_index("feature")
    two = run(*flags, "--leaders", 2, "--resume")
    assert two.equals(run(*flags, "--leaders", 2, folder="new"))
    two = two.set_index("feature")
    for lines, leaders in ((one, 1), (two, 2)):
        assert lines["estimator"].eq("auto").sum() == leaders
        others = lines[lines["estimator"] == "auto-fast"].drop(columns=HOLM)
        assert others.equals(fast.loc[others.index].drop(columns=HOLM))
    # A single feature needs no network: alone it has the same value. Two estimators, two tests.
    assert two["alone"].to_dict() == fast["alone"].to_dict()
    assert two.loc["1", "alone_p_holm"] == pytest.approx(6 / 40)
    assert fast.loc["1", "alone_p_holm"] == pytest.approx(3 / 40)
    result = json.loads((tmp_path / "new/rank.json").read_text())
    assert result["all_features"]["estimator"] == "auto"
    # If all are leaders, one estimator ranks them, unless fewer are asked for later.
    three = run(*flags, "--leaders", 3, folder="all").set_index("feature")
    assert three["estimator"].eq("auto").all()
    assert three.loc["1", "alone_p_holm"] == pytest.approx(3 / 40)
    leaders_of_two = two.index[two["estimator"] == "auto"]
    assert two.loc[leaders_of_two, KINDS].equals(three.loc[leaders_of_two, KINDS])
    assert "auto-fast" not in (tmp_path / "all/results.csv").read_text()
    again = run(*flags, "--leaders", 2, "--resume", folder="all").set_index("feature")
    assert again.equals(two)


def test_two_files_of_one_name_have_a_folder_each(table, tmp_path, monkeypatch, user_error):
    monkeypatch.chdir(tmp_path)
    flags = ["--label", "kind", *map(str, FAST)]
    for parent in ("a", "b"):
        Path(parent).mkdir()
        shutil.copy(table, f"{parent}/table.csv")
        main([f"{parent}/table.csv", *flags])
    first, second = sorted(Path("runs/mi_rank").iterdir())
    assert first.name == "table" and second.name.startswith("table-")
    assert (first / "rank.csv").read_bytes() == (second / "rank.csv").read_bytes()
    assert "use --resume" in user_error(main, ["b/table.csv", *flags])


def test_a_feature_that_two_estimators_may_test_counts_twice():
    rows = pd.DataFrame(0.5, index=range(2), columns=COLUMNS)
    rows = rows.assign(feature=["a", "b"], alone_p=[0.01, 0.2], conditional=[0.1, 0.9])
    table = ranking_table(rows, estimators=2)
    assert table["feature"].tolist() == ["b", "a"]
    assert table["alone_p"].tolist() == [0.2, 0.01]
    assert table["alone_p_holm"].tolist() == pytest.approx([0.4, 0.04])


def test_the_chart_shows_the_first_forty_features_in_two_greys(monkeypatch, tmp_path):
    figures = []
    monkeypatch.setattr(rank_report, "save_figure", lambda figure, path: figures.append(figure))
    rows = pd.DataFrame(0.1, index=range(45), columns=COLUMNS).assign(estimator="lda")
    rows = rows.assign(feature=[f"a{i}" for i in range(45)], alone=np.arange(45)[::-1] / 100)
    table = ranking_table(rows, estimators=1)
    rank_report.plot_ranking(table, {"alone": "alone", "conditional": "rest"}, tmp_path / "a.png")
    (axes,) = figures[0].axes
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == table["feature"].head(40).tolist() and names[:2] == ["a0", "a1"]
    alone, rest = (
        container.patches for container in axes.containers if hasattr(container, "patches")
    )
    assert [bar.get_width() for bar in alone] == table["alone"].head(40).tolist()
    assert [bar.get_width() for bar in rest] == [0.1] * 40
    for bars, grey in ((alone, 0.85), (rest, 0.3)):
        assert {bar.get_facecolor() for bar in bars} == {(grey, grey, grey, 1)}
    assert "40 of 45" in axes.get_title()


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--group", "g=1,height"], ["group g: no feature height", "1, NA, a,b"]),
        (["--group", "g=1,NA", "--group", "h=NA"], ["feature NA is in groups g and h"]),
        (["--group", "1,NA"], ["--group 1,NA: not of the form name=a,b,c"]),
        (["--conditional-on", "height"], ["--conditional-on height: no such feature"]),
        (["--group", "g=1", "--conditional-on", "1"], ["--conditional-on 1: no such", "g, NA"]),
        (["--conditional-on", "1", "NA", "a,b", "two\nlines"], ["names all features"]),
        (["--features", "1"], ["only one feature, 1", "mi_estimator.estimate"]),
        (["--features", "height"], ["--features height: no such column"]),
        (["--permutations", 0], ["--permutations: '0'"]),
        (["--folds", 1], ["--folds 1: at least 2"]),
        (["--estimator", "ross"], ["invalid choice: 'ross'"]),
        (["--label", "height"], ["--label height: no such column"]),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(table, tmp_path, user_error, flags, parts):
    words = [table, "--label", "kind", "--output-dir", tmp_path / "out", *FAST, *flags]
    line = user_error(main, words)
    assert all(part in line for part in parts), line
    assert not (tmp_path / "out").exists()
