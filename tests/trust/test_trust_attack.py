"""A small part of the attack, and that the attack sees what it looks for."""

import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mi_common.errors import UserError
from tests.trust import victims
from tests.trust.attack import campaign, shares
from tests.trust.cases import Case, Kind, differences
from tests.trust.faults import ERRORS, Fault
from tests.trust.kills import point_case
from tests.trust.kinds import INPUTS, KILLS
from tests.trust.outcomes import FAILURES
from tests.trust.sameness import unlike
from tests.trust.scenes import Told
from tests.trust.workshop import Workshop
from tests.trust.zygote import import_everything, run_forked

REPO = Path(__file__).resolve().parents[2]
# The quick ones: those that only read, and those whose commands take a third of a second.
QUICK = {name: kind for name, kind in INPUTS.items() if not kind.needs}
QUICK |= {name: INPUTS[name] for name in ("boxes.csv", "saved maps", "resume: coverage", "report")}
CRASHES = ("download", "report", "coverage", "saved maps", "estimate")


def crash(kind: str, number: signal.Signals | None) -> Kind:
    return Kind(partial(point_case, kinds=(kind,), number=number, names=CRASHES), ())


POINTS = {
    "crash": crash("kill", signal.SIGKILL),
    "torn file": crash("torn", signal.SIGKILL),
    "SIGTERM": crash("terminate", signal.SIGTERM),
    "SIGINT": crash("interrupt", signal.SIGINT),
    "full disk": crash("disk full", None),
    "large file": crash("file too large", None),
}


@pytest.fixture(scope="module")
def attack(tmp_path_factory) -> Callable:
    """Runs so many cases of some kinds; what went wrong, with the flags that do it again."""
    import_everything()

    def run(kinds: dict, total: int, needs: set[str], *, seed: int, limit: float) -> list[str]:
        work = tmp_path_factory.mktemp("attack")
        shop = Workshop.build(work / "shop", needs)
        failures, cases = [], shares(kinds, total)
        options = {"at_once": 1, "limit": limit, "until": float("inf")}
        done = campaign(kinds, cases, seed, work=work / "cases", shop=shop, **options)
        for name, number, what, outcome, detail in done:
            if outcome in FAILURES:
                again = f"--seed {seed} --only {name!r} --case {number}"
                failures.append(f"{outcome}: {again}: {what}: {detail[-300:]}")
        return failures

    return run


def needs_of(kinds: dict) -> set[str]:
    return {need for kind in kinds.values() for need in kind.needs}


def test_inputs_are_read_right_or_refused_in_one_line(attack):
    failures = attack(QUICK, 150, needs_of(QUICK), seed=0, limit=20)
    assert failures == [], "\n".join(failures)


def test_crashes_and_full_disks_lose_nothing(attack):
    needs = {"archive", "report", "maps", "table", "downloaded", "reported", "coverage"}
    needs |= {"coverage part", "maps-evaluation", "estimate"}
    failures = attack(POINTS, 6, needs, seed=0, limit=60)
    assert failures == [], "\n".join(failures)


def test_inputs_of_every_kind(attack):
    failures = attack(INPUTS, 120, needs_of(INPUTS), seed=1, limit=20)
    assert failures == [], "\n".join(failures)


@pytest.mark.slow
def test_kills_of_every_kind(attack):
    failures = attack(KILLS, 30, needs_of(KILLS), seed=1, limit=150)
    assert failures == [], "\n".join(failures)


def case(**fields) -> Kind:
    return Kind(lambda rng, folder, shop: Case("made up", **fields))


def lines_and_leave(*lines: str, status: int = 2):
    for line in lines:
        print(line, file=sys.stderr)
    raise SystemExit(status)


def fail(error: Exception):
    raise error


def damage_own_file(rng: np.random.Generator, folder: Path, shop) -> Case:
    (folder / "mine.txt").write_text("before")
    act = partial((folder / "mine.txt").write_text, "after")
    return Case("made up", act, lambda answer: True, kept=(folder,))


OUTCOMES = {
    "fine": case(act=lambda: 3, right=lambda answer: answer.value == 3),
    "clear_error": case(act=lambda: fail(UserError("a: not b"))),
    "traceback": case(act=lambda: fail(KeyError("flags"))),
    "hang": case(act=lambda: time.sleep(60)),
    "silently_wrong": case(act=lambda: 2, right=lambda answer: answer.value == 3),
    "lost": Kind(damage_own_file),
    "wrongly_refused": case(act=lambda: fail(UserError("a: not b")), must_read=True),
}
ALSO = {
    "two lines on stderr": ("traceback", case(act=lambda: lines_and_leave("error: a", "error: b"))),
    "another status": ("traceback", case(act=lambda: lines_and_leave("error: a", status=1))),
    "no form of an error": ("traceback", case(act=lambda: lines_and_leave("sorry"))),
    "a killed process": ("traceback", case(act=lambda: signal.raise_signal(signal.SIGKILL))),
    "accepted": ("silently_wrong", case(act=lambda: 3)),
    "a complaint": (
        "silently_wrong",
        case(act=lambda: fail(UserError("a")), after=lambda: "code ran"),
    ),
}


