"""A limit on time stops Python code in any thread, and nothing that comes after it."""

import threading
import time

import pytest

from mi_common.errors import UserError
from mi_estimator.time_limit import within


def work_for_ever() -> None:
    while True:
        pass


def add(*numbers: float) -> float:
    return sum(numbers)


def test_what_is_in_time_is_returned():
    assert within(60, add, 1, 2) == 3
    assert within(1e11, add, 4) == 4  # seconds: longer than a thread can wait
    assert within(60, add) == 0


def test_an_error_of_the_function_passes_through():
    with pytest.raises(ZeroDivisionError):
        within(60, divmod, 1, 0)


def test_it_is_stopped_in_the_main_thread():
    started = time.monotonic()
    with pytest.raises(UserError, match=r"^not done in 0\.2 seconds$"):
        within(0.2, work_for_ever)
    assert 0.2 <= time.monotonic() - started < 5


def test_it_is_stopped_in_another_thread_and_only_there():
    messages = {}

    def limited(seconds: float) -> None:
        try:
            within(seconds, work_for_ever)
        except UserError as error:
            messages[seconds] = str(error)

    threads = [threading.Thread(target=limited, args=(seconds,)) for seconds in (0.1, 0.2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert messages == {0.1: "not done in 0.1 seconds", 0.2: "not done in 0.2 seconds"}


def test_it_is_not_stopped_by_a_handler_of_all_exceptions():
    def stubborn() -> None:
        while True:
            try:
                work_for_ever()
            except Exception:
                raise AssertionError("caught") from None

    with pytest.raises(UserError, match=r"not done in 0\.05 seconds"):
        within(0.05, stubborn)


def test_nothing_arrives_after_the_end():
    """The limits are as long as the work itself, so that they come just before, at or after it."""
    outcomes = {"done": 0, "late": 0}
    for i in range(2000):
        steps = 0
        try:
            within((i % 20) ** 2 * 1e-5, sum, range(10_000))
            outcomes["done"] += 1
        except UserError:
            outcomes["late"] += 1
        for _ in range(100):  # a stray exception would arrive here
            steps += 1
        assert steps == 100
    assert outcomes["done"] + outcomes["late"] == 2000
    assert min(outcomes.values()) > 20, outcomes


def test_of_nested_limits_the_shorter_one_is_said():
    with pytest.raises(UserError, match=r"not done in 0\.05 seconds"):
        within(30, within, 0.05, work_for_ever)
    with pytest.raises(UserError, match=r"not done in 0\.06 seconds"):
        within(0.06, within, 30, work_for_ever)

    def inner_then_more() -> str:
        with pytest.raises(UserError, match=r"not done in 0\.05 seconds"):
            within(0.05, work_for_ever)
        return "went on"

    assert within(30, inner_then_more) == "went on"


def test_no_thread_stays_behind():
    before = threading.active_count()
    for _ in range(50):
        within(600, add, 1)
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= before  # an earlier test may have left one that ends
