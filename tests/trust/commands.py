"""The commands of the attack: every entry that writes, at its smallest."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Command:
    """An entry with its words: {shop} is the workshop, {out} the folder it writes.

    Attributes:
        folder: of the workshop, for what the command writes undisturbed.
        needs: what the workshop must hold for it.
        part: a file; when it was written so many times, the command is in the middle. Of those
            that have --resume.
        data: a folder that it reads and, with features, writes: {data} in its words.
    """

    entry: str
    line: str
    folder: str
    needs: tuple[str, ...] = ()
    part: tuple[str, int] | None = None
    data: str | None = None

    @property
    def resumes(self) -> bool:
        return self.part is not None

    @property
    def has_output_dir(self) -> bool:
        return "--output-dir" in self.line

    def words(self, shop: Path, out: Path, data: Path | None = None) -> list[str]:
        places = {"shop": shop, "out": out, "data": data or shop / (self.data or "")}
        return [word.format(**places) for word in self.line.split()]


# A line each: name: entry words. CPU and ALONE stand for the flags that most have in common.
_LINES = """
estimate: mi_estimator.estimate {shop}/table.csv --label y --estimator lda CPU
benchmark: mi_estimator.benchmark --suite small-sample --estimators oracle lda --n-test 500 ALONE
coverage: mi_estimator.coverage --tasks independent-k2 --replicates 6 --samples 60
  --permutations 19 --estimator lda ALONE
rank: mi_estimator.rank {shop}/table.csv --label y --estimator lda --permutations 40 ALONE
pc train: pc_softmax.train --dataset digits --epochs 3 --batch-size 256 --val-fraction 0.1 ALONE
pc frozen: pc_softmax.train FROZEN ALONE
compare: pc_softmax.compare --dataset digits --losses softmax pc-softmax --seeds 0 1 --epochs 2
  --batch-size 256 ALONE
pc evaluate: pc_softmax.evaluate {shop}/pc/whole --target-prior em --output-dir {out}
infocam train: infocam.train --dataset scattered-digits --images-per-class 6 --val-per-class 2
  --batch-size 20 --epochs 3 --data-dir {shop}/mnist ALONE
infocam frozen: infocam.train FROZEN --val-per-class 2 ALONE
infocam evaluate: infocam.evaluate {shop}/infocam/whole --data-dir {shop}/mnist --test-images 10
  --methods cam infocam --overlays 1 --gallery 1 --save-maps ALONE
saved maps: infocam.evaluate --maps {shop}/maps/cam --annotations {shop}/maps/boxes.csv ALONE
explain: infocam.explain {shop}/photograph.png --run {shop}/infocam/whole CPU
download: scripts.download_data tiny-imagenet --archive {shop}/tiny.zip --data-dir {out}
report: scripts.report {data}
"""
_FROZEN = "--dataset folder --data-dir {data} --image-size 32 --batch-size 4 --epochs 3"
_CPU = "--device cpu --output-dir {out}"
_LINES = _LINES.replace("FROZEN", _FROZEN).replace("ALONE", "--num-workers 0 CPU")
_LINES = _LINES.replace("CPU", _CPU).replace("\n  ", " ").strip()
_WORDS = dict(line.split(": ", 1) for line in _LINES.splitlines())
_RUN = ("checkpoint.pt", 1)
_REST = {  # what follows the words in a Command
    "estimate": ("estimate", ("table",)),
    "benchmark": ("benchmark", (), ("results.csv", 7)),
    "coverage": ("coverage", (), ("replicates.csv", 3)),
    "rank": ("rank", ("table",), ("results.csv", 2)),
    "pc train": ("pc", (), _RUN),
    "pc frozen": ("pc-frozen", ("pictures",), _RUN, "pictures"),
    "compare": ("compare", (), ("results.csv", 2)),
    "pc evaluate": ("pc-evaluation", ("pc",)),
    "infocam train": ("infocam", ("mnist",), _RUN),
    "infocam frozen": ("infocam-frozen", ("pictures",), _RUN, "pictures"),
    "infocam evaluate": ("infocam-evaluation", ("mnist", "infocam")),
    "saved maps": ("maps-evaluation", ("maps",)),
    "explain": ("explanation", ("mnist", "infocam", "photograph")),
    "download": ("downloaded", ("archive",)),
    "report": ("reported", ("report",), None, "report"),
}
COMMANDS = {name: Command(*_WORDS[name].split(" ", 1), *rest) for name, rest in _REST.items()}
EVERYTHING = tuple(sorted({need for command in COMMANDS.values() for need in command.needs}))