def outcomes(kinds: dict, tmp_path: Path, limit: float) -> dict[str, str]:
    options = {"at_once": 4, "limit": limit, "until": float("inf"), "work": tmp_path, "shop": None}
    done = campaign(kinds, [(name, 0) for name in kinds], 0, **options)
    return {name: outcome for name, _, _, outcome, _ in done}


def test_each_outcome_is_told_from_the_others(tmp_path):
    kinds = OUTCOMES | {name: kind for name, (_, kind) in ALSO.items()}
    expected = {name: name for name in OUTCOMES} | {name: end for name, (end, _) in ALSO.items()}
    assert outcomes(kinds, tmp_path, limit=2) == expected


def test_a_session_may_be_added_with_rows_alone():
    config = b'{"flags": {}, "sessions": [%s]}'
    before = {"out/config.json": config % b"1", "out/rows.csv": b"a\n1\n"}
    added = {"out/config.json": config % b"1, 2"}
    rows = {"out/rows.csv": b"a\n1\n2\n"}
    assert differences(before, before | added | rows, may_grow=True) == []
    assert differences(before, before | added, may_grow=True) == ["out/config.json changed"]
    assert len(differences(before, before | added | rows)) == 2
    changed = {"out/config.json": config % b"2, 2"}
    assert differences(before, changed | rows, may_grow=True) == ["out/config.json changed"]
    assert differences(before, rows, may_grow=True) == ["out/config.json gone"]


def test_a_kill_reports_its_own_outcome(tmp_path):
    told = {"a kill": Kind(lambda rng, folder, shop: Told("killed", "lost", "a row"))}
    assert outcomes(told, tmp_path, limit=3) == {"a kill": "lost"}


@pytest.mark.parametrize(
    "lives, imports, survivors",
    [(0.1, 9, 0), (0.6, 0.1, 1), (0.6, 1.5, 0), (9, 1.5, 1)],
    ids=["ends in time", "late", "late on a busy machine", "hangs on a busy machine"],
)
def test_a_process_that_lives_on_is_told_from_a_busy_machine(
    lives, imports, survivors, monkeypatch, tmp_path
):
    ends = time.monotonic() + lives
    monkeypatch.setattr(victims, "processes_of", lambda _: [1] if time.monotonic() < ends else [])
    monkeypatch.setattr(victims, "seconds_of_imports", lambda: imports)
    assert victims.Victim(1, tmp_path).survivors(0.3) == survivors


def test_a_case_depends_on_seed_kind_and_number_alone(tmp_path):
    kinds = {"draw": Kind(lambda rng, folder, shop: Told(str(rng.integers(10**9)), "fine", ""))}
    options = {"at_once": 1, "limit": 3, "until": float("inf"), "shop": None}

    def drawn(cases: list, seed: int, name: str) -> dict[int, str]:
        done = campaign(kinds, cases, seed, work=tmp_path / name, **options)
        return {number: what for _, number, what, _, _ in done}

    several = drawn([("draw", i) for i in range(3)], 5, "several")
    assert drawn([("draw", 2)], 5, "one") == {2: several[2]}
    assert len(set(several.values())) == 3
    assert drawn([("draw", 2)], 6, "other") != {2: several[2]}


@pytest.mark.parametrize("kind", ERRORS)
def test_a_fault_is_at_its_point_and_at_all_later_ones(kind, tmp_path):
    def job(send: Callable) -> None:
        Fault(kind, point=2).install([tmp_path])
        (tmp_path / "first").write_text("a")
        for name in ("second", "third"):
            with pytest.raises(OSError) as error:
                (tmp_path / name).write_text("b")
            send(error.value.errno)

    ((_, report),) = run_forked([job], at_once=1, limit=10)
    assert report.sent == [ERRORS[kind]] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["first"]


def test_unlike_sees_a_number_and_a_file_but_no_time(tmp_path):
    for name, value, seconds in (("a", 0.5, 3), ("b", 0.5, 4), ("c", 0.25, 3)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "results.csv").write_text(f"x,seconds\n{value},{seconds}\n")
    assert unlike(tmp_path / "a", tmp_path / "b") == []
    assert unlike(tmp_path / "a", tmp_path / "c") == ["results.csv"]
    (tmp_path / "b/more.txt").touch()
    assert unlike(tmp_path / "a", tmp_path / "b") == ["more.txt (only one has it)"]
