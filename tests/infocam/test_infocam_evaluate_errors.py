"""`infocam.evaluate` on wrong input: exit status 2, one line, nothing half-written."""

import json
import shutil

import pytest

from infocam.evaluate import main


@pytest.fixture
def run_copy(tiny_run, tmp_path):
    """A copy of the finished Tiny-ImageNet run to damage."""
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    return tmp_path / "run"


def words_of(run, tiny_run, *more) -> list[str]:
    words = [run, "--data-dir", tiny_run.data_dir, "--device", "cpu", "--num-workers", 0]
    return [str(word) for word in [*words, *more]]


def contents(folder) -> dict:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_unfinished_run_is_refused(run_copy, tiny_run, user_error):
    (run_copy / "result.json").unlink()
    before = contents(run_copy)
    line = user_error(main, words_of(run_copy, tiny_run))
    assert f"{run_copy} holds no finished run" in line
    assert contents(run_copy) == before


def test_a_missing_run_is_refused(tiny_run, tmp_path, user_error):
    line = user_error(main, words_of(tmp_path / "none", tiny_run))
    assert f"{tmp_path}/none holds no finished run" in line
    assert list(tmp_path.iterdir()) == []


def test_a_run_of_another_script_is_refused_without_a_traceback(run_copy, tiny_run, user_error):
    config = json.loads((run_copy / "config.json").read_text())
    config["flags"] = {"dataset": "mnist", "loss": "softmax", "seed": 0}  # as of pc_softmax.train
    (run_copy / "config.json").write_text(json.dumps(config))
    line = user_error(main, words_of(run_copy, tiny_run))
    assert str(run_copy) in line
    assert not (run_copy / "evaluation").exists()


def test_a_finished_run_without_its_checkpoint_is_refused(run_copy, tiny_run, user_error):
    (run_copy / "checkpoint.pt").unlink()
    line = user_error(main, words_of(run_copy, tiny_run))
    assert "checkpoint.pt" in line
    assert not (run_copy / "evaluation").exists()


def test_an_existing_evaluation_is_refused_and_left_as_it_is(run_copy, tiny_run, user_error):
    main(words_of(run_copy, tiny_run, "--overlays", 1))
    before = contents(run_copy)
    line = user_error(main, words_of(run_copy, tiny_run, "--overlays", 2))
    assert f"{run_copy}/evaluation exists" in line
    assert "--overwrite" in line
    assert contents(run_copy) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "cam", "gradcam"], "'gradcam'"),
        (["--test-images", "0"], "'0' is not a whole number above 0"),
        (["--overlays", "-1"], "'-1' is not a whole number from 0"),
        (["--data-dir", "absent"], "python -m scripts.download_data tiny-imagenet"),
        (["--device", "cuda:99"], "--device cuda:99: "),
        (["--resume"], "unrecognized arguments: --resume"),
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
    words = words_of(run_copy, tiny_run, "--data-dir", data_dir, "--num-workers", workers)
    words += ["--overlays", "0"]
    line = user_error(main, words)
    assert line == f"error: {file}: not a readable image (OSError)"
    written = {path.name for path in (run_copy / "evaluation").rglob("*")}
    assert written <= {"config.json"}
    cached = sorted(path.name for path in (data_dir / "features").iterdir())
    assert len(cached) == 1  # the held-out maps, whole; none of the broken part
    shutil.copy(tiny_run.data_dir / "tiny-imagenet-200/val/images/val_7.JPEG", file)
    main([*words, "--overwrite"])
    assert (run_copy / "evaluation/results.csv").exists()
