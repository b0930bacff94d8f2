"""The report shows what the experiments wrote, needs no other file, and runs no markup."""

import base64
import json
import math
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mi_common.files import save_arrays, write_json
from mi_common.tables import to_markdown
from scripts import report_findings
from scripts.report import SHRUNK, main
from scripts.report_page import read_markdown_table, table_of
from tests.scripts.report_runs import (
    CONFIG,
    PNG,
    SVG,
    TABLES,
    imbalance_rows,
    information_rows,
    localisation_rows,
    png_of,
    write_runs,
)

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
TABLE, FIGURE = "mi_estimator/table.md", "mi_estimator/estimates.png"
OVERLAY = "infocam/evaluation/overlays/0.npz"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    write_runs(tmp_path)
    return tmp_path


def page_of(runs: Path, *flags: str) -> str:
    main([str(runs), *flags])
    return (runs / "report.html").read_text()


def test_the_page_holds_tables_plots_and_pictures_and_refers_to_no_other_file(runs, capsys):
    page = page_of(runs, "--smoke")
    assert page.count("<table") == TABLES and SHRUNK in page
    # The plots are one SVG, and PNGs where there is none.
    for data, kind, times in ((PNG, "png", 2), (SVG, "svg+xml", 1)):
        assert page.count(f"data:image/{kind};base64,{base64.b64encode(data).decode()}") == times
    assert page.count('<image href="data:image/') == 2 * (1 + 2)  # two pictures with two maps each
    sources = re.findall(r'(?:href|src)="([^"]{0,11})', page)
    assert {source for source in sources if not source.startswith("#")} == {"data:image/"}
    assert "://" not in page and "default-src 'none'" in page and "python &lt;x&gt;" in page
    assert "IoU 1.00" in page  # of infoCAM's box, which is the true one
    target = runs / "report.html"
    assert capsys.readouterr().out == f"report: {target}\nnext: python -m webbrowser {target}\n"


def test_every_link_has_its_target_once(runs):
    page = page_of(runs)
    for target in set(re.findall(r'href="#([^"]+)', page)):
        assert page.count(f'id="{target}"') == 1


TASKS = {"gaussian-d1-balanced": 1.0, "gaussian-d1-imbalanced": 1.2}
LABELS = {"gaussian-d1-balanced": (math.log(5), 5), "gaussian-d1-imbalanced": (1.5, 5)}


def test_findings_on_information_give_the_farthest_setting_and_the_reading_with_log_k():
    rows = information_rows(TASKS, {"softmax": (0.002, 0.001), "pc-softmax": (0.001, 0.003)})
    rows.loc[rows["task"].eq("gaussian-d1-imbalanced"), "estimate"] += 0.25
    ours, softmax, reading = report_findings.of_information(rows, LABELS)
    # Half of Student's interval of two values that are 0.002 apart: 12.706 * 0.001.
    assert "within 0.2520 nat" in ours.headline and "each of 2 settings" in ours.headline
    assert "1.4520 ± 0.0127, exact 1.2000" in ours.detail
    assert softmax.verdict == "differs in 0 of 2 settings" and "0.00050 nat" in softmax.headline
    # 1.2 + 0.2515 - 1.5 + log 5 = 1.5609, which is above H(Y) = 1.5.
    assert "1.5609 nats at gaussian-d1-imbalanced" in reading.headline
    assert "above H(Y) = 1.5000" in reading.detail and "Exact: 1.2000" in reading.detail


def test_a_reading_with_log_k_may_be_below_the_entropy():
    rows = information_rows({"gaussian-d1-imbalanced": 0.5}, {"softmax": (0,), "pc-softmax": (0,)})
    reading = report_findings.of_information(rows, LABELS)[-1]
    # 0.5 - 1.5 + log 5 = 0.6094
    assert "0.6094 nats" in reading.headline and "below H(Y) = 1.5000" in reading.detail


