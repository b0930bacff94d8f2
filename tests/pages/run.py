"""Runs every command and every Python block of the pages, in order, in one fresh copy.

    PCS_SHARED_DATA=FOLDER python -m tests.pages.run

The copy holds the files of the working tree that git does not ignore, and what a user would have
(`tests.pages.made_files`); FOLDER has Tiny-ImageNet's archive, which the pages that unpack it need.
`tests.pages.rules` says what is shrunk or left out. Prints a line for each command: it ran as
written, ran changed, was skipped and why, or failed; the exit status is 1 if one failed, 2 without
the archive. A second call makes the copy like the working tree again and runs what has not run yet,
with the exports and background processes of its block; delete the work folder to start afresh.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from scripts.pages import PAGES, ROOT, name_of
from tests.pages.made_files import ARCHIVE, inputs_of, make_files, write_archive
from tests.pages.markdown import blocks, shell_commands
from tests.pages.rules import Rule, rule_of

LIMIT = 900  # seconds of a command
START = 5  # seconds that a process in the background gets before the next command


@dataclass(frozen=True)
class Step:
    """A command or a Python block of a page."""

    page: str
    block: int
    language: str
    text: str

    @property
    def title(self) -> str:
        lines = self.text.splitlines()
        return lines[0] if self.language == "bash" else f"python: {lines[-1]}"

    @property
    def key(self) -> tuple[str, str]:
        return self.page, self.text


def get_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Run every command of the pages, shrunk.")
    parser.add_argument("--work-dir", type=Path, default=ROOT / "runs/pages", help="to write")
    names = [name_of(page) for page in PAGES]
    parser.add_argument("--pages", nargs="+", choices=names, default=names, metavar="PAGE")
    parser.add_argument("--again", metavar="TEXT", help="also run done commands with this text")
    return parser


def steps_of(page: Path) -> list[Step]:
    steps = []
    for number, (language, text) in enumerate(blocks(page)):
        texts = {"bash": shell_commands(text), "python": [text]}.get(language, [])
        steps += [Step(name_of(page), number, language, text) for text in texts]
    return steps


def changed(command: str, rule: Rule) -> str:
    """The command that runs in place of one of the pages."""
    text = command.replace(rule.old, rule.new) if rule.old else command
    return f"{text} {rule.flags}".strip()


def needs_archive(steps: list[Step]) -> bool:
    """Whether a command that runs names the archive of Tiny-ImageNet."""
    rules = [(step, rule_of(step.text)) for step in steps]
    return any(ARCHIVE in changed(step.text, rule) for step, rule in rules if not rule.skip)


def steps_to_run(steps: list[Step], outcomes: dict[tuple, str], again: str | None) -> list[Step]:
    """The steps to run, in order: unfinished and failed ones, and those with `again` in their text.

    Before them, the earlier exports and background commands of their block run again, too.
    """
    wanted, places = [], set()
    for step in reversed(steps):
        place = step.page, step.block
        failed = outcomes.get(step.key) in (None, "failed", "skipped")
        repeated = again is not None and again in step.text
        prepares = step.text.startswith("export ") or rule_of(step.text).background
        if failed or repeated or (prepares and place in places):
            wanted.append(step)
            places.add(place)
    return wanted[::-1]


def copy_working_tree(target: Path) -> None:
    """Copies the files that git does not ignore, removes those that are gone, and links `.venv`."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    output = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    names = {name for name in output.split("\0") if (ROOT / name).is_file()}
    listing = target.with_name("copied.json")
    earlier = set(json.loads(listing.read_text())) if listing.exists() else set()
    for name in earlier - names:
        (target / name).unlink(missing_ok=True)
    target.mkdir(parents=True, exist_ok=True)
    listing.write_text(json.dumps(sorted(names)))
    for name in names:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, target / name)
    if not (target / ".venv").exists():
        (target / ".venv").symlink_to(sys.prefix)


