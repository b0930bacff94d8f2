"""Names and limits that flags and code share: methods, paddings, normalisations, protocols.

This module imports nothing, so that the command line can name its choices without PyTorch.
"""

CONTRASTS = ("cam", "infocam", "infocam+", "similar", "posterior")
GRADIENT_METHODS = ("grad-cam", "grad-cam++", "layer-cam")
ALL_METHODS = ", ".join((*CONTRASTS, "lowest:N", "class:NAME", *GRADIENT_METHODS))
DEFAULT_METHODS = ["cam", "infocam", "infocam+"]
EXPLAINED_METHODS = {1: ["infocam", "similar"], 2: ["infocam"]}  # of one class, of several
FIGURE_FORMATS = ("png", "svg")
RANDOM = "random"  # the baseline: maps of a random direction of the features
BOX_RULES = ("largest", "mean", "peak")
BOX_RULES_HELP = (
    "box of the largest contour, mean of these boxes at five thresholds, or box of the "
)
BOX_RULES_HELP += "component that holds the peak"
THRESHOLD_RULES = ("fixed", "adaptive")
PADDINGS = ("same", "legacy-full")  # of the region filter
IMAGE_PADDINGS = ("zero", "reflect")
NORMALISATIONS = ("minmax", "max", "percentile")
PROTOCOLS = ("infocam", "wsol", "infocam-legacy")
MAX_REGION = 999  # cells; a region twice as wide as the map already averages all of it
PROPAGATED = "propagated "  # before the name of a method: of its propagated maps
TWICE = "twice "  # before `PROPAGATED`: then over the features of an earlier stage
MEAN_MAP = "mean map of "  # the same map for each image, a baseline of the prior map


def plain_method(method: str) -> str:
    """The method that `propagated METHOD, OPTION, ...` refines, or whose mean map it is."""
    method = method.partition(", ")[0].removeprefix(TWICE)
    return method.removeprefix(PROPAGATED).removeprefix(MEAN_MAP)
