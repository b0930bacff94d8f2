"""The commands of the attack: every entry that writes, at its smallest."""

from dataclasses import dataclass
from pathlib import Path

_CPU = "--device cpu"
_ALONE = f"{_CPU} --num-workers 0"
_FROZEN = f"--dataset folder --data-dir {{data}} --image-size 32 --batch-size 4 --epochs 3 {_ALONE}"


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


COMMANDS = {
    "estimate": Command(
        "mi_estimator.estimate",
        f"{{shop}}/table.csv --label y --estimator lda {_CPU} --output-dir {{out}}",
        "estimate",
        ("table",),
    ),
    "benchmark": Command(
        "mi_estimator.benchmark",
        f"--suite small-sample --estimators oracle lda --n-test 500 {_ALONE} --output-dir {{out}}",
        "benchmark",
        part=("results.csv", 7),
    ),
    "coverage": Command(
        "mi_estimator.coverage",
        "--tasks independent-k2 --replicates 6 --samples 60 --permutations 19 --estimator lda "
        f"{_ALONE} --output-dir {{out}}",
        "coverage",
        part=("replicates.csv", 3),
    ),
    "pc train": Command(
        "pc_softmax.train",
        "--dataset digits --epochs 3 --batch-size 256 --val-fraction 0.1 "
        f"{_ALONE} --output-dir {{out}}",
        "pc",
        part=("checkpoint.pt", 1),
    ),
    "pc frozen": Command(
        "pc_softmax.train",
        f"{_FROZEN} --output-dir {{out}}",
        "pc-frozen",
        ("pictures",),
        ("checkpoint.pt", 1),
        "pictures",
    ),
    "compare": Command(
        "pc_softmax.compare",
        "--dataset digits --losses softmax pc-softmax --seeds 0 1 --epochs 2 --batch-size 256 "
        f"{_ALONE} --output-dir {{out}}",
        "compare",
        part=("results.csv", 2),
    ),
    "pc evaluate": Command(
        "pc_softmax.evaluate",
        "{shop}/pc/whole --target-prior em --output-dir {out}",
        "pc-evaluation",
        ("pc",),
    ),
    "infocam train": Command(
        "infocam.train",
        "--dataset scattered-digits --images-per-class 6 --val-per-class 2 --batch-size 20 "
        f"--epochs 3 --data-dir {{shop}}/mnist {_ALONE} --output-dir {{out}}",
        "infocam",
        ("mnist",),
        ("checkpoint.pt", 1),
    ),
    "infocam frozen": Command(
        "infocam.train",
        f"{_FROZEN} --val-per-class 2 --output-dir {{out}}",
        "infocam-frozen",
        ("pictures",),
        ("checkpoint.pt", 1),
        "pictures",
    ),
    "infocam evaluate": Command(
        "infocam.evaluate",
        "{shop}/infocam/whole --data-dir {shop}/mnist --test-images 10 --methods cam infocam "
        f"--overlays 1 --gallery 1 --save-maps {_ALONE} --output-dir {{out}}",
        "infocam-evaluation",
        ("mnist", "infocam"),
    ),
    "saved maps": Command(
        "infocam.evaluate",
        "--maps {shop}/maps/cam --annotations {shop}/maps/boxes.csv "
        f"{_ALONE} --output-dir {{out}}",
        "maps-evaluation",
        ("maps",),
    ),
    "explain": Command(
        "infocam.explain",
        "{shop}/photograph.png --run {shop}/infocam/whole --data-dir {shop}/mnist "
        f"{_CPU} --output-dir {{out}}",
        "explanation",
        ("mnist", "infocam", "photograph"),
    ),
    "download": Command(
        "scripts.download_data",
        "tiny-imagenet --archive {shop}/tiny.zip --data-dir {out}",
        "downloaded",
        ("archive",),
    ),
    "report": Command(
        "scripts.report", "{data} --figure {out}/figure.png", "reported", ("report",), data="report"
    ),
}
EVERYTHING = tuple(sorted({need for command in COMMANDS.values() for need in command.needs}))
