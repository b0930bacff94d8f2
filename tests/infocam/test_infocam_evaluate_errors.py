"""`infocam.evaluate` on wrong input: exit status 2, one line, nothing half-written or deleted."""

import json
import shutil

import pytest

from infocam.evaluate import main
from infocam.evaluation import check_runs
from infocam.models.classifiers import read_run


@pytest.fixture
def run_copy(tiny_run, tmp_path):
    """A copy of the finished Tiny-ImageNet run to damage."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    return tmp_path / "run"


def words_of(run, tiny_run, *more) -> list[str]:
    runs = run if isinstance(run, list) else [run]
    words = [*runs, "--data-dir", tiny_run.data_dir, "--device", "cpu", "--num-workers", 0]
    return [str(word) for word in [*words, *more]]


def contents(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def with_flags(run, **changes):
    """The run again, as if it had been trained with other flags."""
    config = json.loads((run / "config.json").read_text())
    config["flags"] |= changes
    (run / "config.json").write_text(json.dumps(config))
    return run


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda run: (run / "result.json").unlink(), "holds no finished run"),
        (lambda run: (run / "checkpoint.pt").unlink(), "no checkpoint.pt; train again"),
        (lambda run: with_flags(run, seed=None), "/config.json: damaged"),
    ],
    ids=["unfinished", "no checkpoint", "flags"],
)
def test_a_run_that_is_not_whole_is_refused(run_copy, tiny_run, user_error, damage, said):
    damage(run_copy)
    before = contents(run_copy)
    line = user_error(main, words_of(run_copy, tiny_run))
    assert line.startswith(f"error: {run_copy}") and said in line
    assert contents(run_copy) == before


@pytest.mark.parametrize("made", [False, True])
@pytest.mark.parametrize("second", [False, True])
def test_a_missing_run_is_found_before_the_work(tiny_run, tmp_path, user_error, made, second):
    if made:
        (tmp_path / "out").mkdir()
    before = list(tmp_path.iterdir())
    runs = [tiny_run.folder] * second + [tmp_path / "none"]
    line = user_error(main, words_of(runs, tiny_run, "--output-dir", tmp_path / "out"))
    assert f"{tmp_path}/none holds no finished run" in line
    assert list(tmp_path.iterdir()) == before


def test_an_existing_evaluation_is_refused_and_left_as_it_is(run_copy, tiny_run, user_error):
    (run_copy / "evaluation").mkdir()
    (run_copy / "evaluation/results.csv").write_text("method\n")
    before = contents(run_copy)
    line = user_error(main, words_of(run_copy, tiny_run, "--overlays", 2))
    assert f"{run_copy}/evaluation exists" in line
    assert "--overwrite" in line
    assert contents(run_copy) == before


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
@pytest.mark.parametrize("parent", [False, True])
def test_a_run_is_never_overwritten_by_its_evaluation(
    run_copy, tiny_run, tmp_path, user_error, more, parent
):
    shutil.copy(run_copy / "config.json", tmp_path / "config.json")  # as if a script had made it
    folder = tmp_path if parent else run_copy / "../run"
    before = contents(tmp_path)
    line = user_error(main, words_of(run_copy, tiny_run, "--output-dir", folder, *more))
    assert line == f"error: --output-dir {folder}: {run_copy} is in it; choose another folder"
    assert contents(tmp_path) == before


def test_several_runs_want_a_folder_of_their_own(run_copy, tiny_run, user_error):
    line = user_error(main, words_of([run_copy, tiny_run.folder], tiny_run))
    assert "--output-dir: name a folder for the table of several runs" in line


def test_two_runs_with_one_seed_are_refused_before_the_work(
    run_copy, tiny_run, tmp_path, user_error
):
    more = ["--output-dir", tmp_path / "out"]
    line = user_error(main, words_of([run_copy, tiny_run.folder], tiny_run, *more))
    same = "both have seed 1; leave one out"
    assert line == f"error: {run_copy} and {tiny_run.folder}: {same}"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "cam", "gradcam"], "method 'gradcam': use one of cam, infocam, infocam+"),
        (["--methods", "lowest:0"], "method 'lowest:0': use one of"),
        (["--methods", "random"], "method 'random': use one of"),
        (["--methods", "class:zebra"], "no such class; give a name or a number below 4"),
        (["--region", "1", "4"], "region 4: use an odd number of cells"),
        (["--region", "0"], "'0' is not a whole number above 0"),
        (["--region-padding", "valid"], "invalid choice: 'valid'"),
        (["--normalisation", "softmax"], "invalid choice: 'softmax'"),
        (["--protocol", "cub"], "invalid choice: 'cub'"),
        (["--fixed-threshold", "1"], "'1' is not a number from 0 to below 1"),
        (["--test-images", "0"], "'0' is not a whole number above 0"),
        (["--overlays", "-1"], "'-1' is not a whole number from 0"),
        (["--gallery", "-1"], "'-1' is not a whole number from 0"),
        (["--data-dir", "absent"], "python -m scripts.download_data tiny-imagenet"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--resume"], "unrecognized arguments: --resume"),
        (["--val-maps", "x"], "--val-maps and --val-annotations go together"),
    ],
)
def test_wrong_flags_are_one_line_and_write_nothing(run_copy, tiny_run, user_error, words, said):
    before = contents(run_copy)
    assert said in user_error(main, words_of(run_copy, tiny_run, *words))
    assert contents(run_copy) == before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_corrupt_image_is_named_and_the_mended_set_can_be_evaluated(
    run_copy, tiny_run, corrupt_tiny, user_error, workers
):
    data_dir, file = corrupt_tiny("val/images/val_7.JPEG")
    file.write_bytes(file.read_bytes()[:50])  # not even its header
    words = words_of(run_copy, tiny_run, "--data-dir", data_dir, "--num-workers", workers)
    words += ["--overlays", "0", "--gallery", "0"]
    line = user_error(main, words)
    assert line.startswith(f"error: {file}: not a readable image (")
    good = tiny_run.data_dir / "tiny-imagenet-200/val/images/val_7.JPEG"
    file.write_bytes(good.read_bytes()[:-400])  # its header, but not its last pixels
    line = user_error(main, words)
    assert line == f"error: {file}: not a readable image (OSError)"
    assert not (run_copy / "evaluation").exists()
    cached = list((data_dir / "features").glob("*.npy"))
    assert len(cached) == 1  # the validation maps, whole; none of the broken part
    shutil.copy(good, file)
    main(words)
    assert (run_copy / "evaluation/results.csv").exists()


@pytest.mark.parametrize(
    "more",
    [
        ["--methods", "cam"],
        ["--region", "3"],
        ["--region-padding", "legacy-full"],
        ["--prior"],
        ["--test-images", "5"],
        ["--faithfulness", "2"],
        ["--overlays", "1"],
        ["--gallery", "1"],
        ["--save-maps"],
    ],
    ids=lambda words: words[0],
)
def test_flags_for_runs_are_refused_with_saved_maps(more, tmp_path, user_error):
    words = ["--maps", tmp_path / "maps", "--annotations", tmp_path / "boxes.csv", *more]
    line = user_error(main, words)
    assert f"error: {more[0]} is for runs, not for --maps" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lr": 0.5}, "--lr 0.01 and 0.5"),
        ({"epochs": 3}, "--epochs 10 and 3"),
        ({"images_per_class": 5}, "--images-per-class 6 and 5"),
        ({"freeze_backbone": False}, "--freeze-backbone True and False"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_runs_of_one_table_must_be_trained_alike(
    run_copy, tiny_run, second_run, tmp_path, user_error, changes, said
):
    runs = [tiny_run.folder, second_run, with_flags(run_copy, seed=7, **changes)]
    line = user_error(main, words_of(runs, tiny_run, "--output-dir", tmp_path / "out"))
    assert line == f"error: {runs[0]} and {run_copy}: {said}; runs in one table must match in it"
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 7, "num_workers": 5, "device": "cuda:1", "data_dir": "elsewhere", "resume": True},
        {"loss": "pc-softmax", "lr": 0.5},  # in rows of its own
    ],
    ids=["where it ran", "another loss"],
)
def test_runs_may_differ_in_what_is_shown_or_has_no_effect(run_copy, tiny_run, changes):
    paths = [tiny_run.folder, with_flags(run_copy, **changes)]
    check_runs([read_run(path) for path in paths])  # raises nothing
