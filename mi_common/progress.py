"""Progress of long work: a bar in a terminal, one line an epoch or a cell elsewhere."""

import multiprocessing
import sys
import time
from collections.abc import Callable, Iterator

from tqdm import tqdm

_SECONDS = 0.5  # between two readings of the values that a bar shows
_LEAST_LEFT = 10  # seconds; less time left is not printed
_BETWEEN_LINES = 30  # seconds between two lines of `in_blocks`


class Progress:
    """Counts the steps of long work.

    If stderr is a terminal, it shows a bar there. Otherwise it prints one line on stdout for each
    part that `finish` names. From a tenth of the steps on, the line holds the time left if the
    other steps take as long as those done. Inside another `Progress`, such as a training inside a
    cell of a comparison, it prints no lines. In a worker process it shows nothing.

    An earlier run may have done `start` of the steps. `show` is False in all processes but the
    first one of torchrun.
    """

    _open = 0  # how many are open in this process

    def __init__(self, label: str, total: int, *, start: int = 0, show: bool = True):
        show = show and multiprocessing.parent_process() is None
        terminal = sys.stderr is not None and sys.stderr.isatty()
        self._prints = show and not terminal and Progress._open == 0
        self._shows = show and terminal
        self._label = label
        self._done, self._to_do = 0, total - start
        self._started = self._read_at = time.monotonic()
        self._bar = tqdm(
            desc=label, total=total, initial=start, leave=False, disable=not self._shows
        )

    def __enter__(self) -> "Progress":
        Progress._open += 1
        return self

    def __exit__(self, *error) -> None:
        Progress._open -= 1
        self._bar.close()

    def name(self, part: str) -> None:
        """Shows the epoch or the cell that begins."""
        self._bar.set_description(f"{self._label}, {part}" if self._label else part)

    def step(self, values: Callable[[], dict[str, float]] | None = None, *, count: int = 1) -> None:
        """Counts a step, or several, that are done.

        `values` returns the numbers to show. It is called twice a second at most, and only if there
        is a bar: it may wait for a GPU.
        """
        self._done += count
        self._bar.update(count)
        if self._shows and values is not None and time.monotonic() - self._read_at > _SECONDS:
            self._bar.set_postfix_str(_text(values()))
            self._read_at = time.monotonic()

    def finish(self, part: str, **values: float) -> None:
        """Prints a part that is done and its numbers; shows the numbers if there is a bar."""
        text = _text(values)
        if self._prints:
            print(", ".join(filter(None, (self._label, part, text, self._left()))), flush=True)
        elif self._shows:
            self._bar.set_postfix_str(text)

    def _left(self) -> str:
        if 10 * self._done < self._to_do:  # the first steps wait for worker processes and caches
            return ""
        elapsed = time.monotonic() - self._started
        seconds = elapsed / self._done * (self._to_do - self._done)
        if seconds < _LEAST_LEFT:
            return ""
        return f"{seconds:.0f} s left" if seconds < 120 else f"{seconds / 60:.0f} min left"


def in_blocks(count: int, size: int, label: str) -> Iterator[range]:
    """Yields 0..count-1 in ranges of `size` and shows how many of the samples are done.

    Without a terminal, it prints a line every half minute and one at the end.
    """
    with Progress(label, count) as progress:
        printed = time.monotonic()
        for start in range(0, count, size):
            block = range(start, min(start + size, count))
            yield block
            progress.step(count=len(block))
            if block.stop == count or time.monotonic() - printed > _BETWEEN_LINES:
                progress.finish(f"{block.stop}/{count}")
                printed = time.monotonic()


def _text(values: dict[str, float]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {value:.4g}" for name, value in values.items())
