"""Optimisers and schedules of the learning rate, and the fit that uses them."""

import math
from contextlib import nullcontext

import torch
from torch import nn

from common.engine import fit
from common.records import RunFolder
from common.runtime import one_thread
from pc_softmax.data import Part
from pc_softmax.losses import ReweightedLoss
from pc_softmax.models import Model

OPTIMIZERS = ("sgd", "adamw")
SCHEDULES = ("constant", "step", "cosine")


def fit_model(
    model: Model,
    part: Part,
    objective: nn.Module,
    run: RunFolder,
    *,
    seed: int,
    balanced: bool,
    epochs: int,
    batch_size: int,
    lr: float,
    weight_decay: float,
    optimizer: str,
    momentum: float,
    schedule: str,
    warmup_epochs: int,
    head_lr_ratio: float,
    copies: int,
) -> list[dict]:
    """Trains what is to be trained of a model, or goes on with it, and returns the metrics.

    Args:
        objective: a loss of `pc_softmax.losses`.
        balanced, copies: see `Model.batches`.
        lr: of all but the last layer, whose rate is `head_lr_ratio` times that.
        schedule: see `learning_rate`.
    """
    batches = model.batches(
        part, batch_size=batch_size, seed=seed, balanced=balanced, copies=copies
    )
    last = {id(parameter) for parameter in model.last.parameters()}
    parameters = list(model.trained.parameters())
    groups = [{"params": [p for p in parameters if id(p) in last], "lr": lr * head_lr_ratio}]
    if rest := [p for p in parameters if id(p) not in last]:
        groups.insert(0, {"params": rest, "lr": lr})
    shared = {"lr": lr, "weight_decay": weight_decay, "fused": True}
    if optimizer == "sgd":
        chosen = torch.optim.SGD(groups, momentum=momentum, **shared)
    else:
        chosen = torch.optim.AdamW(groups, **shared)
    steps, warmup = epochs * len(batches), warmup_epochs * len(batches)
    scheduler = None
    if schedule != "constant" or warmup:
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            chosen, lambda step: learning_rate(schedule, step, steps, warmup)
        )
    with one_thread() if model.head_only else nullcontext():
        return fit(
            model.trained,
            batches,
            objective,
            chosen,
            epochs=epochs,
            runtime=model.runtime,
            scheduler=scheduler,
            run=run,
            before_epoch=objective.start_epoch if isinstance(objective, ReweightedLoss) else None,
            description=f"seed {seed}",
        )


def learning_rate(schedule: str, step: int, steps: int, warmup: int) -> float:
    """The factor of the learning rate at a step of `steps`.

    It rises linearly over the first `warmup` steps; then "constant" stays, "step" falls tenfold at
    a half and at three quarters of all steps, "cosine" falls to zero over those that are left.
    """
    if step < warmup:
        return (step + 1) / warmup
    if schedule == "step":
        return 0.1 ** ((step >= steps / 2) + (step >= steps * 3 / 4))
    if schedule == "cosine":
        done = (step - warmup) / max(1, steps - warmup)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2
    return 1.0