def test_balanced_classes_alone_have_no_finding_about_log_k():
    rows = information_rows({"gaussian-d1-balanced": 1.0}, {"softmax": (0,), "pc-softmax": (0,)})
    findings = report_findings.of_information(rows, LABELS)
    assert [finding.verdict for finding in findings] == ["measured", "one seed, no verdict"]


COMPARED = {  # of PC-softmax and softmax as trained, by seed: what is said of it
    "better": ((0.97, 0.98, 0.97), (0.95, 0.96, 0.951), "+1.97 ± 0.14"),
    "worse": ((0.95, 0.96, 0.951), (0.97, 0.98, 0.97), "−1.97 ± 0.14"),
    "no difference shown": ((0.97, 0.98, 0.96), (0.96, 0.96, 0.97), "+0.67 ± 3.79"),
    "one seed, no verdict": ((0.97,), (0.95,), "+2.00"),
}


@pytest.mark.parametrize("verdict", COMPARED)
def test_better_is_said_only_where_the_paired_interval_says_so(verdict):
    ours, theirs, numbers = COMPARED[verdict]
    rows = imbalance_rows(
        {
            ("official", "softmax", "as trained"): theirs,
            ("official", "softmax", "prior subtracted"): ours,
            ("official", "pc-softmax", "as trained"): ours,
        }
    )
    plain, subtracted = report_findings.of_imbalance(rows)
    assert plain.verdict == verdict and f"softmax: {numbers} points" in plain.headline
    expected = verdict if len(ours) == 1 else "no difference shown"
    assert subtracted.verdict == expected and "0.00" in subtracted.headline


@pytest.mark.parametrize(
    ("difference", "verdict", "numbers"),
    [
        (0.025, "better", "+2.5 points (+1.5 to +3.5)"),
        (0.0004, "no difference shown", "+0.0 points (−1.0 to +1.0)"),
        (-0.025, "worse", "−2.5 points (−3.5 to −1.5)"),
    ],
)
def test_localisation_is_compared_by_the_interval_over_images(difference, verdict, numbers):
    rows = localisation_rows({"cam": 0.5, "infocam": 0.7, "centre-box": 0.1})
    pairs = localisation_rows({"infocam - cam": difference, "infocam - centre-box": 0.6})
    (finding,) = report_findings.of_localisation(rows, pairs.assign(n=2000))
    assert finding.verdict == verdict and f"infoCAM against CAM: {numbers}" in finding.headline
    assert "infoCAM 70.0 % (69.0 to 71.0), CAM 50.0 % (49.0 to 51.0)" in finding.detail
    assert "2,000 test images" in finding.detail and "+60.0 points" in finding.detail


def test_constant_columns_stand_below_a_table_and_other_threshold_rules_apart():
    frame = pd.DataFrame({"method": ["cam", "cam", "box"], "n": ["3", "3", ""], "empty": [""] * 3})
    frame = frame.assign(threshold_rule=["validation", "oracle", "none"], gt_known=["1", "2", "3"])
    table = table_of(frame, "caption")
    assert table.heads == ["method", "threshold rule", "GT-known"] and table.constants == "n 3"
    assert table.rows == [["cam", "validation", "1"], ["box", "none", "3"]]
    assert table.folded == [["cam", "oracle", "2"]]
    single = table_of(pd.DataFrame({"a": ["1"], "b": ["2"]}), "")
    assert (single.heads, single.rows, single.constants) == (["a", "b"], [["1", "2"]], "")


def test_tables_keep_empty_cells_bars_and_long_names(runs):
    table = pd.DataFrame({"a|b": ["<x> &", "|", "y" * 99], "a": ["1|2|3", "", "1 ± 2"]})
    pd.testing.assert_frame_equal(read_markdown_table(to_markdown(table)), table)
    (runs / TABLE).write_text(to_markdown(table))
    page = page_of(runs)
    for row in ("<td>&lt;x&gt; &amp;</td><td>1|2|3</td>", f"<td>{'y' * 99}</td><td>1 ± 2</td>"):
        assert f"<tr>{row}</tr>" in re.sub(' class="text"', "", page)


