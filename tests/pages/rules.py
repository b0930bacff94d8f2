"""How commands of the pages are shrunk, changed or left out, so that all run in minutes."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rule:
    """What becomes of the commands that contain `text`.

    Attributes:
        flags: appended; they override those of the command.
        old, new: a part of the command, and what stands in its place.
        skip: why the command is left out.
        background: it runs until its block ends.
    """

    text: str
    flags: str = ""
    old: str = ""
    new: str = ""
    skip: str = ""
    background: bool = False


SMOKE = "quickstart.sh --smoke && ln -sfn smoke runs/quickstart"
FEW_SAMPLES = "--seeds 0 --n-train 300 --n-test 1000 --epochs 2 --members 1 --candidates lda"
FEW_DIGITS = "--images-per-class 150 --val-per-class 30 --epochs 1"
ONE_EPOCH = "--seeds 0 1 --epochs 1 --num-workers 0"
FEW_IMAGES = "--test-images 24 --num-workers 0"
ONE_SHIFT = "--classes 2 --draws 1 --per-class 10 --tests 50"

# The first rule that fits a command counts.
RULES = [
    Rule("quickstart.sh", old="quickstart.sh", new=SMOKE),
    Rule("scripts/test.sh", skip="it runs the tests"),
    Rule("reproduce_pc_softmax.sh --fair", old="--fair", new="--smoke"),
    Rule('SEEDS="0 1" bash', flags="--smoke"),
    Rule("collect runs/speed", skip="its stages are not timed here"),
    Rule("collect runs/gpu_check", skip="needs a GPU"),
    Rule("figures_pictures", old="reproduce_infocam/", new=""),
    Rule("pip install", skip="it would install into this environment"),
    Rule("download_data tiny-imagenet", flags="--archive tiny-imagenet-200.zip"),
    Rule("--node-rank 0", flags="--epochs 1", old="HOST", new="localhost", background=True),
    Rule("--node-rank 1", flags="--epochs 1", old="HOST", new="localhost"),
    Rule("dask scheduler", background=True),
    Rule("dask worker", old="HOST:8786 --nworkers 8", new="localhost:8786", background=True),
    Rule("--cluster", flags=f"{FEW_SAMPLES} --tasks xor-flip0.1", old="HOST", new="localhost"),
    Rule("SLURMCluster", skip="needs a Slurm cluster"),
    Rule("estimate --dataset mnist", flags="--max-samples 1000 --folds 2 --epochs 1"),
    Rule("mi_estimator.estimate", flags="--folds 2 --candidates lda logistic-regression"),
    Rule("mi_estimator.rank", flags="--folds 2 --candidates lda --leaders 1"),
    Rule("benchmark --suite paper", flags=f"{FEW_SAMPLES} --tasks gaussian-d1-imbalanced"),
    Rule("benchmark --suite hard", flags=f"{FEW_SAMPLES} --tasks xor-flip0.1 rare0.005"),
    Rule("benchmark --suite tables", flags=f"{FEW_SAMPLES} --tasks counts tree-d20"),
    Rule("mi_estimator.coverage", flags="--replicates 2 --samples 200 --tasks independent-k2"),
    Rule("pc_softmax.train --dataset mnist", flags="--epochs 1"),
    Rule("ldam-drw crt", flags=f"--losses softmax ldam-drw crt {ONE_EPOCH}"),
    Rule("pc_softmax.compare", flags=ONE_EPOCH),
    Rule("--shift", flags="--resamples 1"),
    Rule("label_shift_quapy", flags="--resamples 1"),
    Rule("label_shift_simulation", flags=ONE_SHIFT),
    Rule("infocam.train --dataset cub", flags="--weights none --epochs 1 --image-size 64"),
    Rule("infocam.train --dataset scattered-digits", flags=FEW_DIGITS),
    Rule("infocam.train", flags="--val-per-class 2"),
    Rule("--faithfulness 50", flags=f"--faithfulness 2 {FEW_IMAGES}"),
    Rule("infocam.evaluate --maps", flags="--num-workers 0"),
    Rule("infocam.evaluate", flags=FEW_IMAGES),
    Rule("head_common_part", flags=FEW_IMAGES),
    Rule("edge_bands", flags=FEW_IMAGES),
    Rule("box_head", flags=f"{FEW_IMAGES} --seeds 0 --epochs 1"),
    Rule("gpu_check.sh", skip="needs a GPU"),
    Rule("scripts.speed", flags="--parts errors --repeats 1"),
    Rule("torchrun", flags="--epochs 1"),
    Rule("report runs/quickstart", flags="--smoke"),
]


def rule_of(command: str) -> Rule:
    return next((rule for rule in RULES if rule.text in command), Rule(""))
