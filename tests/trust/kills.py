"""Runs that are killed or meet a full disk or one another, and what the next command makes of them.

Each case runs a command, disturbs it, and then does what a user would do next.
"""

import signal
import time
from functools import partial
from pathlib import Path

import pandas as pd

from tests.trust.cases import Kind, pick
from tests.trust.commands import COMMANDS, EVERYTHING
from tests.trust.faults import ERRORS, Fault
from tests.trust.scenes import PATIENCE, Failed, Scene, Told, check_end, perform
from tests.trust.victims import Victim, start, start_fresh

WITH_WORKERS = ("benchmark", "coverage", "compare", "pc frozen", "infocam frozen")
WITH_WORKERS += ("infocam evaluate",)


def signal_case(rng, folder: Path, shop, *, number: signal.Signals, workers: bool = False,
                fresh: bool = False) -> Told:  # fmt: skip
    """A signal at a moment drawn from the time that the command takes."""
    name = pick(rng, WITH_WORKERS if workers else COMMANDS)
    scene = Scene.make(name, folder, shop, workers=workers)
    state = scene.begin(rng)
    seconds = scene.measured["seconds"]
    moment = float(rng.uniform(0, seconds * 1.1))
    if workers:
        moment = float(rng.uniform(0, seconds + 6))
    if fresh:
        moment = float(rng.uniform(0, 5))

    def act(victims: list[Victim]) -> bool:
        make = start_fresh if fresh else start
        victims.append(make(COMMANDS[name].entry, scene.words, folder / "errors0"))
        victims[0].wait(moment)
        sent = time.monotonic()
        victims[0].send(number)
        told = check_end(victims[0], number, sent)
        if victims[0].status < 0 and number != signal.SIGKILL and not fresh and moment > 0.1:
            raise Failed("traceback", f"died by {number.name} without a word")
        return told

    return Told(f"{name}, {state}, after {moment:.2f} of {seconds:.2f} s", *perform(scene, act))


def point_case(
    rng,
    folder: Path,
    shop,
    *,
    kinds: tuple[str, ...],
    number: signal.Signals | None,
    names: tuple[str, ...] = tuple(COMMANDS),
) -> Told:
    """A crash, a signal or an error of the disk at a chosen write of one of the commands."""
    name, kind = pick(rng, names), pick(rng, kinds)
    scene = Scene.make(name, folder, shop)
    state, points = scene.begin(rng), scene.measured["points"]
    fault = Fault(kind, int(rng.integers(1, points + 2)), int(2 ** rng.uniform(10, 22)))

    def act(victims: list[Victim]) -> bool:
        victims.append(scene.start(fault))
        return check_end(victims[0], number, None)

    where = f"beyond {fault.size} bytes" if kind == "file too large" else f"at {fault.point}"
    return Told(f"{name}, {state}, {kind} {where}", *perform(scene, act))


def pair_case(rng, folder: Path, shop) -> Told:
    """Two processes in one folder."""
    name = pick(rng, [name for name, command in COMMANDS.items() if command.has_output_dir])
    scene = Scene.make(name, folder, shop)
    state = scene.begin(rng)
    if COMMANDS[name].resumes and state != "over" and "--resume" not in scene.words:
        scene.words.append("--resume")
    if name == "explain" and "--overwrite" not in scene.words:  # a second call would add files
        scene.words.append("--overwrite")
    apart = float(rng.uniform(0, scene.measured["seconds"])) * float(rng.random() < 0.7)

    def act(victims: list[Victim]) -> bool:
        refused = side_by_side(scene, victims, apart, [], [])
        scene.compare(f"{refused} refused")
        return refused > 0

    return Told(f"{name}, {state}, {apart:.2f} s apart", *perform(scene, act))


def rows_case(rng, folder: Path, shop) -> Told:
    """Two processes add the rows of two seeds to one table."""
    scene = Scene.make("compare", folder, shop)
    scene.words.append("--resume")
    apart = float(rng.uniform(0, 2))

    def act(victims: list[Victim]) -> bool:
        refused = side_by_side(scene, victims, apart, ["--seeds", "0"], ["--seeds", "1"])
        there = set(pd.read_csv(scene.out / "results.csv")["seed"])
        if lost := {seed for seed in (0, 1) if victims[seed].status == 0} - there:
            raise Failed("lost", f"no rows of seeds {lost}, although both said that they are")
        return refused > 0

    return Told(f"{apart:.2f} s apart", *perform(scene, act))


def side_by_side(
    scene: Scene, victims: list[Victim], apart: float, first: list[str], second: list[str]
) -> int:
    """Runs the command twice, with further words, and returns how many of the two were refused."""
    for number, more in enumerate((first, second)):
        victims.append(scene.start(number=number, more=more))
        time.sleep(0 if number else apart)
    if not all([victim.wait(PATIENCE) for victim in victims]):
        raise Failed("hang", "one of the two does not end")
    for victim in victims:
        if victim.status not in (0, 2) or (victim.status == 2 and len(victim.lines()) != 1):
            told = " | ".join(victim.lines()[-4:])[-600:]
            raise Failed("traceback", f"status {victim.status}: {told}")
    refused = sum(victim.status == 2 for victim in victims)
    if refused == 2:
        raise Failed("lost", f"both refused: {[victim.lines() for victim in victims]}")
    return refused


_NEEDS = (
    *EVERYTHING,
    *(command.folder for command in COMMANDS.values()),
    *(f"{command.folder} part" for command in COMMANDS.values() if command.resumes),
)
_SIGNALS = ("SIGKILL", "SIGTERM", "SIGINT")
_DISK = (*ERRORS, "disk full", "file too large", "file too large")


def _signal(name: str, share: float = 1.0, **options: bool) -> Kind:
    return Kind(partial(signal_case, number=signal.Signals[name], **options), _NEEDS, share)


def _point(number: signal.Signals | None, *kinds: str, share: float = 1.0) -> Kind:
    return Kind(partial(point_case, kinds=kinds, number=number), _NEEDS, share)


KINDS = {f"{name} at a moment": _signal(name, 2) for name in _SIGNALS}
KINDS |= {f"{name} with workers": _signal(name, workers=True) for name in _SIGNALS}
KINDS |= {f"{name} from the shell": _signal(name, 0.6, fresh=True) for name in _SIGNALS}
KINDS |= {"SIGKILL at a write": _point(signal.SIGKILL, "kill", "torn", share=4)}
KINDS |= {"SIGTERM at a write": _point(signal.SIGTERM, "terminate")}
KINDS |= {"SIGINT at a write": _point(signal.SIGINT, "interrupt")}
KINDS |= {"disk errors": _point(None, *_DISK, share=4), "two at once": Kind(pair_case, _NEEDS, 2)}
KINDS |= {"two add rows": Kind(rows_case, _NEEDS)}