CONFIG_FILE, RESULTS = "pc_softmax/config.json", "pc_softmax/results.csv"
WIDE = b"| a | b |\n| --- | --- |\n| 1 | 2 | 3 |\n"
DAMAGED = {
    "picture cut": (FIGURE, png_of(Image.effect_noise((50, 50), 50))[:-600], "readable"),
    "picture of text": (FIGURE, b"<html>", "not a readable image"),
    "picture huge": (
        FIGURE,
        png_of(Image.new("1", (6000, 10_000))),
        "6000 x 10000 pixels, more than 50,000,000",
    ),
    "SVG cut": ("pc_softmax/per_class.svg", SVG[:-2], "damaged"),
    "SVG of a page": ("pc_softmax/per_class.svg", b"<html/>", "damaged"),
    "overlay cut": (OVERLAY, PNG[:30], "damaged"),
    "photograph cut": ("explain/bee.npz", PNG[:30], "damaged"),
    "no JSON": (CONFIG_FILE, b'{"command": ', "damaged"),
    "no object": (CONFIG_FILE, b"[1]", "damaged"),
    "config not UTF-8": (CONFIG_FILE, b"\xff", "damaged"),
    "config of another script": (CONFIG_FILE, b'{"command": "x", "torch": "2"}', "no 'gpu'"),
    "table empty": (TABLE, b"", "not a Markdown table; run the experiment again"),
    "table of one line": (TABLE, b"| a |\n", "not a Markdown table"),
    "table with a wide row": (TABLE, WIDE, "not a Markdown table"),
    "table without a rule": (TABLE, b"| a |\n| 1 |\n", "not a Markdown table"),
    "table not UTF-8": (TABLE, b"| \xff |\n", "not a Markdown table"),
    "table missing": (TABLE, None, "not found"),
    "folder in its place": (TABLE, Path, "not found"),
    "too large a file": (FIGURE, 10**12, "1,000,000,000,000 bytes, more than 50,000,000"),
    "results empty": (RESULTS, b"", "damaged"),
    "results not UTF-8": (
        "infocam/evaluation/results.csv",
        b"\xff\n1\n",
        "damaged, its content is not what was written; make it again with its command",
    ),
    "results with another head": (RESULTS, b"loss,seed\nsoftmax,0\n", "no column 'test_set'"),
    "results without rows": (RESULTS, b"test_set,loss,rule,seed,balanced_accuracy\n", "damaged"),
    "results of words": (
        RESULTS,
        b"test_set,loss,rule,seed,balanced_accuracy\na,softmax,as trained,0,good\n",
        "damaged",
    ),
    "results of softmax alone": (
        RESULTS,
        b"test_set,loss,rule,seed,balanced_accuracy\na,softmax,as trained,0,0.5\n",
        "rows are missing",
    ),
    "results without a pair": (
        RESULTS,
        b"test_set,loss,rule,seed,balanced_accuracy\n"
        b"a,softmax,as trained,0,0.5\na,pc-softmax,as trained,1,0.5\n",
        "no softmax, as trained row to pair with; run the experiment again",
    ),
    "differences missing": ("infocam/evaluation/differences.csv", None, "not found"),
}


@pytest.mark.parametrize(
    ("sessions", "message"),
    [
        ([{"finished": False, "started": "2026"}], "the last command that wrote there is unfin"),
        ([7], "does not say when it was made"),
        ([{"finished": True}], "does not say when it was made"),
        ([{"finished": True, "started": "2026"}], None),
    ],
)
def test_a_run_whose_last_command_is_unfinished_has_no_page(runs, user_error, sessions, message):
    write_json(runs / CONFIG_FILE, CONFIG | {"sessions": sessions})
    if message is None:
        page_of(runs)
    else:
        line = user_error(main, [runs])
        assert line.startswith(f"error: {runs / 'pc_softmax'}: {message}")


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file_is_named_and_leaves_the_old_page(runs, user_error, kind):
    name, data, reason = DAMAGED[kind]
    if data is None or data is Path:
        (runs / name).unlink()
    if data is Path:
        (runs / name).mkdir()
    elif isinstance(data, int):
        os.truncate(runs / name, data)  # takes no space
    elif data is not None:
        (runs / name).write_bytes(data)
    (runs / "report.html").write_text("old")
    line = user_error(main, [runs])
    assert line.startswith(f"error: {runs / name}: ") and reason in line
    assert (runs / "report.html").read_text() == "old"


