"""A command in a folder of its own, disturbed by a kill, and what must hold afterwards."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.trust.cases import contents, differences, pick
from tests.trust.commands import COMMANDS, Command
from tests.trust.faults import Fault
from tests.trust.sameness import stale, unlike
from tests.trust.victims import Victim, start
from tests.trust.workshop import Workshop

STATUS = {
    signal.SIGTERM: (143, -signal.SIGTERM),
    signal.SIGINT: (130, -signal.SIGINT),
    signal.SIGKILL: (-signal.SIGKILL,),
}
PATIENCE = 60.0  # seconds for a whole command


class Told(tuple):
    """What was done, the outcome and its detail."""

    def __new__(cls, what: str, outcome: str, detail: str):
        return super().__new__(cls, (what, outcome, detail))


class Failed(Exception):
    """A check that failed: the outcome and its detail."""


@dataclass
class Scene:
    """A command about to run in a folder of its own, from a state that a user may have.

    Attributes:
        words: its words, without --resume and --overwrite.
        kept: what must be as before, whatever happens.
    """

    name: str
    folder: Path
    shop: Workshop
    words: list[str]
    out: Path
    data: Path
    kept: dict

    @classmethod
    def make(cls, name: str, folder: Path, shop: Workshop, *, workers: bool = False) -> "Scene":
        command = COMMANDS[name]
        out, data = folder / "out", folder / "none"
        if command.data:
            data = shop.copy(command.data, folder / command.data)
        keep = folder / "keep.txt"
        keep.write_text("the user's own")
        words = shop.words(name, out, data)
        if workers:
            words[words.index("--num-workers") + 1] = "2"
        inputs = [data, *(shop.root / need / "whole" for need in command.needs)]
        kept = contents(keep) | {
            path: mark
            for each in inputs
            if each.exists()
            for path, mark in contents(each).items()
            if "features" not in path and "report.html" not in path
        }
        return cls(name, folder, shop, words, out, data, kept)

    @property
    def command(self) -> Command:
        return COMMANDS[self.name]

    @property
    def measured(self) -> dict:
        return json.loads((self.shop.root / self.command.folder / "measured.json").read_text())

    @property
    def whole(self) -> Path:
        return self.shop.root / self.command.folder / "whole"

    def begin(self, rng: np.random.Generator) -> str:
        """Puts one of the states before the command there, with its flag; says which."""
        resumes, words = self.command.resumes, self.words
        if not self.command.has_output_dir:
            self.out.mkdir()
            return "anew"
        state = pick(rng, ("anew", "anew", "over", "on") if resumes else ("anew", "anew", "over"))
        if state == "over":
            self.shop.copy(f"{self.command.folder}/whole", self.out)
            self.words = [*words, "--overwrite"]
        elif state == "on":
            self.shop.copy(f"{self.command.folder}/part", self.out)
            self.words = [*words, "--resume"]
        elif resumes and rng.random() < 0.5:
            self.words = [*words, "--resume"]
        return state

    def start(
        self, fault: Fault | None = None, *, number: int = 0, more: list[str] | None = None
    ) -> Victim:
        """Starts the command, perhaps with a fault and further words; stderr goes to errors0."""
        errors = self.folder / f"errors{number}"
        words = [*self.words, *(more or [])]
        return start(self.command.entry, words, errors, fault, [self.out, self.data])

    def check_kept(self) -> None:
        now = {path: mark for path in map(Path, self.kept) for path, mark in contents(path).items()}
        if lost := differences(self.kept, now):
            raise Failed("lost", ", ".join(lost[:3]))

    def go_on(self) -> None:
        """Does what a user does next, and compares the results with undisturbed ones."""
        words = [word for word in self.words if word not in ("--resume", "--overwrite")]
        there = self.out.exists() and any(self.out.iterdir())
        if there and self.command.has_output_dir:
            resumes = self.command.resumes and (self.out / "config.json").exists()
            words.append("--resume" if resumes else "--overwrite")
        victim = start(self.command.entry, words, self.folder / "errors-next")
        try:
            if not victim.wait(PATIENCE):
                raise Failed("hang", "the next command does not end")
            if victim.status != 0:
                told = " ".join(victim.lines()[-3:])[-500:]
                raise Failed(
                    "lost", f"the next command ({words[-1]}): status {victim.status}, {told}"
                )
        finally:
            victim.bury()
        self.compare("after the next command")

    def compare(self, when: str) -> None:
        if found := unlike(self.whole, self.out):
            raise Failed("silently_wrong", f"{when}, other results: {found[:4]}")
        left = [*stale(self.out), *(stale(self.data) if self.data.exists() else [])]
        if left:
            raise Failed("lost", f"{when}, unfinished files: {left[:4]}")


def check_end(victim: Victim, number: signal.Signals | None, sent: float | None) -> bool:
    """Whether a stopped process ended as it should, with one line on stderr; True if it told why.

    A killed process tells nothing: what stands there is Python's, of semaphores that it left.

    Raises:
        Failed: it did not end, late, or in another way.
    """
    if not victim.wait(PATIENCE if sent is None or number == signal.SIGKILL else 20):
        raise Failed("hang", "does not end")
    late = 0 if sent is None else victim.ended - sent
    lines = victim.lines()
    if victim.status == 0:
        return False
    if number is not None and number != signal.SIGKILL and late > 3:
        raise Failed("hang", f"ended {late:.1f} s after {number.name}")
    expected = (2,) if number is None else STATUS[number]
    if victim.status not in expected:
        raise Failed(
            "traceback", f"status {victim.status}, not {expected}: {' | '.join(lines[-4:])[-600:]}"
        )
    if victim.status == -signal.SIGKILL:
        return False
    if victim.status < 0 and not lines:  # by the signal itself, as before its first line
        return False
    if len(lines) != 1:
        raise Failed("traceback", f"{len(lines)} lines on stderr: {' | '.join(lines[-4:])[-600:]}")
    return True


def perform(scene: Scene, act: Callable[[list[Victim]], bool]) -> tuple[str, str]:
    """Lets `act()` disturb the command, then checks everything after it."""
    victims: list[Victim] = []
    try:
        told = act(victims)
        if told and (left := stale(scene.out) if scene.out.exists() else []):
            raise Failed("lost", f"it said why it ended, and left {left[:3]}")
        for victim in victims:
            if left := victim.survivors(10):
                raise Failed("hang", f"{left} of its processes live 10 s later")
        scene.check_kept()
        scene.go_on()
        scene.check_kept()
    except Failed as failure:
        return failure.args
    finally:
        for victim in victims:
            victim.bury()
    return ("clear_error" if told else "fine"), ""