class Runner:
    """Runs steps in a folder, and ends what runs in the background when the block changes."""

    def __init__(self, folder: Path, log_dir: Path):
        self.folder, self.log_dir = folder, log_dir
        self.background: list[subprocess.Popen] = []
        self.exports, self.place = "", None  # of the block that runs
        self.before: set[Path] = set()  # run folders

    def run(self, step: Step) -> tuple[str, str]:
        """The outcome, and a note: why it failed or was skipped, or the text that ran instead."""
        if self.place != (step.page, step.block):
            self.end_background()
            self.exports, self.place = "", (step.page, step.block)
        rule = rule_of(step.text)
        if rule.skip:
            return "skipped", rule.skip
        if step.language == "python":
            words, note = [sys.executable, "-c", inputs_of(step.text) + step.text], ""
        else:
            text = changed(step.text, rule)
            words = ["bash", "-o", "pipefail", "-c", self.exports + text]
            note = text if text != step.text else ""
            if text.startswith("export "):
                self.exports += f"{text}\n"
        log = self.log_dir / f"{step.page.replace('/', '-')}-{step.block}.txt"
        if not self.background:  # what it makes together with them is also made anew
            self.before = self.run_folders()
        failure = "interrupted"
        try:
            process = self.start(words, log)
            if rule.background:
                self.background.append(process)
                time.sleep(START)
                failure = "" if process.poll() is None else last_line(log)
            else:
                failure = self.wait(process, log)
        finally:
            if failure:  # so that it can run again
                for folder in self.run_folders() - self.before:
                    shutil.rmtree(folder, ignore_errors=True)
        return ("failed", failure) if failure else ("ran changed" if note else "ran", note)

    def run_folders(self) -> set[Path]:
        return {
            path for depth in ("*", "*/*", "*/*/*") for path in self.folder.glob(f"runs/{depth}")
        }

    def start(self, words: list[str], log: Path) -> subprocess.Popen:
        """A process as after `source .venv/bin/activate`."""
        variables = {name: text for name, text in os.environ.items() if name != "PYTHONPATH"}
        variables["PATH"] = f"{self.folder / '.venv/bin'}{os.pathsep}{variables['PATH']}"
        with log.open("a") as file:
            streams = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": subprocess.STDOUT}
            options = {"cwd": self.folder, "env": variables, "start_new_session": True}
            return subprocess.Popen(words, **options, **streams)

    def wait(self, process: subprocess.Popen, log: Path) -> str:
        """Empty, or why the process failed."""
        try:
            return f"status {status}: {last_line(log)}" if (status := process.wait(LIMIT)) else ""
        except subprocess.TimeoutExpired:
            return f"more than {LIMIT} s"
        finally:
            end(process)

    def end_background(self) -> None:
        for process in self.background:
            end(process)
        self.background.clear()


def end(process: subprocess.Popen) -> None:
    """Kills a process and its children."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "")


def main(argv: list[str] | None = None) -> None:
    args = get_parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated; run it again to go on"))
    copy, record, logs = (args.work_dir / name for name in ("copy", "outcomes.jsonl", "logs"))
    logs.mkdir(parents=True, exist_ok=True)
    steps = [step for page in PAGES if name_of(page) in args.pages for step in steps_of(page)]
    if needs_archive(steps) and not (copy / ARCHIVE).exists():
        write_archive(copy / ARCHIVE)  # or nothing is begun
    made = args.work_dir / "made"
    if not made.exists():
        copy_working_tree(copy)
        make_files(copy, ROOT / "data")
        made.touch()
    copy_working_tree(copy)
    rows = [json.loads(line) for line in record.open()] if record.exists() else []
    outcomes = {tuple(row["key"]): row["outcome"] for row in rows}  # the last one of each
    runner, failed = Runner(copy, logs), []
    try:
        for step in steps_to_run(steps, outcomes, args.again):
            begun = time.monotonic()
            outcome, note = runner.run(step)
            seconds = round(time.monotonic() - begun)
            about = f"  ({note})" if note else ""
            print(f"{outcome:11} {seconds:4} s  {step.page}: {step.title}{about}", flush=True)
            row = {"key": step.key, "outcome": outcome, "seconds": seconds, "note": note}
            with record.open("a") as file:
                file.write(json.dumps(row) + "\n")
            failed += [f"{step.page}: {step.title}"] if outcome == "failed" else []
    finally:
        runner.end_background()
    if failed:
        sys.exit("\n".join([f"{len(failed)} commands of the pages failed:", *failed]))


if __name__ == "__main__":
    main()