def test_a_contrast_that_is_missing_is_not_blamed_on_the_results_alone(runs, user_error):
    path = runs / "infocam/evaluation/differences.csv"
    path.write_text(path.read_text().replace("infocam - cam", "infocam - posterior"))
    results = path.with_name("results.csv")
    line = user_error(main, [runs])
    assert line.startswith(f"error: {results} or differences.csv: rows are missing")


def test_nothing_in_the_files_becomes_markup(runs):
    evil = '"><script>alert(1)</script>'
    config = {"command": evil, "torch": [evil], "gpu": {evil: "\ud800"}, "cpu": None}
    config["flags"] = {evil: evil}
    (runs / CONFIG_FILE).write_text(json.dumps(config))
    (runs / TABLE).write_text(f"| {evil} |\n| --- |\n| {evil} |\n")
    with np.load(runs / OVERLAY) as arrays:
        changed = dict(arrays) | {"title": evil, "methods": [evil, evil]}
    save_arrays(runs / OVERLAY, **changed)
    page = page_of(runs)
    assert page.count("<script") == page.count("</script") == 1 and "alert(1)&lt;" in page


# Tells the page around it what a reader sees after each step.
SCRIPT = """<script>
const seen = {errors: [], width: innerWidth};
addEventListener("error", event => seen.errors.push(event.message));
const root = document.documentElement;
seen.overflow = root.scrollWidth - root.clientWidth;
const table = document.querySelector("table"), heads = table.querySelectorAll("th button");
const column = () => [...table.tBodies[0].rows].map(row => row.cells[1].textContent);
seen.sorted = [column()];
for (let i = 0; i < 2; i++) { heads[1].click(); seen.sorted.push(column()); }
const gallery = document.querySelector(".gallery"), slider = gallery.querySelector("input");
const shown = () => [...gallery.querySelectorAll("g")].filter(
  each => getComputedStyle(each).display != "none").map(each => Number(each.dataset.step));
seen.steps = [[gallery.querySelector("output").textContent, shown()]];
for (slider.value of [0, 1]) {
  slider.dispatchEvent(new Event("input"));
  seen.steps.push([gallery.querySelector("output").textContent, shown()]);
}
parent.postMessage(JSON.stringify(seen), "*");
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH")
@pytest.mark.parametrize("width", [390, 1200])
def test_in_a_browser_it_fits_sorts_and_switches_maps_without_errors(runs, width):
    table = pd.DataFrame({"task": ["a", "b", "c"], "x": ["−2 ± 1", "10", "9*"]})
    long = pd.Series(["a", "b", "c"]) * 200
    (runs / TABLE).write_text(to_markdown(table.assign(long=long)))
    page = page_of(runs, "--smoke")
    (runs / "seen.html").write_text(page.replace("</body>", SCRIPT + "</body>"))
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command += ["--enable-logging=stderr", "--window-size=1300,900"]
    # In a frame, because a window has at least 500 pixels.
    frame = f'<iframe src="seen.html" style="width: {width}px; height: 900px; border: 0"></iframe>'
    receiver = "<script>onmessage = event => document.title = event.data</script>"
    (runs / "frame.html").write_text(f"<title></title>{receiver}{frame}")
    done = subprocess.run(
        [*command, f"--user-data-dir={runs}/profile", f"file://{runs}/frame.html"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    seen = json.loads(re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)[1])
    assert "CONSOLE" not in done.stderr and seen["errors"] == [] and seen["overflow"] <= 0
    assert seen["width"] == width
    assert seen["sorted"] == [list(table["x"]), ["10", "9*", "−2 ± 1"], ["−2 ± 1", "9*", "10"]]
    assert seen["steps"] == [["infocam", [2]], ["none", [0]], ["cam", [1]]]
