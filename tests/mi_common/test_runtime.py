"""Devices that are absent, precisions, and random states that come back."""

import random
import warnings

import numpy as np
import pytest
import torch

from mi_common import cli
from mi_common.errors import UserError
from mi_common.runtime import Runtime, one_thread, rng_state, seed_everything, set_rng_state, setup
from mi_common.workers import run_jobs


@pytest.fixture
def no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def two_cuda_devices(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    return chosen


@pytest.mark.parametrize("device", ["cuda", "cuda:0"])
def test_cuda_that_is_absent_is_an_error_and_no_fallback(no_cuda, device):
    with pytest.raises(UserError, match=f"--device {device}: no CUDA device here; use --device"):
        setup(device)


def test_auto_takes_what_is_there(no_cuda):
    assert setup("auto").device == torch.device("cpu")


def test_cuda_devices_by_number_and_by_local_rank(two_cuda_devices, monkeypatch):
    assert setup("auto").device == torch.device("cuda:0")
    assert setup("cuda:1").device == torch.device("cuda:1")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert setup("cuda").device == torch.device("cuda:1")
    assert two_cuda_devices == ["cuda:0", "cuda:1", "cuda:1"]
    with pytest.raises(UserError, match="--device cuda:2: there are 2 devices"):
        setup("cuda:2")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="--device cuda:1: torchrun gives each process its own"):
        setup("cuda:1")


def test_setup_switches_deterministic_kernels_on_and_off(monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # and unset again after the test
    for wanted in (True, False):
        setup("cpu", deterministic=wanted)
        assert torch.are_deterministic_algorithms_enabled() == wanted
        assert torch.backends.cudnn.benchmark != wanted


@pytest.mark.parametrize(
    "precision, dtype", [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_gives_the_precision_and_does_nothing_for_fp32(precision, dtype):
    runtime = Runtime(torch.device("cpu"), precision)
    x = torch.randn(4, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with runtime.autocast():
            assert torch.is_autocast_enabled("cpu") == (precision != "fp32")
            assert (x @ x).dtype == dtype
    assert runtime.scaler().is_enabled() == (precision == "fp16")


def test_one_process_uses_the_model_itself_and_keeps_its_rows(cpu):
    model = torch.nn.Linear(2, 2)
    assert cpu.wrap(model) is model
    rows = torch.arange(6).reshape(3, 2)
    assert torch.equal(cpu.gather_rows(rows), rows)
    assert cpu.is_main


def test_only_the_first_process_speaks_and_writes(capsys):
    done = []
    for rank in (0, 1):
        process = Runtime(torch.device("cpu"), rank=rank)
        process.say(f"rank {rank}")
        process.on_main(done.append, rank)
    assert capsys.readouterr().out == "rank 0\n"
    assert done == [0]


def draws() -> list[float]:
    return [random.random(), random.gauss(0, 1), *np.random.randn(3), *torch.randn(3).tolist()]


def test_seed_fixes_all_three_generators():
    seed_everything(5)
    values = draws()
    seed_everything(5)
    assert draws() == values
    seed_everything(6)
    assert draws()[0] != values[0]


def test_random_states_come_back_through_a_file(tmp_path):
    seed_everything(1)
    random.gauss(0, 1), np.random.randn()  # leaves half a pair cached in both
    device = torch.device("cpu")
    torch.save(rng_state(device), tmp_path / "state.pt")
    expected = draws()
    seed_everything(2)
    set_rng_state(torch.load(tmp_path / "state.pt", weights_only=True), device)
    assert draws() == expected


def test_every_seed_that_the_command_line_accepts_can_be_used():
    """A seed is refused in one line or works; NumPy's end at 2**32 - 1."""
    parser = cli.Parser("A script.")
    cli.add_common_arguments(parser, output_dir="runs/x")
    for seed in (2**32 - 1, 2**32, 2**64):
        try:
            accepted = parser.parse_args(["--seed", str(seed)]).seed
        except SystemExit:
            assert seed > 2**32 - 1
        else:
            seed_everything(accepted)
            assert torch.initial_seed() == seed


def test_jobs_run_in_order_in_this_process_and_never_under_torchrun(cpu):
    assert list(run_jobs(pow, [(2, 3), (5, 2)], runtime=cpu, num_workers=1)) == [8, 25]
    assert list(run_jobs(pow, [(2, 3)], runtime=cpu, num_workers=2)) == [8]  # not worth a process
    assert list(run_jobs(pow, [], runtime=cpu, num_workers=2)) == []
    two = Runtime(torch.device("cpu"), world_size=2)
    with pytest.raises(UserError, match="run without torchrun"):
        list(run_jobs(pow, [(2, 3)], runtime=two, num_workers=0))


def test_one_thread_is_given_back_even_after_an_error():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError), one_thread():
            assert torch.get_num_threads() == 1
            raise ValueError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
