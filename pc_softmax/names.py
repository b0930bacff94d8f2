"""Names for the choices of flags. This module imports nothing, so that `--help` is quick."""

# Losses that `pc_softmax.losses.build_loss` builds.
LOSSES = (
    "softmax",
    "pc-softmax",
    "weighted",
    "class-balanced",
    "focal",
    "ldam",
    "logit-adjusted",
    "lade",
    "vs",
)
COMPARED_LOSSES = (*LOSSES, "ldam-drw", "crt")  # of `pc_softmax.compare`
REWEIGHTED_LOSSES = ("weighted", "class-balanced", "focal", "ldam")  # --drw is for these
# --label-smoothing is for these
SMOOTHED_LOSSES = ("softmax", "pc-softmax", "weighted", "class-balanced")

# Target priors of `pc_softmax.adapter.Adapter`, in addition to files.
TARGET_PRIORS = ("argmax", "uniform", "train", "em", "bbse", "pacc", "auto")
ESTIMATED_PRIORS = ("em", "bbse", "pacc", "auto")  # from the test set without its labels
VALIDATION_PRIORS = ("bbse", "pacc")  # need validation samples
