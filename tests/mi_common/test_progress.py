"""Progress: a bar in a terminal, lines elsewhere, nothing in worker processes and inside others."""

import sys
from types import SimpleNamespace

import torch

from mi_common.progress import Progress, in_blocks
from mi_common.runtime import Runtime
from mi_common.workers import run_jobs


def train(accuracy: float) -> float:
    with Progress("train", total=4) as progress:
        for epoch in range(2):
            for _ in range(2):
                progress.step(lambda: {"loss": 1 / 0})  # only a bar reads the values
            progress.finish(f"epoch {epoch + 1}/2", validation_accuracy=accuracy)
    return accuracy


def test_without_a_terminal_there_is_a_line_an_epoch(capsys):
    train(0.98765)
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = [f"train, epoch {epoch}/2, validation accuracy 0.9877" for epoch in (1, 2)]
    assert printed.out.splitlines() == lines


def test_a_line_says_how_long_the_other_steps_will_take(capsys, monkeypatch):
    """As long as the mean step of this run, which may have resumed; below 10 s it says nothing."""
    seconds = iter([0, 2, 130, 132, 136, 140])
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr("mi_common.progress.time", clock)
    with Progress("", total=7, start=2) as progress:
        progress.finish("2/7")
        for done in range(3, 8):
            progress.step()
            progress.finish(f"{done}/7")
    lines = ["2/7", "3/7", "4/7, 3 min left", "5/7, 88 s left", "6/7, 34 s left", "7/7"]
    assert capsys.readouterr().out.splitlines() == lines


def test_the_first_steps_do_not_tell_how_long_the_others_will_take(capsys, monkeypatch):
    """Of 40 the first three; they wait for processes that start, and files that are read."""
    seconds = iter([0, 100])
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr("mi_common.progress.time", clock)
    with Progress("", total=40) as progress:
        for done in range(1, 5):
            progress.step()
            progress.finish(f"{done}/40")
    assert capsys.readouterr().out.splitlines() == ["1/40", "2/40", "3/40", "4/40, 15 min left"]


def test_blocks_cover_all_samples_and_print_a_line_every_half_minute_and_one_at_the_end(
    capsys, monkeypatch
):
    clock = SimpleNamespace(now=0.0, monotonic=lambda: clock.now)
    monkeypatch.setattr("mi_common.progress.time", clock)
    blocks = []
    for block in in_blocks(10, 3, "maps"):
        blocks.append(list(block))
        clock.now += 20
    assert blocks == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert capsys.readouterr().out.splitlines() == ["maps, 6/10, 27 s left", "maps, 10/10"]
    assert list(in_blocks(0, 3, "maps")) == []
    assert capsys.readouterr().out == ""


def test_jobs_print_a_line_each_and_nothing_of_what_is_inside(capsys, cpu):
    for workers in (0, 2):
        jobs = run_jobs(
            train, [(0.5,), (0.75,)], runtime=cpu, num_workers=workers, names=["a", "b"]
        )
        assert sorted(jobs) == [0.5, 0.75]
        printed = capsys.readouterr()
        lines = printed.out.splitlines()
        assert printed.err == "" and [line.split()[0] for line in lines] == ["1/2", "2/2"]
        assert sorted(line.split()[1].strip(",") for line in lines) == ["a", "b"]


def test_jobs_without_names_and_other_processes_print_nothing(capsys):
    cpu = Runtime(torch.device("cpu"))
    assert list(run_jobs(train, [(0.5,)], runtime=cpu, num_workers=0)) == [0.5]
    with Progress("train", total=1, show=False) as progress:
        progress.finish("epoch 1/1", loss=1)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_with_the_numbers_and_no_lines(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr("mi_common.progress._SECONDS", 0)
    with Progress("train", total=4, start=1) as progress:
        progress.name("epoch 2/2")
        progress.step(lambda: {"loss": 0.25})
        progress.finish("epoch 2/2", accuracy=0.5)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "train, epoch 2/2" in printed.err and "1/4" in printed.err
    assert "loss 0.25" in printed.err and "accuracy 0.5" in printed.err
